"""The charts of the stability study in numbers; its template has their words.

A line is the median over the replaced rows, its band goes from the smallest to the largest. A distance of 0, before the
row that differs was met, has no place on a logarithmic axis and is left out.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.study.drawing import COLOURS, Curve, Level, Plot, shade
from distbp.study.stability.results import Column, Result, Results, distance, gap, middle, spread

__all__ = ["charts", "layers"]

_ZERO = Level((), 0.0, {"color": "black", "linewidth": 0.8})
_DASHED = {"color": "black", "linestyle": "--"}


def charts(results: Results) -> dict[str, Plot]:
    """Return what each chart shows, by name: along training, in the middle of the rates or batch sizes that vary not."""
    b, rate = middle(results.batch_sizes("network")), middle(results.rates("network"))
    by_rate, by_size = results.each_rate(b), results.each_size(rate)
    found = next(found for _, found in by_rate if found)

    def along(marks: Sequence[Curve | Level], log: str = "xy", height: float = 4.4) -> Plot:
        return Plot(marks, log=log, height=height, columns=3)

    plots = {
        "distance-by-rate": along(_each("rate", by_rate, distance)),
        "distance-by-batch-size": along(_each("size", by_size, distance)),
        "distance-by-layer": along(_by_layer(results, b)),
        "gap-of-loss-by-rate": along([*_each("rate", by_rate, gap, zeros=True), _ZERO], ""),
        "gap-against-loss": along([*_against_loss(by_rate), _ZERO], "x"),
        "gap-against-distance": along(_all_pairs(results), "x", 4.9),
    }
    if results.study["measure"] == "error":
        errors = _each("rate", by_rate, lambda pair: gap(pair, "error"), zeros=True)
        plots["gap-of-error-by-rate"] = along([*errors, _ZERO], "")
    if results.check_bound()["marks"]:
        plots["distance-under-bound"] = along(_under_bound(results))
        plots["distances-and-bounds"] = Plot(_every_mark(results), log="xy", height=4.4)
    return plots


def _column(name: str) -> Column:
    return lambda pair: np.array(pair[name])


def layers(pair: Result) -> list[tuple[tuple[str, str], Column]]:
    """Return label and normalised distance of each layer of the networks of a pair."""
    names = [name.removeprefix("relative/") for name in pair if name.startswith("relative/")]
    return [
        (("layer", name.removeprefix("layer ")) if name.startswith("layer ") else ("part", name), _column(f"relative/{name}"))
        for name in names
    ]  # fmt: skip


def _without_zeros(curve: Any) -> NDArray[Any]:
    return np.where(np.greater(curve, 0.0), curve, np.nan)


def _band(label: tuple[Any, ...], found: Sequence[Result], column: Column, look: Any, *, zeros: bool = False) -> Curve:
    """Return median and range of a column over pairs of one batch size and rate."""
    curve = spread(column(pair) for pair in found)
    return Curve(label, found[0]["epoch"], curve if zeros else _without_zeros(curve), look)


def _each(
    name: str, cases: Sequence[tuple[float, list[Result]]], column: Column, *, zeros: bool = False
) -> list[Curve]:
    """Return the bands of rates or batch sizes, from dark to light."""
    return [
        _band((name, value), found, column, shade(i, len(cases)), zeros=zeros)
        for i, (value, found) in enumerate(cases) if found
    ]  # fmt: skip


def _by_layer(results: Results, b: int) -> list[Curve]:
    found = results.of("network", b, middle(sorted({pair["rate"] for pair in results.of("network", b)})))
    each = layers(found[0])
    bands = [_band(label, found, column, shade(i, len(each))) for i, (label, column) in enumerate(each)]
    together = spread(pair["relative"] for pair in found)[:, 1]
    return [*bands, Curve(("all",), found[0]["epoch"], _without_zeros(together), _DASHED)]


def _against_loss(cases: Sequence[tuple[float, list[Result]]]) -> list[Curve]:
    """Return the gap over the training loss: what is left of the rates where all have learnt equally much."""
    return [
        Curve(("rate", rate), spread(pair["loss/train"] for pair in found)[:, 1], spread(map(gap, found)), shade(i, len(cases)))
        for i, (rate, found) in enumerate(cases) if found
    ]  # fmt: skip


def _all_pairs(results: Results) -> list[Curve]:
    """Return distance and gap of all pairs at the end: colours are rates, markers batch sizes."""
    curves = []
    for j, b in enumerate(results.batch_sizes("network")):
        cases = results.each_rate(b)
        for i, (rate, found) in enumerate(cases):
            if found:
                x, y = [pair["distance"][-1] or math.nan for pair in found], [gap(pair)[-1] for pair in found]
                look = {"color": shade(i, len(cases))["color"], "marker": shade(j, 7)["marker"], "linestyle": "none"}
                curves.append(Curve(("pair", b, rate), x, y, look | {"markersize": 5}))
    return curves


def _under_bound(results: Results) -> list[Curve]:
    """Return the distance in logistic regression, its bound, and the line of the paper."""
    (_, rate, found), study = results.under_bound(), results.study
    line = 2.0 * study["lipschitz"] * rate * np.array(found[0]["step"]) / study["rows_of_a_twin"]
    return [
        _band(("measured",), found, distance, {"color": COLOURS[0], "marker": "o", "markersize": 3.5}),
        _band(("bound",), found, _column("bound"), {"color": COLOURS[1], "linestyle": "--"}),
        Curve(("paper",), found[0]["epoch"], line, {"color": "black", "linestyle": ":"}),
    ]


def _every_mark(results: Results) -> list[Curve]:
    """Return distance over bound at every mark of every convex pair that has one."""
    sizes, unclaimed, curves = results.study["batch_sizes"], results.check_bound()["unclaimed"], []
    for i, b in enumerate(sizes):
        pairs = [pair for pair in results.of("convex", b) if pair["rate"] not in unclaimed]
        points = [(x, y) for pair in pairs for x, y in zip(pair["bound"], pair["distance"], strict=True) if x and y]
        if points:
            look = {**shade(i, len(sizes)), "markersize": 2.5, "linestyle": "none"}
            curves.append(Curve(("size", b), *np.transpose(points), look))
    seen = [x for curve in curves for x in curve.x]
    ends = [min(seen, default=1.0), max(seen, default=1.0)]
    return [*curves, Curve(("equal",), ends, ends, {"color": "black"})]
