"""What the trials of the batch-size study say: steps, examples, seconds to a goal; errors at equal budgets; the curve.

A batch size is judged at the rate that suits it best *for the question at hand*: the one with the fewest steps to the
goal (median over seeds), or the one with the smallest validation error within a budget. Bands are of the bootstrap:
seeds are drawn anew with replacement, the best rate is chosen anew, 95 of 100 medians lie within. Trials that diverged
are left out.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.study.batch_size.scaling import ScalingFit, fit_scaling
from distbp.study.experiment import read_study
from distbp.study.trials import read_results

__all__ = [
    "BUDGETS", "BatchSize", "Results", "Three", "choose_goal", "crossing", "median_band", "rates_worth_repeating",
    "read_batch_sizes",
]  # fmt: skip

Array = NDArray[Any]
Mark = dict[str, Any]
Three = tuple[float, float, float]
"""Low end of the band, median, high end."""

BUDGETS = ("epoch", "step", "seconds")
"""What is equal where errors are compared."""
_SLACK = 1.25
_RESAMPLES = 2000


def _goal_metric(marks: Sequence[Mark]) -> str:
    return "error/val" if "error/val" in marks[-1] else "error/train"


def _complete(results: dict[str, Mark], b: int, steps: int, seed: int | None = None) -> list[Mark]:
    """Whole trials of a batch size, in the order of rates and seeds."""
    found = [
        r
        for r in results.values()
        if r["batch_size"] == b and r["steps"] == steps and r["status"] == "complete" and seed in (None, r["seed"])
    ]
    return sorted(found, key=lambda r: (r["rate"], r["seed"]))


def choose_goal(study: dict[str, Any], results: dict[str, Mark]) -> dict[str, Any]:
    """The goal that was asked for; or else an error that every batch size reaches, with a quarter to spare.

    It follows from the trials of seed 0 alone: more seeds do not move it.
    """
    if study["goal"]:
        return dict(study["goal"])
    smallest, metric, first = [], "error/val", 1.0
    for b, steps in zip(study["batch_sizes"], study["steps"], strict=True):
        runs = _complete(results, b, steps, seed=0)
        if runs:
            metric, first = _goal_metric(runs[0]["marks"]), runs[0]["marks"][0][_goal_metric(runs[0]["marks"])]
            smallest.append(min(mark[metric] for run in runs for mark in run["marks"]))
    value = max(_SLACK * max(smallest, default=1.0), 0.01 * first)
    return {"metric": metric, "value": float(f"{value:.2g}")}


def crossing(marks: Sequence[Mark], metric: str, value: float, *, along: str = "step") -> float:
    """Where along ``step``, ``examples`` or ``seconds`` a run first reaches a value; between marks as a power law."""
    before = None
    for mark in marks:
        if mark[metric] <= value:
            if before is None or not before[along] > 0.0:
                return float(mark[along])
            part = math.log(before[metric] / value) / math.log(before[metric] / max(mark[metric], 1e-3 * value))
            return float(before[along] * (mark[along] / before[along]) ** part)
        before = mark
    return math.inf


def _best_until(marks: Sequence[Mark], along: str, limit: float) -> Mark:
    """The mark with the smallest validation error within a budget; among equals, with the smallest loss."""
    part = _goal_metric(marks).removeprefix("error/")
    within = [mark for mark in marks if mark[along] <= limit * (1.0 + 1e-9)] or list(marks[:1])
    return min(within, key=lambda mark: (mark[f"error/{part}"], mark[f"loss/{part}"], mark["step"]))


def rates_worth_repeating(
    study: dict[str, Any], results: dict[str, Mark], goal: dict[str, Any]
) -> dict[int, list[float]]:
    """Rates of each batch size for the other seeds, from the trials of seed 0.

    The fastest one to the goal and the one on each side of it, and the best at equal epochs, at equal steps and in all.
    """
    out: dict[int, list[float]] = {}
    for b, steps in zip(study["batch_sizes"], study["steps"], strict=True):
        runs = _complete(results, b, steps, seed=0)
        if not runs:
            out[b] = []
            continue
        to_goal = [crossing(run["marks"], goal["metric"], goal["value"]) for run in runs]
        fastest = to_goal.index(min(to_goal))
        chosen = {run["rate"] for run in runs[max(0, fastest - 1) : fastest + 2]}
        for along, limit in ("epoch", study["epochs"]), ("step", study["least_steps"]), ("step", math.inf):
            judged = [_judged(_best_until(run["marks"], along, limit)) for run in runs]
            chosen.add(runs[judged.index(min(judged))]["rate"])
        out[b] = sorted(chosen)
    return out


def _judged(mark: Mark) -> tuple[float, float]:
    part = "val" if "error/val" in mark else "train"
    return mark[f"error/{part}"], mark[f"loss/{part}"]


def median_band(values: Array, choose: Callable[[Array], int] | None = None) -> Three:
    """Median over seeds with its bootstrap band.

    Parameters
    ----------
    values : array (rates, seeds)
        Of the rates that may be chosen.
    choose : callable, optional
        Number of the rate, from the medians (rates,); the smallest by default.
    """
    values = np.atleast_2d(values)
    pick = choose or (lambda medians: int(np.argmin(medians)))
    n = values.shape[1]
    draws = np.random.default_rng(0).integers(0, n, (_RESAMPLES, n))
    medians = _median(values[:, draws])  # (rates, resamples)
    chosen = np.array([medians[pick(medians[:, i]), i] for i in range(_RESAMPLES)])
    middle = _median(values)
    low, high = np.quantile(chosen, [0.025, 0.975], method="nearest")
    return float(low), float(middle[pick(middle)]), float(high)


def _median(values: Array) -> Array:
    """Over the last axis; of two in the middle the larger one, so that infinities make no NaN."""
    return np.asarray(np.sort(values, axis=-1)[..., values.shape[-1] // 2])


@dataclass(frozen=True)
class BatchSize:
    """What is known of one batch size.

    Attributes
    ----------
    batch_size : int
        B.
    rate : float
        The rate with the fewest steps to the goal.
    reached, seeds : int
        How many of the seeds reached it at that rate.
    steps, examples, seconds : Three
        To the goal; infinite where it was not reached.
    each : list of float
        Steps of each seed at that rate.
    by_rate : list of (rate, steps)
        Median steps to the goal of each rate that did not diverge; seed 0 alone where no other was trained.
    error : dict
        By budget: test error at the mark with the smallest validation error within it, at the best rate for it.
    gap : dict
        By budget: error of the test part less that of the training part, there.
    step_seconds : float
        Of a step, the waiting for other ranks included.
    noise : list of (epoch, noise scale)
        Median over seeds along the training, at `rate`.
    noise_to_goal : float
        Its mean over the steps to the goal; NaN where it was not measured.
    curve : list of (epoch, error)
        Validation error along the training at `rate`, median over seeds.
    """

    batch_size: int
    rate: float
    reached: int
    seeds: int
    steps: Three
    examples: Three
    seconds: Three
    each: list[float]
    by_rate: list[tuple[float, float]]
    error: dict[str, Three]
    gap: dict[str, Three]
    step_seconds: float
    noise: list[tuple[float, float]]
    noise_to_goal: float
    curve: list[tuple[float, float]]


@dataclass(frozen=True)
class Results:
    """The study.

    Attributes
    ----------
    study : dict
        ``study.json``.
    goal : dict
        ``metric`` and ``value``.
    sizes : list of BatchSize
        Those with at least one rate that did not diverge.
    fit : ScalingFit or None
        S(B) through `BatchSize.each`; None where fewer than three batch sizes reached the goal.
    seconds_budget : float
        The equal seconds: what the quickest batch size took for its whole training.
    trials, diverged : int
        How many there are.
    """

    study: dict[str, Any]
    goal: dict[str, Any]
    sizes: list[BatchSize]
    fit: ScalingFit | None
    seconds_budget: float
    trials: int
    diverged: int

    def reached(self) -> list[BatchSize]:
        """Batch sizes that reached the goal with most of their seeds."""
        return [size for size in self.sizes if math.isfinite(size.steps[1])]

    def fastest(self) -> BatchSize:
        """The batch size with the fewest seconds to the goal."""
        return min(self.sizes, key=lambda size: size.seconds[1])


def read_batch_sizes(folder: Path) -> Results:
    """All results of a study, from ``study.json`` and ``trials.jsonl``."""
    study, results = read_study(folder), read_results(folder)
    goal = choose_goal(study, results)
    runs = {b: _complete(results, b, steps) for b, steps in zip(study["batch_sizes"], study["steps"], strict=True)}
    ends = [float(np.median([run["marks"][-1]["seconds"] for run in mine])) for mine in runs.values() if mine]
    budget = min(ends, default=0.0)
    limits = {"epoch": float(study["epochs"]), "step": float(study["least_steps"]), "seconds": budget}
    sizes = [_batch_size(b, mine, study["seeds"], goal, limits) for b, mine in runs.items() if mine]
    points = [(size.batch_size, s) for size in sizes for s in size.each if math.isfinite(s)]
    fit = fit_scaling(*zip(*points, strict=True)) if len({b for b, _ in points}) >= 3 else None
    diverged = sum(r["status"] == "diverged" for r in results.values())
    return Results(study, goal, sizes, fit, budget, len(results), diverged)


def _batch_size(b: int, runs: list[Mark], seeds: int, goal: dict[str, Any], limits: dict[str, float]) -> BatchSize:
    rates = sorted({run["rate"] for run in runs})
    by = {rate: [run for run in runs if run["rate"] == rate] for rate in rates}
    whole = [rate for rate in rates if len(by[rate]) == seeds] or rates[:1]
    to_goal = {
        along: np.array([[crossing(run["marks"], **goal, along=along) for run in by[rate]] for rate in whole])
        for along in ("step", "examples", "seconds")
    }
    best = int(np.argmin(_median(to_goal["step"])))
    mine = by[whole[best]]
    error, gap = {}, {}
    for along, limit in limits.items():
        at = [[_best_until(run["marks"], along, limit) for run in by[rate]] for rate in whole]
        judged = [tuple(np.median([_judged(mark) for mark in marks], axis=0)) for marks in at]
        chosen = judged.index(min(judged))
        test = "error/test" if "error/test" in at[chosen][0] else _goal_metric(at[chosen])
        error[along] = median_band(np.array([mark[test] for mark in at[chosen]]))
        gap[along] = median_band(np.array([mark[test] - mark["error/train"] for mark in at[chosen]]))
    noise, curve = _along(mine, goal["metric"])
    each = to_goal["step"][best].tolist()
    return BatchSize(
        b, whole[best], sum(map(math.isfinite, each)), len(mine),
        median_band(to_goal["step"]), median_band(to_goal["examples"][best]), median_band(to_goal["seconds"][best]),
        each, [(rate, float(_median(np.array([crossing(r["marks"], **goal) for r in by[rate]])))) for rate in rates],
        error, gap,
        float(np.median([run["marks"][-1]["seconds"] / run["marks"][-1]["step"] for run in runs])),
        noise, _noise_to_goal(mine, each), curve,
    )  # fmt: skip


def _along(runs: list[Mark], metric: str) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Noise scale and error along the training, medians over seeds, which have the same marks."""
    noise, curve = [], []
    for marks in zip(*(run["marks"] for run in runs), strict=True):
        at = marks[0]
        scales = [mark["noise_scale"] for mark in marks if "noise_scale" in mark]
        if scales:
            noise.append((float(at["epoch"]), float(np.median(scales))))
        curve.append((float(at["epoch"]), float(np.median([mark[metric] for mark in marks]))))
    return noise, curve


def _noise_to_goal(runs: list[Mark], steps: list[float]) -> float:
    """Mean of the noise scale over the steps to the goal; each mark stands for the steps since the one before."""
    means = []
    for run, end in zip(runs, steps, strict=True):
        marks = [mark for mark in run["marks"] if mark["step"] <= end and "noise_scale" in mark]
        if marks:
            weights = np.diff([0, *(mark["step"] for mark in marks)])
            means.append(float(np.average([mark["noise_scale"] for mark in marks], weights=weights)))
    return float(np.median(means)) if means else math.nan
