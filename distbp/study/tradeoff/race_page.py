"""The part of the page of ``tradeoff`` that shows the race, and what it answers.

Middle values are medians over the seeds (the lower of two), with the least and the greatest beside them. The *goals* of
the race follow from what was reached: the best error of a method is the least of its curve; the first goal lies 1 %
above the best error of the worst method, so that all reach it, the second 1 % above that of the second worst.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distbp.study.drawing import COLOURS, band, chart, finish, style
from distbp.study.page import Chart, Say, Section, Table, number
from distbp.study.tradeoff.race import EXACT_RATES, Curve

__all__ = ["Heats", "Spread", "common", "named", "race_answer", "race_section", "spread"]

_ABOVE = 1.01
_POINTS = 80

Spread = tuple[float, float, float]


def spread(values: Sequence[float]) -> Spread:
    """Least, middle (the lower of two) and greatest."""
    ordered = sorted(values)
    return ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]


def _words(values: Spread, say: Say, whole: bool = False) -> str:
    """Middle, least and greatest; `whole` for counts."""
    if math.isinf(values[1]):
        return say("not reached", "no lo alcanza")
    low, middle, high = (f"{x:,}" if whole and math.isfinite(x) else number(x) for x in values)
    return f"{middle} ({low}–{high})"


@dataclass(frozen=True)
class Heats:
    """The race: curves of each method by seed, the one exact steps, the rates that were tuned, and who diverged."""

    curves: dict[str, list[Curve]]
    exact: list[dict[str, Any]]
    rates: dict[str, float]
    diverged: list[str]

    @classmethod
    def of(cls, results: dict[str, dict[str, Any]]) -> "Heats":
        """From the results of a study."""
        curves: dict[str, list[Curve]] = {}
        rates, diverged = {}, []
        for one in results.values():
            if "n" not in one and "curve" in one and not one.get("tuning"):
                if one["curve"]:
                    curves.setdefault(one["method"], []).append(one["curve"])
                if one["diverged"]:
                    diverged.append(one["trial"])
                if "rate" in one:
                    rates[one["method"]] = one["rate"]
        exact = [one for one in results.values() if one.get("method") == "exact"]
        return cls(curves, exact, rates, diverged)

    def best(self, method: str) -> float:
        """Its best error, the middle one of the seeds."""
        return spread([min(curve["error"]) for curve in self.curves[method]])[1]

    def goals(self) -> list[float]:
        """Errors that all methods reach, and all but the worst."""
        worst = sorted((self.best(method) for method in self.curves), reverse=True)
        return sorted({_ABOVE * error for error in worst[:2]}, reverse=True)

    def to_goal(self, method: str, goal: float, what: str) -> Spread:
        """``examples``, ``steps`` or ``seconds`` until the error is at most `goal`; infinite where it never is."""
        curves = self.curves[method]
        first = [next((i for i, error in enumerate(c["error"]) if error <= goal), None) for c in curves]
        return spread([math.inf if i is None else c[what][i] for c, i in zip(curves, first, strict=True)])

    def within(self, method: str, seconds: float) -> Spread:
        """Its error where it was last measured within so many seconds of training, or first."""
        curves = self.curves[method]
        last = [max([0, *(i for i, t in enumerate(c["seconds"]) if t <= seconds)]) for c in curves]
        return spread([c["error"][i] for c, i in zip(curves, last, strict=True)])

    def after(self, method: str, steps: int) -> Spread:
        """Its error after so many steps; not a number where it was not measured there."""
        found = [dict(zip(c["steps"], c["error"], strict=True)).get(steps, math.nan) for c in self.curves[method]]
        return spread(found)


def race_answer(heats: Heats, study: dict[str, Any], say: Say) -> list[str]:
    """One exact step or many, and who comes to the goals first."""
    return [_direct(heats, study, say), *_fastest(heats, say)]


def _error(study: dict[str, Any], say: Say) -> str:
    if study["kind"] == "values":
        return say("test loss", "pérdida de prueba")
    return say("test error (share wrong)", "error de prueba (proporción)")


def named(method: str, say: Say) -> str:
    """A method, for people."""
    if method.startswith("b="):
        return say(f"mini-batches of {int(method[2:]):,}", f"mini-lotes de {int(method[2:]):,}")
    names = {
        "gd": say("gradient descent", "descenso del gradiente"), "lbfgs": "L-BFGS",
        "exact": say("one exact step", "un paso exacto"),
    }  # fmt: skip
    return names[method]


def _direct(heats: Heats, study: dict[str, Any], say: Say) -> str:
    """The answer to the question of the lecture."""
    b, rows = study["batch_sizes"][0], study["rows"]
    steps = -(-rows // b)
    exact = spread([one["error"] for one in heats.exact])
    many = heats.after(f"b={b}", steps) if f"b={b}" in heats.curves else (math.nan,) * 3
    article = "una" if study["kind"] == "values" else "un"
    said = say(
        f"**One exact step**, with the rate that is best in hindsight, leaves a {_error(study, say)} of"
        f" {_words(exact, say)}. **{steps:,} steps of b = {b}** see the same {rows:,} examples and leave"
        f" {_words(many, say)}. ",
        f"**Un paso exacto**, con la mejor tasa de aprendizaje elegida a posteriori, deja {article}"
        f" {_error(study, say)} de {_words(exact, say)}. **{steps:,} pasos con b = {b}** ven los mismos"
        f" {rows:,} ejemplos y dejan {_words(many, say)}. ",
    )
    if f"b={b}" in heats.curves:
        seconds = spread([one["seconds"] for one in heats.exact])[1]
        soon = _words(heats.within(f"b={b}", seconds), say)
        said += say(
            f"In the {number(seconds)} s of the exact step, b = {b} comes to {soon}. ",
            f"En los {number(seconds)} s del paso exacto, b = {b} llega a {soon}. ",
        )
    if many[2] < exact[0]:
        return said + say(
            "The approximate steps are better, on every seed.",
            "Los pasos aproximados son mejores, con todas las semillas.",
        )
    if exact[2] < many[0]:
        return said + say(
            "The exact step is better, on every seed.", "El paso exacto es mejor, con todas las semillas."
        )
    return said + say(
        "The seeds do not tell which is better.", "Las semillas no permiten decir cuál es mejor."
    )  # fmt: skip


def _fastest(heats: Heats, say: Say) -> list[str]:
    """Who comes to the goals first, and how far behind the others are."""
    said = []
    for goal in heats.goals():
        took = {method: heats.to_goal(method, goal, "seconds")[1] for method in heats.curves}
        there = {method: t for method, t in took.items() if math.isfinite(t)}
        order = sorted(there, key=lambda method: there[method])
        first, last = order[0], order[-1]
        missing = [named(method, say) for method in took if method not in there]
        text = say(
            f"An error of {number(goal)} is reached first with {named(first, say)}, in {number(there[first])} s",
            f"Un error de {number(goal)} se alcanza antes con {named(first, say)}, en {number(there[first])} s",
        )
        if last != first:
            factor = number(there[last] / there[first], 2)
            text += say(
                f", and last with {named(last, say)}, in {number(there[last])} s, {factor} times as long",
                f", y en último lugar con {named(last, say)}, en {number(there[last])} s, {factor} veces más tiempo",
            )
        if missing:
            text += say(f"; never with {', '.join(missing)}", f"; nunca con {', '.join(missing)}")
        said.append(text + ".")
    return said


def race_section(heats: Heats, study: dict[str, Any], say: Say) -> Section:
    """Charts against examples, steps and seconds; the tables of the two questions."""
    names = {
        "examples": say("examples seen", "ejemplos vistos"), "steps": say("steps", "pasos"),
        "seconds": say("seconds of training", "segundos de entrenamiento"),
    }  # fmt: skip
    return Section(
        say("The race", "La carrera"),
        [
            say(
                "All start from the same parameters, with the same network, and are measured on the same"
                f" {study['test_rows']:,} test rows. Lines are medians of {study['seeds']} seeds (start and order of"
                " the examples), bands reach from the least to the greatest. An example counts each time that its"
                " gradient is computed. Seconds are those of training alone; as many trainings ran side by side as"
                " there are groups of ranks.",
                "Todos parten de los mismos parámetros, con la misma red, y se miden con las mismas"
                f" {study['test_rows']:,} filas de prueba. Las líneas son medianas de {study['seeds']} semillas (inicio"
                " y orden de los ejemplos); las bandas van del mínimo al máximo. Un ejemplo cuenta cada vez que se"
                " calcula su gradiente. Los segundos son solo los de entrenamiento; a la vez se hicieron tantos"
                " entrenamientos como grupos de procesos hay.",
            ),
            *(_curves(heats, study, what, name, say) for what, name in names.items()),
            _one_table(heats, study, say),
            *(_goal_table(heats, goal, say) for goal in heats.goals()),
        ],
    )  # fmt: skip


def common(curves: Sequence[Curve], what: str) -> tuple[list[float], list[Spread]]:
    """The spread of curves whose points lie at different places: read where all of them are, on a log scale."""
    low, high = max(max(c[what][0], 1e-6) for c in curves), min(c[what][-1] for c in curves)
    if not low < high:
        return [], []
    x = np.geomspace(low, high, _POINTS)
    read = [np.interp(np.log(x), np.log(np.maximum(c[what], 1e-6)), c["error"]) for c in curves]
    return x.tolist(), [spread(list(values)) for values in zip(*read, strict=True)]


def _curves(heats: Heats, study: dict[str, Any], what: str, name: str, say: Say) -> Chart:
    title = say(f"Error against {name}", f"Error frente a {name}")
    figure, axes = chart(title, f"{name} (log)", _error(study, say), log="x", height=4.6)
    for i, (method, curves) in enumerate(heats.curves.items()):
        x, middle = common(curves, what)
        if x:
            band(axes, x, middle, label=named(method, say), **(style(i) | {"marker": None}))
    exact = spread([one["error"] for one in heats.exact])
    at = 1.0 if what == "steps" else spread([one[what] for one in heats.exact])[1]
    axes.errorbar(
        [at], [exact[1]], [[exact[1] - exact[0]], [exact[2] - exact[1]]], fmt="*", markersize=11, capsize=3,
        color=COLOURS[6], label=named("exact", say), zorder=5,
    )  # fmt: skip
    if study["best"] is not None:
        axes.axhline(
            study["best"], color="#888", linewidth=1, linestyle=(0, (2, 2)), label=say("best possible", "óptimo")
        )
    finish(axes)
    goal = heats.goals()[0]
    took = {method: heats.to_goal(method, goal, what)[1] for method in heats.curves}
    first = min(took, key=lambda method: took[method])
    least = number(took[first]) if what == "seconds" else f"{took[first]:,}"
    return Chart(
        f"race-{what}", figure,
        say(
            f"In {name}, the error of {number(goal)}, which all reach, comes first with {named(first, say)}:"
            f" {least}.",
            f"En {name}, el error de {number(goal)}, que todos alcanzan, se logra antes con {named(first, say)}:"
            f" {least}.",
        ),
    )  # fmt: skip


def _one_table(heats: Heats, study: dict[str, Any], say: Say) -> Table:
    b, rows = study["batch_sizes"][0], study["rows"]
    steps = -(-rows // b)
    exact = spread([one["error"] for one in heats.exact])
    body = [
        [
            say("no step", "ningún paso"),
            "0",
            "0",
            "0",
            _words(spread([o["before"]["error"] for o in heats.exact]), say),
        ],
        [
            named("exact", say),
            "1",
            f"{rows:,}",
            number(spread([o["seconds"] for o in heats.exact])[1]),
            _words(exact, say),
        ],
    ]
    if f"b={b}" in heats.curves:
        took = [dict(zip(c["steps"], c["seconds"], strict=True)).get(steps, math.nan) for c in heats.curves[f"b={b}"]]
        after = heats.after(f"b={b}", steps)
        body.append([named(f"b={b}", say), f"{steps:,}", f"{rows:,}", number(spread(took)[1]), _words(after, say)])
    return Table(
        say(
            f"The same number of examples: one exact step, with the best of {len(EXACT_RATES)} rates between"
            f" {number(EXACT_RATES[0])} and {number(EXACT_RATES[-1])} on the test rows, and one epoch of b = {b}.",
            f"El mismo número de ejemplos: un paso exacto, con la mejor de {len(EXACT_RATES)} tasas entre"
            f" {number(EXACT_RATES[0])} y {number(EXACT_RATES[-1])} en las filas de prueba, y una época con b = {b}.",
        ),
        [
            say("method", "método"), say("steps", "pasos"), say("examples", "ejemplos"), say("seconds", "segundos"),
            _error(study, say),
        ],
        body,
    )  # fmt: skip


def _goal_table(heats: Heats, goal: float, say: Say) -> Table:
    whats = "seconds", "examples", "steps"
    body = [
        [
            named(method, say),
            *(_words(heats.to_goal(method, goal, what), say, what != "seconds") for what in whats),
            number(heats.best(method)),
        ]
        for method in heats.curves
    ]
    which = say("worst", "peor") if goal == heats.goals()[0] else say("second worst", "segundo peor")
    return Table(
        say(
            f"To an error of {number(goal)} (1 % above the best of the {which} method): medians, and in brackets the"
            " least and the greatest of the seeds.",
            f"Hasta un error de {number(goal)} (1 % por encima del mejor valor del {which} método): medianas y, entre"
            " paréntesis, el mínimo y el máximo de las semillas.",
        ),
        [
            say("method", "método"), say("seconds", "segundos"), say("examples", "ejemplos"), say("steps", "pasos"),
            say("best error", "mejor error"),
        ],
        body,
    )  # fmt: skip
