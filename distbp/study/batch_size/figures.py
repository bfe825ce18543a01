"""The report of the batch-size study in figures: what its templates are filled with and decide on, and its charts."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from distbp.report.drawing import COLOURS, Curve, Level, Plot, shade
from distbp.study.batch_size.results import BUDGETS, BatchSize, Results, read_batch_sizes
from distbp.study.experiment import Range

_DOTTED, _DASHED = {"color": "0.5", "linestyle": ":"}, {"color": COLOURS[1], "linestyle": "--"}
_STAR = {"color": COLOURS[1], "linestyle": "", "marker": "*", "markersize": 13}


def figures(folder: Path) -> dict[str, Any]:
    """Return the figures of the report on a folder; where all trials diverged, no more than the results."""
    results = read_batch_sizes(folder)
    study, sizes, fit = results.study, results.sizes, results.fit
    found = dataclasses.asdict(results) | {
        "network": study["network"].removeprefix("network "), "data": Path(study["data"]).name,
        "knee": fit and fit.knee,
    }  # fmt: skip
    if not sizes:
        return found
    ends, crit = (study["rates"][0], study["rates"][-1]), fit.b_crit.value if fit and fit.knee == "inside" else None
    return found | {
        "charts": _charts(results), "time": _time(results), "errors": [_errors(sizes, along) for along in BUDGETS],
        "gaps_apart": _apart(sizes[0].gap["step"], sizes[-1].gap["step"]), "slope": _slope(results),
        "edge": [size.batch_size for size in sizes if size.rate in ends and ends[0] < ends[1]],
        "has_noise": any(size.noise for size in sizes), "regimes": _regimes(sizes, crit) if crit else [],
        "noise": _noise(results.reached(), crit) if crit else None,
    }  # fmt: skip


def _time(results: Results) -> dict[str, Any] | None:
    """Return the soonest and the latest batch size at the goal, those that may be as soon, and those that missed it."""
    reached = results.reached()
    if not reached:
        return None
    best, worst = results.fastest(), max(reached, key=lambda size: size.seconds[1])
    return {
        "best": best, "worst": None if worst is best else worst, "times": worst.seconds[1] / best.seconds[1],
        "alike": [s.batch_size for s in reached if s.seconds[0] <= best.seconds[2] and s is not best],
        "missed": [size.batch_size for size in results.sizes if size not in reached],
    }  # fmt: skip


def _apart(one: Range, other: Range) -> bool:
    return one[0] > other[2] or other[0] > one[2]


def _errors(sizes: list[BatchSize], along: str) -> dict[str, Any]:
    """Return the batch sizes with the least and the greatest error at equal budgets, and whether they differ."""
    low, high = ends = [pick(sizes, key=lambda size: size.error[along][1]) for pick in (min, max)]
    return {"along": along, "ends": ends, "apart": _apart(low.error[along], high.error[along])}


def _slope(results: Results) -> float | None:
    """Return the slope of the log of the fastest rate over log B, up to twice B_crit; None if it cannot be seen."""
    limit = 2.0 * results.fit.b_crit.value if results.fit else math.inf
    sizes = [size for size in results.reached() if size.batch_size <= limit]
    B, rates = np.log([size.batch_size for size in sizes]), np.log([size.rate for size in sizes])
    return float(np.polyfit(B, rates, 1)[0]) if len(sizes) >= 3 else None


def _regimes(sizes: list[BatchSize], crit: float) -> list[dict[str, Any]]:
    """Return perfect scaling (doubling the batch saves over 40 % of S(B)), and no gain (below 10 %), and between."""
    spans, B = pairwise((0.0, crit / 4, 4 * crit, math.inf)), [size.batch_size for size in sizes]
    return [{"low": low, "high": high, "sizes": [b for b in B if low <= b < high]} for low, high in spans]


def _noise(reached: list[BatchSize], crit: float) -> dict[str, Any] | None:
    """Return the noise scale on the way to the goal, at the batch size nearest to B_crit, beside it."""
    found = [size for size in reached if math.isfinite(size.noise_to_goal)]
    if not found:
        return None
    near = min(found, key=lambda size: abs(math.log(size.batch_size / crit)))
    return {"batch_size": near.batch_size, "scale": near.noise_to_goal, "ratio": near.noise_to_goal / crit}


def _charts(results: Results) -> dict[str, Plot]:
    """Return what each chart shows, by name; what few batch sizes have come to is drawn as far as it is known."""
    sizes, reached = results.sizes, results.reached()
    B, there = ([size.batch_size for size in some] for some in (sizes, reached))
    ends = {"xlim": (B[0] / 1.4, B[-1] * 1.4)}
    over_sizes, over_epochs = partial(Plot, log="xy", ticks=B, limits=ends), partial(Plot, log="xy", columns=4)

    steps, examples, seconds = (
        Curve(("measured",), there, [_with_end(getattr(size, name)) for size in reached])
        for name in ("steps", "examples", "seconds")
    )
    outer = [*there[:1], *there[-1:]]
    perfect = Curve(("perfect",), outer, [reached[0].steps[1] * there[0] / b for b in outer], _DOTTED)
    first = [results.fastest()] if reached else []
    soonest = Curve(("soonest",), [size.batch_size for size in first], [size.seconds[1] for size in first], _STAR)

    speeds, rates = [size.batch_size / size.step_seconds for size in sizes], np.array([size.rate for size in reached])
    equal = Curve(("equal",), B, [speeds[0] * b / B[0] for b in B], _DOTTED)
    rules = [
        Curve((name,), there, rates[:1] * np.divide(there, there[:1]) ** power, {"color": "0.5", "linestyle": line})
        for name, power, line in (("linear", 1.0, ":"), ("root", 0.5, "--"))
    ]
    error = [Curve((along,), B, [size.error[along] for size in sizes]) for along in BUDGETS]
    gap = [Curve((along,), B, [size.gap[along] for size in sizes]) for along in BUDGETS[:2]]
    positive = all(size.error[along][0] > 0.0 for size in sizes for along in BUDGETS)
    goal = Level(("goal",), results.goal["value"], {"color": "0.4", "linestyle": ":"})
    speed_limits = {"ylim": (min(speeds) / 1.5, max(speeds) * 1.5)}
    noisy = [size for size in sizes if size.noise]
    rate_limits = {"ylim": (min(rates) / 3.0, max(rates) * 6.0)} if reached else {}
    return {
        "steps-to-goal": over_sizes([steps, perfect, *_fitted(results, 0)]),
        "examples-to-goal": over_sizes([examples, *_fitted(results, 1)]),
        "seconds-to-goal": over_sizes([seconds, soonest]),
        "throughput": over_sizes([Curve(("measured",), B, speeds), equal], limits=ends | speed_limits),
        "error-at-budgets": over_sizes(error, log="xy" if positive else "x", columns=3),
        "gap": over_sizes([*gap, Level((), 0.0, {"color": "0.6", "linewidth": 0.8})], log="x"),
        "curves": over_epochs([*_each(sizes, lambda size: [at for at in size.curve if at[1] > 0.0]), goal]),
        "best-rate": over_sizes([Curve(("measured",), there, rates), *rules], limits=ends | rate_limits, columns=3),
        "steps-by-rate": over_epochs(_each(sizes, lambda s: [at for at in s.by_rate if at[1] < math.inf], 3.5)),
        "noise-scale": over_epochs([*_each(noisy, lambda size: size.noise), *_critical(results)]),
    }


def _with_end(band: Range) -> Range:
    """Return a band, one without end to ten times the median."""
    low, middle, high = band
    return low, middle, high if math.isfinite(high) else 10.0 * middle


def _fitted(results: Results, power: int) -> list[Curve | Level]:
    """Return the fit of S(B) B^power, and the interval of B_crit."""
    if results.fit is None:
        return []
    B, crit = np.geomspace(results.sizes[0].batch_size, results.sizes[-1].batch_size, 200), results.fit.b_crit
    low, high = B[0] / 1.4, B[-1] * 1.4
    return [
        Curve(("fit",), B, results.fit.steps(B) * B**power, _DASHED),
        Level(("critical",), max(low, crit.low), {"color": "0.5"}, min(high, crit.high), along="x"),
        Level((), crit.value if low <= crit.value <= high else None, {"color": "0.4", "linewidth": 1.0}, along="x"),
    ]


def _critical(results: Results) -> list[Level]:
    """Return B_crit and its interval along the axis of batch sizes, where it is seen."""
    if results.fit is None or results.fit.knee != "inside":
        return []
    crit = results.fit.b_crit
    return [Level((), crit.low, {"color": _DASHED["color"]}, crit.high), Level(("critical",), crit.value, _DASHED)]


def _each(
    sizes: list[BatchSize], points: Callable[[BatchSize], list[tuple[float, float]]], dots: float = 2.0
) -> list[Curve]:
    """Return a curve for each batch size, from dark to light."""
    curves = [(size.batch_size, *np.reshape(points(size), (-1, 2)).T) for size in sizes]
    looks = [shade(i, len(sizes)) | {"markersize": dots, "linewidth": 1.2} for i in range(len(sizes))]
    return [Curve(("size", b), x, y, look) for (b, x, y), look in zip(curves, looks, strict=True)]
