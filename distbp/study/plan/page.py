"""The report of the plan: predicted times by batch size and ranks, a recommendation, and how sure it is."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distbp.study.drawing import band, chart, finish, style
from distbp.study.experiment import facts, read_study
from distbp.study.page import Chart, Page, Say, Section, Table, number, ranged
from distbp.study.plan.model import Network, Prediction, Steps, StepTime, fit_allreduce, predict
from distbp.study.trials import read_results

__all__ = ["Plan", "page", "read_plan"]

_WORTH = 0.5
"""Efficiency below which more ranks are called a waste."""


@dataclass(frozen=True)
class Plan:
    """What is known, and what follows.

    Attributes
    ----------
    study : dict
        ``study.json``.
    measured : list of dict
        Steps.
    network : Network
        Of the extrapolation.
    predictions : list of Prediction
        For all B and P.
    ranks_per_node, hosts : int
        For node-hours; of the calibration.
    steps, step_time : Steps, StepTime
        S and t.
    """

    study: dict[str, Any]
    measured: list[dict[str, Any]]
    network: Network
    predictions: list[Prediction]
    ranks_per_node: int
    hosts: int
    steps: Steps
    step_time: StepTime

    @property
    def given(self) -> bool:
        """Whether the user said latency and bandwidth of the network."""
        return self.study["network_given"] is not None

    @property
    def relative(self) -> bool:
        """Times are multiples of S_min steps: there is no study."""
        return self.study["curve"]["study"] is None

    def best(self, ranks: int) -> Prediction:
        """The batch size with the shortest time on so many ranks."""
        return min((p for p in self.predictions if p.ranks == ranks), key=lambda p: p.seconds[1])

    def all_ranks(self) -> list[int]:
        """Numbers of ranks that are predicted."""
        return sorted({p.ranks for p in self.predictions})

    def speed_up(self, prediction: Prediction) -> float:
        """Against the best batch size on one rank."""
        return self.alone().seconds[1] / prediction.seconds[1]

    def alone(self) -> Prediction:
        """The best on one rank."""
        sizes = sorted({p.batch_size for p in self.predictions})
        return min(predict(self.steps, self.step_time, sizes, [1]), key=lambda p: p.seconds[1])

    def recommended(self) -> Prediction:
        """The most ranks that are used with an efficiency of at least a half; among those the fastest."""
        found = [self.best(ranks) for ranks in self.all_ranks()]
        worth = [p for p in found if self.speed_up(p) >= _WORTH * p.ranks] or found[:1]
        return min(worth, key=lambda p: p.seconds[1])


def read_plan(folder: Path) -> Plan:
    """From ``study.json`` and ``trials.jsonl``."""
    study, results = read_study(folder), read_results(folder)
    measured = [r for name, r in results.items() if name.startswith("step ")]
    network = fit_allreduce([r for name, r in results.items() if name.startswith("allreduce ")])
    if study["network_given"] is not None:
        network = Network(study["network_given"][0], 1.0 / study["network_given"][1])
    curve = study["curve"]
    if curve["study"] is None:
        noise = results["noise scale"]
        steps = Steps((1.0, 1.0, 1.0), (noise["low"], noise["noise_scale"], noise["high"]), {})
    else:
        known = {int(b): tuple(s) for b, s in curve["steps"].items()}
        steps = Steps(tuple(curve["s_min"]), tuple(curve["b_crit"]), known)
    step_time = StepTime(measured, network, 4 * study["parameters"])
    predictions = predict(steps, step_time, study["batch_sizes"], study["predict_ranks"])
    job = results["job"]
    per_node = study["ranks_per_node"] or job["cores"]
    return Plan(study, measured, network, predictions, per_node, job["hosts"], steps, step_time)


def page(folder: Path, say: Say) -> Page:
    """The report."""
    plan = read_plan(folder)
    study = plan.study
    question = say(
        f"Which batch size and how many ranks are worth asking for to train {study['network']} on {study['data']}"
        f" ({study['rows']:,} training rows)?",
        f"¿Qué tamaño de lote y cuántos procesos conviene pedir para entrenar {study['network']} con {study['data']}"
        f" ({study['rows']:,} filas de entrenamiento)?",
    )
    sections = [
        Section(
            say("Predicted times", "Tiempos predichos"), [_times(plan, say), _chart(plan, say), _speed_up(plan, say)]
        ),
        Section(say("What was measured", "Lo que se midió"), [_steps_chart(plan, say), _network(plan, say)]),
    ]
    return Page(say("Which batch size, how many ranks", "Qué tamaño de lote, cuántos procesos"), question,
                _answer(plan, say), sections, facts(study, say))  # fmt: skip


def _unit(plan: Plan, say: Say) -> str:
    return say("times S_min", "veces S_min") if plan.relative else "s"


def _answer(plan: Plan, say: Say) -> list[str]:
    best = plan.recommended()
    fastest = min(plan.predictions, key=lambda p: p.seconds[1])
    ranks, efficiency = best.ranks, plan.speed_up(best) / best.ranks
    goal = plan.study["curve"].get("goal")
    until = f" {say('to', 'hasta')} {goal['metric']} {goal['value']:g}" if goal else ""
    text = say(
        f"Ask for **{ranks} rank{'s' * (ranks > 1)}** with a batch of **{best.batch_size}**: about"
        f" {ranged(best.seconds, say)} {_unit(plan, say)}{until}, {number(plan.speed_up(best))} times as fast as the"
        f" best batch on one rank, at an efficiency of {100 * efficiency:.0f} %.",
        f"Pida **{ranks} proceso{'s' * (ranks > 1)}** con un lote de **{best.batch_size}**: unos"
        f" {ranged(best.seconds, say)} {_unit(plan, say)}{until}, {number(plan.speed_up(best))} veces más rápido que"
        f" el mejor lote en un proceso, con una eficiencia del {100 * efficiency:.0f} %.",
    )
    if fastest.ranks > ranks:
        text += say(
            f" The fastest is {fastest.ranks} ranks with a batch of {fastest.batch_size},"
            f" {ranged(fastest.seconds, say)} {_unit(plan, say)}, at an efficiency of"
            f" {100 * plan.speed_up(fastest) / fastest.ranks:.0f} %.",
            f" Lo más rápido son {fastest.ranks} procesos con un lote de {fastest.batch_size},"
            f" {ranged(fastest.seconds, say)} {_unit(plan, say)}, con una eficiencia del"
            f" {100 * plan.speed_up(fastest) / fastest.ranks:.0f} %.",
        )
    return [text, _how_sure(plan, best, say)]


def _how_sure(plan: Plan, best: Prediction, say: Say) -> str:
    measured = ", ".join(map(str, plan.step_time.ranks))
    if best.measured:
        text = say(
            f"**How sure.** Steps on {measured} ranks were measured here; the range is that of the steps to the goal"
            " times the quartiles of the step.",
            f"**Con qué certeza.** Los pasos con {measured} procesos se midieron aquí; el intervalo es el de los"
            " pasos hasta la meta por los cuartiles del paso.",
        )
    else:
        text = say(
            f"**How sure.** This is an extrapolation: steps were measured on {measured} ranks only, and the Allreduce"
            " is from the model; the range allows for half and twice its time.",
            f"**Con qué certeza.** Es una extrapolación: solo se midieron pasos con {measured} procesos, y el"
            " Allreduce es del modelo; el intervalo admite la mitad y el doble de su tiempo.",
        )
    if not best.measured and plan.hosts == 1 and not plan.given:
        text += say(
            " The calibration ran on one host: between hosts a network is slower than memory; `--latency 2e-6"
            " --bandwidth 1e10` say what yours does.",
            " La calibración se hizo en una sola máquina: entre máquinas la red es más lenta que la memoria;"
            " `--latency 2e-6 --bandwidth 1e10` dicen cómo es la suya.",
        )
    if plan.relative:
        text += say(
            " There is no batch-size study, so the steps follow from the gradient noise scale, and times are"
            " multiples of S_min, the fewest steps; `python -m distbp.study batch-size` gives seconds.",
            " No hay estudio del tamaño de lote: los pasos se deducen de la escala de ruido del gradiente, y los"
            " tiempos son múltiplos de S_min, los pasos mínimos; `python -m distbp.study batch-size` da segundos.",
        )
    return text


def _times(plan: Plan, say: Say) -> Table:
    rows = []
    for ranks in plan.all_ranks():
        p = plan.best(ranks)
        nodes = math.ceil(ranks / plan.ranks_per_node)
        hours = "-" if plan.relative else number(nodes * p.seconds[1] / 3600.0)
        rows.append([
            f"{ranks:,}" + ("" if p.measured else " *"), f"{p.batch_size:,}", ranged(p.seconds, say),
            number(p.steps[1]), number(1e3 * p.step_seconds[1]), number(plan.speed_up(p)),
            f"{100 * plan.speed_up(p) / ranks:.0f} %", hours,
        ])  # fmt: skip
    columns = [
        say("ranks", "procesos"), say("best batch", "mejor lote"), say("time", "tiempo") + f" ({_unit(plan, say)})",
        say("steps", "pasos"), say("ms per step", "ms por paso"), say("speed-up", "aceleración"),
        say("efficiency", "eficiencia"), say("node-hours", "horas de nodo"),
    ]  # fmt: skip
    caption = say(
        f"The best batch size for each number of ranks, {plan.ranks_per_node} ranks to a node; * is an extrapolation.",
        f"El mejor tamaño de lote para cada número de procesos, {plan.ranks_per_node} por nodo; * es una"
        " extrapolación.",
    )
    return Table(caption, columns, rows)


def _chart(plan: Plan, say: Say) -> Chart:
    """T(B, P) against B for some P."""
    figure, axes = chart(
        say("time to the goal", "tiempo hasta la meta"), say("batch size B (rows)", "tamaño de lote B (filas)"),
        say("time", "tiempo") + f" ({_unit(plan, say)})", log="xy",
    )  # fmt: skip
    ranks = plan.all_ranks()
    for i, P in enumerate(ranks[:: 1 + (len(ranks) - 1) // 6]):
        mine = [p for p in plan.predictions if p.ranks == P]
        label = f"P = {P}" + ("" if mine[0].measured else " *")
        axes.plot([p.batch_size for p in mine], [p.seconds[1] for p in mine], label=label, **style(i))
    finish(axes, 3, ticks=plan.study["batch_sizes"])
    few, many = plan.best(ranks[0]), plan.best(ranks[-1])
    caption = say(
        f"The best batch is {few.batch_size} on {few.ranks} and {many.batch_size} on {many.ranks} ranks: more ranks"
        " want larger batches, as long as these save steps.",
        f"El mejor lote es {few.batch_size} con {few.ranks} y {many.batch_size} con {many.ranks} procesos: más"
        " procesos piden lotes mayores, mientras estos ahorren pasos.",
    )
    return Chart("time-by-batch", figure, caption)


def _speed_up(plan: Plan, say: Say) -> Chart:
    figure, axes = chart(
        say("speed-up", "aceleración"), say("ranks P", "procesos P"), say("times as fast", "veces más rápido"), log="xy"
    )
    found = [plan.best(ranks) for ranks in plan.all_ranks()]
    for i, (label, mine) in enumerate((
        (say("measured", "medido"), [p for p in found if p.measured]),
        (say("extrapolated", "extrapolado"), [p for p in found if not p.measured]),
    )):  # fmt: skip
        if mine:
            axes.plot([p.ranks for p in mine], [plan.speed_up(p) for p in mine], label=label, **style(i))
    ranks = [found[0].ranks, found[-1].ranks]
    axes.plot(ranks, ranks, color="0.5", linestyle=":", label=say("ideal", "ideal"))
    finish(axes, 3)
    top = max(found, key=plan.speed_up)
    caption = say(
        f"With the best batch size for each number of ranks the speed-up ends at {number(plan.speed_up(top))}, on"
        f" {top.ranks} ranks.",
        "Con el mejor tamaño de lote para cada número de procesos la aceleración llega a"
        f" {number(plan.speed_up(top))}, con {top.ranks} procesos.",
    )
    return Chart("speed-up", figure, caption)


def _steps_chart(plan: Plan, say: Say) -> Chart:
    figure, axes = chart(
        say("time of a step", "tiempo de un paso"), say("batch size B (rows)", "tamaño de lote B (filas)"),
        say("seconds", "segundos"), log="xy",
    )  # fmt: skip
    for i, P in enumerate(plan.step_time.ranks):
        mine = sorted((m for m in plan.measured if m["ranks"] == P), key=lambda m: m["batch_size"])
        curve = [(m["low"], m["seconds"], m["high"]) for m in mine]
        band(axes, [m["batch_size"] for m in mine], curve, label=f"P = {P}", **style(i))
    finish(axes, 3, ticks=sorted({m["batch_size"] for m in plan.measured}))
    caption = say(
        "Measured in this job, with quartiles: level while a step costs more than its rows, then in proportion to"
        " them.",
        "Medido en esta ejecución, con cuartiles: constante mientras un paso cuesta más que sus filas, luego"
        " proporcional a ellas.",
    )
    return Chart("step-time", figure, caption)


def _network(plan: Plan, say: Say) -> str:
    latency, bandwidth = (
        number(1e6 * plan.network.alpha),
        number(1e-9 / plan.network.beta if plan.network.beta else math.inf),
    )
    if plan.given:
        return say(
            f"Allreduce, as given: {latency} µs a message, {bandwidth} GB/s.",
            f"Allreduce, según se indicó: {latency} µs por mensaje, {bandwidth} GB/s.",
        )
    if len(plan.step_time.ranks) == 1:
        return say(
            "On one rank nothing could be measured of the network: start more ranks, or give `--latency` and"
            " `--bandwidth`. Without them the extrapolation has communication for free.",
            "Con un proceso no se pudo medir nada de la red: inicie más procesos, o dé `--latency` y `--bandwidth`."
            " Sin ellos la extrapolación tiene comunicación gratis.",
        )
    return say(
        f"Allreduce, fitted: {latency} µs a message, {bandwidth} GB/s; the median measurement is"
        f" {100 * plan.network.error:.0f} % off.",
        f"Allreduce, ajustado: {latency} µs por mensaje, {bandwidth} GB/s; la medición mediana difiere un"
        f" {100 * plan.network.error:.0f} %.",
    )
