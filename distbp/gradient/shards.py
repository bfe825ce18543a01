"""Shards and sections: where the flat vector of parameters is cut.

A *shard* is what one rank updates. A *section* is what one product gives: some units of a layer, or its biases. Both
are cut between units, so that a section lies in one shard.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.network.dense import Network
from distbp.network.flat import Layer
from distbp.network.function_model import FunctionModel

Edges = NDArray[np.int64]

_PRODUCT_BYTES = 1 << 20
"""Bytes of gradient that one product gives at least, while others are on their way: narrow ones are slow."""


class Section(NamedTuple):
    """Some units of a layer: their weights, or their biases, which are parameters lo to hi - 1."""

    biases: bool
    units: slice
    lo: int
    hi: int


def unit_edges(network: Network | FunctionModel) -> Edges:
    """Return where shards may be cut: between units, at multiples of 4 where there are many (the products' kernels)."""
    edges = [0]
    for layer in network.layers:
        step = layer.fan_in * (4 if layer.fan_out >= 32 else 1)
        edges += [*range(layer.weights.start + step, layer.weights.stop, step), layer.bias.start, layer.bias.stop]
    return np.array(edges)


def shards(edges: Edges, parts: int) -> list[slice]:
    """Cut the parameters in `parts` shards of about the same length, at `edges`, which are in order."""
    ideal = edges[-1] * np.arange(1, parts) / parts
    above = np.searchsorted(edges, ideal)
    nearer = above - (ideal - edges[above - 1] < edges[above] - ideal)
    cuts = [0, *edges[nearer].tolist(), int(edges[-1])]
    return [slice(lo, hi) for lo, hi in pairwise(cuts)]


def sections_of_size(network: Network | FunctionModel, most: int) -> list[list[Section]]:
    """Cut each layer in sections of about `most` parameters, from the last to the first; its biases are one of them."""
    made = []
    for layer in network.layers:
        count = max(1, round(layer.fan_in * layer.fan_out / most))
        width = -(-layer.fan_out // (4 * count)) * 4
        made.append(_sections(layer, [*range(0, layer.fan_out, width), layer.fan_out], layer.bias))
    return made


def sections_at(network: Network, edges: Iterable[int]) -> list[list[Section]]:
    """Cut each layer at `edges` between its units, from the last section to the first; its biases are not cut."""
    made = []
    for layer in network.layers:
        n, weights = layer.fan_in, layer.weights
        inner = sorted((edge - weights.start) // n for edge in edges if weights.start < edge < weights.stop)
        made.append(_sections(layer, [0, *inner, layer.fan_out], layer.bias))
    return made


def sections_within(network: Network | FunctionModel, shard: slice, bucket: int | None) -> list[list[Section]]:
    """Cut what lies in `shard` of each layer in one section, or in some that complete the parameters of a bucket.

    They come from the last to the first; none has fewer than 4 units, but for the first.
    """
    most = network.n_parameters if bucket is None else max(bucket, _PRODUCT_BYTES // network.dtype.itemsize)
    made = []
    for layer in network.layers:
        start, n = layer.weights.start, layer.fan_in
        first, stop = max(0, (shard.start - start) // n), min(layer.fan_out, (shard.stop - start) // n)
        cuts = [first, *reversed(range(stop, first, -max(4, most // n)))]
        biases = slice(max(layer.bias.start, shard.start), min(layer.bias.stop, shard.stop))
        made.append(_sections(layer, cuts, biases))
    return made


def _sections(layer: Layer, cuts: Sequence[int], biases: slice) -> list[Section]:
    """Return some biases, and the weights of the units between `cuts`, from the last to the first."""
    n, start, b = layer.fan_in, layer.weights.start, layer.bias.start
    sections = [Section(False, slice(lo, hi), start + lo * n, start + hi * n) for lo, hi in pairwise(cuts)]
    if biases.start < biases.stop:
        sections.append(Section(True, slice(biases.start - b, biases.stop - b), biases.start, biases.stop))
    return sections[::-1]
