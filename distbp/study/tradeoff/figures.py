"""The report of ``tradeoff`` in figures: what its templates are filled with and decide on, and its charts."""

import math
from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.report.drawing import COLOURS, Curve, Level, Plot, style
from distbp.study.experiment import read_study
from distbp.study.tradeoff.race import EXACT_RATES, Heats, common, label_of, spread
from distbp.study.tradeoff.split import NAMES, Split
from distbp.study.trials import read_results

_CLOCKS = ("examples", "steps", "seconds")


def figures(folder: Path) -> dict[str, Any]:
    """Return the figures of the report on a folder."""
    study, results = read_study(folder), read_results(folder)
    heats = Heats.of(results)
    fits = [one for one in results.values() if "n" in one and not one["tuning"] and not one["diverged"]]
    if not (heats.exact and heats.curves and fits):
        raise UserError(f"the study in {folder} is not done: start it again without --report-only")
    split = Split(fits, study["best"])
    rates = [(label_of(method), rate) for method, rate in heats.rates.items()]
    rates += [(("split", width), rate) for width, rate in split.rates.items()]
    return {
        "study": study, "charts": _charts(heats, split, study), "race": _race(heats, study),
        "split": _split(split, study), "diverged": heats.diverged, "rates": rates,
        "edge": [label for label, rate in rates if rate in (study["rates"][0], study["rates"][-1])],
    }  # fmt: skip


def _race(heats: Heats, study: dict[str, Any]) -> dict[str, Any]:
    """Return what one exact step and as many examples in small steps come to, and who is first at each goal."""
    b, goals = study["batch_sizes"][0], [_goal(heats, goal) for goal in heats.goals()]
    small, steps = f"b={b}", -(-study["rows"] // b)
    exact, seconds = (spread([one[name] for one in heats.exact]) for name in ("error", "seconds"))
    many, took = heats.after(small, steps), heats.after(small, steps, "seconds")
    return {
        "b": b, "steps": steps, "exact": exact, "exact_seconds": seconds[1], "many": many, "many_seconds": took[1],
        "soon": heats.within(small, seconds[1]), "start": spread([one["before"]["error"] for one in heats.exact]),
        "better": "many" if many[2] < exact[0] else "exact" if exact[2] < many[0] else None,
        "exact_rates": EXACT_RATES, "goals": goals,  # of which all reach the first
        "soonest": {clock: min(goals[0]["rows"], key=lambda row: row[clock][1]) for clock in _CLOCKS},
    }  # fmt: skip


def _goal(heats: Heats, goal: float) -> dict[str, Any]:
    """Return who comes to a goal, and when; no time for a method whose middle run does not."""
    rows: list[dict[str, Any]] = []
    for method in heats.curves:
        when = {clock: heats.to_goal(method, goal, clock) for clock in _CLOCKS}
        reached = {clock: values if math.isfinite(values[1]) else None for clock, values in when.items()}
        rows.append({"method": label_of(method), "best": heats.best(method), **reached})
    first, *others = sorted((row for row in rows if row["seconds"]), key=lambda row: row["seconds"][1])
    return {
        "error": goal, "rows": rows, "first": first, "last": others[-1] if others else None,
        "missing": [row["method"] for row in rows if not row["seconds"]],
    }  # fmt: skip


def _split(split: Split, study: dict[str, Any]) -> dict[str, Any]:
    """Return which part of the error is the greatest where, and the tables."""
    sides = split.sides(study["budget"])
    budgets, rows = sides["split-budget-most"]["at"], sides["split-rows"]
    kept, width, early_late = rows["at"], rows["width"], (rows["budget"], study["budget"])
    shown = sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})
    sizes = dict.fromkeys((kept[0], kept[len(kept) // 2], kept[-1]))
    ends = (n for n in dict.fromkeys((split.sizes[-1], split.sizes[0])) if n in kept)
    return {
        "width": width, "known": split.known, "best": split.best, "sides": sides, "budgets": early_late,
        "answers": [_answer(split, n, width, budgets) for n in ends],
        "rows": [{"n": n, "budget": budget, **split.medians(n, width, budget)} for n in sizes for budget in shown],
        "widths": [
            {"n": n, "best": [(w := split.best_width(n, at), split.medians(n, w, at)["total"][1]) for at in early_late]}
            for n in split.sizes
        ],
    }  # fmt: skip


def _answer(split: Split, n: int, width: int, budgets: list[int]) -> dict[str, Any]:
    """Return what leads at the shortest and longest budget, and from which one on optimisation no longer does."""
    points = [split.medians(n, width, budget) for budget in budgets]
    lead = [point["leading"] for point in points]
    after = len(lead) - lead[::-1].index("opt") if "opt" in lead else 0
    return {
        "n": n, "budget": budgets[0], "short": points[0], "end": points[-1], "opt": "opt" in lead,
        "after": budgets[after] if after < len(lead) - 1 else None,  # at the very end it is 0 by definition
    }  # fmt: skip


def _charts(heats: Heats, split: Split, study: dict[str, Any]) -> dict[str, Plot]:
    """Return what each chart shows, by name: the race against three clocks, and the sides of the split."""
    races = {f"race-{clock}": _against(heats, study["best"], clock) for clock in _CLOCKS}
    return races | {name: _along(side) for name, side in split.sides(study["budget"]).items()}


def _against(heats: Heats, best: float | None, what: str) -> Plot:
    """Return the race against a clock, with the one exact step as a star."""
    curves = [
        Curve(label_of(method), *common(curves, what), style(i) | {"marker": None})
        for i, (method, curves) in enumerate(heats.curves.items())
    ]
    at = 1.0 if what == "steps" else spread([one[what] for one in heats.exact])[1]
    star = {"fmt": "*", "markersize": 11, "capsize": 3, "color": COLOURS[6], "zorder": 5}
    exact = Curve(("exact",), [at], [spread([one["error"] for one in heats.exact])], star, bars=True)
    level = Level(("best",), best, {"color": "#888", "linewidth": 1, "linestyle": (0, (2, 2))})
    return Plot([*curves, exact, level], log="x", height=4.6)


def _along(side: dict[str, Any]) -> Plot:
    """Return the parts of the error along a side; no hidden units have the place of one half."""
    looks = {name: style(i) for i, name in enumerate(NAMES)} | {"total": style(6) | {"linestyle": ":"}}
    places, zero = [place or 0.5 for place in side["at"]], Level((), 0.0, {"color": "#888", "linewidth": 0.8})
    curves = [Curve((name,), places, [one[name] for one in side["points"]], look) for name, look in looks.items()]
    ticks = side["at"] if len(side["at"]) <= 6 else ()  # few have their own labels
    return Plot([zero, *curves], log="x", height=4.6, ticks=ticks)
