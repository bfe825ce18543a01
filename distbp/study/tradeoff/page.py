"""The page of the experiment ``tradeoff``: question and answer; the race, the split, and the rates behind them."""

from pathlib import Path
from typing import Any

from distbp.errors import UserError
from distbp.study.experiment import facts, read_study
from distbp.study.page import Page, Say, Section, Table
from distbp.study.tradeoff.race_page import Heats, named, race_answer, race_section
from distbp.study.tradeoff.split import Split
from distbp.study.tradeoff.split_page import split_answer, split_section
from distbp.study.trials import read_results

__all__ = ["page"]


def page(folder: Path, say: Say) -> Page:
    """The report, from ``study.json`` and ``trials.jsonl``."""
    study, results = read_study(folder), read_results(folder)
    heats = Heats.of(results)
    fits = [one for one in results.values() if "n" in one]
    if not heats.exact or not heats.curves or not any(not one["tuning"] and not one["diverged"] for one in fits):
        raise UserError(f"the study in {folder} is not done: start it again without --report-only")
    split = Split(fits, study["best"])
    rows, small = study["rows"], study["batch_sizes"][0]
    return Page(
        title=say("One exact step, or many approximate ones?", "¿Un paso exacto o muchos aproximados?"),
        question=say(
            f"There are {rows:,} training examples. Is it better to take one exact gradient step on all of them, or"
            f" {-(-rows // small):,} approximate steps, each on a mini-batch of {small}? And what does the error that"
            " is left consist of: too small a network, too few examples, or too short a training?",
            f"Hay {rows:,} ejemplos de entrenamiento. ¿Es mejor dar un solo paso exacto con el gradiente de todos"
            f" ellos, o {-(-rows // small):,} pasos aproximados, cada uno con un mini-lote de {small}? ¿Y de qué se"
            " compone el error que queda: de una red demasiado pequeña, de pocos ejemplos o de un entrenamiento"
            " demasiado corto?",
        ),
        answer=[*race_answer(heats, study, say), *split_answer(split, study, say)],
        sections=[race_section(heats, study, say), split_section(split, study, say), _rates(heats, split, study, say)],
        facts=facts(study, say),
    )  # fmt: skip


def _rates(heats: Heats, split: Split, study: dict[str, Any], say: Say) -> Section:
    rates = {named(method, say): rate for method, rate in heats.rates.items()}
    for width, rate in split.rates.items():
        rates[say(f"split, {width} hidden units", f"descomposición, {width} unidades ocultas")] = rate
    edge = study["rates"][0], study["rates"][-1]
    at_edge = [name for name, rate in rates.items() if rate in edge]
    choice = ", ".join(f"{rate:g}" for rate in study["rates"])
    parts: list[str | Table] = [
        say(
            "Each method and each width has the rate that left the least training loss in a shorter training: a fifth"
            " of the steps for mini-batches, a twentieth of the rows for gradient descent, a quarter of the budget in"
            f" the split. The choice was among {choice}.",
            "Cada método y cada anchura tiene la tasa de aprendizaje que dejó la menor pérdida de entrenamiento en un"
            " ensayo más corto: un quinto de los pasos para mini-lotes, un veinteavo de las filas para el descenso del"
            " gradiente, un cuarto del presupuesto en la descomposición. Se eligió entre"
            f" {choice}.",
        ),
        Table(
            say("Learning rates.", "Tasas de aprendizaje."),
            [say("training", "entrenamiento"), say("rate", "tasa")],
            [[name, f"{rate:g}"] for name, rate in rates.items()],
        ),
    ]  # fmt: skip
    if heats.diverged:
        parts.append(say("Diverged, and ends early: ", "Diverge y acaba antes: ") + "; ".join(heats.diverged) + ".")
    if at_edge:
        parts.append(
            say(
                f"At an end of the list, so that a better one may lie beyond: {'; '.join(at_edge)}.",
                f"En un extremo de la lista, de modo que puede haber una mejor más allá: {'; '.join(at_edge)}.",
            )
        )
    return Section(say("Learning rates", "Tasas de aprendizaje"), parts)
