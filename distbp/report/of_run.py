"""The report of a run in figures: what its template is filled with and decides on, and its charts."""

import hashlib
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from distbp.errors import UserError
from distbp.report.drawing import COLOURS, Bars, Curve, Level, Matrix, Plot, style
from distbp.report.page import compose, number, write
from distbp.report.run_files import figures_in, logs_in, options_in, records_in

_PARTS = ("test", "val")
_CLASSES_SHOWN, _MATRIX, _PAIRS, _BARS, _MEMBERS = 40, 30, 8, 15, 8
_COMMON = 0.9
_DIAGONAL = {"color": "#888888", "linestyle": "--", "linewidth": 1.0}
_POINTS = {"color": COLOURS[0], "marker": ".", "linestyle": "", "alpha": 0.5, "markersize": 5}
_KEPT = {"color": COLOURS[1], "linestyle": ":", "linewidth": 1.5}
_ORDER = (
    "accuracy", "rmse", "auc", "average_precision", "macro_f1", "exact_match", "top3", "mae", "r2", "log_loss", "loss",
    "brier", "calibration_error",
)  # fmt: skip
OPTIONS = (
    "recipe", "hidden", "activation", "model", "bins", "dropout", "optimizer", "lr", "weight-decay", "schedule",
    "batch-size", "epochs", "steps", "label-smoothing", "class-weight", "seed", "ensemble", "folds", "exact",
)  # fmt: skip
"""Options that say how a model was made."""


def report_on(path: Path, language: str = "en") -> Path:
    """Write ``report.html`` and ``report.md`` into the directory of a finished run; return the path of the page."""
    write(compose("report/run", language, figures(path)), path, language, kinds=("svg",))
    return path / "report.html"


def read_run(path: Path) -> dict[str, Any]:
    """Return the files of a finished run: ``results``, ``found``, ``manifest``, ``config``, ``records`` of each log."""
    results, found = figures_in(path / "results.json"), figures_in(path / "report.json")
    if not results:
        raise UserError(f"{path}: not the directory of a finished run: it has no results.json, or a damaged one")
    if not found:
        raise UserError(f"{path}: no report.json to show: it was trained with --report none, or it is damaged")
    records = [records_in(log) for log in logs_in(path)[:_MEMBERS]]
    config, manifest = options_in(path / "config.toml"), figures_in(path / "manifest.json")
    return {"results": results, "found": found, "manifest": manifest, "config": config, "records": records}


def figures(path: Path) -> dict[str, Any]:
    """Return the figures of the report on a run directory."""
    run = read_run(path)
    results, found, manifest = run["results"], run["found"], run["manifest"]
    parts = [part for part in _PARTS if part in found["rows"]]
    out_of_fold = "rows out of fold" in results
    confusion = results.get(f"confusion/{found['part']}")
    kept = _kept(results, run["records"])
    return {
        "name": path.resolve().name, "path": str(path), "target": found["target"], "rows": found["rows"],
        "found": found, "parts": parts, "main": main_figure(results, parts), "folds": out_of_fold,
        "members": results.get("members"), "kept": kept, "table": table_of(results, parts),
        "doubts": _doubts(results, parts, one_model=not out_of_fold),
        "per_class": list(results.get("classes", {}).get(found["part"], {}).items())[:_CLASSES_SHOWN],
        "confused": _confused(confusion, found["target"]["classes"]), "charts": _charts(run, confusion, kept),
        "options": {name: run["config"][name] for name in OPTIONS if name in run["config"]}, "manifest": manifest,
        "command": _command(manifest), "sha256": hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest(),
        "seconds": [(name, s) for name, s in found.get("seconds", {}).items()], "took": results["seconds"],
        "threshold": results.get("threshold"), "interval": results.get("values within"),
    }  # fmt: skip


def main_figure(results: dict[str, Any], parts: list[str]) -> dict[str, Any] | None:
    """Return the first figure of the first part of the rows that has one, with interval and baseline."""
    for part in parts:
        share = results.get("baseline", {}).get(f"accuracy/{part}", 0.0)
        first = ("auc",) if share > _COMMON else ()  # where nearly all are of one class
        for name in (*first, "accuracy", "rmse", "loss"):
            if (key := f"{name}/{part}") in results:
                low, high = results.get("intervals", {}).get(key, (None, None))
                base = results.get("baseline", {}).get(key)
                return {"name": name, "part": part, "value": results[key], "low": low, "high": high, "baseline": base}
    return None


def table_of(results: dict[str, Any], parts: list[str]) -> list[dict[str, Any]]:
    """Return a row for each figure: its name, a cell for each part of the rows, and the baseline's."""
    names = {key.split("/")[0] for key, value in results.items() if "/" in key and isinstance(value, float)}
    names = {name for name in names if " " not in name or "(" in name}
    order = {name: i for i, name in enumerate(_ORDER)}
    rows = []
    for name in sorted(names, key=lambda name: (order.get(name, len(order)), name)):
        if name == "loss" and "log_loss" in names:
            continue
        base = next((results["baseline"][k] for k in _keys(name, parts) if k in results.get("baseline", {})), None)
        cells = [_cell(results, key) for key in _keys(name, parts)]
        rows.append({"name": name, "cells": cells, "baseline": "" if base is None else number(base, 4)})
    return rows


def _keys(name: str, parts: list[str]) -> list[str]:
    return [f"{name}/{part}" for part in parts]


def _cell(results: dict[str, Any], key: str) -> str:
    """Return a figure with its interval."""
    if key not in results:
        return ""
    interval = results.get("intervals", {}).get(key)
    return number(results[key], 4) + (f" ({number(interval[0], 4)}–{number(interval[1], 4)})" if interval else "")


def _doubts(results: dict[str, Any], parts: list[str], *, one_model: bool) -> dict[str, Any]:
    """Return what speaks against the model: no better than the baseline, classes never predicted, parts that differ."""
    found: dict[str, Any] = {"baseline": "", "never": [], "differ": ""}
    intervals = results.get("intervals", {})
    for part in parts:
        found["baseline"] = found["baseline"] or results.get("beats baseline", {}).get(part, "")
        of = results.get("classes", {}).get(part, {})
        confusion = np.array(results.get(f"confusion/{part}", [[]]))
        if of and confusion.size and not found["never"]:
            predicted = confusion.sum(axis=0)
            found["never"] = [name for i, name in enumerate(of) if of[name]["rows"] and not predicted[i]]
    for name in ("accuracy", "rmse"):
        both = [intervals.get(f"{name}/{part}") for part in _PARTS]
        if one_model and all(both) and (both[0][1] < both[1][0] or both[1][1] < both[0][0]):
            found["differ"] = name
    return found


def _kept(results: dict[str, Any], records: list[list[dict[str, Any]]]) -> dict[str, Any] | None:
    """Return which evaluation was kept: step, epoch, metric, its value, and that of the last one."""
    step = results.get("best step")
    if step is None:
        return None
    metric = next(key.removeprefix("best ") for key in results if key.startswith("best ") and key != "best step")
    epoch = next((record["epoch"] for of_one in records[:1] for record in of_one if record["step"] == step), None)
    return {
        "step": step, "epoch": epoch, "metric": metric, "best": results[f"best {metric}"],
        "last": results.get(f"last {metric}"), "is_last": step == results.get("step"),
    }  # fmt: skip


def _confused(confusion: list[list[int]] | None, classes: list[str]) -> list[tuple[str, str, int]]:
    """Return the commonest mistakes: true class, prediction, how often."""
    if not confusion:
        return []
    counts = np.array(confusion)
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:_PAIRS]
    pairs = [np.unravel_index(k, counts.shape) for k in order]
    return [(classes[i], classes[j], int(counts[i, j])) for i, j in pairs if counts[i, j]]


def _command(manifest: dict[str, Any]) -> str:
    """Return the command line that made a run."""
    given, size = manifest.get("command", [])[1:], manifest.get("size", 1)
    return f"{f'mpirun -n {size} ' if size > 1 else ''}{shlex.join(['python', '-m', 'distbp.train', *given])}"


def curve(records: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return the epochs and the values of a metric in the records of a run."""
    points = [(r["epoch"], r[name]) for r in records if isinstance(r.get(name), int | float)]
    return [x for x, _ in points], [y for _, y in points]


def _charts(run: dict[str, Any], confusion: list[list[int]] | None, kept: dict[str, Any] | None) -> dict[str, Plot]:
    found, records = run["found"], run["records"]
    charts: dict[str, Plot] = {}
    values = found["target"]["kind"] == "values"
    watched = "rmse" if values else "accuracy"
    for name, shown in (("loss", "loss"), ("metric", watched), ("rate", "lr"), ("norm", "grad_norm")):
        plain = name in ("rate", "norm")
        marks: list[Any] = []
        for k, of_member in enumerate(records):
            for i, part in enumerate(("",) if plain else ("/train", "/val")):
                x, y = curve(of_member, shown + part)
                label: tuple[Any, ...] = () if plain or k else (part[1:],)
                look = style(i) | {"markersize": 0, "linewidth": 1.4, "alpha": 1.0 if len(records) == 1 else 0.6}
                if x:
                    marks.append(Curve(label, x, y, look))
        if not marks:
            continue
        if kept and kept["epoch"] is not None and not plain and len(records) == 1:
            marks.append(Level(("kept",), kept["epoch"], _KEPT, along="x"))
        charts[name] = Plot(marks, columns=3, height=3.6)
    classes = found["target"]["classes"]
    if confusion and len(classes) <= _MATRIX:
        charts["confusion"] = Plot([Matrix(classes, confusion)], height=4.6 if len(classes) <= 12 else 5.4)
    if reliability := found.get("reliability"):
        sure, right, _ = np.array(reliability).T
        marks = [Curve(("model",), sure, right, style(0)), Curve(("ideal",), [0.0, 1.0], [0.0, 1.0], _DIAGONAL)]
        charts["reliability"] = Plot(marks, height=3.8)
    if pairs := found.get("pairs"):
        true, predicted = np.array(pairs[0]).T
        ends = [float(true.min()), float(true.max())]
        marks = [Curve(("rows",), true, predicted, _POINTS), Curve(("ideal",), ends, ends, _DIAGONAL)]
        charts["pairs"] = Plot(marks, height=4.0)
        edges, counts = np.array(found["residuals"]["edges"]), found["residuals"]["counts"]
        look = {"color": COLOURS[0], "linestyle": "-", "drawstyle": "steps-mid"}
        marks = [Curve((), 0.5 * (edges[1:] + edges[:-1]), counts, look), Level((), 0.0, _DIAGONAL, along="x")]
        charts["residuals"] = Plot(marks, height=4.0)
    if needed := found.get("importance"):
        names, means, spreads = zip(*needed[:_BARS], strict=True)
        charts["importance"] = Plot([Bars(names, means, spreads)], height=max(2.0, 0.9 + 0.24 * len(names)))
    return charts
