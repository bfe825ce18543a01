"""The report of the stability study: question, charts and tables about what one example does to the network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distbp.study.experiment import facts
from distbp.study.page import Page, Say, Section, Table, number
from distbp.study.stability.charts import (
    distance_by_batch_size,
    distance_by_layer,
    distance_by_rate,
    distance_under_bound,
    distances_and_bounds,
    gap_against_distance,
    gap_against_loss,
    gap_by_rate,
)
from distbp.study.stability.results import Results, distance, gap, spread
from distbp.study.stability.words import answer

__all__ = ["stability_page"]


def stability_page(folder: Path, say: Say) -> Page:
    """The report on a folder.

    Raises
    ------
    UserError
        Where no pair of networks is whole yet.
    """
    results = Results(folder)
    convex = [_convex_section(results, say)] if results.study["convex_rates"] else []
    return Page(
        title=say("Stability: what one example does to the network", "Estabilidad: el efecto de un solo ejemplo"),
        question=say(
            "Two networks start from the same parameters and see the same mini-batches, but one row of their data"
            " differs: twins. How far apart do they end, and does a small distance go with a small generalisation gap"
            " (held-out minus training)? What do the learning rate and the batch size do to both? (Hardt, Recht &"
            " Singer 2016, “Train faster, generalize better”, section 7.)",
            "Dos redes parten de los mismos parámetros y ven los mismos mini-lotes, pero una fila de sus datos es"
            " distinta: son gemelas. ¿A qué distancia terminan? ¿Va una distancia pequeña con una brecha de"
            " generalización pequeña (datos reservados menos datos de entrenamiento)? ¿Qué efecto tienen en ambas la"
            " tasa de aprendizaje y el tamaño del mini-lote? (Hardt, Recht y Singer 2016, «Train faster, generalize"
            " better», sección 7.)",
        ),
        answer=answer(results, say),
        sections=[_distance_section(results, say), _gap_section(results, say), *convex, _control_section(results, say)],
        facts=facts(results.study, say),
    )


def _distance_section(results: Results, say: Say) -> Section:
    charts = (distance_by_rate, distance_by_batch_size, distance_by_layer, gap_against_distance)
    return Section(
        say("How far apart the twins are", "A qué distancia están las gemelas"), [draw(results, say) for draw in charts]
    )


def _gap_section(results: Results, say: Say) -> Section:
    held_out = say(*{
        "test": ("the test rows", "las filas de prueba"), "validation": ("the validation rows", "las de validación"),
    }[results.study["held_out"]])  # fmt: skip
    measures = ["loss", "error"] if results.study["measure"] == "error" else ["loss"]
    charts = [gap_by_rate(results, say, measure) for measure in measures]
    return Section(
        say("The generalisation gap", "La brecha de generalización"),
        [
            say(
                f"Held out are {held_out}, which no network has seen; a gap is their loss or error minus that of all"
                " training rows, for the first network of a pair.",
                f"Los datos reservados son {held_out}, que ninguna red ha visto; la brecha es su pérdida o error menos"
                " el de todas las filas de entrenamiento, para la primera red de cada par.",
            ),
            *charts,
            gap_against_loss(results, say),
            _network_table(results, say),
        ],
    )


def _network_table(results: Results, say: Say) -> Table:
    ranges: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
        (say("distance", "distancia"), lambda pair: distance(pair)[-1]),
        (say("normalised distance", "distancia normalizada"), lambda pair: pair["relative"][-1]),
        (say("gap, loss", "brecha, pérdida"), lambda pair: gap(pair)[-1]),
    ]
    medians = [(say("training loss", "pérdida, entrenamiento"), "loss/train")]
    if results.study["measure"] == "error":
        ranges.append((say("gap, error", "brecha, error"), lambda pair: gap(pair, "error")[-1]))
        medians.append((say("held-out error", "error, reservados"), "error/held_out"))
    else:
        medians.append((say("held-out loss", "pérdida, reservados"), "loss/held_out"))
    rows = []
    for b in results.batch_sizes("network"):
        for rate in results.rates("network"):
            found = results.of("network", b, rate)
            cells = [_cell([value(pair) for pair in found]) for _, value in ranges]
            cells += [_cell([pair[name][-1] for pair in found]).split(" (")[0] for _, name in medians]
            rows.append([f"{b}, {rate:g}", *cells])
    caption = say(
        "At the end of training: median, with (smallest – largest) over the replaced rows.",
        "Al final del entrenamiento: mediana, con (menor – mayor) sobre las filas sustituidas.",
    )
    names = [say("batch size, rate", "mini-lote, tasa"), *(name for name, _ in ranges), *(name for name, _ in medians)]
    return Table(caption, names, rows)


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    low, middle, high = spread([[value] for value in values])[0]
    return f"{number(middle, 2)} ({number(low, 2)} – {number(high, 2)})"


def _convex_section(results: Results, say: Say) -> Section:
    study, check = results.study, results.check_bound()
    L, beta, limit = (number(x) for x in (study["lipschitz"], study["smoothness"], 2.0 / study["smoothness"]))
    parts: list[Any] = [
        say(
            "Logistic regression, a network without a hidden layer, has a convex loss. With L the largest gradient that"
            f" a row can have ({L}), β the largest curvature ({beta}) and a rate η of at most 2/β = {limit}, twins move"
            " apart only in batches with the row that differs, and in one of b rows by at most 2ηL/b. The sum of these"
            " is the bound, for every single pair and at every step. Drawn anew for each batch instead of once in an"
            " epoch, the row gives the line of the paper, (2L/n) Σ η, in the mean.",
            "La regresión logística, una red sin capa oculta, tiene una pérdida convexa. Con L el mayor gradiente que"
            f" puede tener una fila ({L}), β la mayor curvatura ({beta}) y una tasa η de a lo sumo 2/β = {limit}, las"
            " gemelas solo se separan en los mini-lotes que contienen la fila distinta, y en uno de b filas a lo sumo"
            " 2ηL/b. La suma de esto es la cota, para cada par y en cada paso. Si la fila se sorteara en cada mini-lote"
            " y no saliera una vez por época, en promedio daría la recta del artículo, (2L/n) Σ η.",
        )
    ]
    if check.unclaimed:
        rates = ", ".join(f"{rate:g}" for rate in check.unclaimed)
        parts.append(
            say(
                f"Above 2/β no bound is claimed: rates {rates} are marked “no bound” and are no part of the check.",
                f"Por encima de 2/β no se afirma ninguna cota: las tasas {rates} se marcan «sin cota» y no entran en la"
                " comprobación.",
            )
        )
    if check.marks:
        parts += [distance_under_bound(results, say), distances_and_bounds(results, say)]
    title = say("The convex case beside its bound", "El caso convexo junto a su cota")
    return Section(title, [*parts, _convex_table(results, say)])


def _convex_table(results: Results, say: Say) -> Table:
    study = results.study
    rows = []
    for b, steps in zip(study["batch_sizes"], study["steps"], strict=True):
        for rate in results.rates("convex"):
            found = results.of("convex", b, rate)
            paper = 2.0 * study["lipschitz"] * rate * steps / study["rows_of_a_twin"]
            bounds = [_cell([pair["bound"][-1] for pair in found]), number(paper), number(paper * study["lipschitz"])]
            if rate > 2.0 / study["smoothness"]:
                bounds = [say("no bound", "sin cota")] * 3
            gaps = _cell([gap(pair)[-1] for pair in found])
            rows.append(
                [f"{b}, {rate:g}", _cell([pair["distance"][-1] for pair in found]), *bounds[:2], gaps, bounds[2]]
            )
    caption = say(
        "Logistic regression at the end of training: median (smallest – largest) over the replaced rows. The bound on"
        " the gap, L times that on the distance, is for its mean over draws of the data.",
        "Regresión logística al final del entrenamiento: mediana (menor – mayor) sobre las filas sustituidas. La cota"
        " de la brecha, L veces la de la distancia, vale para su media sobre sorteos de los datos.",
    )
    columns = [
        say("batch size, rate", "mini-lote, tasa"), say("distance", "distancia"), say("its bound", "su cota"),
        "(2L/n) Σ η", say("gap, loss", "brecha, pérdida"), "(2L²/n) Σ η",
    ]  # fmt: skip
    return Table(caption, columns, rows)


def _control_section(results: Results, say: Say) -> Section:
    names = {"network": say("network", "red"), "convex": say("logistic regression", "regresión logística")}
    rows = [
        [
            names[pair["kind"]], str(pair["batch_size"]), f"{pair['rate']:g}", str(len(pair["distance"])),
            number(max(pair["distance"])),
        ]
        for pair in results.controls()
    ]  # fmt: skip
    columns = [
        say("model", "modelo"), say("batch size", "mini-lote"), say("rate", "tasa"), say("marks", "marcas"),
        say("largest distance", "mayor distancia"),
    ]  # fmt: skip
    caption = say(
        "Pairs with identical data: the largest distance at any mark, which must be exactly 0.",
        "Pares con datos idénticos: la mayor distancia en cualquier marca, que debe ser exactamente 0.",
    )
    return Section(say("The control", "El control"), [Table(caption, columns, rows)])
