"""The charts of the batch-size study in numbers; its template has their words."""

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from distbp.study.batch_size.results import BUDGETS, BatchSize, Results
from distbp.study.drawing import Curve, Level, Plot, shade, style

__all__ = ["charts"]

_DOTTED = {"color": "0.5", "linestyle": ":"}


def charts(results: Results) -> dict[str, Plot]:
    """Return what each chart shows, by name; none where all trials diverged."""
    sizes = results.sizes
    if not sizes:
        return {}
    B = [size.batch_size for size in sizes]
    ends = {"xlim": (B[0] / 1.4, B[-1] * 1.4)}
    over_sizes = partial(Plot, log="xy", ticks=B, limits=ends)
    rates = [size.batch_size / size.step_seconds for size in sizes]
    error, gap = ([Curve((along,), B, [getattr(size, what)[along] for size in sizes], style(i))
                   for i, along in enumerate(BUDGETS)] for what in ("error", "gap"))  # fmt: skip
    positive = all(size.error[along][0] > 0.0 for size in sizes for along in BUDGETS)
    goal = Level(("goal",), results.goal["value"], {"color": "0.4", "linestyle": ":"})
    return {
        "steps-to-goal": over_sizes([*_to_goal(results, "steps"), *_scaled(results), *_fitted(results, 0)]),
        "examples-to-goal": over_sizes([*_to_goal(results, "examples"), *_fitted(results, 1)]),
        "seconds-to-goal": over_sizes([*_to_goal(results, "seconds"), *_soonest(results)]),
        "throughput": over_sizes(
            [Curve(("measured",), B, rates, style(0)), Curve(("equal",), B, [rates[0] * b / B[0] for b in B], _DOTTED)],
            limits=ends | {"ylim": (min(rates) / 1.5, max(rates) * 1.5)},
        ),
        "error-at-budgets": over_sizes(error, log="xy" if positive else "x", columns=3),
        "gap": over_sizes([*gap[:2], Level((), 0.0, {"color": "0.6", "linewidth": 0.8})], log="x"),
        "curves": Plot(
            [*_each(sizes, lambda size: ((x, y) for x, y in size.curve if y > 0.0)), goal], log="xy", columns=4
        ),
        "best-rate": _rates(results, over_sizes),
        "steps-by-rate": Plot(
            _each(sizes, lambda size: (at for at in size.by_rate if math.isfinite(at[1])), 3.5), log="xy", columns=4
        ),
        "noise-scale": Plot(
            [*_each([size for size in sizes if size.noise], lambda size: size.noise), *_critical(results)],
            log="xy", columns=4,
        ),
    }  # fmt: skip


def _to_goal(results: Results, name: str) -> list[Curve]:
    """Return the band of those that reached the goal; one without end is drawn to ten times the median."""
    sizes = results.reached()
    bands = (getattr(size, name) for size in sizes)
    curve = [(low, middle, high if math.isfinite(high) else 10.0 * middle) for low, middle, high in bands]
    return [Curve(("measured",), [size.batch_size for size in sizes], curve, style(0))] if sizes else []


def _scaled(results: Results) -> list[Curve]:
    """Return the line of perfect scaling, from the smallest batch on."""
    sizes = results.reached()
    if not sizes:
        return []
    B = np.array([sizes[0].batch_size, sizes[-1].batch_size], float)
    return [Curve(("perfect",), B, sizes[0].steps[1] * B[0] / B, _DOTTED)]


def _fitted(results: Results, power: int) -> list[Curve | Level]:
    """Return the fit of S(B) B^power, and the interval of B_crit."""
    if results.fit is None:
        return []
    B, crit = np.geomspace(results.sizes[0].batch_size, results.sizes[-1].batch_size, 200), results.fit.b_crit
    low, high = B[0] / 1.4, B[-1] * 1.4
    marks: list[Curve | Level] = [
        Curve(("fit",), B, results.fit.steps(B) * B**power, {"color": style(1)["color"], "linestyle": "--"}),
        Level(("critical",), max(low, crit.low), {"color": "0.5"}, min(high, crit.high), along="x"),
    ]
    inside = low <= crit.value <= high
    return [*marks, Level((), crit.value, {"color": "0.4", "linewidth": 1.0}, along="x")] if inside else marks


def _soonest(results: Results) -> list[Curve]:
    best = results.fastest()
    look = {"color": style(1)["color"], "markersize": 13, "linestyle": "", "marker": "*"}
    return [Curve(("soonest",), [best.batch_size], [best.seconds[1]], look)] if results.reached() else []


def _each(
    sizes: list[BatchSize], points: Callable[[BatchSize], Iterable[tuple[float, float]]], dots: float = 2.0
) -> list[Curve]:
    """Return a curve for each batch size, from dark to light."""
    found = [(i, size.batch_size, list(points(size))) for i, size in enumerate(sizes)]
    return [
        Curve(("size", b), *np.transpose(at), shade(i, len(sizes)) | {"markersize": dots, "linewidth": 1.2})
        for i, b, at in found if at
    ]  # fmt: skip


def _rates(results: Results, over_sizes: Callable[..., Plot]) -> Plot:
    """Return the fastest rates beside the two rules of thumb, drawn from the smallest batch on."""
    sizes = results.reached()
    if not sizes:
        return over_sizes([], columns=3)
    B, rates = np.array([size.batch_size for size in sizes], float), np.array([size.rate for size in sizes])
    rules = [
        Curve((name,), B, rates[0] * (B / B[0]) ** power, {"color": "0.5", "linestyle": line})
        for name, power, line in (("linear", 1.0, ":"), ("root", 0.5, "--"))
    ]
    all_sizes = results.sizes[0].batch_size / 1.4, results.sizes[-1].batch_size * 1.4
    limits = {"xlim": all_sizes, "ylim": (rates.min() / 3.0, rates.max() * 6.0)}
    return over_sizes([Curve(("measured",), B, rates, style(0)), *rules], limits=limits, columns=3)


def _critical(results: Results) -> list[Level]:
    """Return B_crit and its interval along the axis of batch sizes, where it is seen."""
    if results.fit is None or results.fit.knee != "inside":
        return []
    crit, colour = results.fit.b_crit, style(1)["color"]
    return [
        Level((), crit.low, {"color": colour}, crit.high),
        Level(("critical",), crit.value, {"color": colour, "linestyle": "--"}),
    ]
