"""Several runs beside each other: how good each is, what it took, and in which options they differ."""

from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.report.drawing import Curve, Plot, style
from distbp.report.of_run import OPTIONS, curve, main_figure, read_run
from distbp.report.page import compose, write

_MOST = 40


def compare(paths: list[Path], folder: Path, language: str = "en") -> Path:
    """Write ``report.html`` and ``report.md`` about several finished runs into a folder; return the page."""
    if len(paths) > _MOST:
        raise UserError(f"{len(paths)} runs: at most {_MOST} are compared in one page")
    folder.mkdir(parents=True, exist_ok=True)
    write(compose("report/runs", language, figures(paths)), folder, language, kinds=("svg",))
    return folder / "report.html"


def figures(paths: list[Path]) -> dict[str, Any]:
    """Return the figures of the comparison of some run directories."""
    runs = [read_run(path) for path in paths]
    seen = [name for name in OPTIONS if len({repr(run["config"].get(name)) for run in runs}) > 1]
    rows = [_row(path, run, seen) for path, run in zip(paths, runs, strict=True)]
    targets = {tuple(run["found"]["target"]["names"]) for run in runs}
    tests = {(run["found"]["rows"].get("test"), run["config"].get("test-data"), run["config"]["seed"]) for run in runs}
    return {
        "rows": rows, "options": seen, "one_target": len(targets) == 1, "same_rows": len(tests) == 1,
        "best": _best(rows), "charts": _charts(rows, runs),
    }  # fmt: skip


def _row(path: Path, run: dict[str, Any], options: list[str]) -> dict[str, Any]:
    results, found = run["results"], run["found"]
    parts = [part for part in ("test", "val") if part in found["rows"]]
    return {
        "name": path.name or str(path), "path": str(path), "main": main_figure(results, parts),
        "target": ", ".join(found["target"]["names"]), "seconds": results["seconds"], "parameters": found["parameters"],
        "ranks": results["ranks"], "shown": [run["config"].get(name, "-") for name in options],
    }  # fmt: skip


def _best(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the best of runs that have the same figure of the same part, and whether it is so beyond its interval."""
    mains = [row["main"] for row in rows]
    if any(one is None for one in mains) or len({(one["name"], one["part"]) for one in mains}) != 1:
        return None
    sign = 1.0 if mains[0]["name"] in ("accuracy", "auc") else -1.0
    first, *others = sorted(rows, key=lambda row: -sign * row["main"]["value"])
    main = first["main"]
    edge = None if main["low"] is None else min(sign * main["low"], sign * main["high"])
    clear = bool(others) and edge is not None and edge > sign * others[0]["main"]["value"]
    return {"row": first, "clear": clear, "next": others[0] if others else None}


def _charts(rows: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, Plot]:
    curves = []
    for k, (row, run) in enumerate(zip(rows, runs, strict=True)):
        for i, records in enumerate(run["records"]):
            x, y = curve(records, "loss/val")
            look = style(k) | {"markersize": 0, "linewidth": 1.4, "alpha": 1.0 if len(run["records"]) == 1 else 0.4}
            if x:
                curves.append(Curve(("run", row["name"]) if i == 0 else (), x, y, look))
    return {"loss": Plot(curves, height=4.2 + 0.1 * len(rows))} if curves else {}
