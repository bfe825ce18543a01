"""The charts of the batch-size study, each with the sentence that says what to see."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distbp.study.batch_size.results import BUDGETS, BatchSize, Results, Three
from distbp.study.batch_size.scaling import Interval
from distbp.study.batch_size.words import budget_name, goal_name, interval, metric_name
from distbp.study.drawing import band, chart, finish, shade, style
from distbp.study.page import Chart, Say, number

__all__ = [
    "best_rate", "curves", "error_at_budgets", "examples_to_goal", "gap", "noise_scale", "seconds_to_goal",
    "steps_by_rate", "steps_to_goal", "throughput",
]  # fmt: skip


def _over_sizes(results: Results, say: Say, title: str, y: str, *, log: str = "xy") -> tuple[Any, Any]:
    figure, axes = chart(title, say("batch size B (rows)", "tamaño de lote B (filas)"), y, log=log)
    B = [size.batch_size for size in results.sizes]
    axes.set_xlim(B[0] / 1.4, B[-1] * 1.4)
    return figure, axes


def _finish(axes: Any, results: Results, columns: int = 2) -> None:
    finish(axes, columns, ticks=[size.batch_size for size in results.sizes])


def _goal_band(axes: Any, results: Results, say: Say, name: str) -> None:
    """Of the batch sizes that reached the goal; a band without end is drawn to ten times the median."""
    sizes = results.reached()
    curve: Sequence[Three] = [getattr(size, name) for size in sizes]
    curve = [(low, middle, high if math.isfinite(high) else 10.0 * middle) for low, middle, high in curve]
    if sizes:
        B = [size.batch_size for size in sizes]
        band(axes, B, curve, label=say("measured, median and band", "medido, mediana y banda"), **style(0))


def _fitted(axes: Any, results: Results, label: str, power: int) -> None:
    """The fit of S(B) B^power, and the interval of B_crit."""
    if results.fit is None:
        return
    low, high = axes.get_xlim()
    B = np.geomspace(results.sizes[0].batch_size, results.sizes[-1].batch_size, 200)
    axes.plot(B, results.fit.steps(B) * B**power, label=label, color=style(1)["color"], linestyle="--")
    crit: Interval = results.fit.b_crit
    axes.axvspan(max(low, crit.low), min(high, crit.high), color="0.5", alpha=0.15, linewidth=0, label="B_crit, 95 %")
    if low <= crit.value <= high:
        axes.axvline(crit.value, color="0.4", linewidth=1.0)
    axes.set_xlim(low, high)


def _each(
    axes: Any, sizes: Sequence[BatchSize], points: Callable[[BatchSize], list[tuple[float, float]]], dots: float = 2.0
) -> None:
    """A curve for each batch size, from dark to light."""
    for i, size in enumerate(sizes):
        if at := points(size):
            look = shade(i, len(sizes)) | {"markersize": dots, "linewidth": 1.2}
            axes.plot(*zip(*at, strict=True), label=f"B = {size.batch_size}", **look)


def steps_to_goal(results: Results, say: Say) -> Chart:
    """S(B) with the line of perfect scaling, the fit and B_crit."""
    figure, axes = _over_sizes(results, say, say("steps to the goal", "pasos hasta la meta"), say("steps", "pasos"))
    _goal_band(axes, results, say, "steps")
    if sizes := results.reached():
        B = np.array([sizes[0].batch_size, sizes[-1].batch_size], float)
        scaled = sizes[0].steps[1] * B[0] / B
        axes.plot(B, scaled, color="0.5", linestyle=":", label=say("perfect scaling", "escala perfecta"))
    _fitted(axes, results, say("fit S(B)", "ajuste S(B)"), 0)
    _finish(axes, results)
    goal = goal_name(results, say)
    caption = say(
        f"Steps to {goal} fall along the dotted line while scaling is perfect, then level off; the dashed curve is the"
        " fit, the grey strip the interval of B_crit.",
        f"Los pasos hasta {goal} bajan por la línea de puntos mientras la escala es perfecta y luego se aplanan; la"
        " curva discontinua es el ajuste, la franja gris el intervalo de B_crit.",
    )
    return Chart("steps-to-goal", figure, caption)


def examples_to_goal(results: Results, say: Say) -> Chart:
    """B S(B): what a larger batch costs."""
    title = say("examples to the goal", "ejemplos hasta la meta")
    figure, axes = _over_sizes(results, say, title, say("examples", "ejemplos"))
    _goal_band(axes, results, say, "examples")
    _fitted(axes, results, say("fit B S(B)", "ajuste B S(B)"), 1)
    _finish(axes, results)
    goal = goal_name(results, say)
    caption = say(
        f"Examples passed until {goal}: what a larger batch costs in arithmetic; level while scaling is perfect.",
        f"Ejemplos procesados hasta {goal}: lo que un lote mayor cuesta en aritmética; constante mientras la escala es"
        " perfecta.",
    )
    return Chart("examples-to-goal", figure, caption)


def seconds_to_goal(results: Results, say: Say) -> Chart:
    """T(B), with the soonest marked."""
    title = say("time to the goal", "tiempo hasta la meta")
    figure, axes = _over_sizes(results, say, title, say("seconds", "segundos"))
    _goal_band(axes, results, say, "seconds")
    if results.reached():
        best = results.fastest()
        how = {"color": style(1)["color"], "markersize": 13, "linestyle": "", "label": say("soonest", "el más rápido")}
        axes.plot([best.batch_size], [best.seconds[1]], marker="*", **how)
    _finish(axes, results)
    goal = goal_name(results, say)
    caption = say(
        f"Seconds of training until {goal} on this machine: steps get fewer and longer; the star is the best bargain.",
        f"Segundos de entrenamiento hasta {goal} en esta máquina: los pasos son menos y más largos; la estrella es el"
        " mejor compromiso.",
    )
    return Chart("seconds-to-goal", figure, caption)


def throughput(results: Results, say: Say) -> Chart:
    """Rows per second."""
    title = say("speed of the machine", "velocidad de la máquina")
    figure, axes = _over_sizes(results, say, title, say("rows per second", "filas por segundo"))
    B = [size.batch_size for size in results.sizes]
    rates = [size.batch_size / size.step_seconds for size in results.sizes]
    axes.plot(B, rates, label=say("measured", "medido"), **style(0))
    perfect = [rates[0] * b / B[0] for b in B]
    label = say("steps of equal time", "pasos de igual duración")
    axes.plot(B, perfect, color="0.5", linestyle=":", label=label)
    axes.set_ylim(min(rates) / 1.5, max(rates) * 1.5)
    _finish(axes, results)
    first, last = (1e3 * size.step_seconds for size in (results.sizes[0], results.sizes[-1]))
    caption = say(
        f"A step takes {number(first)} ms with {B[0]} rows and {number(last)} ms with {B[-1]}: where the curve leaves"
        " the dotted line, rows begin to cost more than the step itself.",
        f"Un paso tarda {number(first)} ms con {B[0]} filas y {number(last)} ms con {B[-1]}: donde la curva deja la"
        " línea de puntos, las filas empiezan a costar más que el paso mismo.",
    )
    return Chart("throughput", figure, caption)


def error_at_budgets(results: Results, say: Say) -> Chart:
    """Test error at equal epochs, steps, seconds."""
    title = say("error at equal budgets", "error con presupuestos iguales")
    positive = all(size.error[along][0] > 0.0 for size in results.sizes for along in BUDGETS)
    figure, axes = _over_sizes(results, say, title, say("test error", "error de prueba"), log="xy" if positive else "x")
    for i, along in enumerate(BUDGETS):
        values = [size.error[along] for size in results.sizes]
        band(axes, [s.batch_size for s in results.sizes], values, label=budget_name(results, along, say), **style(i))
    _finish(axes, results, 3)
    caption = say(
        "Test error at the smallest validation error within a budget, with the best rate for it: which batch size is"
        " good depends on what is scarce.",
        "Error de prueba en el menor error de validación dentro de un presupuesto, con la mejor tasa para él: qué"
        " tamaño conviene depende de lo que escasea.",
    )
    return Chart("error-at-budgets", figure, caption)


def gap(results: Results, say: Say) -> Chart:
    """Test error less training error, at equal epochs and steps."""
    title = say("generalisation gap", "brecha de generalización")
    y = say("test error - training error", "error de prueba - error de entrenamiento")
    figure, axes = _over_sizes(results, say, title, y, log="x")
    B = [size.batch_size for size in results.sizes]
    for i, along in enumerate(BUDGETS[:2]):
        band(axes, B, [size.gap[along] for size in results.sizes], label=budget_name(results, along, say), **style(i))
    axes.axhline(0.0, color="0.6", linewidth=0.8)
    _finish(axes, results)
    small, large = results.sizes[0].gap["step"], results.sizes[-1].gap["step"]
    steps = budget_name(results, "step", say)
    if large[0] > small[2] or large[2] < small[0]:
        seen = say(
            f"after {steps} the gap is {number(small[1])} at the smallest batch and {number(large[1])} at the largest.",
            f"tras {steps} la brecha es {number(small[1])} con el lote menor y {number(large[1])} con el mayor.",
        )
    else:
        seen = say(
            f"after {steps} the gaps of the smallest and of the largest batch cannot be told apart.",
            f"tras {steps} las brechas del lote menor y del mayor no se distinguen.",
        )
    caption = say(
        f"How much worse the network is on unseen rows than on its own: {seen}",
        f"Cuánto peor es la red con filas no vistas que con las suyas: {seen}",
    )
    return Chart("gap", figure, caption)


def curves(results: Results, say: Say) -> Chart:
    """Validation error along the training."""
    title = say("training at the fastest rates", "entrenamiento con las tasas más rápidas")
    figure, axes = chart(title, say("epochs", "épocas"), metric_name(results.goal["metric"], say), log="xy")
    _each(axes, results.sizes, lambda size: [(x, y) for x, y in size.curve if y > 0.0])
    axes.axhline(results.goal["value"], color="0.4", linestyle=":", label=say("goal", "meta"))
    finish(axes, 4)
    caption = say(
        "A curve for each batch size, medians over seeds: per epoch small batches are ahead, since they take more"
        " steps.",
        "Una curva por tamaño de lote, medianas de las semillas: por época los lotes pequeños van delante, pues dan más"
        " pasos.",
    )
    return Chart("curves", figure, caption)


def best_rate(results: Results, say: Say) -> Chart:
    """The fastest rate, beside the rules of thumb."""
    title = say("fastest learning rate", "tasa de aprendizaje más rápida")
    figure, axes = _over_sizes(results, say, title, say("learning rate", "tasa de aprendizaje"))
    if sizes := results.reached():
        B, rates = np.array([size.batch_size for size in sizes], float), np.array([size.rate for size in sizes])
        axes.plot(B, rates, label=say("measured", "medida"), **style(0))
        for power, line, label in (
            (1.0, ":", say("linear rule", "regla lineal")), (0.5, "--", say("square-root rule", "regla de la raíz")),
        ):  # fmt: skip
            axes.plot(B, rates[0] * (B / B[0]) ** power, color="0.5", linestyle=line, label=label)
        axes.set_ylim(rates.min() / 3.0, rates.max() * 6.0)
    _finish(axes, results, 3)
    caption = say(
        "The rate with the fewest steps to the goal, beside the two rules of thumb, drawn from the smallest batch on.",
        "La tasa con menos pasos hasta la meta, junto a las dos reglas prácticas, trazadas desde el lote menor.",
    )
    return Chart("best-rate", figure, caption)


def steps_by_rate(results: Results, say: Say) -> Chart:
    """The valleys."""
    title = say("steps by learning rate", "pasos según la tasa")
    x, y = say("learning rate", "tasa de aprendizaje"), say("steps to the goal", "pasos hasta la meta")
    figure, axes = chart(title, x, y, log="xy")
    _each(axes, results.sizes, lambda size: [at for at in size.by_rate if math.isfinite(at[1])], 3.5)
    finish(axes, 4)
    caption = say(
        "Each batch size has a valley of its own: judged at one common rate, some would look slow only since it is not"
        " theirs.",
        "Cada tamaño tiene su propio valle: juzgados con una tasa común, algunos parecerían lentos solo porque no es la"
        " suya.",
    )
    return Chart("steps-by-rate", figure, caption)


def noise_scale(results: Results, say: Say) -> Chart:
    """B_simple along the training, and B_crit."""
    title = say("gradient noise scale", "escala de ruido del gradiente")
    figure, axes = chart(title, say("epochs", "épocas"), say("batch size (rows)", "tamaño de lote (filas)"), log="xy")
    _each(axes, [size for size in results.sizes if size.noise], lambda size: size.noise)
    beside = ""
    if results.fit is not None and results.fit.knee == "inside":
        crit, color = results.fit.b_crit, style(1)["color"]
        left, right = axes.get_xlim()
        axes.fill_between([left, right], crit.low, crit.high, color=color, alpha=0.15, linewidth=0)
        axes.axhline(crit.value, color=color, linestyle="--", label="B_crit")
        axes.set_xlim(left, right)
        beside = say(
            f", beside the critical batch size of the steps, {interval(crit, say)}",
            f", junto al tamaño crítico de los pasos, {interval(crit, say)}",
        )
    finish(axes, 4)
    caption = say(
        f"The noise scale along the training, at the fastest rate of each batch size{beside}.",
        f"La escala de ruido durante el entrenamiento, con la tasa más rápida de cada tamaño{beside}.",
    )
    return Chart("noise-scale", figure, caption)
