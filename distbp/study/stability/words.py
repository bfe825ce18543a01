"""The answer of the stability study in words: a paragraph for each question.

Every finding is a number of `results`; a sentence says what that number says, whichever it is.
"""

import numpy as np

from distbp.study.page import Say, number
from distbp.study.stability.results import Comparison, Results, distance, gap

__all__ = ["answer"]


def answer(results: Results, say: Say) -> list[str]:
    """Rates, batch sizes, the bound, the control, what is left out, and the conclusion."""
    paragraphs = (_rates, _equal_loss, _batch_sizes, _bound, _control, _diverged, _missing, _conclusion)
    return [text for text in (paragraph(results, say) for paragraph in paragraphs) if text]


def _rates(results: Results, say: Say) -> str:
    apart, gaps = (results.by_rate("network", column) for column in (distance, gap))
    if not apart.n:
        return ""
    halving = apart.expected == {2.0}
    less = say(*(("Half the rate", "La mitad de la tasa") if halving else ("The next lower rate", "La tasa menor")))
    return say(
        f"**Learning rate.** {less} left the twins closer in {_share(apart, say)}, and the generalisation gap of the"
        f" loss smaller in {_share(gaps, say)}, after equal epochs.",
        f"**Tasa de aprendizaje.** {less} dejó las gemelas más cerca en {_share(apart, say)}, y la brecha de"
        f" generalización de la pérdida fue menor en {_share(gaps, say)}, tras las mismas épocas.",
    )


def _equal_loss(results: Results, say: Say) -> str:
    apart, gaps = (results.by_rate("network", column, equal_loss=True) for column in (distance, gap))
    if not apart.n:
        return ""
    verdict = ""
    if results.by_rate("network", gap).mostly:  # so there is something to explain
        verdict = say(
            "So the smaller gap is more than that of a network that has learnt less.",
            "Así que la brecha menor es más que la de una red que ha aprendido menos.",
        ) if gaps.mostly else say(
            "So the smaller gap at equal epochs goes with how far the training had come, more than with the steps.",
            "Así que la brecha menor tras las mismas épocas va con lo avanzado del entrenamiento más que con los"
            " pasos.",
        )  # fmt: skip
    return say(
        "**At equal training loss.** At equal epochs a smaller rate has also learnt less. Compared where both came down"
        f" to the same training loss, the smaller rate left the twins closer in {_share(apart, say)}, and the gap"
        f" smaller in {_share(gaps, say)}. {verdict}".rstrip(),
        "**Con igual pérdida de entrenamiento.** Tras las mismas épocas una tasa menor también ha aprendido menos."
        " Comparadas donde ambas bajaron a la misma pérdida de entrenamiento, la tasa menor dejó las gemelas más cerca"
        f" en {_share(apart, say)}, y la brecha fue menor en {_share(gaps, say)}. {verdict}".rstrip(),
    )


def _batch_sizes(results: Results, say: Say) -> str:
    apart, gaps = (results.by_batch_size("network", column) for column in (distance, gap))
    if not apart.n:
        return ""
    bound = " / ".join(number(factor) for factor in sorted(apart.expected))
    return say(
        "**Batch size.** At the same rate and after equal epochs, the next larger batch left the twins closer in"
        f" {_share(apart, say)}, and the gap smaller in {_share(gaps, say)}. The bound of the convex case has a factor"
        f" of {bound}: in it the batch size acts only through rate × steps, and an epoch of larger batches has fewer"
        f" steps.{_convex(results, say)}{_scaled(results, say)}",
        "**Tamaño del mini-lote.** Con la misma tasa y tras las mismas épocas, el mini-lote inmediatamente mayor dejó"
        f" las gemelas más cerca en {_share(apart, say)}, y la brecha fue menor en {_share(gaps, say)}. La cota del"
        f" caso convexo tiene un factor de {bound}: en ella el tamaño del mini-lote solo actúa a través de tasa ×"
        " pasos, y una época de mini-lotes mayores tiene menos"
        f" pasos.{_convex(results, say)}{_scaled(results, say)}",
    )


def _convex(results: Results, say: Say) -> str:
    found = results.by_batch_size("convex", distance)
    if not len(found.factors):
        return ""
    middle = number(float(np.median(found.factors)))
    return say(
        f" In logistic regression the measured factor is {middle} (median).",
        f" En la regresión logística el factor medido es {middle} (mediana).",
    )


def _scaled(results: Results, say: Say) -> str:
    found = results.by_both("network", distance)
    if not len(found.factors):
        return ""
    low, middle, high = _low_middle_high(found)
    return say(
        " Where rate and batch size grow together the bound stays the same; there the distance of the smaller batch is"
        f" {middle} times that of the larger one (median of {found.n} pairs; {low} to {high}).",
        " Donde la tasa y el tamaño del mini-lote crecen juntos la cota no cambia; allí la distancia con el mini-lote"
        f" menor es {middle} veces la del mayor (mediana de {found.n} pares; de {low} a {high}).",
    )


def _share(found: Comparison, say: Say) -> str:
    """In how many pairs, and by what factor."""
    pairs = say(f"**{found.lowered} of {found.n}** pairs", f"**{found.lowered} de {found.n}** pares")
    if not len(found.factors):
        return pairs
    low, middle, high = _low_middle_high(found)
    return f"{pairs} " + say(
        f"(by a factor of {middle} in the median; {low} to {high})",
        f"(por un factor de {middle} en la mediana; de {low} a {high})",
    )


def _low_middle_high(found: Comparison) -> list[str]:
    return [number(x) for x in np.quantile(found.factors, [0.0, 0.5, 1.0]).tolist()]


def _bound(results: Results, say: Say) -> str:
    check = results.check_bound()
    if not check.marks:
        return ""
    if check.above:
        trial, step, measured, bound = max(check.above, key=lambda point: point[2] - point[3])
        return say(
            f"**THE BOUND IS VIOLATED** at {len(check.above)} of {check.marks:,} marks, most at step {step:,} of"
            f" `{trial}`: a distance of {number(measured)} above a bound of {number(bound)}. Mathematics does not allow"
            " it: look for an error in the data or the program.",
            f"**LA COTA SE VIOLA** en {len(check.above)} de {check.marks:,} marcas, sobre todo en el paso {step:,} de"
            f" `{trial}`: una distancia de {number(measured)} por encima de una cota de {number(bound)}. Las"
            " matemáticas no lo permiten: hay que buscar un error en los datos o en el programa.",
        )
    return say(
        "**The bound holds.** In logistic regression the distance is nowhere above its bound, at"
        f" {check.marks:,} marks of {check.pairs} pairs; the smallest bound / distance is {number(check.smallest)}.",
        "**La cota se cumple.** En la regresión logística la distancia no supera su cota en ninguna de las"
        f" {check.marks:,} marcas de {check.pairs} pares; el menor cociente cota / distancia es"
        f" {number(check.smallest)}.",
    )


def _control(results: Results, say: Say) -> str:
    controls = results.controls()
    if not controls:
        return say("**Control:** none of its pairs is whole.", "**Control:** ninguno de sus pares está completo.")
    n, marks = len(controls), sum(len(pair["distance"]) for pair in controls)
    largest, trial = max((max(pair["distance"]), pair["trial"]) for pair in controls)
    if largest > 0.0:
        return say(
            f"**THE CONTROL FAILS:** identical data end at a distance of up to {number(largest)} (`{trial}`), so the"
            " other distances are not due to the replaced row alone.",
            f"**EL CONTROL FALLA:** con datos idénticos la distancia llega a {number(largest)} (`{trial}`); por tanto,"
            " las demás distancias no se deben solo a la fila sustituida.",
        )
    return say(
        f"**Control.** With a row replaced by itself the distance is exactly 0 at all {marks:,} marks of {n} pairs:"
        " what is measured is the replaced row and nothing else.",
        f"**Control.** Con una fila sustituida por sí misma la distancia es exactamente 0 en las {marks:,} marcas de"
        f" {n} pares: lo que se mide es la fila sustituida y nada más.",
    )


def _diverged(results: Results, say: Say) -> str:
    n = len(results.diverged)
    names = ", ".join(f"`{pair['trial']}`" for pair in results.diverged[:3]) + ", ..." * (n > 3)
    return say(
        f"**Diverged:** the loss of {n} pairs is not finite any more; they are left out ({names}).",
        f"**Divergencia:** la pérdida de {n} pares dejó de ser finita; se omiten ({names}).",
    ) if n else ""  # fmt: skip


def _missing(results: Results, say: Say) -> str:
    return say(
        f"**Unfinished:** {results.missing} pairs are not done yet; the same command goes on with them.",
        f"**Incompleto:** faltan {results.missing} pares; la misma orden continúa con ellos.",
    ) if results.missing else ""  # fmt: skip


def _conclusion(results: Results, say: Say) -> str:
    apart, gaps = (results.by_rate("network", column) for column in (distance, gap))
    if not apart.n:
        said = say(
            "One learning rate alone says nothing about rates.",
            "Una sola tasa de aprendizaje no dice nada sobre las tasas.",
        )
    elif apart.mostly and gaps.mostly:
        said = say(
            "“Train faster, generalise better” is seen here at equal epochs: with fewer or smaller steps the network"
            " depends less on any one example, and distance and gap fall together.",
            "«Entrenar más rápido, generalizar mejor» se observa aquí a igual número de épocas: con menos pasos, o más"
            " pequeños, la red depende menos de cada ejemplo, y la distancia y la brecha disminuyen juntas.",
        )
    elif apart.mostly:
        said = say(
            "With smaller steps the network depends less on any one example, as the theory says; the generalisation"
            " gap does not follow clearly here.",
            "Con pasos más pequeños la red depende menos de cada ejemplo, como dice la teoría; la brecha de"
            " generalización no la sigue claramente aquí.",
        )
    else:
        said = say(
            "“Train faster, generalise better” is not seen here: a smaller rate did not reliably bring the twins"
            " closer.",
            "«Entrenar más rápido, generalizar mejor» no se observa aquí: una tasa menor no acercó las gemelas de"
            " forma fiable.",
        )
    return f"**{say('Conclusion', 'Conclusión')}.** {said} {_best(results, say)}"


def _best(results: Results, say: Say) -> str:
    """A small gap is not the aim: where the held-out rows fare best."""
    measure = results.study["measure"]
    held_out, gaps = {}, {}
    for b in results.batch_sizes("network"):
        for rate in results.rates("network"):
            if found := results.of("network", b, rate):
                held_out[b, rate] = float(np.median([pair[f"{measure}/held_out"][-1] for pair in found]))
                gaps[b, rate] = float(np.median([gap(pair)[-1] for pair in found]))
    best, narrow = min(held_out, key=lambda at: held_out[at]), min(gaps, key=lambda at: gaps[at])
    what, qué = measure, {"error": "el error", "loss": "la pérdida"}[measure]
    if best == narrow:
        return say(
            f"The smallest gap and the smallest held-out {what} ({number(held_out[best])}) are both found at batch size"
            f" {best[0]} and rate {best[1]:g}.",
            f"La brecha y {qué} con datos reservados ({number(held_out[best])}) alcanzan su mínimo con mini-lotes de"
            f" {best[0]} y una tasa de {best[1]:g}.",
        )
    return say(
        f"But a small gap is no aim in itself. It is smallest at batch size {narrow[0]} and rate {narrow[1]:g}, where"
        f" the held-out {what} is {number(held_out[narrow])}; the smallest held-out {what}, {number(held_out[best])},"
        f" is that of batch size {best[0]} and rate {best[1]:g}.",
        f"Pero una brecha pequeña no es un fin en sí. Es mínima con mini-lotes de {narrow[0]} y una tasa de"
        f" {narrow[1]:g}, donde {qué} con datos reservados vale {number(held_out[narrow])}; el valor mínimo,"
        f" {number(held_out[best])}, se alcanza con mini-lotes de {best[0]} y una tasa de {best[1]:g}.",
    )
