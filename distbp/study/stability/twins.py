"""Twins: two data sets that differ in one row, and how far apart the parameters are that were trained on them.

From N training rows R are set aside in a random order. The other n = N - R are S; in S', one of them, drawn at random,
has given its place to one that was set aside:

    S  = (z_1, ..., z_i,  ..., z_n)
    S' = (z_1, ..., z'_i, ..., z_n)

(Hardt, Recht & Singer 2016, section 7). Places are kept, so equal permutations give batches that differ in one row or
in none. Both sets are views of rows that are prepared already: preprocessing was fitted once, on all N rows, for with
two fits the twins would differ in every row.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.prepared import Prepared
from distbp.data.sampling import Permutation
from distbp.randomness import key, uniform

Array = NDArray[Any]


class RowsOf(Prepared):
    """Some `rows` (n,) of a `Prepared`, in an order of their own."""

    def __init__(self, prepared: Prepared, rows: NDArray[np.int64]) -> None:
        vars(self).update(vars(prepared))
        self._prepared, self.rows, self.n_rows = prepared, rows, len(rows)

    def take(self, positions: Array, out: Array | None = None) -> tuple[Array, Any, Array | None]:
        """Return what `Prepared.take` does, of positions in `rows`."""
        return self._prepared.take(self.rows[positions], out)


def twins(prepared: Prepared, spares: int, which: int | None, *, seed: int) -> tuple[RowsOf, RowsOf, int]:
    """Return S, S', and the place i where they differ, of N rows of which R (`spares`) are set aside.

    The number of the replacement, 0 to R - 1, alone says what is replaced and by what; None replaces the row of number
    0 by itself.
    """
    order = Permutation(prepared.n_rows, key(seed, "twins"))(np.arange(prepared.n_rows))
    one, spare = order[:-spares], order[-spares:]
    i = int(len(one) * uniform(key(seed, "replaced row", which or 0), np.zeros(1, np.int64))[0])
    other = one.copy()
    if which is not None:
        other[i] = spare[which]
    return RowsOf(prepared, one), RowsOf(prepared, other), i


def apart(a: Array, b: Array) -> tuple[float, float]:
    """Return the distance |a - b|, and the normalised one sqrt(|a - b|^2 / (|a|^2 + |b|^2)), 0 for two zeros."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    distance, both = float(np.linalg.norm(a - b)), math.hypot(np.linalg.norm(a), np.linalg.norm(b))
    return distance, distance / both if both else 0.0


def by_layer(parts: list[tuple[str, slice]]) -> dict[str, Array]:
    """Return the places in `theta` of each layer, weights and biases together, from the `parts` of a model."""
    layers: dict[str, list[Array]] = {}
    for name, part in parts:
        layers.setdefault(name.split(" (")[0], []).append(np.arange(part.start, part.stop))
    return {name: np.concatenate(places) for name, places in layers.items()}
