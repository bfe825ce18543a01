"""From raw columns to inputs of a network, as operators: what `Preprocessor.transform` computes.

Each column is an input of its own, (rows, 1): numbers as ``float64``, NaN where one is missing; categories and dates as
texts, empty where one is missing. Where columns have no names, as those of an array, all are one input ``X``.
"""

from typing import Any

import numpy as np

from distbp.data.dataset import Column
from distbp.data.table.dates import DATE_FEATURES, Dates
from distbp.data.table.inputs import part_of
from distbp.data.table.kinds import MISSING, kind_in
from distbp.errors import UserError
from distbp.export.graph import Graph
from distbp.model import Model

_UNSEEN = "\0"
_ML = "ai.onnx.ml"


def network_inputs(graph: Graph, model: Model) -> str:
    """Add inputs, and what makes inputs of the network of them; return their name, (rows, n_inputs with embeddings)."""
    raw = _raw(graph, model)
    p, dtype = model.preprocessor, model.network.dtype
    parts = []
    numeric = [i for i, (_, texts) in enumerate(p.columns) if texts is None]
    if numeric:
        parts += _numbers(graph, model, graph("Concat", *(raw[i] for i in numeric), axis=1), numeric)
    tables = iter(model.network.embeddings)
    looked_up = []
    for i, (name, texts) in enumerate(p.columns):
        if texts is None:
            continue
        codes = _codes(graph, raw[i], list(texts), model.reading.get("missing"))
        if name in p.coded:
            places = p.inputs_of(_with_unseen(model))[i]
            looked_up.append(_rows(graph, np.asarray(next(tables))[places], codes))
        else:
            parts.append(_rows(graph, _one_hot(model, i).astype(dtype), codes))
    return graph("Concat", *parts, *looked_up, axis=1)


def _raw(graph: Graph, model: Model) -> list[str]:
    """Add the inputs; return the name of each column (rows, 1), numbers or texts."""
    columns = model.columns
    if all(column.categories is None and column.name.isdigit() for column in columns):
        X = graph.input("X", "float64", len(columns))
        return [graph("Gather", X, graph.constant([i]), axis=1) for i in range(len(columns))]
    names, found, dates = {column.name for column in columns}, list[str](), dict[str, dict[str, str]]()
    for column in columns:
        base = part_of(column.name) if column.categories is None else None
        if base is None or base in names:
            kind = "float64" if column.categories is None else "str"
            found.append(graph.input(column.name, kind, 1))
            continue
        if base not in dates:
            dates[base] = _date(graph, base, model)
        found.append(dates[base][column.name.removeprefix(f"{base} (").removesuffix(")")])
    return found


def _numbers(graph: Graph, model: Model, numbers: str, numeric: list[int]) -> list[str]:
    """Return scaled numbers, holes, and bins, in the type of the network."""
    p, kind = model.preprocessor, _type(model)
    holes = graph("Or", graph("IsNaN", numbers), graph("IsInf", numbers))
    numbers = graph("Where", holes, graph.constant([p.fill], np.float64), numbers)
    shifted = graph("Sub", numbers, graph.constant([p.shift], np.float64))
    parts = [graph("Cast", graph("Mul", shifted, graph.constant([p.scale], np.float64)), to=kind)]
    blank = [k for k, i in enumerate(numeric) if p.columns[i][0] in p.blank]
    if blank:
        parts.append(graph("Cast", graph("Gather", holes, graph.constant(blank), axis=1), to=kind))
    if any(p.edges):
        column = [k for k, edges in enumerate(p.edges) for _ in edges[1:]]
        begin = np.concatenate([np.asarray(edges[:-1], np.float64) for edges in p.edges if edges])
        factor = 2.0 / np.concatenate([np.diff(np.asarray(edges, np.float64)) for edges in p.edges if edges])
        of_bin = graph("Gather", numbers, graph.constant(column), axis=1)
        e = graph("Mul", graph("Sub", of_bin, graph.constant([begin])), graph.constant([factor]))
        e = graph("Sub", e, graph.constant(1.0, np.float64))
        e = graph("Clip", e, graph.constant(-1.0, np.float64), graph.constant(1.0, np.float64))
        parts.append(graph("Cast", e, to=kind))
    return parts


def _codes(graph: Graph, texts: str, categories: list[str], missing: str | None) -> str:
    """Return the code (rows,) of texts (rows, 1): of a category its place, then of those unseen, of missing ones."""
    spellings = MISSING if missing is None else {text.strip() for text in missing.split(",")}
    holes = {form for text in spellings for form in (text, text.upper(), text.capitalize())} | {
        "",
        "NaN",
        "None",
        "N/A",
    }
    keys = [*categories, *sorted(holes - set(categories))]
    n = len(categories)
    values = [*range(n), *[n + 1] * (len(keys) - n)]
    encoded = graph(
        "LabelEncoder", texts, domain=_ML, keys_strings=keys, values_int64s=values, default_int64=n
    )  # fmt: skip
    return graph("Reshape", encoded, graph.constant([-1]))


def _rows(graph: Graph, table: Any, codes: str) -> str:
    return graph("Gather", graph.constant(table), codes, axis=0)


def _with_unseen(model: Model) -> tuple[Column, ...]:
    """Return the columns with a category behind the others that no training row had."""
    return tuple(c if c.categories is None else Column(c.name, (*c.categories, _UNSEEN)) for c in model.columns)


def _one_hot(model: Model, i: int) -> np.ndarray[Any, Any]:
    """Return the inputs (categories + 2, width) of each category of a column, of one unseen, of a missing one."""
    p = model.preprocessor
    own, places = p.inputs_by_column()[i], p.inputs_of(_with_unseen(model))[i]
    table = np.zeros((len(places), len(own)))
    for row, place in enumerate(places.tolist()):
        if place >= 0:
            table[row, place - own[0]] = 1.0
    return table


def _date(graph: Graph, name: str, model: Model) -> dict[str, str]:
    """Add an input of dates as texts, ISO 8601 without a zone; return its numbers (rows, 1) by their names."""
    notation = model.reading.get("notations", {}).get(name)
    kind = kind_in(notation) if notation else None
    if isinstance(kind, Dates) and (kind.formats or kind.clock):
        raise UserError(
            f"--onnx: the column {name!r} is {kind}; dates must be written as 2026-01-31 or 2026-01-31 23:59"
        )
    texts = graph("Reshape", graph.input(name, "str", 1), graph.constant([-1]))
    blank = graph("Equal", texts, graph.constant([""], str))
    texts = graph("Where", blank, graph.constant(["1970-01-01"], str), texts)

    def split(text: str, mark: str | None, k: int) -> list[str]:
        how = {} if mark is None else {"delimiter": mark}
        pieces = graph("StringSplit", text, outputs=2, **how)
        return [graph("Gather", pieces, graph.constant(j), axis=1) for j in range(k)]

    day, clock = split(graph("StringConcat", texts, graph.constant(["T"], str)), "T", 2)
    spaced = graph("StringConcat", day, graph.constant([" "], str))
    spaced = graph("StringConcat", graph("StringConcat", spaced, clock), graph.constant([" 00:00:00"], str))
    date, clock = split(spaced, None, 2)
    number = TYPE64
    y, m, d = (graph("Cast", part, to=number) for part in split(date, "-", 3))
    times = split(graph("StringConcat", clock, graph.constant([":00"], str)), ":", 3)
    h, minute, s = (graph("Cast", part, to=number) for part in times)

    def c(value: float) -> str:
        return graph.constant(value, np.float64)

    # days since 1970: years begin in March, so a leap day is the last (Hinnant, "chrono-compatible date algorithms")
    early = graph("Cast", graph("LessOrEqual", m, c(2.0)), to=number)
    year = graph("Sub", y, early)
    era = graph("Floor", graph("Div", year, c(400.0)))
    of_era = graph("Sub", year, graph("Mul", era, c(400.0)))
    month = graph("Add", graph("Sub", m, c(3.0)), graph("Mul", early, c(12.0)))
    of_year = graph("Floor", graph("Div", graph("Add", graph("Mul", month, c(153.0)), c(2.0)), c(5.0)))
    of_year = graph("Add", of_year, graph("Sub", d, c(1.0)))
    leap = graph("Floor", graph("Div", of_era, c(4.0)))
    leap = graph("Sub", leap, graph("Floor", graph("Div", of_era, c(100.0))))
    of_era = graph("Add", graph("Add", graph("Mul", of_era, c(365.0)), leap), of_year)
    days = graph("Sub", graph("Add", graph("Mul", era, c(146097.0)), of_era), c(719468.0))
    monday = graph("Add", days, c(3.0))  # 1970 began on a Thursday
    weeks = graph("Floor", graph("Div", monday, c(7.0)))
    weekday = graph("Add", graph("Sub", monday, graph("Mul", weeks, c(7.0))), c(1.0))
    hour = graph("Add", h, graph("Div", minute, c(60.0)))
    since = graph("Add", graph("Mul", h, c(3600.0)), graph("Add", graph("Mul", minute, c(60.0)), s))
    days = graph("Add", days, graph("Div", since, c(86400.0)))
    found = dict(zip(DATE_FEATURES, (days, y, m, weekday, hour), strict=True))
    nothing = c(float("nan"))
    column = graph.constant([-1, 1])
    return {part: graph("Reshape", graph("Where", blank, nothing, value), column) for part, value in found.items()}


TYPE64 = 11


def _type(model: Model) -> int:
    return {"float32": 1, "float64": TYPE64}[model.network.dtype.name]
