"""The answer of the batch-size study in words: steps, time, error, rate, noise; each with its uncertainty."""

import math
from pathlib import Path

import numpy as np

from distbp.study.batch_size.results import BUDGETS, Results
from distbp.study.batch_size.scaling import Interval
from distbp.study.page import Say, number, ranged

__all__ = [
    "answer", "budget_name", "goal_name", "interval", "metric_name", "noise_in_words", "question",
]  # fmt: skip


def metric_name(name: str, say: Say) -> str:
    """``error/val`` in words."""
    what, _, part = name.partition("/")
    parts = {"train": ("training", "entrenamiento"), "val": ("validation", "validación"), "test": ("test", "prueba")}
    kinds = {"error": ("error", "error"), "loss": ("loss", "pérdida")}
    return say(f"{parts[part][0]} {kinds[what][0]}", f"{kinds[what][1]} de {parts[part][1]}")


def goal_name(results: Results, say: Say) -> str:
    """The goal in words."""
    a = say("a", "una" if results.goal["metric"].startswith("loss") else "un")
    return f"{a} {metric_name(results.goal['metric'], say)} {say('of', 'de')} {results.goal['value']:g}"


def budget_name(results: Results, along: str, say: Say) -> str:
    """What is equal, in words."""
    epochs, steps, seconds = results.study["epochs"], results.study["least_steps"], number(results.seconds_budget)
    return {
        "epoch": say(f"{epochs} epochs", f"{epochs} épocas"),
        "step": say(f"{steps:,} steps", f"{steps:,} pasos"),
        "seconds": say(f"{seconds} seconds", f"{seconds} segundos"),
    }[along]


def interval(x: Interval, say: Say) -> str:
    """A fitted value with its interval."""
    return f"{number(x.value)} (95 %: {number(x.low)} {say('to', 'a')} {number(x.high)})"


def question(results: Results, say: Say) -> str:
    """What was asked, and how it was done."""
    study = results.study
    rates, seeds, rows = study["rates"], study["seeds"], f"{study['rows']:,}"
    network, data = study["network"].removeprefix("network "), Path(study["data"]).name
    text = say(
        "What does the size of the mini-batch do to the efficiency of training and to the prediction error of"
        f" the network {network} on {data} ({rows} training rows)? Each batch size was tried with {len(rates)}"
        f" learning rates from {rates[0]:g} to {rates[-1]:g} on a first seed, and with those that matter on {seeds}"
        f" seeds; each training took at least {study['epochs']} epochs and {study['least_steps']:,} steps. No batch"
        " size is judged at another one's rate.",
        "¿Qué efecto tiene el tamaño del mini-lote en la eficiencia del entrenamiento y en el error de predicción de"
        f" la red {network} con {data} ({rows} filas de entrenamiento)? Cada tamaño se probó con"
        f" {len(rates)} tasas de aprendizaje, de {rates[0]:g} a {rates[-1]:g}, con una primera semilla, y las que"
        f" importan con {seeds} semillas; cada entrenamiento duró al menos {study['epochs']} épocas y"
        f" {study['least_steps']:,} pasos. Ningún tamaño se juzga con la tasa de otro.",
    )
    if study["halving"]:
        text += say(
            " Hopeless rates were ended early (successive halving): all were trained for an eighth of the steps, the"
            " better half of them, by the validation loss, for a quarter, and so on.",
            " Las tasas sin esperanza se abandonaron pronto (reducción sucesiva a la mitad): todas se entrenaron un"
            " octavo de los pasos, la mejor mitad, según la pérdida de validación, un cuarto, y así sucesivamente.",
        )
    return text


def answer(results: Results, say: Say) -> list[str]:
    """The assignment's answer, a paragraph for each part."""
    if not results.sizes:
        return [
            say(
                "Every training diverged: give lower --rates.",
                "Todos los entrenamientos divergieron: dé --rates menores.",
            )
        ]
    return [_of_steps(results, say), _of_time(results, say), _of_error(results, say), _of_rate(results, say)]


def _of_steps(results: Results, say: Say) -> str:
    fit, goal = results.fit, goal_name(results, say)
    head = say("**Steps.** ", "**Pasos.** ")
    if fit is None:
        return head + say(
            f"Fewer than three batch sizes reached the goal ({goal}), too few for a curve. Give an easier `--goal`,"
            " or more `--least-steps`.",
            f"Menos de tres tamaños alcanzaron la meta ({goal}), muy pocos para una curva. Dé un `--goal` más fácil o"
            " más `--least-steps`.",
        )
    crit, s_min, e_min = fit.b_crit, interval(fit.s_min, say), interval(fit.e_min, say)
    if fit.knee == "inside":
        curve = f"S(B) = {number(fit.s_min.value)} (1 + {number(crit.value)} / B)"
        quarter, four_times = number(crit.value / 4), number(4 * crit.value)
        return head + say(
            f"To reach {goal} takes about {curve} steps (R² = {fit.r2:.2f}). Up to a batch of about {quarter},"
            f" doubling it nearly halves the steps; beyond about {four_times} a larger batch saves almost none: never"
            f" fewer than S_min = {s_min}. Between them lies the critical batch size B_crit = {interval(crit, say)},"
            f" where a training takes twice the fewest steps and twice the fewest examples, E_min = {e_min}.",
            f"Para alcanzar {goal} hacen falta unos {curve} pasos (R² = {fit.r2:.2f}). Hasta un lote de unas"
            f" {quarter} filas, duplicarlo reduce los pasos casi a la mitad; más allá de unas {four_times} un lote"
            f" mayor casi no ahorra pasos: nunca menos de S_min = {s_min}. Entre ambos está el tamaño crítico B_crit"
            f" = {interval(crit, say)}, donde se necesita el doble de los pasos mínimos y el doble de los ejemplos"
            f" mínimos, E_min = {e_min}.",
        )
    if fit.knee == "most":
        return head + say(
            f"To reach {goal} takes about {number(fit.s_min.value)} steps whatever the batch size: already the"
            f" smallest, {number(fit.smallest)}, is about the critical one or above it (at most {number(crit.high)})."
            " A larger batch saves no steps here.",
            f"Para alcanzar {goal} hacen falta unos {number(fit.s_min.value)} pasos con cualquier tamaño: ya el"
            f" menor, {number(fit.smallest)}, está cerca del crítico o por encima (a lo sumo {number(crit.high)}). Un"
            " lote mayor no ahorra pasos aquí.",
        )
    if fit.knee == "least":
        return head + say(
            f"Doubling the batch halves the steps to {goal} up to the largest, {number(fit.largest)}: the critical"
            f" batch size is at least {number(crit.low)}.",
            f"Duplicar el lote reduce a la mitad los pasos hasta {goal}, incluso con el mayor, {number(fit.largest)}:"
            f" el tamaño crítico es al menos {number(crit.low)}.",
        )
    return head + say(
        f"The steps to {goal} scatter too much to say where larger batches stop helping; more `--seeds` and `--rates`"
        " would.",
        f"Los pasos hasta {goal} varían demasiado para decir dónde dejan de ayudar los lotes mayores; harían falta más"
        " `--seeds` y `--rates`.",
    )


def _of_time(results: Results, say: Say) -> str:
    reached = results.reached()
    head = say("**Time.** ", "**Tiempo.** ")
    if not reached:
        return head + say("No batch size reached the goal.", "Ningún tamaño alcanzó la meta.")
    best, worst = results.fastest(), max(reached, key=lambda s: s.seconds[1])
    alike = ", ".join(str(s.batch_size) for s in reached if s.seconds[0] <= best.seconds[2] and s is not best)
    times = number(worst.seconds[1] / best.seconds[1])
    text = say(
        f"On this machine a batch of **{best.batch_size}** gets there soonest: in {ranged(best.seconds, say)} s, at a"
        f" rate of {best.rate:g}.",
        f"En esta máquina un lote de **{best.batch_size}** llega antes: en {ranged(best.seconds, say)} s, con una tasa"
        f" de {best.rate:g}.",
    )
    if alike:
        text += say(f" Its band overlaps with those of {alike}.", f" Su banda se solapa con las de {alike}.")
    if worst is not best:
        text += say(
            f" The slowest, {worst.batch_size}, takes {times} times as long.",
            f" El más lento, {worst.batch_size}, tarda {times} veces más.",
        )
    if missed := ", ".join(str(s.batch_size) for s in results.sizes if s not in reached):
        text += say(f" Not reached with {missed}.", f" No se alcanzó con {missed}.")
    return head + text


def _of_error(results: Results, say: Say) -> str:
    parts = []
    for along in BUDGETS:
        low, high = (pick(results.sizes, key=lambda s: s.error[along][1]) for pick in (min, max))
        after = say("after ", "tras ") + budget_name(results, along, say)
        if high.error[along][0] > low.error[along][2]:
            parts.append(
                after
                + say(
                    f" the test error goes from {ranged(low.error[along], say)} at B = {low.batch_size} to"
                    f" {ranged(high.error[along], say)} at B = {high.batch_size}",
                    f" el error de prueba va de {ranged(low.error[along], say)} con B = {low.batch_size} a"
                    f" {ranged(high.error[along], say)} con B = {high.batch_size}",
                )
            )
        else:
            ends = number(low.error[along][1]), number(high.error[along][1])
            parts.append(
                after
                + say(
                    f" no batch size can be told from another (test errors of {ends[0]} to {ends[1]})",
                    f" ningún tamaño se distingue de otro (errores de prueba de {ends[0]} a {ends[1]})",
                )
            )
    head = say("**Prediction error.** With the best rates, ", "**Error de predicción.** Con las mejores tasas, ")
    return head + "; ".join(parts) + "."


def _slope(results: Results) -> float:
    """Of the log of the fastest rate over log B, up to twice the critical batch size; NaN where it cannot be seen."""
    limit = 2.0 * results.fit.b_crit.value if results.fit else math.inf
    sizes = [size for size in results.reached() if size.batch_size <= limit]
    if len(sizes) < 3:
        return math.nan
    B, rates = np.log([size.batch_size for size in sizes]), np.log([size.rate for size in sizes])
    return float(np.polyfit(B, rates, 1)[0])


def _of_rate(results: Results, say: Say) -> str:
    rates, slope = results.study["rates"], _slope(results)
    first, last = results.sizes[0], results.sizes[-1]
    text = say(
        f"**Rate.** The fastest learning rate goes from {first.rate:g} at B = {first.batch_size} to {last.rate:g} at"
        f" B = {last.batch_size}.",
        f"**Tasa.** La tasa de aprendizaje más rápida va de {first.rate:g} con B = {first.batch_size} a {last.rate:g}"
        f" con B = {last.batch_size}.",
    )
    if not math.isnan(slope):
        text += say(
            f" Up to twice the critical batch size it goes like B^{slope:.2f}: 1 would be the linear rule, 0.5 the"
            " square-root rule.",
            f" Hasta el doble del tamaño crítico va como B^{slope:.2f}: 1 sería la regla lineal, 0.5 la de la raíz"
            " cuadrada.",
        )
    edge = ", ".join(str(s.batch_size) for s in results.sizes if s.rate in (rates[0], rates[-1]))
    if edge and len(rates) > 1:
        text += say(
            f" At B = {edge} it is the first or the last one that was tried: wider `--rates` may find a faster one.",
            f" Con B = {edge} es la primera o la última que se probó: unas `--rates` más amplias pueden hallar otra"
            " mejor.",
        )
    return text


def noise_in_words(results: Results, say: Say) -> str:
    """How far the noise scale is from B_crit."""
    text = say(
        "B_simple = tr(Σ) / |G|² (McCandlish et al. 2018) predicts from the scatter of the gradients of single"
        " examples, in one training, up to which batch size a larger batch pays.",
        "B_simple = tr(Σ) / |G|² (McCandlish et al. 2018) predice por la dispersión de los gradientes de cada"
        " ejemplo, en un solo entrenamiento, hasta qué tamaño compensa un lote mayor.",
    )
    found = [size for size in results.reached() if math.isfinite(size.noise_to_goal)]
    if results.fit is None or results.fit.knee != "inside" or not found:
        return text
    crit = results.fit.b_crit
    near = min(found, key=lambda size: abs(math.log(size.batch_size / crit.value)))
    scale, ratio = number(near.noise_to_goal), number(near.noise_to_goal / crit.value)
    return text + say(
        f" On the way to the goal it is {scale} on average (B = {near.batch_size}): {ratio} times B_crit ="
        f" {interval(crit, say)}.",
        f" De camino a la meta es {scale} en promedio (B = {near.batch_size}): {ratio} veces B_crit ="
        f" {interval(crit, say)}.",
    )
