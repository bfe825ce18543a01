"""The charts of the stability study.

A line is the median over the replaced rows, its band goes from the smallest to the largest. A distance of 0, before the
row that differs was met, has no place on a logarithmic axis and is left out.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.study.drawing import COLOURS, band, chart, finish, shade
from distbp.study.page import Chart, Say, number
from distbp.study.stability.results import Results, distance, gap, rank_correlation, spread

__all__ = [
    "distance_by_batch_size",
    "distance_by_layer",
    "distance_by_rate",
    "distance_under_bound",
    "distances_and_bounds",
    "gap_against_distance",
    "gap_against_loss",
    "gap_by_rate",
]

Array = NDArray[Any]
Result = dict[str, Any]
Column = Callable[[Result], Array]


def distance_by_rate(results: Results, say: Say) -> Chart:
    """Along training, at the batch size in the middle."""
    b = _middle(results.batch_sizes("network"))
    title = say(f"By learning rate (batch size {b})", f"Por tasa de aprendizaje (mini-lote de {b})")
    figure, axes = _distance_axes(title, say)
    ends = _by_rate(axes, results, distance, say)
    finish(axes, 3)
    return Chart("distance-by-rate", figure, _ends(ends, say("rate", "tasa"), results, say))


def distance_by_batch_size(results: Results, say: Say) -> Chart:
    """Along training, at the rate in the middle."""
    sizes, rate = results.batch_sizes("network"), _middle(results.rates("network"))
    title = say(f"By batch size (rate {rate:g})", f"Por tamaño del mini-lote (tasa {rate:g})")
    figure, axes = _distance_axes(title, say)
    ends = []
    for i, b in enumerate(sizes):
        if found := results.of("network", b, rate):
            label = say(f"batch size {b}", f"mini-lote de {b}")
            ends.append((b, _draw(axes, found, distance, label, shade(i, len(sizes)))))
    finish(axes, 3)
    return Chart("distance-by-batch-size", figure, _ends(ends, say("batch size", "mini-lote de"), results, say))


def distance_by_layer(results: Results, say: Say) -> Chart:
    """The normalised distance of each layer, in the middle of rates and batch sizes."""
    b, rate, found = _in_the_middle(results)
    title = say(f"By layer (batch size {b}, rate {rate:g})", f"Por capa (mini-lote de {b}, tasa {rate:g})")
    y = say("normalised distance", "distancia normalizada")
    figure, axes = chart(title, say("epochs", "épocas"), y, log="xy", height=4.4)
    layers = [name.removeprefix("relative/") for name in found[0] if name.startswith("relative/")]
    ends = []
    for i, layer in enumerate(layers):
        label = say(layer, layer.replace("layer", "capa"))
        ends.append((_draw(axes, found, _column(f"relative/{layer}"), label, shade(i, len(layers))), label))
    together = spread(pair["relative"] for pair in found)[:, 1]
    how = {"color": "black", "linestyle": "--", "label": say("all", "todas")}
    axes.plot(found[0]["epoch"], np.where(together > 0.0, together, np.nan), **how)
    finish(axes, 3)
    (least, near), (most, far) = min(ends), max(ends)
    caption = say(
        f"Farthest apart at the end is {far} ({number(most)}), closest {near} ({number(least)})",
        f"Al final la más distante es {far} ({number(most)}) y la más cercana {near} ({number(least)})",
    )
    if len(layers) == 1:
        caption = say(f"The one layer ends {number(most)} apart", f"La única capa termina a {number(most)}")
    what = say("normalised distance", "distancia normalizada")
    return Chart("distance-by-layer", figure, f"{caption}; {what}: √(|w − w′|² / (|w|² + |w′|²)).")


def gap_by_rate(results: Results, say: Say, measure: str) -> Chart:
    """Along training, at the batch size in the middle."""
    b = _middle(results.batch_sizes("network"))
    word = say(measure, {"loss": "pérdida", "error": "error"}[measure])
    title = say(f"Gap of the {word} (batch size {b})", f"Brecha ({word}, mini-lote de {b})")
    figure, axes = chart(title, say("epochs", "épocas"), _gap_label(word, say), height=4.4)
    ends = _by_rate(axes, results, lambda pair: gap(pair, measure), say, zeros=True)
    axes.axhline(0.0, color="black", linewidth=0.8)
    finish(axes, 3)
    return Chart(f"gap-of-{measure}-by-rate", figure, _ends(ends, say("rate", "tasa"), results, say))


def gap_against_loss(results: Results, say: Say) -> Chart:
    """The gap of the loss over the training loss: what is left of the rates where all have learnt equally much."""
    b, rates = _middle(results.batch_sizes("network")), results.rates("network")
    title = say(f"Gap against training loss (batch size {b})", f"Brecha frente a pérdida (mini-lote de {b})")
    x = say("training loss (learning goes to the left)", "pérdida de entrenamiento (se aprende hacia la izquierda)")
    figure, axes = chart(title, x, _gap_label(say("loss", "pérdida"), say), log="x", height=4.4)
    for i, rate in enumerate(rates):
        if found := results.of("network", b, rate):
            losses = spread(pair["loss/train"] for pair in found)[:, 1]
            curve = spread(gap(pair) for pair in found)
            band(axes, losses.tolist(), curve, label=say(f"rate {rate:g}", f"tasa {rate:g}"), **shade(i, len(rates)))
    axes.axhline(0.0, color="black", linewidth=0.8)
    finish(axes, 3)
    compared = results.by_rate("network", gap, equal_loss=True)
    caption = say("One rate only.", "Una sola tasa.") if not compared.n else say(
        f"At equal training loss the lower rate has the smaller gap in {compared.lowered} of {compared.n} pairs of"
        " all batch sizes.",
        "Con igual pérdida de entrenamiento la tasa inmediatamente menor tiene la brecha menor en"
        f" {compared.lowered} de {compared.n} pares de todos los tamaños de mini-lote.",
    )  # fmt: skip
    return Chart("gap-against-loss", figure, caption)


def gap_against_distance(results: Results, say: Say) -> Chart:
    """Of all pairs of networks, at the end."""
    sizes, rates = results.batch_sizes("network"), results.rates("network")
    title = say("Distance and gap of all pairs at the end", "Distancia y brecha de todos los pares al final")
    x, y = say("distance |w − w′|", "distancia |w − w′|"), _gap_label(say("loss", "pérdida"), say)
    figure, axes = chart(title, x, y, log="x", height=4.9)
    for j, b in enumerate(sizes):
        for i, rate in enumerate(rates):
            if found := results.of("network", b, rate):
                points = [(pair["distance"][-1] or math.nan, gap(pair)[-1]) for pair in found]
                how = {"color": shade(i, len(rates))["color"], "marker": shade(j, 7)["marker"], "linestyle": "none"}
                label = say(f"batch {b}, rate {rate:g}", f"lote {b}, tasa {rate:g}")
                axes.plot(*zip(*points, strict=True), label=label, markersize=5, **how)
    finish(axes, 3)
    every = results.of("network")
    rho = rank_correlation((pair["distance"][-1] for pair in every), (gap(pair)[-1] for pair in every))
    if rho >= 0.5:
        verdict = say("the two grow together", "ambas crecen juntas")
    elif rho <= -0.5:
        verdict = say("the gap falls where the distance grows", "la brecha disminuye donde la distancia crece")
    else:
        verdict = say("no clear relation", "sin relación clara")
    caption = say(
        f"Rank correlation of distance and gap over {len(every)} pairs: {rho:.2f}, {verdict}.",
        f"Correlación de rangos de distancia y brecha en {len(every)} pares: {rho:.2f}, {verdict}.",
    )
    return Chart("gap-against-distance", figure, caption)


def distance_under_bound(results: Results, say: Say) -> Chart:
    """Logistic regression along training, in the middle of batch sizes, at the largest rate that has a bound."""
    study, check = results.study, results.check_bound()
    rate = max(rate for rate in results.rates("convex") if rate not in check.unclaimed)
    b = _middle([b for b in study["batch_sizes"] if results.of("convex", b, rate)])
    found = results.of("convex", b, rate)
    title = say(f"Along training (batch size {b}, rate {rate:g})", f"Evolución (mini-lote de {b}, tasa {rate:g})")
    figure, axes = _distance_axes(title, say)
    how = {"color": COLOURS[0], "marker": "o", "markersize": 3.5}
    _draw(axes, found, distance, say("measured", "medida"), how)
    _draw(axes, found, _column("bound"), say("bound", "cota"), {"color": COLOURS[1], "linestyle": "--"})
    line = 2.0 * study["lipschitz"] * rate * np.array(found[0]["step"]) / study["rows_of_a_twin"]
    axes.plot(found[0]["epoch"], line, color="black", linestyle=":", label="(2L/n) Σ η")
    finish(axes, 3)
    here = [point for point in check.above if any(point[0] == pair["trial"] for pair in found)]
    ratios = [pair["bound"][-1] / pair["distance"][-1] for pair in found if pair["distance"][-1]]
    last = float(np.median(ratios or [math.inf]))
    caption = say(
        f"**VIOLATED:** at {len(here)} marks of this chart a distance is above its bound.",
        f"**VIOLADA:** en {len(here)} marcas de este gráfico una distancia supera su cota.",
    ) if here else say(
        "The distance stays below its bound at every mark; at the end the bound is"
        f" {number(last)} times as large (median).",
        "La distancia queda por debajo de su cota en todas las marcas; al final la cota es"
        f" {number(last)} veces mayor (mediana).",
    )  # fmt: skip
    return Chart("distance-under-bound", figure, caption)


def distances_and_bounds(results: Results, say: Say) -> Chart:
    """Every mark of every convex pair that has a bound."""
    check, sizes = results.check_bound(), results.study["batch_sizes"]
    title = say("Every mark of every pair", "Todas las marcas de todos los pares")
    x, y = say("bound on the distance", "cota de la distancia"), say("distance |w − w′|", "distancia |w − w′|")
    figure, axes = chart(title, x, y, log="xy", height=4.4)
    seen: list[float] = []
    for i, b in enumerate(sizes):
        pairs = [pair for pair in results.of("convex", b) if pair["rate"] not in check.unclaimed]
        points = [(x, y) for pair in pairs for x, y in zip(pair["bound"], pair["distance"], strict=True) if x and y]
        if points:
            seen += [x for x, _ in points]
            how = {**shade(i, len(sizes)), "markersize": 2.5, "linestyle": "none"}
            axes.plot(*zip(*points, strict=True), label=say(f"batch size {b}", f"mini-lote de {b}"), **how)
    ends = [min(seen, default=1.0), max(seen, default=1.0)]
    axes.plot(ends, ends, color="black", label=say("distance = bound", "distancia = cota"))
    finish(axes, 2)
    n = len(check.above)
    caption = say(
        f"**{n} of {check.marks:,} marks are above the line**: the bound is violated.",
        f"**{n} de {check.marks:,} marcas están por encima de la recta**: la cota se viola.",
    ) if n else say(
        f"No mark of {check.marks:,} is above the line; the smallest bound / distance is {number(check.smallest)}.",
        f"Ninguna marca de {check.marks:,} está por encima de la recta; el menor cociente cota / distancia es"
        f" {number(check.smallest)}.",
    )  # fmt: skip
    return Chart("distances-and-bounds", figure, caption)


def _distance_axes(title: str, say: Say) -> tuple[Any, Any]:
    y = say("distance of the twins |w − w′|", "distancia de las gemelas |w − w′|")
    return chart(title, say("epochs", "épocas"), y, log="xy", height=4.4)


def _gap_label(word: str, say: Say) -> str:
    return say(f"{word}: held-out − training", f"{word}: reservados − entrenamiento")


def _by_rate(
    axes: Any, results: Results, column: Column, say: Say, *, zeros: bool = False
) -> list[tuple[float, float]]:
    """Curves of all rates at the batch size in the middle; where they end."""
    b, rates = _middle(results.batch_sizes("network")), results.rates("network")
    return [
        (rate, _draw(axes, found, column, say(f"rate {rate:g}", f"tasa {rate:g}"), shade(i, len(rates)), zeros=zeros))
        for i, rate in enumerate(rates) if (found := results.of("network", b, rate))
    ]  # fmt: skip


def _draw(axes: Any, found: Sequence[Result], column: Column, label: str, how: Any, *, zeros: bool = False) -> float:
    """Median and band of a column over pairs of one batch size; the median at the end."""
    curve = spread(column(pair) for pair in found)
    band(axes, found[0]["epoch"], curve if zeros else np.where(curve > 0.0, curve, np.nan), label=label, **how)
    return float(curve[-1, 1])


def _column(name: str) -> Column:
    return lambda pair: np.array(pair[name])


def _middle(values: Sequence[Any]) -> Any:
    return values[len(values) // 2]


def _in_the_middle(results: Results) -> tuple[int, float, list[Result]]:
    b = _middle(results.batch_sizes("network"))
    rate = _middle(sorted({pair["rate"] for pair in results.of("network", b)}))
    return b, rate, results.of("network", b, rate)


def _ends(ends: Sequence[tuple[float, float]], what: str, results: Results, say: Say) -> str:
    """What the curves come to."""
    n = results.study["replacements"]
    bands = say(
        f"Bands: smallest to largest over {n} replaced rows.",
        f"Bandas: del menor al mayor valor sobre {n} filas sustituidas.",
    )
    values = ", ".join(say(f"{number(y)} at {what} {x:g}", f"{number(y)} con {what} {x:g}") for x, y in ends)
    return say(f"At the end the median is {values}. {bands}", f"Al final la mediana es {values}. {bands}")
