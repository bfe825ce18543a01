"""The report of the stability study in figures: what its template is filled with, and decides on."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distbp.study.page import Page, compose
from distbp.study.stability.charts import charts, layers
from distbp.study.stability.results import Column, Result, Results, distance, gap, middle, rank_correlation, spread

__all__ = ["figures", "page"]


def page(folder: Path, language: str) -> Page:
    """Return the report on a folder.

    Raises
    ------
    UserError
        Where no pair of networks is whole yet.
    """
    results = Results(folder)
    return compose("stability", language, figures(results), charts(results))


def figures(results: Results) -> dict[str, Any]:
    """Return the figures of the report; comparisons are of `Results.compare`, ranges are (least, median, greatest)."""
    study, every = results.study, results.of("network")
    b, rate = middle(results.batch_sizes("network")), middle(results.rates("network"))
    by_rate, layer_rate = results.each_rate(b), middle(sorted({pair["rate"] for pair in results.of("network", b)}))
    measures = ["loss", "error"] if study["measure"] == "error" else ["loss"]
    return {
        "study": study, "diverged": [pair["trial"] for pair in results.diverged], "missing": results.missing,
        "b": b, "rate": rate, "layer_rate": layer_rate, "measures": measures, "measure": measures[-1],
        "rates": _compared(results, "rate"), "equal_loss": _compared(results, "rate", equal_loss=True),
        "sizes": _compared(results, "batch_size"),
        "convex_factors": results.compare("batch_size", "convex", distance)["factors"],
        "scaled": results.compare("both", "network", distance),
        "ends": {
            "rate": _ends(by_rate, distance), "size": _ends(results.each_size(rate), distance),
            **{name: _ends(by_rate, lambda pair, name=name: gap(pair, name)) for name in measures},
        },
        "layers": sorted((_median(column(pair)[-1] for pair in results.of("network", b, layer_rate)), label)
                         for label, column in layers(every[0])),
        "n_pairs": len(every),
        "correlation": rank_correlation(
            (pair["distance"][-1] for pair in every), (gap(pair)[-1] for pair in every)
        ),
        "networks": [_row(results.of("network", b, rate), b, rate, study["measure"])
                     for b in results.batch_sizes("network") for rate in results.rates("network")],
        "control": _control(results), **_convex(results), **_best(results),
    }  # fmt: skip


def _compared(results: Results, along: str, **how: Any) -> dict[str, Any]:
    return {"distance": results.compare(along, "network", distance, **how),
            "gap": results.compare(along, "network", gap, **how)}  # fmt: skip


def _median(values: Any) -> float:
    return float(np.median(list(values)))


def _ends(cases: Sequence[tuple[float, list[Result]]], column: Column) -> list[tuple[float, float]]:
    """Return where the median of a column ends, by rate or batch size."""
    return [(value, _median(column(pair)[-1] for pair in found)) for value, found in cases if found]


def _range(values: Sequence[float]) -> list[float] | None:
    """Return least, median and greatest; None of no values."""
    return spread([[value] for value in values])[0].tolist() if values else None


def _row(found: list[Result], b: int, rate: float, measure: str) -> dict[str, Any]:
    """Return ranges and medians at the end of the training."""
    gaps = {f"gap_{name}": _range([gap(pair, name)[-1] for pair in found]) for name in {"loss", measure}}
    ends = {name: _range([pair[name][-1] for pair in found]) for name in ("distance", "relative", "loss/train")}
    return {"b": b, "rate": rate, **gaps, **ends, "held_out": _range([p[f"{measure}/held_out"][-1] for p in found])}


def _control(results: Results) -> dict[str, Any]:
    """Return the pairs whose rows are the same, and the largest distance of them, which should be 0."""
    rows = [
        {**{name: pair[name] for name in ("kind", "batch_size", "rate", "trial")}, "marks": len(pair["distance"]),
         "largest": max(pair["distance"])}
        for pair in results.controls()
    ]  # fmt: skip
    worst = max(rows, key=lambda row: (row["largest"], row["trial"]), default=None)
    return {"rows": rows, "marks": sum(row["marks"] for row in rows), "worst": worst}


def _convex(results: Results) -> dict[str, Any]:
    """Return the check of the bound, the case that is drawn, and the table."""
    study, check = results.study, results.check_bound()
    check["worst"] = max(check["above"], key=lambda point: point[2] - point[3], default=None)
    if not study["convex_rates"]:
        return {"check": check, "convex": []}
    rows, limit = [], 2.0 / study["smoothness"]
    for b, steps in zip(study["batch_sizes"], study["steps"], strict=True):
        for rate in results.rates("convex"):
            found, paper = results.of("convex", b, rate), 2.0 * study["lipschitz"] * rate * steps / study["rows_of_a_twin"]
            ranges = {name: _range([pair[name][-1] for pair in found]) for name in ("distance", "bound")}
            gaps = _range([gap(pair)[-1] for pair in found])
            rows.append({"b": b, "rate": rate, "claimed": rate <= limit, "paper": paper, "gap": gaps, **ranges})
    return {"check": check, "convex": rows, "limit": limit, "drawn": _drawn(results) if check["marks"] else None}


def _drawn(results: Results) -> dict[str, Any]:
    """Return the case whose distance is drawn under its bound: marks above it, bound / distance at the end (median)."""
    b, rate, found = results.under_bound()
    trials = {pair["trial"] for pair in found}
    above = sum(trial in trials for trial, *_ in results.check_bound()["above"])
    ratios = [pair["bound"][-1] / pair["distance"][-1] for pair in found if pair["distance"][-1]]
    return {"b": b, "rate": rate, "above": above, "ratio": _median(ratios or [math.inf])}


def _best(results: Results) -> dict[str, Any]:
    """Return where the held-out rows fare best, and where the gap is smallest: a small gap is not the aim."""
    measure = results.study["measure"]
    cases = [
        {"b": b, "rate": rate, "held_out": _median(pair[f"{measure}/held_out"][-1] for pair in found),
         "gap": _median(gap(pair)[-1] for pair in found)}
        for b in results.batch_sizes("network") for rate, found in results.each_rate(b) if found
    ]  # fmt: skip
    return {name: min(cases, key=lambda case: case[of]) for name, of in (("best", "held_out"), ("narrow", "gap"))}
