"""The part of the page of ``tradeoff`` that shows approximation, estimation and optimisation error.

Charts show the split along one of its three sides at a time: the rows n, the width, the budget of examples. The width
that they share is the one with the least error on the most rows; few rows are the second of three sizes or more.
"""

from collections.abc import Sequence
from typing import Any

from distbp.study.drawing import band, chart, finish, style
from distbp.study.page import Chart, Say, Section, Table, number
from distbp.study.tradeoff.race_page import Spread, spread
from distbp.study.tradeoff.split import Parts, Split, budgets

__all__ = ["leading", "main_width", "split_answer", "split_section"]

NAMES = ("app", "est", "opt")
_TICKS = 6
"""Most places on an axis that have their own labels."""


def _label(part: str, say: Say) -> str:
    words = {
        "app": say("approximation", "aproximación"), "est": say("estimation", "estimación"),
        "opt": say("optimisation", "optimización"), "total": say("excess error", "exceso de error"),
    }  # fmt: skip
    return words[part]


def _middle(parts: Sequence[Parts], name: str) -> Spread:
    return spread([getattr(one, name) for one in parts])


def leading(parts: Sequence[Parts]) -> str:
    """The part whose middle value is the greatest."""
    return max(NAMES, key=lambda name: _middle(parts, name)[1])


def main_width(split: Split) -> int:
    """The width with the least error at the end of the long runs on the most rows."""
    n = split.sizes[-1]
    widths = [width for width in split.widths if split.seeds(n, width)]
    return min(widths, key=lambda width: _middle(split.over_seeds(n, width, float("inf")), "total")[1])


def _steps_of(study: dict[str, Any]) -> list[int]:
    return budgets(study["budget"], max(1, study["budget"] // 3000))


def split_answer(split: Split, study: dict[str, Any], say: Say) -> list[str]:
    """Which part is the greatest where, in words."""
    width, all_budgets = main_width(split), _steps_of(study)
    said = []
    for n in (split.sizes[-1], split.sizes[0]) if len(split.sizes) > 1 else (split.sizes[0],):
        if not split.seeds(n, width):
            continue
        lead = [leading(split.over_seeds(n, width, budget)) for budget in all_budgets]
        first, last = _label(lead[0], say), _label(lead[-1], say)
        short, end = (split.over_seeds(n, width, all_budgets[i]) for i in (0, -1))
        said.append(
            say(
                f"**{n:,} rows, {width} hidden units.** After {all_budgets[0]:,} examples the greatest part of the"
                f" excess error ({number(_middle(short, 'total')[1])}) is the {first} error; ",
                f"**{n:,} filas, {width} unidades ocultas.** Tras {all_budgets[0]:,} ejemplos, la mayor parte del"
                f" exceso de error ({number(_middle(short, 'total')[1])}) es el error de {first}; ",
            )
            + _change(lead, all_budgets, say)
            + say(
                f"at the end of the long run {number(_middle(end, 'total')[1])} is left, most of it {last}.",
                f"al final del entrenamiento largo queda {number(_middle(end, 'total')[1])}, sobre todo de {last}.",
            )
        )
    return said


def _change(lead: Sequence[str], all_budgets: Sequence[int], say: Say) -> str:
    """From which budget on optimisation is no longer the greatest part."""
    if "opt" not in lead:
        return say("optimisation is never the greatest; ", "la optimización nunca es la mayor; ")
    after = len(lead) - lead[::-1].index("opt")
    if after >= len(lead) - 1:  # at the very end it is 0 by definition
        return say(
            "optimisation stays the greatest until the long run ends; ",
            "la optimización sigue siendo la mayor hasta que acaba el entrenamiento largo; ",
        )
    return say(
        f"optimisation is no longer the greatest from {all_budgets[after]:,} examples on; ",
        f"la optimización deja de ser la mayor a partir de {all_budgets[after]:,} ejemplos; ",
    )


def split_section(split: Split, study: dict[str, Any], say: Say) -> Section:
    """Definitions, charts and table."""
    width, all_budgets = main_width(split), _steps_of(study)
    few, most = split.sizes[1 if len(split.sizes) > 2 else 0], split.sizes[-1]
    middle = all_budgets[max(0, len(all_budgets) - 3)]
    kept = [n for n in split.sizes if split.seeds(n, width)]
    parts: list[str | Chart | Table] = [*_definitions(split, study, say)]
    parts.append(
        _chart(
            "split-rows", say("Against the rows", "Frente al número de filas"),
            say("training rows n (log)", "filas de entrenamiento n (log)"),
            kept, [split.over_seeds(n, width, middle) for n in kept],
            say(f"{width} hidden units, {middle:,} examples", f"{width} unidades ocultas, {middle:,} ejemplos"), say,
        )
    )  # fmt: skip
    widths = [w for w in split.widths if split.seeds(few, w)]
    parts.append(
        _chart(
            "split-width", say("Against the width", "Frente a la anchura"),
            say("hidden units (log)", "unidades ocultas (log)"),
            widths, [split.over_seeds(few, w, middle) for w in widths],
            say(f"{few:,} rows, {middle:,} examples", f"{few:,} filas, {middle:,} ejemplos"), say,
        )
    )  # fmt: skip
    for n, name in {few: "few", most: "most"}.items():
        if split.seeds(n, width):
            parts.append(
                _chart(
                    f"split-budget-{name}",
                    say(f"Against the budget, {n:,} rows", f"Frente al presupuesto, {n:,} filas"),
                    say("examples seen (log)", "ejemplos vistos (log)"),
                    all_budgets, [split.over_seeds(n, width, budget) for budget in all_budgets],
                    say(f"{n:,} rows, {width} hidden units", f"{n:,} filas, {width} unidades ocultas"), say,
                )
            )  # fmt: skip
    parts.append(_table(split, all_budgets, kept, width, say))
    parts.append(_widths_table(split, study["budget"], middle, say))
    return Section(say("What the error is made of", "De qué se compone el error"), parts)


def _definitions(split: Split, study: dict[str, Any], say: Say) -> list[str]:
    loss = study["kind"] == "values"
    best = number(split.best)
    reference = (
        say(f"the known best possible prediction, {best}", f"la mejor predicción posible, que es conocida: {best}")
        if split.known
        else say(f"the best of all runs, {best}", f"el mejor de todos los entrenamientos: {best}")
    )
    return [
        say(
            "Excess error E = E_app + E_est + E_opt (Bottou & Bousquet 2007), each a difference of"
            f" {'losses' if loss else 'shares wrong'} on the same test rows. **Approximation**: the best long run of"
            f" this width or less on the most rows, less {reference}. **Estimation**: the end of the long run on n"
            " rows, less that. **Optimisation**: the same run at the budget, less its end; below 0 where to stop early"
            " is better.",
            "Exceso de error E = E_app + E_est + E_opt (Bottou y Bousquet 2007); cada término es una diferencia de"
            f" {'pérdidas' if loss else 'proporciones de error'} en las mismas filas de prueba. **Aproximación**: el"
            " mejor entrenamiento largo de esta anchura o menor con el máximo de filas, menos"
            f" {reference}. **Estimación**: el final del entrenamiento largo con n filas, menos lo anterior."
            " **Optimización**: el mismo entrenamiento al agotar el presupuesto, menos su final; es negativa donde"
            " conviene parar antes.",
        ),
        say(
            "The end of a long run stands for the minimum on its rows. Narrow networks may end in a poor local minimum,"
            " and what they lose by it is counted as estimation.",
            "El final de un entrenamiento largo hace las veces del mínimo con sus filas. Las redes estrechas pueden"
            " acabar en un mal mínimo local, y lo que pierden con ello se cuenta como estimación.",
        ),
    ]


def _chart(
    name: str, title: str, x: str, at: Sequence[int], parts: Sequence[Sequence[Parts]], where: str, say: Say
) -> Chart:
    figure, axes = chart(title, x, say("excess error", "exceso de error"), log="x", height=4.6)
    axes.axhline(0.0, color="#888", linewidth=0.8)
    labels = [f"{value:,}" if value else say("none", "0") for value in at]
    places = [value or 0.5 for value in at]
    if len(at) <= _TICKS:
        axes.set_xticks(places, labels)
        axes.minorticks_off()
    for i, part in enumerate((*NAMES, "total")):
        look = style(i) if part != "total" else style(6) | {"linestyle": ":"}
        band(axes, places, [_middle(one, part) for one in parts], label=_label(part, say), **look)
    finish(axes)
    lead = [_label(leading(one), say) for one in parts]
    ends = labels[0], labels[-1]
    if len(set(lead)) == 1:
        seen = say(f"the {lead[0]} error is the greatest throughout", f"el error de {lead[0]} es siempre el mayor")
    else:
        seen = say(
            f"the greatest part is {lead[0]} at {ends[0]} and {lead[-1]} at {ends[1]}",
            f"la mayor parte es de {lead[0]} en {ends[0]} y de {lead[-1]} en {ends[1]}",
        )
    return Chart(name, figure, f"{where}: {seen}.")


def _table(split: Split, all_budgets: Sequence[int], sizes: Sequence[int], width: int, say: Say) -> Table:
    shown = sorted({all_budgets[0], all_budgets[len(all_budgets) // 2], all_budgets[-1]})
    body = []
    for n in dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1])):
        for budget in shown:
            parts = split.over_seeds(n, width, budget)
            values = [number(_middle(parts, name)[1], 2) for name in (*NAMES, "total", "gap")]
            body.append([f"n = {n:,}", f"{budget:,}", *values, _label(leading(parts), say)])
    return Table(
        say(
            f"Medians, {width} hidden units; they need not add up to the digit, each seed's do. The gap is that of the"
            " training objective.",
            f"Medianas, {width} unidades ocultas; no tienen por qué sumar exactamente, las de cada semilla sí. La"
            " brecha es la del objetivo de entrenamiento.",
        ),
        [
            say("rows", "filas"), say("budget", "presupuesto"), *(_label(name, say) for name in (*NAMES, "total")),
            say("gap", "brecha"), say("greatest", "mayor"),
        ],
        body,
    )  # fmt: skip


def _widths_table(split: Split, longest: int, middle: int, say: Say) -> Table:
    body = []
    for n in split.sizes:
        row = [f"n = {n:,}"]
        for budget in (middle, longest):
            widths = [w for w in split.widths if split.seeds(n, w)]
            best = min(widths, key=lambda w: _middle(split.over_seeds(n, w, budget), "total")[1])
            row += [str(best), number(_middle(split.over_seeds(n, best, budget), "total")[1], 2)]
        body.append(row)
    said = [f"{budget:,} {say('examples', 'ejemplos')}" for budget in (middle, longest)]
    return Table(
        say(
            "The width with the least excess error, by rows and budget.",
            "La anchura con el menor exceso de error, según las filas y el presupuesto.",
        ),
        [
            say("rows", "filas"),
            *(f"{what}, {budget}" for budget in said for what in (say("width", "anchura"), say("excess", "exceso"))),
        ],
        body,
    )  # fmt: skip
