"""The report of the batch-size study: the assignment's answer, and what it follows from."""

import math
from pathlib import Path

from distbp.study.batch_size import charts
from distbp.study.batch_size.results import BUDGETS, Results, read_batch_sizes
from distbp.study.batch_size.words import answer, budget_name, goal_name, noise_in_words, question
from distbp.study.experiment import facts
from distbp.study.page import Chart, Page, Say, Section, Table, number, ranged

__all__ = ["page"]


def page(folder: Path, say: Say) -> Page:
    """The report, from ``study.json`` and ``trials.jsonl``."""
    results = read_batch_sizes(folder)
    title = say("What the mini-batch size does", "Qué efecto tiene el tamaño del mini-lote")
    trials = say(
        f"{results.trials}, of which {results.diverged} diverged; seeds 0 to {results.study['seeds'] - 1}",
        f"{results.trials}, de los cuales {results.diverged} divergieron; semillas 0 a {results.study['seeds'] - 1}",
    )
    sections = _sections(results, say) if results.sizes else []
    return Page(
        title, question(results, say), answer(results, say), sections,
        {say("trials", "ensayos"): trials} | facts(results.study, say),
    )  # fmt: skip


def _sections(results: Results, say: Say) -> list[Section]:
    speed = [
        charts.steps_to_goal(results, say), charts.examples_to_goal(results, say),
        charts.seconds_to_goal(results, say), charts.throughput(results, say),
    ]  # fmt: skip
    regimes: list[str | Chart | Table] = (
        [_regimes(results, say)] if results.fit and results.fit.knee == "inside" else []
    )
    error = [charts.error_at_budgets(results, say), charts.gap(results, say), charts.curves(results, say)]
    rate = [charts.best_rate(results, say), charts.steps_by_rate(results, say)]
    measured = any(size.noise for size in results.sizes)
    noise: list[str | Chart | Table] = (
        [noise_in_words(results, say), charts.noise_scale(results, say)] if measured else []
    )
    sections = [
        Section(say("Efficiency", "Eficiencia"), [*speed, *regimes]),
        Section(say("Prediction error", "Error de predicción"), error),
        Section(say("Learning rate", "Tasa de aprendizaje"), rate),
        Section(say("Gradient noise", "Ruido del gradiente"), noise),
        Section(say("All figures", "Todas las cifras"), [_all(results, say)]),
    ]
    return [section for section in sections if section.parts]


def _regimes(results: Results, say: Say) -> Table:
    """Perfect scaling up to B_crit / 4, no gain from 4 B_crit on: there doubling saves over 40, below 10 % of S(B)."""
    assert results.fit is not None
    crit = results.fit.b_crit.value
    regimes = (
        (0.0, crit / 4, say("perfect scaling", "escala perfecta"), say("40 to 50 %", "40 a 50 %")),
        (crit / 4, 4 * crit, say("diminishing returns", "rendimientos decrecientes"), say("10 to 40 %", "10 a 40 %")),
        (4 * crit, math.inf, say("no gain", "sin ganancia"), say("below 10 %", "menos del 10 %")),
    )
    rows = []
    for low, high, name, saving in regimes:
        span = f"{number(low)} {say('to', 'a')} {number(high)}"
        mine = ", ".join(str(size.batch_size) for size in results.sizes if low <= size.batch_size < high)
        rows.append([name, span, saving, mine or "-"])
    columns = [
        say("regime", "régimen"), say("batch size", "tamaño de lote"),
        say("steps saved by doubling it", "pasos ahorrados al duplicarlo"), say("of those tried", "de los probados"),
    ]  # fmt: skip
    return Table(
        say("The three regimes, by the fitted curve.", "Los tres regímenes, según la curva ajustada."), columns, rows
    )


def _all(results: Results, say: Say) -> Table:
    rows = [
        [
            f"{size.batch_size:,}", f"{size.rate:g}", f"{size.reached}/{size.seeds}", ranged(size.steps, say),
            number(size.examples[1]), ranged(size.seconds, say), number(1e3 * size.step_seconds),
            number(size.batch_size / size.step_seconds), *(ranged(size.error[along], say) for along in BUDGETS),
        ]
        for size in results.sizes
    ]  # fmt: skip
    error = say("test error", "error de prueba")
    columns = [
        "B", say("fastest rate", "tasa más rápida"), say("reached", "alcanzada"), say("steps", "pasos"),
        say("examples", "ejemplos"), say("seconds", "segundos"), say("ms per step", "ms por paso"),
        say("rows per second", "filas por segundo"),
        *(f"{error}, {budget_name(results, along, say)}" for along in BUDGETS),
    ]  # fmt: skip
    goal = goal_name(results, say)
    caption = say(
        f"Steps, examples and seconds to {goal}; medians over {results.study['seeds']} seeds, 95 % bootstrap bands.",
        f"Pasos, ejemplos y segundos hasta {goal}; medianas de {results.study['seeds']} semillas, bandas bootstrap"
        " del 95 %.",
    )
    return Table(caption, columns, rows)
