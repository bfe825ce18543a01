"""The report of ``tradeoff`` in figures: what its templates are filled with, and decide on."""

import math
from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.study.experiment import read_study
from distbp.study.page import Page, compose
from distbp.study.tradeoff.charts import charts
from distbp.study.tradeoff.heats import Heats, Spread, label_of, spread
from distbp.study.tradeoff.race import EXACT_RATES
from distbp.study.tradeoff.split import Split, leading, medians
from distbp.study.trials import read_results

__all__ = ["page", "race_figures", "split_figures"]


def page(folder: Path, language: str) -> Page:
    """Return the report, from ``study.json`` and ``trials.jsonl``.

    Raises
    ------
    UserError
        Where the study is not done.
    """
    study, results = read_study(folder), read_results(folder)
    heats = Heats.of(results)
    fits = [one for one in results.values() if "n" in one]
    if not heats.exact or not heats.curves or not any(not one["tuning"] and not one["diverged"] for one in fits):
        raise UserError(f"the study in {folder} is not done: start it again without --report-only")
    split = Split(fits, study["best"])
    rates = [(label_of(method), rate) for method, rate in heats.rates.items()]
    rates += [(("split", width), rate) for width, rate in split.rates.items()]
    figures = {
        "study": study, "race": race_figures(heats, study), "split": split_figures(split, study),
        "rates": rates, "edge": [label for label, rate in rates if rate in (study["rates"][0], study["rates"][-1])],
        "diverged": heats.diverged,
    }  # fmt: skip
    return compose("tradeoff", language, figures, charts(heats, split, study))


def race_figures(heats: Heats, study: dict[str, Any]) -> dict[str, Any]:
    """Return what one exact step and as many examples in small steps come to, and who is first at each goal."""
    b, goals = study["batch_sizes"][0], heats.goals()
    small, steps = f"b={b}", -(-study["rows"] // b)
    exact, seconds = (spread([one[name] for one in heats.exact]) for name in ("error", "seconds"))
    many, soon, took = (math.nan,) * 3, None, math.nan
    if small in heats.curves:
        many, soon = heats.after(small, steps), heats.within(small, seconds[1])
        clocks = [dict(zip(c["steps"], c["seconds"], strict=True)) for c in heats.curves[small]]
        took = spread([clock.get(steps, math.nan) for clock in clocks])[1]
    soonest = {}
    for what in ("examples", "steps", "seconds"):
        reached = {method: heats.to_goal(method, goals[0], what)[1] for method in heats.curves}
        first = min(reached, key=lambda method: reached[method])
        soonest[what] = {"method": label_of(first), "at": reached[first]}
    return {
        "b": b, "steps": steps, "exact": exact, "exact_seconds": seconds[1], "many": many, "many_seconds": took,
        "soon": soon, "start": spread([one["before"]["error"] for one in heats.exact]),
        "better": "many" if many[2] < exact[0] else "exact" if exact[2] < many[0] else None,
        "exact_rates": EXACT_RATES, "goals": [_goal(heats, goal) for goal in goals], "soonest": soonest,
    }  # fmt: skip


def _reached(values: Spread) -> Spread | None:
    """Return None where the middle one did not."""
    return None if math.isinf(values[1]) else values


def _goal(heats: Heats, goal: float) -> dict[str, Any]:
    """Return who comes to a goal, and when."""
    rows = [
        {"method": label_of(method), "best": heats.best(method)}
        | {what: _reached(heats.to_goal(method, goal, what)) for what in ("seconds", "examples", "steps")}
        for method in heats.curves
    ]
    there = sorted((row for row in rows if row["seconds"]), key=lambda row: row["seconds"][1])
    first, last = there[0], there[-1]
    return {
        "error": goal, "rows": rows, "first": first, "last": None if last is first else last,
        "factor": last["seconds"][1] / first["seconds"][1],
        "missing": [row["method"] for row in rows if not row["seconds"]],
    }  # fmt: skip


def split_figures(split: Split, study: dict[str, Any]) -> dict[str, Any]:
    """Return which part of the error is the greatest where, and the tables."""
    sides, width = split.sides(study["budget"]), split.main_width()
    budgets, kept, middle = sides["split-budget-most"]["at"], sides["split-rows"]["at"], sides["split-rows"]["budget"]
    shown = sorted({budgets[0], budgets[len(budgets) // 2], budgets[-1]})
    rows = []
    for n in dict.fromkeys((kept[0], kept[len(kept) // 2], kept[-1])):
        for budget in shown:
            parts = split.over_seeds(n, width, budget)
            found = {name: values[1] for name, values in medians(parts).items()}
            rows.append({"n": n, "budget": budget, "leading": leading(parts), **found})
    return {
        "width": width, "known": split.known, "best": split.best, "sides": sides, "rows": rows,
        "answers": [_answer(split, n, width, budgets) for n in dict.fromkeys((split.sizes[-1], split.sizes[0])) if n in kept],
        "budgets": (middle, study["budget"]),
        "widths": [{"n": n, "best": [_best(split, n, budget) for budget in (middle, study["budget"])]} for n in split.sizes],
    }  # fmt: skip


def _answer(split: Split, n: int, width: int, budgets: list[int]) -> dict[str, Any]:
    """Return what leads at the shortest and longest budget, and from which one on optimisation no longer does."""
    parts = [split.over_seeds(n, width, budget) for budget in budgets]
    lead = [leading(one) for one in parts]
    after = len(lead) - lead[::-1].index("opt") if "opt" in lead else 0
    return {
        "n": n, "budget": budgets[0], "first": lead[0], "last": lead[-1], "opt": "opt" in lead,
        "after": budgets[after] if after < len(lead) - 1 else None,  # at the very end it is 0 by definition
        "short": medians(parts[0])["total"][1], "end": medians(parts[-1])["total"][1],
    }  # fmt: skip


def _best(split: Split, n: int, budget: int) -> tuple[int, float]:
    width = split.best_width(n, budget)
    return width, medians(split.over_seeds(n, width, budget))["total"][1]
