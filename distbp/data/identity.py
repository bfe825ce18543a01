"""What data are, whatever they are called and wherever they lie: checksums of their rows.

A checksum of a column is the sum over the rows of (number of the row, hashed, odd) times (the value as 64 bits),
modulo 2^64: one value that changes always changes it, rows that change places all but surely do, and ranks add up
theirs in any order. Of data that are computed or mapped row by row some rows stand for all.
"""

from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.data.splitting import Subset
from distbp.randomness import bits

Array = NDArray[Any]

_NUMBERS, _SOME = 1 << 28, 1 << 20
"""Numbers that are added up at most, of data in memory and of others."""
_BLOCK = 1 << 16
"""Numbers at a time."""
_COLUMNS = 64
"""Columns up to which each has its own checksum."""


def identity(subset: Subset, comm: Communicator) -> dict[str, Any]:
    """Return what tells data from others, the same on all ranks of `comm`, which do it together.

    JSON: ``rows``, ``columns`` (a checksum for each, or one for all where they are many), and ``target``.
    """
    n, dataset = subset.n_rows, subset.dataset
    width = max(1, len(dataset.columns))
    most = max(1, (_NUMBERS if dataset.in_memory else _SOME) // width)
    chosen = np.arange(n) if n <= most else np.arange(most) * (n - 1) // max(1, most - 1)
    lo, hi = block_bounds(len(chosen), comm.rank, comm.size)
    step = max(1, _BLOCK // width)
    sums, beside = np.zeros(len(dataset.columns), np.int64), np.zeros(1, np.int64)
    for start in range(lo, hi, step):
        rows = chosen[start : min(start + step, hi)]
        X, *others = dataset.take(subset.rows(rows))
        factors = bits(0, rows) | np.uint64(1)
        sums += _added_up(X, factors)
        for k, other in enumerate(others):
            if other is not None:
                beside += _added_up(other.reshape(len(rows), -1), factors * np.uint64(2 * k + 1)).sum(keepdims=True)
    comm.allreduce(sums)
    comm.allreduce(beside)
    columns: Any = {c.name: _digest(c.categories, int(value)) for c, value in zip(dataset.columns, sums, strict=True)}
    if len(columns) > _COLUMNS:
        columns = _digest(list(columns.items()))
    return {"rows": n, "columns": columns, "target": _digest(dataset.target, int(beside[0]))}


def what_changed(before: dict[str, Any] | None, now: dict[str, Any] | None) -> str:
    """Say in a few words how data differ from those of before, by their identities; "" where they do not."""
    if before == now:
        return ""
    if before is None or now is None:
        return "there was none" if before is None else "there is none now"
    if before["rows"] != now["rows"]:
        return f"it had {before['rows']:,} rows and has {now['rows']:,}"
    theirs, ours = before["columns"], now["columns"]
    if isinstance(theirs, dict) and isinstance(ours, dict):
        if list(theirs) != list(ours):
            return "it has other columns"
        if changed := [name for name in ours if theirs[name] != ours[name]]:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            return f"other values in {', '.join(map(repr, changed[:3]))}{more}"
    return "other values in its inputs" if theirs != ours else "other values in its target or weights"


def _added_up(values: Array, factors: NDArray[np.uint64]) -> NDArray[np.int64]:
    words = np.ascontiguousarray(values, np.float64).view(np.uint64)
    sums: NDArray[np.int64] = (words * factors[:, None]).sum(axis=0, dtype=np.uint64).view(np.int64)
    return sums


def _digest(*values: Any) -> str:
    return sha256(" ".join(map(repr, values)).encode()).hexdigest()[:16]
