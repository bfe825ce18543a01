"""Shards and sections: where the flat vector of parameters is cut.

A *shard* is what one rank updates. A *section* is what one product gives: some units of a layer, or its biases. Both
are cut between units, so that a section lies in one shard.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.network.dense import Layer, Network
from distbp.network.function_model import FunctionModel

__all__ = ["Section", "sections_at", "sections_of_size", "sections_within", "shards", "unit_edges"]

Edges = NDArray[np.int64]


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


def _biases(layer: Layer, lo: int, hi: int) -> list[Section]:
    start = layer.bias.start
    return [Section(True, slice(lo - start, hi - start), lo, hi)] if lo < hi else []


def sections_of_size(layer: Layer, most: int) -> list[Section]:
    """Cut a layer in sections of about `most` parameters, from the last to the first; its biases are one of them."""
    n, start = layer.fan_in, layer.weights.start
    count = max(1, round(n * layer.fan_out / most))
    width = -(-layer.fan_out // (4 * count)) * 4
    units = [slice(lo, min(lo + width, layer.fan_out)) for lo in reversed(range(0, layer.fan_out, width))]
    weights = [Section(False, u, start + u.start * n, start + u.stop * n) for u in units]
    return _biases(layer, layer.bias.start, layer.bias.stop) + weights


def sections_at(layer: Layer, edges: Iterable[int]) -> list[Section]:
    """Cut a layer at `edges` between its units, from the last section to the first; its biases are not cut."""
    n, start = layer.fan_in, layer.weights.start
    cuts = [start, *sorted(edge for edge in edges if start < edge < layer.weights.stop), layer.weights.stop]
    weights = [Section(False, slice((lo - start) // n, (hi - start) // n), lo, hi) for lo, hi in pairwise(cuts)]
    return _biases(layer, layer.bias.start, layer.bias.stop) + weights[::-1]


def sections_within(layer: Layer, shard: slice, most: int) -> list[Section]:
    """Cut what lies in `shard` of a layer in sections of at most `most` parameters, from the last to the first.

    No section has fewer than 4 units, but for the first.
    """
    start, n = layer.weights.start, layer.fan_in
    biases = _biases(layer, max(layer.bias.start, shard.start), min(layer.bias.stop, shard.stop))
    first, stop = max(0, (shard.start - start) // n), min(layer.fan_out, (shard.stop - start) // n)
    step = max(4, most // n)
    units = [slice(max(first, top - step), top) for top in range(stop, first, -step)]
    return biases + [Section(False, u, start + u.start * n, start + u.stop * n) for u in units]
