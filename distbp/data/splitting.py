"""Splitting: which rows train, which validate, which test.

A function of (seed, fractions, N) and, for classes, of the labels: test and validation part have their
share of every class, right to one row. Beyond ten million rows the strata no longer matter and their
index would fill the memory: there the split is by a computed permutation, like the batches.
"""

import hashlib
import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import Dataset
from distbp.data.sampling import Permutation
from distbp.errors import UserError
from distbp.randomness import key

Rows = NDArray[np.int64]

STRATIFY_LIMIT = 10_000_000
_BLOCK = 1 << 16


class Subset:
    """Number some rows of a data set from 0: sorted ones, or a range (permutation, start, count), or all."""

    def __init__(self, dataset: Dataset, rows: Rows | tuple[Permutation, int, int] | None = None) -> None:
        self.dataset, self._rows = dataset, rows
        self.n_rows = dataset.n_rows if rows is None else rows[2] if isinstance(rows, tuple) else len(rows)

    def key(self) -> bytes:
        """Return what tells these rows from others of the data set."""
        if self._rows is None:
            return b"all"
        if isinstance(self._rows, tuple):
            permutation, start, count = self._rows
            return repr((permutation.n, permutation.seed, start, count)).encode()
        return hashlib.sha256(self._rows.data).digest()

    def rows(self, positions: Rows) -> Rows:
        """Return the rows of the data set at `positions` of the subset."""
        return self.numbering(positions)

    @property
    def numbering(self) -> Callable[[Rows], Rows]:
        """Return what `rows` computes, without the data set."""
        return partial(_rows_at, self._rows)

    def rows_between(self, lo: int, hi: int) -> Rows:
        """Return the rows of the subset that lie in ``lo .. hi - 1`` of the data set, in its order."""
        every = np.arange(lo, hi)
        if self._rows is None:
            return every
        if isinstance(self._rows, tuple):  # "case permutation, start, count" would take an array of three rows, too
            permutation, start, count = self._rows
            positions = permutation.inverse(every) - start
            return every[(positions >= 0) & (positions < count)]
        return self._rows[slice(*np.searchsorted(self._rows, (lo, hi)))]


def _rows_at(rows: Rows | tuple[Permutation, int, int] | None, positions: Rows) -> Rows:
    if rows is None:
        return positions
    if isinstance(rows, tuple):
        permutation, start, _ = rows
        return permutation(positions + start)
    return rows[positions]


def left_out(labels: NDArray[np.int64], n_parts: int, share: float, seed: int) -> list[Rows]:
    """Return the positions of parts of the rows, sorted, each with its share of every class.

    The rows stand on a circle, mixed, and part k begins where part k - 1 ends: none is in two parts before all were in
    one, and with ``share = 1 / n_parts`` each is in one.

    Parameters
    ----------
    labels : ndarray of shape (n,)
        Class of each row; zeros where there are none.
    n_parts : int
        Their number.
    share : float
        Part of the rows that is in each.
    seed : int
        Of the run.
    """
    n, counts = len(labels), np.bincount(labels)
    mixed = Permutation(n, key(seed, "folds"))(np.arange(n))
    by_class = mixed[np.argsort(labels[mixed], kind="stable")]
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts.tolist()])  # in its class, 0 to 1
    circle = by_class[np.argsort(place, kind="stable")]
    bounds = np.round(np.arange(n_parts + 1) * share * n).astype(np.int64)
    return [np.sort(circle[np.arange(lo, hi) % n]) for lo, hi in itertools.pairwise(bounds)]


def split(
    dataset: Dataset, *, validation: float = 0.0, test: float = 0.0, seed: int = 0
) -> tuple[Subset, Subset | None, Subset | None]:
    """Split into training, validation and test part, None where a fraction is 0; one without rows is a `UserError`."""
    n = dataset.n_rows
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        asked = f"fractions of {validation} for validation and {test} for test"
        raise UserError(f"{asked}: both must be at least 0 and leave something to train on")
    if validation == test == 0:
        return Subset(dataset), None, None
    if dataset.target and dataset.target.kind == "classes" and n <= STRATIFY_LIMIT:
        parts = _stratified(dataset, (test, validation), seed)
    else:
        permutation, counts = Permutation(n, key(seed, "split")), [round(test * n), round(validation * n)]
        starts = [0, counts[0], sum(counts)]
        parts = [Subset(dataset, (permutation, *part)) for part in zip(starts, [*counts, n - sum(counts)], strict=True)]
    for name, part, fraction in zip(("test", "validation"), parts, (test, validation), strict=False):
        if fraction and not part.n_rows:
            raise UserError(f"a {name} fraction of {fraction} of {n} rows is no row at all: give a larger one, or 0")
    if not parts[2].n_rows:
        raise UserError(f"no rows are left to train on of {n}")
    return parts[2], parts[1] if validation else None, parts[0] if test else None


def _stratified(dataset: Dataset, fractions: tuple[float, float], seed: int) -> list[Subset]:
    blocks = np.split(np.arange(dataset.n_rows), range(_BLOCK, dataset.n_rows, _BLOCK))
    labels = np.concatenate([y for rows in blocks if (y := dataset.take_target(rows)) is not None])
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=1)
    n_test = _shares(counts, fractions[0], counts)
    n_validation = _shares(counts, fractions[1], counts - n_test)
    parts: list[list[Rows]] = [[], [], []]
    start = 0
    for c, n in enumerate(counts.tolist()):
        rows = by_class[start + Permutation(n, key(seed, "split", c))(np.arange(n))]
        for part, share in zip(parts, np.split(rows, np.cumsum([n_test[c], n_validation[c]])), strict=True):
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
