"""Embeddings: categories of so many values that their rows are looked up, not multiplied.

A one-hot row times E is a row of E. So a category of many values stands in X as the code v of its value, in one of the
last columns, and the first layer sees row v of a table E (values, `WIDTH`), which is learnt, beside the other inputs x:

    forward     a_0 = [x, E[v]]                 z_1 = a_0 W_1 + b_1
    backward    delta_0 = delta_1 W_1^T         the recursion's next step, of the columns of a_0 that E has
                dE[v] = sum of delta_0 over the rows whose value is v

These are the sums that a matrix of one-hot rows would give, without the products with its zeros (Guo & Berkhahn 2016,
"Entity Embeddings of Categorical Variables"); of E a batch reads, and changes, the rows of its values alone. Row 0 is
for values that are not known: it begins at zero, and says nothing where training has none of them.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WIDTH = 8
"""Numbers that are learnt of a value, as by Holzmüller et al. 2024 (RealMLP)."""
_KEY = np.dtype([("row", "<u4"), ("code", "<u4")])
"""As one number what sorts rows: the code, and then the row."""


def look_up(tables: Sequence[Array], X: Array, out: Array) -> None:
    """Write `X` (n, n_inputs) to `out`, the rows of the `tables` in place of the codes in its last columns."""
    plain = X.shape[1] - len(tables)
    out[:, :plain] = X[:, :plain]
    for j, table in enumerate(tables):
        # codes are places by construction; "clip" spares NumPy a copy that makes sure
        rows = table.take(X[:, plain + j].astype(np.intp), axis=0, mode="clip")
        out[:, plain + WIDTH * j : plain + WIDTH * (j + 1)] = rows


class ByValue(NamedTuple):
    """The rows of a batch in the order of their values."""

    values: Array
    """The different ones, in order: (k,)."""
    rows: Array
    """Numbers of the rows, those of a value together and in order: (n,)."""
    starts: Array
    """Where those of each value begin in `rows`, and n: (k + 1,)."""


def by_value(codes: Array) -> ByValue:
    """Sort the rows of a batch by their `codes` (n,)."""
    keys = np.empty(n := len(codes), _KEY)
    rows, ordered = keys["row"], keys["code"]
    rows[:], ordered[:] = _numbers(n), codes
    keys.view("<u8").sort()  # by code and row; faster than an argsort that keeps the order of the rows
    differs = np.ones(n + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:n])
    (starts,) = differs.nonzero()
    return ByValue(ordered[starts[:-1]].astype(np.intp), rows, starts)


@lru_cache(maxsize=64)
def _numbers(n: int) -> Array:
    return np.arange(n)


def sums(of: ByValue, delta: Array, lo: int, hi: int) -> Array:
    """Add up `delta` (n, width) over the rows of each of the values lo to hi - 1: (hi - lo, width).

    The bits of a sum do not depend on `lo` and `hi`.
    """
    first, stop = of.starts[lo], of.starts[hi]
    rows: Array = delta.take(of.rows[first:stop], axis=0)
    return rows if len(rows) == hi - lo else np.add.reduceat(rows, of.starts[lo:hi] - first, axis=0)


def gradients(codes: Array, delta_0: Array) -> list[tuple[Array, Array]]:
    """Return for each table the values among `codes` (n, tables), and the sum of `delta_0` over the rows of each."""
    found = [by_value(of_table) for of_table in codes.T]
    columns = np.split(delta_0, len(found), axis=1) if found else []
    return [(of.values, sums(of, delta, 0, len(of.values))) for of, delta in zip(found, columns, strict=True)]
