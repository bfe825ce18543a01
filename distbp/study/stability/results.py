"""What the pairs of a stability study say, in numbers: medians, comparisons, the control, and the check of the bound.

All comparisons are within a replacement: same rows, same start, same permutations; only the rate or the batch size is
another. They are made at the end, or at equal training loss: at equal epochs a smaller rate has also learnt less, and
who has learnt less has less to lose on new rows. Pairs that diverged, or are not done, are left out, and counted.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError
from distbp.study.experiment import read_study
from distbp.study.trials import read_results

__all__ = ["BoundCheck", "Comparison", "Results", "at_loss", "distance", "gap", "rank_correlation", "spread"]

Array = NDArray[Any]
Result = dict[str, Any]
Column = Callable[[Result], Array]
Case = tuple[Result | None, Result | None, float]

_TINY = 1e-300


@dataclass(frozen=True)
class Comparison:
    """Pairs that differ in one thing: in how many of them a value fell, and by what factor.

    Attributes
    ----------
    lowered, n : int
        Fell, of all.
    factors : ndarray
        Higher over lower value, of those where both are above 0.
    expected : set of float
        The factors by which the thing itself changed.
    """

    lowered: int
    n: int
    factors: Array
    expected: frozenset[float]

    @property
    def mostly(self) -> bool:
        """Whether at least three quarters fell."""
        return self.n > 0 and self.lowered >= 0.75 * self.n


@dataclass(frozen=True)
class BoundCheck:
    """How the distances of convex pairs compare with their bounds, at every mark.

    Attributes
    ----------
    pairs, marks : int
        How many were checked; only rates up to 2 / beta.
    above : list
        ``(trial, step, distance, bound)`` where the distance is above the bound; it should be empty.
    smallest : float
        Least bound / distance, infinite where all distances are 0.
    unclaimed : list of float
        Rates above 2 / beta, for which there is no bound.
    """

    pairs: int
    marks: int
    above: list[tuple[str, int, float, float]]
    smallest: float
    unclaimed: list[float]


class Results:
    """``study.json`` and ``trials.jsonl`` of a folder."""

    def __init__(self, folder: Path) -> None:
        self.study = read_study(folder)
        every = list(read_results(folder).values())
        self.diverged = [pair for pair in every if pair["diverged"] is not None]
        self.whole = [pair for pair in every if pair["diverged"] is None]
        self.missing = self._n_asked() - len(every)
        if not self.of("network"):
            raise UserError(f"{folder}: no pair of networks is whole, so there is nothing to report yet")

    def _n_asked(self) -> int:
        rates = len(self.study["rates"]) + len(self.study["convex_rates"])
        return rates * len(self.study["batch_sizes"]) * (int(self.study["replacements"]) + 1)

    def of(self, kind: str, batch_size: int | None = None, rate: float | None = None) -> list[Result]:
        """Pairs of real replacements."""
        return [
            pair
            for pair in self.whole
            if pair["kind"] == kind and pair["replacement"] is not None
            and batch_size in (None, pair["batch_size"]) and rate in (None, pair["rate"])
        ]  # fmt: skip

    def controls(self) -> list[Result]:
        """Pairs whose row was replaced by itself."""
        return [pair for pair in self.whole if pair["replacement"] is None]

    def rates(self, kind: str) -> list[float]:
        """Learning rates, ascending, of which there are pairs."""
        return sorted({pair["rate"] for pair in self.of(kind)})

    def batch_sizes(self, kind: str) -> list[int]:
        """Batch sizes, ascending, of which there are pairs."""
        return sorted({pair["batch_size"] for pair in self.of(kind)})

    def by_rate(self, kind: str, column: Column, *, equal_loss: bool = False) -> Comparison:
        """A column at each rate beside the next lower one."""
        cases = (
            (self._find(kind, b, high, k), self._find(kind, b, low, k), high / low)
            for low, high in pairwise(self.rates(kind))
            for b in self.batch_sizes(kind)
            for k in range(self.study["replacements"])
        )
        return _compare(cases, column, equal_loss)

    def by_batch_size(self, kind: str, column: Column, *, equal_loss: bool = False) -> Comparison:
        """A column at each batch size beside the next larger one, at the same rate."""
        cases = (
            (self._find(kind, small, rate, k), self._find(kind, large, rate, k), large / small)
            for small, large in pairwise(self.batch_sizes(kind))
            for rate in self.rates(kind)
            for k in range(self.study["replacements"])
        )
        return _compare(cases, column, equal_loss)

    def by_both(self, kind: str, column: Column) -> Comparison:
        """A column at each batch size beside each larger one, where the rate is larger by the same factor."""
        cases = (
            (self._find(kind, small, low, k), self._find(kind, large, high, k), large / small)
            for small, large in combinations(self.batch_sizes(kind), 2)
            for low, high in combinations(self.rates(kind), 2)
            if math.isclose(low / small, high / large, rel_tol=1e-9)
            for k in range(self.study["replacements"])
        )
        return _compare(cases, column, False)

    def _find(self, kind: str, batch_size: int, rate: float, replacement: int) -> Result | None:
        found = (pair for pair in self.of(kind, batch_size, rate) if pair["replacement"] == replacement)
        return next(found, None)

    def check_bound(self) -> BoundCheck:
        """The distance of every convex pair beside its bound, at every mark."""
        smoothness = self.study["smoothness"]
        limit = 2.0 / smoothness if smoothness else 0.0
        checked = [pair for pair in self.of("convex") if pair["rate"] <= limit]
        points = [
            (pair["trial"], *point)
            for pair in checked
            for point in zip(pair["step"], pair["distance"], pair["bound"], strict=True)
        ]
        return BoundCheck(
            len(checked), len(points), [point for point in points if not point[2] <= point[3]],
            min((bound / d for *_, d, bound in points if d > 0.0), default=math.inf),
            [rate for rate in self.study["convex_rates"] if rate > limit],
        )  # fmt: skip


def distance(pair: Result) -> Array:
    """Of the parameters, at each mark."""
    return np.array(pair["distance"])


def gap(pair: Result, measure: str = "loss") -> Array:
    """The generalisation gap at each mark: held-out rows minus training rows."""
    return np.asarray(np.subtract(pair[f"{measure}/held_out"], pair[f"{measure}/train"]))


def at_loss(pair: Result, column: Column, loss: float) -> float:
    """A column where the training loss first came down to `loss`; between two marks it is a line over the log of it."""
    losses, values, loss = np.maximum(pair["loss/train"], _TINY), column(pair), max(loss, _TINY)
    i = int(np.argmax(losses <= loss))
    if i == 0:
        return float(values[0])
    part = math.log(losses[i - 1] / loss) / math.log(losses[i - 1] / losses[i])
    return float(values[i - 1] + part * (values[i] - values[i - 1]))


def _compare(cases: Iterable[Case], column: Column, equal_loss: bool) -> Comparison:
    both = [(one, other, factor) for one, other, factor in cases if one is not None and other is not None]
    values = []
    for one, other, _ in both:
        loss = max(one["loss/train"][-1], other["loss/train"][-1])  # which both came down to
        a, b = (at_loss(pair, column, loss) if equal_loss else float(column(pair)[-1]) for pair in (one, other))
        values.append((a, b))
    return Comparison(
        sum(b < a for a, b in values), len(values), np.array([a / b for a, b in values if min(a, b) > 0.0]),
        frozenset(round(factor, 9) for *_, factor in both),
    )  # fmt: skip


def spread(values: Iterable[Any]) -> Array:
    """Smallest, median and largest of each place (n, 3), of some sequences of n."""
    table = np.array(list(values), np.float64)
    return np.stack([table.min(axis=0), np.median(table, axis=0), table.max(axis=0)], axis=-1)


def rank_correlation(x: Iterable[float], y: Iterable[float]) -> float:
    """Spearman's: the correlation of the ranks, ties at their mean rank; NaN where one does not vary."""
    a, b = (_ranks(np.array(list(values))) for values in (x, y))
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else math.nan


def _ranks(values: Array) -> Array:
    _, which, n = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(n) - 0.5 * (n - 1))[which])
