"""What the trials of the batch-size study say: steps, examples, seconds to a goal; errors at equal budgets; the curve.

A batch size is judged at the rate that suits it best *for the question at hand*: the one with the fewest steps to the
goal (median over seeds), or the one with the smallest validation error within a budget. Bands are of the bootstrap:
seeds are drawn anew with replacement, the best rate is chosen anew, 95 of 100 medians lie within. Trials that diverged
are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.study.batch_size.scaling import ScalingFit, fit_scaling
from distbp.study.experiment import Range, read_study
from distbp.study.trials import by_name, read_results

Array = NDArray[Any]
Mark = dict[str, Any]
BUDGETS = ("epoch", "step", "seconds")
"""What is equal where errors are compared."""
_SLACK = 1.25
_RESAMPLES = 2000


def judge(mark: Mark) -> str:
    """Return the part that decides between rates: validation, or training where there is none."""
    return "val" if "error/val" in mark else "train"


def judged(mark: Mark) -> tuple[float, float]:
    """Return error and loss of the part that decides."""
    return mark[f"error/{judge(mark)}"], mark[f"loss/{judge(mark)}"]


def _complete(study: dict[str, Any], results: dict[str, Mark], seeds: int | None = None) -> dict[int, list[Mark]]:
    """Return the complete trials of the first seeds by batch size, in the order of rates and seeds."""
    ended = [r for r in results.values() if r["status"] == "complete" and (seeds is None or r["seed"] < seeds)]
    ended.sort(key=lambda r: (r["rate"], r["seed"]))
    lengths = zip(study["batch_sizes"], study["steps"], strict=True)
    return {b: [r for r in ended if (r["batch_size"], r["steps"]) == (b, steps)] for b, steps in lengths}


def choose_goal(study: dict[str, Any], results: dict[str, Mark]) -> dict[str, Any]:
    """Return the goal that was asked for; or else an error that every batch size reaches, with a quarter to spare.

    It follows from the trials of seed 0 alone: more seeds do not move it.
    """
    if study["goal"]:
        return dict(study["goal"])
    runs = [mine for mine in _complete(study, results, seeds=1).values() if mine]
    first = runs[-1][0]["marks"][0] if runs else {"error/val": 1.0, "loss/val": 1.0}
    least = [min(judged(mark)[0] for run in mine for mark in run["marks"]) for mine in runs]
    value = max(_SLACK * max(least, default=1.0), 0.01 * judged(first)[0])
    return {"metric": f"error/{judge(first)}", "value": float(f"{value:.2g}")}


def crossing(marks: Sequence[Mark], metric: str, value: float, *, along: str = "step") -> float:
    """Return where along ``step``, ``examples`` or ``seconds`` a run first reaches a value; infinite if it never does.

    Between two marks it is a power law.
    """
    for before, mark in pairwise([{}, *marks]):
        if mark[metric] <= value:
            if not before.get(along, 0.0) > 0.0:
                return float(mark[along])
            part = math.log(before[metric] / value) / math.log(before[metric] / max(mark[metric], 1e-3 * value))
            return float(before[along] * (mark[along] / before[along]) ** part)
    return math.inf


def _best_until(marks: Sequence[Mark], along: str, limit: float) -> Mark:
    """Return the mark with the smallest validation error within a budget; among equals, with the smallest loss."""
    within = [mark for mark in marks if mark[along] <= limit * (1.0 + 1e-9)] or list(marks[:1])
    return min(within, key=lambda mark: (*judged(mark), mark["step"]))


def rates_worth_repeating(
    study: dict[str, Any], results: dict[str, Mark], goal: dict[str, Any]
) -> dict[int, list[float]]:
    """Return the rates of each batch size for the other seeds, from the trials of seed 0.

    The fastest one to the goal and the one on each side of it, and the best at equal epochs, at equal steps and in all.
    """
    budgets = ("epoch", study["epochs"]), ("step", study["least_steps"]), ("step", math.inf)
    chosen = {}
    for b, runs in _complete(study, results, seeds=1).items():
        to_goal = [crossing(run["marks"], **goal) for run in runs]
        fastest = to_goal.index(min(to_goal)) if runs else 0
        best = runs[max(0, fastest - 1) : fastest + 2]
        for along, limit in budgets if runs else ():
            best.append(min(runs, key=lambda run: judged(_best_until(run["marks"], along, limit))))
        chosen[b] = sorted({run["rate"] for run in best})
    return chosen


def median_band(values: Any) -> Range:
    """Return the smallest median over seeds of some rates, with its bootstrap band; `values` are (rates, seeds)."""
    values = np.atleast_2d(values)
    n = values.shape[1]
    draws = np.random.default_rng(0).integers(0, n, (_RESAMPLES, n))
    chosen = _median(values[:, draws]).min(axis=0)  # of (rates, resamples)
    low, high = np.quantile(chosen, [0.025, 0.975], method="nearest")
    return float(low), float(_median(values).min()), float(high)


def _median(values: Any) -> Array:
    """Return the median over the last axis; of two in the middle the larger one, so that infinities make no NaN."""
    return np.asarray(np.sort(values, axis=-1)[..., np.shape(values)[-1] // 2])


@dataclass(frozen=True)
class BatchSize:
    """What is known of one batch size."""

    batch_size: int
    rate: float  # the one with the fewest steps to the goal
    reached: int  # how many of the seeds reached the goal at that rate
    seeds: int
    steps: Range  # to the goal, median and band, as examples and seconds; infinite where it was not reached
    examples: Range
    seconds: Range
    each: list[float]  # steps of each seed at that rate
    by_rate: list[tuple[float, float]]  # median steps of each rate that did not diverge; of seed 0 alone, if no other
    error: dict[str, Range]  # by budget: test error where validation is best within it, at the best rate for it
    gap: dict[str, Range]  # by budget: error of the test part less that of the training part, there
    step_seconds: float  # of a step, the waiting for other ranks included
    noise: list[tuple[float, float]]  # noise scale over epochs at that rate, median over seeds
    noise_to_goal: float  # its mean over the steps to the goal; NaN where it was not measured
    curve: list[tuple[float, float]]  # validation error over epochs at that rate, median over seeds


@dataclass(frozen=True)
class Results:
    """The study."""

    study: dict[str, Any]  # study.json
    goal: dict[str, Any]  # metric and value
    sizes: list[BatchSize]  # those with at least one rate that did not diverge
    fit: ScalingFit | None  # S(B) through `BatchSize.each`; None where fewer than three batch sizes reached the goal
    seconds_budget: float  # the equal seconds: what the quickest batch size took for its whole training
    trials: int
    diverged: int

    def reached(self) -> list[BatchSize]:
        """Return the batch sizes that reached the goal with most of their seeds."""
        return [size for size in self.sizes if math.isfinite(size.steps[1])]

    def fastest(self) -> BatchSize:
        """Return the batch size with the fewest seconds to the goal."""
        return min(self.sizes, key=lambda size: size.seconds[1])


def read_batch_sizes(folder: Path) -> Results:
    """Return all results of a study, from ``study.json`` and ``trials.jsonl``."""
    study, results = read_study(folder), read_results(folder)
    goal = choose_goal(study, results)
    runs = _complete(study, results)
    ends = [float(np.median([run["marks"][-1]["seconds"] for run in mine])) for mine in runs.values() if mine]
    budget = min(ends, default=0.0)
    limits = {"epoch": float(study["epochs"]), "step": float(study["least_steps"]), "seconds": budget}
    sizes = [_batch_size(b, mine, study["seeds"], goal, limits) for b, mine in runs.items() if mine]
    points = [(size.batch_size, s) for size in sizes for s in size.each if math.isfinite(s)]
    fit = fit_scaling(*zip(*points, strict=True)) if len({b for b, _ in points}) >= 3 else None
    diverged = sum(r["status"] == "diverged" for r in results.values())
    return Results(study, goal, sizes, fit, budget, len(results), diverged)


def _batch_size(b: int, runs: list[Mark], seeds: int, goal: dict[str, Any], limits: dict[str, float]) -> BatchSize:
    by = {rate: list(mine) for rate, mine in groupby(runs, key=lambda run: float(run["rate"]))}  # in order already
    tried = [rate for rate, mine in by.items() if len(mine) == seeds] or list(by)[:1]
    to_goal = {
        along: np.array([[crossing(run["marks"], **goal, along=along) for run in by[rate]] for rate in tried])
        for along in ("step", "examples", "seconds")
    }
    best = int(np.argmin(_median(to_goal["step"])))
    mine = by[tried[best]]
    error, gap = {}, {}
    for along, limit in limits.items():
        at = [[_best_until(run["marks"], along, limit) for run in by[rate]] for rate in tried]
        chosen = min(at, key=lambda marks: tuple(np.median([judged(mark) for mark in marks], axis=0)))
        test = "error/test" if "error/test" in chosen[0] else f"error/{judge(chosen[0])}"
        error[along] = median_band([mark[test] for mark in chosen])
        gap[along] = median_band([mark[test] - mark["error/train"] for mark in chosen])
    each = to_goal["step"][best].tolist()
    by_rate = [(rate, float(_median([crossing(r["marks"], **goal) for r in mine]))) for rate, mine in by.items()]
    return BatchSize(
        b, tried[best], sum(map(math.isfinite, each)), len(mine),
        median_band(to_goal["step"]), median_band(to_goal["examples"][best]), median_band(to_goal["seconds"][best]),
        each, by_rate, error, gap,
        float(np.median([run["marks"][-1]["seconds"] / run["marks"][-1]["step"] for run in runs])),
        _along(mine, "noise_scale"), _noise_to_goal(mine, each), _along(mine, goal["metric"]),
    )  # fmt: skip


def _along(runs: list[Mark], name: str) -> list[tuple[float, float]]:
    """Return a measurement along the training, the median over seeds, which have the same marks."""
    marks = zip(*(run["marks"] for run in runs), strict=True)
    found = ((at[0]["epoch"], [mark[name] for mark in at if name in mark]) for at in marks)
    return [(float(epoch), float(np.median(values))) for epoch, values in found if values]


def _noise_to_goal(runs: list[Mark], steps: list[float]) -> float:
    """Return the mean noise scale over the steps to the goal; a mark stands for the steps since the one before."""
    means = []
    for run, end in zip(runs, steps, strict=True):
        marks = by_name([mark for mark in run["marks"] if mark["step"] <= end and "noise_scale" in mark])
        if marks:
            means.append(float(np.average(marks["noise_scale"], weights=np.diff(marks["step"], prepend=0))))
    return float(np.median(means)) if means else math.nan
