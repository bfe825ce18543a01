"""The report of the batch-size study in figures: what its template is filled with, and decides on.

All that `Results` hold, and what the sentences need beside: which batch size is best and worst, and whether bands overlap.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from distbp.study.batch_size.charts import charts
from distbp.study.batch_size.results import BUDGETS, BatchSize, Results, read_batch_sizes
from distbp.study.page import Page, compose

__all__ = ["figures", "page"]


def page(folder: Path, language: str) -> Page:
    """Return the report, from ``study.json`` and ``trials.jsonl``."""
    results = read_batch_sizes(folder)
    return compose("batch_size", language, figures(results), charts(results))


def figures(results: Results) -> dict[str, Any]:
    """Return the figures of the report; where all trials diverged, no more than the results."""
    study, fit, sizes = results.study, results.fit, results.sizes
    found = dataclasses.asdict(results) | {
        "network": study["network"].removeprefix("network "), "data": Path(study["data"]).name,
        "knee": fit and fit.knee,
    }  # fmt: skip
    if not sizes:
        return found
    first, last, rates = sizes[0], sizes[-1], study["rates"]
    return found | {
        "time": _time(results), "errors": [_errors(sizes, along) for along in BUDGETS],
        "gaps_apart": _apart(first.gap["step"], last.gap["step"]), "slope": _slope(results),
        "edge": [size.batch_size for size in sizes if size.rate in (rates[0], rates[-1])] if len(rates) > 1 else [],
        "regimes": _regimes(results), "noise": _noise(results), "has_noise": any(size.noise for size in sizes),
    }  # fmt: skip


def _time(results: Results) -> dict[str, Any] | None:
    """Return the soonest and the latest batch size at the goal, those as good as the soonest, and those that missed it."""
    reached = results.reached()
    if not reached:
        return None
    best, worst = results.fastest(), max(reached, key=lambda size: size.seconds[1])
    return {
        "best": best, "worst": None if worst is best else worst, "times": worst.seconds[1] / best.seconds[1],
        "alike": [s.batch_size for s in reached if s.seconds[0] <= best.seconds[2] and s is not best],
        "missed": [size.batch_size for size in results.sizes if size not in reached],
    }  # fmt: skip


def _apart(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    return one[0] > other[2] or other[0] > one[2]


def _errors(sizes: list[BatchSize], along: str) -> dict[str, Any]:
    """Return the batch sizes with the least and the greatest error at equal budgets, and whether they can be told apart."""
    low, high = (pick(sizes, key=lambda size: size.error[along][1]) for pick in (min, max))
    return {
        "along": along, "apart": _apart(low.error[along], high.error[along]),
        "ends": [{"batch_size": size.batch_size, "error": size.error[along]} for size in (low, high)],
    }  # fmt: skip


def _slope(results: Results) -> float | None:
    """Return that of the log of the fastest rate over log B, up to twice the critical batch size; None for few sizes."""
    limit = 2.0 * results.fit.b_crit.value if results.fit else math.inf
    sizes = [size for size in results.reached() if size.batch_size <= limit]
    if len(sizes) < 3:
        return None
    B, rates = np.log([size.batch_size for size in sizes]), np.log([size.rate for size in sizes])
    return float(np.polyfit(B, rates, 1)[0])


def _regimes(results: Results) -> list[dict[str, Any]]:
    """Return three: perfect scaling up to B_crit / 4, no gain from 4 B_crit on.

    There doubling the batch saves over 40, and below 10 % of S(B).
    """
    if results.fit is None or results.fit.knee != "inside":
        return []
    crit, sizes = results.fit.b_crit.value, [size.batch_size for size in results.sizes]
    ends = (0.0, crit / 4, 4 * crit, math.inf)
    return [
        {"low": low, "high": high, "sizes": [b for b in sizes if low <= b < high]}
        for low, high in zip(ends, ends[1:], strict=False)
    ]


def _noise(results: Results) -> dict[str, Any] | None:
    """Return the noise scale on the way to the goal, at the batch size nearest to B_crit, beside it."""
    found = [size for size in results.reached() if math.isfinite(size.noise_to_goal)]
    if results.fit is None or results.fit.knee != "inside" or not found:
        return None
    crit = results.fit.b_crit.value
    near = min(found, key=lambda size: abs(math.log(size.batch_size / crit)))
    return {"batch_size": near.batch_size, "scale": near.noise_to_goal, "ratio": near.noise_to_goal / crit}
