"""The report of the stability study in figures: what its templates are filled with and decide on, and its charts.

In charts a line is the median over the replaced rows, its band goes from the smallest to the largest. A distance of 0,
before the row that differs was met, has no place on a logarithmic axis and is left out.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distbp.report.drawing import COLOURS, Curve, Label, Level, Plot, shade
from distbp.study.stability.results import Result, Results, middle, rank_correlation, spread

Cases = Sequence[tuple[float, list[Result]]]  # by learning rate or batch size
_ZERO = Level((), 0.0, {"color": "black", "linewidth": 0.8})


def figures(folder: Path) -> dict[str, Any]:
    """Return the figures of the report on a folder; ranges are (least, median, most)."""
    results = Results(folder)
    study, every, sizes = results.study, results.of("network"), results.each("batch_size")
    by_rate, by_size = results.each_rate(results.b), [(b, results.of("network", b, results.rate)) for b in sizes]
    ends = {"rate": _ends(by_rate, "distance"), "size": _ends(by_size, "distance")}
    networks = [_row(b, rate, found, study["measure"]) for b in sizes for rate, found in results.each_rate(b)]
    whole = [row for row in networks if row["distance"]]
    check = results.check_bound()
    under_bound = _under_bound(results, check) if check["marks"] else None
    return {
        "study": study, "diverged": [pair["trial"] for pair in results.diverged], "missing": results.missing,
        "b": results.b, "rate": results.rate, "layer_rate": results.layers[0]["rate"],
        "measures": results.measures, "measure": study["measure"], "n_pairs": len(every),
        "correlation": rank_correlation(*([pair[name][-1] for pair in every] for name in ("distance", "gap/loss"))),
        "rates": _compared(results, "rate"), "equal_loss": _compared(results, "rate", equal_loss=True),
        "sizes": _compared(results, "batch_size"), "scaled": results.compare("both", "network", "distance"),
        "convex_factors": results.compare("batch_size", "convex", "distance")["factors"],
        "ends": ends | {name: _ends(by_rate, f"gap/{name}") for name in results.measures},
        "layers": sorted((_median(results.layers, name), label) for label, name in _layers(results)),
        "networks": networks, "best": min(whole, key=lambda row: row[f"{study['measure']}/held_out"][1]),
        "narrow": min(whole, key=lambda row: row["gap/loss"][1]),  # a small gap is not the aim
        "control": _control(results), "check": check, "convex": _convex(results, check), "under_bound": under_bound,
        "charts": {
            "distance-by-rate": _along("xy", _each("rate", by_rate, "distance")),
            "distance-by-batch-size": _along("xy", _each("size", by_size, "distance")),
            "distance-by-layer": _along("xy", _by_layer(results)),
            **{f"gap-of-{m}-by-rate": _along("", _each("rate", by_rate, f"gap/{m}"), _ZERO) for m in results.measures},
            "gap-against-loss": _along("x", _each("rate", by_rate, "gap/loss", "loss/train"), _ZERO),
            "gap-against-distance": _along("x", _all_pairs(results), height=4.9),
            "distance-under-bound": under_bound and _along("xy", under_bound["curves"]),
            "distances-and-bounds": Plot([*_every_mark(results, check)], log="xy", height=4.4),
        },
    }  # fmt: skip


def _compared(results: Results, along: str, **how: Any) -> dict[str, Any]:
    columns = {"distance": "distance", "gap": "gap/loss"}
    return {name: results.compare(along, "network", column, **how) for name, column in columns.items()}


def _median(found: list[Result], column: str) -> float:
    """Return the median of a column at the end."""
    return float(np.median([pair[column][-1] for pair in found]))


def _ends(cases: Cases, column: str) -> list[tuple[float, float]]:
    """Return where the median of a column ends, by rate or batch size."""
    return [(value, _median(found, column)) for value, found in cases if found]


def _row(b: int, rate: float, found: list[Result], measure: str) -> dict[str, Any]:
    """Return least, median and greatest at the end of the training; None where there are no pairs."""
    names = ("distance", "relative", "bound", "gap/loss", f"gap/{measure}", "loss/train", f"{measure}/held_out")
    there = [name for name in names if not found or name in found[0]]
    ranges = {name: spread([pair[name][-1:] for pair in found])[0].tolist() if found else None for name in there}
    return {"b": b, "rate": rate, **ranges}


def _control(results: Results) -> dict[str, Any]:
    """Return the pairs whose rows are the same, and the largest distance of them, which should be 0."""
    rows = [{**pair, "marks": len(pair["distance"]), "largest": max(pair["distance"])} for pair in results.controls()]
    worst = max(rows, key=lambda row: (row["largest"], row["trial"]), default=None)
    return {"rows": rows, "marks": sum(row["marks"] for row in rows), "worst": worst}


def _convex(results: Results, check: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the table of logistic regression; ``paper`` is the bound of the paper on the distance."""
    study, rates = results.study, results.each("rate", "convex")
    return [
        _row(b, rate, results.of("convex", b, rate), "loss")
        | {"claimed": rate not in check["unclaimed"], "paper": _paper(study, rate, steps)}
        for b, steps in zip(study["batch_sizes"], study["steps"], strict=True)
        for rate in rates
    ]


def _paper(study: dict[str, Any], rate: float, steps: Any) -> Any:
    """Return (2 L / n) eta T."""
    return 2.0 * study["lipschitz"] * rate * steps / study["rows_of_a_twin"]


def _under_bound(results: Results, check: dict[str, Any]) -> dict[str, Any]:
    """Return distance and bound at the largest rate that has one, for the batch size in the middle of those at it."""
    study, rate = results.study, max(set(results.each("rate", "convex")) - set(check["unclaimed"]))
    b = middle([b for b in study["batch_sizes"] if results.of("convex", b, rate)])
    found = results.of("convex", b, rate)
    trials, line = {pair["trial"] for pair in found}, _paper(study, rate, np.array(found[0]["step"]))
    ratios = [pair["bound"][-1] / pair["distance"][-1] for pair in found if pair["distance"][-1]]
    curves = [
        _band(("measured",), found, "distance", {"color": COLOURS[0], "marker": "o", "markersize": 3.5}),
        _band(("bound",), found, "bound", {"color": COLOURS[1], "linestyle": "--"}),
        Curve(("paper",), found[0]["epoch"], line, {"color": "black", "linestyle": ":"}),
    ]
    return {
        "b": b, "rate": rate, "above": sum(trial in trials for trial, *_ in check["above"]),
        "ratio": float(np.median(ratios or [math.inf])), "curves": curves,
    }  # fmt: skip


def _along(log: str, curves: Iterable[Curve], *levels: Level, height: float = 4.4) -> Plot:
    return Plot([*curves, *levels], log=log, height=height, columns=3)


def _layers(results: Results) -> list[tuple[Label, str]]:
    """Return label of each layer, and name of its normalised distance."""
    names = [name.removeprefix("relative/") for name in results.layers[0] if name.startswith("relative/")]
    return [(("layer" if n.startswith("layer ") else "part", n.removeprefix("layer ")), f"relative/{n}") for n in names]


def _band(label: Label, found: list[Result], column: str, look: Any, over: str = "epoch") -> Curve:
    """Return median and range of a column over pairs of one batch size and rate; distances of 0 are left out."""
    curve, x = (spread(pair[name] for pair in found) for name in (column, over))
    return Curve(label, x[:, 1], curve if column.startswith("gap/") else np.where(curve > 0.0, curve, np.nan), look)


def _each(name: str, cases: Cases, column: str, over: str = "epoch") -> Iterable[Curve]:
    """Give the bands of rates or batch sizes, from dark to light."""
    for i, (value, found) in enumerate(cases):
        if found:
            yield _band((name, value), found, column, shade(i, len(cases)), over)


def _by_layer(results: Results) -> Iterable[Curve]:
    layers = _layers(results)
    for i, (label, name) in enumerate(layers):
        yield _band(label, results.layers, name, shade(i, len(layers)))
    together = _band(("all",), results.layers, "relative", {"color": "black", "linestyle": "--"})
    yield dataclasses.replace(together, y=together.y[:, 1])


def _all_pairs(results: Results) -> Iterable[Curve]:
    """Give distance and gap of all pairs at the end: colours are rates, markers batch sizes."""
    for j, b in enumerate(results.each("batch_size")):
        cases = results.each_rate(b)
        for i, (rate, found) in enumerate(cases):
            x, y = [pair["distance"][-1] or math.nan for pair in found], [pair["gap/loss"][-1] for pair in found]
            look = {"color": shade(i, len(cases))["color"], "marker": shade(j, 7)["marker"], "linestyle": "none"}
            yield Curve(("pair", b, rate), x, y, look | {"markersize": 5})


def _every_mark(results: Results, check: dict[str, Any]) -> Iterable[Curve]:
    """Give distance over bound at every mark of every pair that has a bound, and the line where they are equal."""
    sizes, seen = results.study["batch_sizes"], []
    for i, b in enumerate(sizes):
        pairs = [pair for pair in results.of("convex", b) if pair["rate"] not in check["unclaimed"]]
        points = [at for pair in pairs for at in zip(pair["bound"], pair["distance"], strict=True) if all(at)]
        x, y = np.reshape(points, (-1, 2)).T
        seen += x.tolist()
        yield Curve(("size", b), x, y, shade(i, len(sizes)) | {"markersize": 2.5, "linestyle": "none"})
    ends = [min(seen, default=1.0), max(seen, default=1.0)]
    yield Curve(("equal",), ends, ends, {"color": "black"})
