"""What the pairs of a stability study say, in numbers: medians, comparisons, the control, and the check of the bound.

All comparisons are within a replacement: same rows, same start, same permutations; only the rate or the batch size is
another. They are made at the end, or at equal training loss: at equal epochs a smaller rate has also learnt less, and
who has learnt less has less to lose on new rows. Pairs that diverged, or are not done, are left out, and counted.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError
from distbp.study.experiment import read_study
from distbp.study.trials import read_results

Array = NDArray[Any]
Result = dict[str, Any]
"""A pair: its line of the results, and ``gap/loss`` and ``gap/error`` at each mark, of held-out less training rows."""

_TINY = 1e-300


class Results:
    """``study.json`` and ``trials.jsonl`` of a folder; `b`, `rate` and the pairs `layers` are in the middle of them."""

    def __init__(self, folder: Path) -> None:
        self.study = study = read_study(folder)
        every = list(read_results(folder).values())
        self.diverged = [pair for pair in every if pair["diverged"] is not None]
        self.complete: list[Result] = [pair for pair in every if pair["diverged"] is None]
        asked = (len(study["rates"]) + len(study["convex_rates"])) * len(study["batch_sizes"])
        self.missing = asked * (int(study["replacements"]) + 1) - len(every)
        self.measures = ["loss", "error"] if study["measure"] == "error" else ["loss"]
        for pair in self.complete:
            for name in self.measures:
                pair[f"gap/{name}"] = np.subtract(pair[f"{name}/held_out"], pair[f"{name}/train"])
        if not self.of("network"):
            raise UserError(f"{folder}: no pair of networks is whole, so there is nothing to report yet")
        self.b, self.rate = middle(self.each("batch_size")), middle(self.each("rate"))
        self.layers = self.of("network", self.b, middle([rate for rate, found in self.each_rate(self.b) if found]))

    def of(self, kind: str, batch_size: int | None = None, rate: float | None = None) -> list[Result]:
        """Return pairs of real replacements."""
        real = (pair for pair in self.complete if pair["kind"] == kind and pair["replacement"] is not None)
        return [p for p in real if batch_size in (None, p["batch_size"]) and rate in (None, p["rate"])]

    def controls(self) -> list[Result]:
        """Return the pairs whose row was replaced by itself."""
        return [pair for pair in self.complete if pair["replacement"] is None]

    def each(self, name: str, kind: str = "network") -> list[Any]:
        """Return each "rate" or "batch_size", ascending, of which there are pairs."""
        return sorted({pair[name] for pair in self.of(kind)})

    def each_rate(self, batch_size: int) -> list[tuple[float, list[Result]]]:
        """Return the pairs of networks of a batch size by rate, ascending; none for a rate is an empty list."""
        return [(rate, self.of("network", batch_size, rate)) for rate in self.each("rate")]

    def compare(self, along: str, kind: str, column: str, *, equal_loss: bool = False) -> dict[str, Any]:
        """Compare a column of pairs that differ in one thing, at the end or at equal training loss.

        Along "rate" each is beside the next lower one, along "batch_size" beside the next larger one, and along "both"
        beside each larger one where the rate is larger by the same factor.

        Returns
        -------
        dict
            ``lowered`` of ``n``: in how many the value fell, of all; ``mostly``: whether these are three quarters;
            ``factors``: least, median and greatest of the higher over the lower value, where both are above 0;
            ``expected``: the factors by which the thing itself changed.
        """
        rates, sizes = self.each("rate", kind), self.each("batch_size", kind)
        cases = {
            "rate": [((b, high), (b, low), high / low) for low, high in pairwise(rates) for b in sizes],
            "batch_size": [((b, rate), (c, rate), c / b) for b, c in pairwise(sizes) for rate in rates],
            "both": [
                ((b, low), (c, high), c / b) for b, c in combinations(sizes, 2) for low, high in combinations(rates, 2)
                if math.isclose(low / b, high / c, rel_tol=1e-9)
            ],
        }[along]  # fmt: skip
        pairs = {(pair["batch_size"], pair["rate"], pair["replacement"]): pair for pair in self.of(kind)}
        values, expected = [], set()
        for one, other, factor in cases:
            for k in range(self.study["replacements"]):
                both = [pairs[*case, k] for case in (one, other) if (*case, k) in pairs]
                if len(both) == 2:
                    loss = max(pair["loss/train"][-1] for pair in both)  # which both came down to
                    values.append([at_loss(p, column, loss) if equal_loss else float(p[column][-1]) for p in both])
                    expected.add(round(factor, 9))
        lowered, factors = sum(b < a for a, b in values), [a / b for a, b in values if min(a, b) > 0.0]
        return {
            "lowered": lowered, "n": len(values), "mostly": 0 < 0.75 * len(values) <= lowered,
            "factors": np.quantile(factors, [0.0, 0.5, 1.0]).tolist() if factors else None,
            "expected": sorted(expected),
        }  # fmt: skip

    def check_bound(self) -> dict[str, Any]:
        """Compare the distance of every convex pair with its bound, at every mark.

        Returns
        -------
        dict
            ``pairs`` and ``marks``: how many were checked, of rates up to 2 / beta; ``above``: trial, step, distance
            and bound where the distance is above it, which should be nowhere, ``worst`` where it is most; ``smallest``:
            the least bound / distance, infinite where all distances are 0; ``unclaimed``: rates above 2 / beta.
        """
        limit = 2.0 / self.study["smoothness"] if self.study["smoothness"] else 0.0
        checked = [pair for pair in self.of("convex") if pair["rate"] <= limit]
        points = [(p["trial"], *at) for p in checked for at in zip(p["step"], p["distance"], p["bound"], strict=True)]
        above = [point for point in points if not point[2] <= point[3]]
        return {
            "pairs": len(checked), "marks": len(points), "above": above,
            "worst": max(above, key=lambda point: point[2] - point[3], default=None),
            "smallest": min((bound / d for *_, d, bound in points if d > 0.0), default=math.inf),
            "unclaimed": [rate for rate in self.study["convex_rates"] if rate > limit],
        }  # fmt: skip


def at_loss(pair: Result, column: str, loss: float) -> float:
    """Return a column where the training loss first came down to `loss`; between marks a line over the log of it."""
    losses, values, loss = np.maximum(pair["loss/train"], _TINY), pair[column], max(loss, _TINY)
    i = int(np.argmax(losses <= loss))
    if i == 0:
        return float(values[0])
    part = math.log(losses[i - 1] / loss) / math.log(losses[i - 1] / losses[i])
    return float(values[i - 1] + part * (values[i] - values[i - 1]))


def middle(values: Sequence[Any]) -> Any:
    """Return the value in the middle of some in order, the upper one of two."""
    return values[len(values) // 2]


def spread(values: Iterable[Any]) -> Array:
    """Return smallest, median and largest of each place (n, 3), of some sequences of n."""
    table = np.array(list(values), np.float64)
    return np.stack([table.min(axis=0), np.median(table, axis=0), table.max(axis=0)], axis=-1)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's: the correlation of the ranks, ties at their mean rank; NaN where one does not vary."""
    ranks = []
    for values in (x, y):
        _, which, n = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(n) - 0.5 * (n - 1))[which] - 0.5 * (len(values) + 1))
    a, b = ranks
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else math.nan
