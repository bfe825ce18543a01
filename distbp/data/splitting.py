"""Splitting: which rows train, which validate, which test.

A function of (seed, fractions, N) and, for classes, of the labels: test and validation part have their
share of every class, right to one row. Beyond ten million rows the strata no longer matter and their
index would fill the memory: there the split is by a computed permutation, like the batches.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import Dataset
from distbp.data.sampling import Permutation
from distbp.errors import UserError
from distbp.randomness import key

__all__ = ["STRATIFY_LIMIT", "Subset", "split"]

Rows = NDArray[np.int64]

STRATIFY_LIMIT = 10_000_000
_BLOCK = 1 << 16


class Subset:
    """Number some rows of a data set from 0.

    Parameters
    ----------
    dataset : Dataset
        All rows.
    rows : ndarray or (Permutation, start, count), optional
        Which: sorted numbers, or a range of a permutation; all by default.
    """

    def __init__(self, dataset: Dataset, rows: Any = None) -> None:
        self.dataset, self._rows = dataset, rows
        if rows is None:
            self.n_rows = dataset.n_rows
        else:
            self.n_rows = len(rows) if isinstance(rows, np.ndarray) else int(rows[2])

    def rows(self, positions: Rows) -> Rows:
        """Return the rows of the data set at `positions` of the subset."""
        if self._rows is None:
            return positions
        if isinstance(self._rows, np.ndarray):
            return self._rows[positions]
        permutation, start, _ = self._rows
        elements: Rows = permutation(positions + start)
        return elements

    def rows_between(self, lo: int, hi: int) -> Rows:
        """Return the rows of the subset that lie in ``lo .. hi - 1`` of the data set, in its order."""
        if self._rows is None:
            return np.arange(lo, hi)
        if isinstance(self._rows, np.ndarray):
            return self._rows[slice(*np.searchsorted(self._rows, (lo, hi)))]
        permutation, start, count = self._rows
        every = np.arange(lo, hi)
        positions = permutation.inverse(every) - start
        inside: Rows = every[(positions >= 0) & (positions < count)]
        return inside


def split(
    dataset: Dataset, *, validation: float = 0.0, test: float = 0.0, seed: int = 0
) -> tuple[Subset, Subset | None, Subset | None]:
    """Split into training, validation and test part; None where a fraction is 0.

    Raises
    ------
    UserError
        When a part would have no rows.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise UserError(
            f"fractions of {validation} for validation and {test} for test: both must be at least 0"
            " and leave something to train on"
        )
    if validation == test == 0:
        return Subset(dataset), None, None
    if dataset.target and dataset.target.kind == "classes" and dataset.n_rows <= STRATIFY_LIMIT:
        parts = _stratified(dataset, (test, validation), seed)
    else:
        permutation = Permutation(dataset.n_rows, key(seed, "split"))
        counts = [round(fraction * dataset.n_rows) for fraction in (test, validation)]
        counts.append(dataset.n_rows - sum(counts))
        starts = np.cumsum([0, *counts])
        parts = [Subset(dataset, (permutation, int(s), c)) for s, c in zip(starts, counts, strict=False)]
    for name, part, fraction in zip(("test", "validation"), parts, (test, validation), strict=False):
        if fraction and not part.n_rows:
            raise UserError(
                f"a {name} fraction of {fraction} of {dataset.n_rows} rows is no row at all: give a larger one, or 0"
            )
    if not parts[2].n_rows:
        raise UserError(f"no rows are left to train on of {dataset.n_rows}")
    return parts[2], parts[1] if validation else None, parts[0] if test else None


def _stratified(dataset: Dataset, fractions: tuple[float, float], seed: int) -> list[Subset]:
    labels = np.concatenate([_labels(dataset, lo) for lo in range(0, dataset.n_rows, _BLOCK)])
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=1)
    n_test = _shares(counts, fractions[0], counts)
    n_validation = _shares(counts, fractions[1], counts - n_test)
    parts: list[list[Rows]] = [[], [], []]
    start = 0
    for c, n in enumerate(counts.tolist()):
        rows = by_class[start + Permutation(n, key(seed, "split", c))(np.arange(n))]
        cuts = [int(n_test[c]), int(n_test[c] + n_validation[c])]
        for part, share in zip(parts, np.split(rows, cuts), strict=True):
            part.append(share)
        start += n
    return [Subset(dataset, np.sort(np.concatenate(part))) for part in parts]


def _shares(counts: Rows, fraction: float, room: Rows) -> Rows:
    """Return the rows of each class for a part: its exact share rounded down or up, where there is `room`.

    What rounding down leaves goes to the largest remainders (Hamilton's method): the total is right.
    """
    exact = counts * fraction
    shares: Rows = np.floor(exact + 1e-9).astype(np.int64)
    left = round(counts.sum() * fraction) - int(shares.sum())
    order = np.argsort(np.where(shares < room, shares - exact, np.inf), kind="stable")
    shares[order[: max(0, left)]] += 1
    return shares


def _labels(dataset: Dataset, lo: int) -> Rows:
    y = dataset.take_target(np.arange(lo, min(lo + _BLOCK, dataset.n_rows)))
    assert y is not None
    return y.astype(np.int64, copy=False)
