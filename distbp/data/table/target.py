"""The target of a table: classes, labels or values, and how they are stored."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from distbp.data.dataset import Target
from distbp.data.table import database
from distbp.data.table.columns import FEW_ROWS, MANY, SOME, Stored, Table
from distbp.data.table.dates import Dates
from distbp.data.table.kinds import Dress, commonest, is_missing, is_number, kind_of, same
from distbp.data.targets import MAX_CLASSES, scarce
from distbp.errors import UserError


def target_of(
    table: Table, columns: Sequence[int], *, task: str = "auto", like: Target | None = None, blank: bool = False
) -> tuple[Target, list[Stored]]:
    """Return what some columns of a table are as a target, and how it is stored; see `infer_target`.

    A row without a target is bad, unless it may be `blank`.
    """
    names, source = tuple(table.names[i] for i in columns), table.source
    classes = like.kind == "classes" if like else task != "regression" and len(columns) == 1
    if classes and (found := _classes(table, columns[0], task, like, blank)) is not None:
        if not blank and _holes(table, columns[0]):
            table.drop(database.flags(table.tables, table.holes(columns[0])), f"the target {names[0]!r} is missing")
        return found[0], [found[1]]
    if len(columns) > 1 and any(table.kind(i) in ("text", "") for i in columns):
        raise UserError(f"{source}: several target columns must be numbers")
    expressions = [_number(table, i) for i in columns]
    summaries = table.summaries(expressions)
    for i, sql, summary in zip(columns, expressions, summaries, strict=True):
        table.numeric(i, sql, summary)
        if not blank and summary.count < table.n_rows:
            table.drop(database.flags(table.tables, f"({sql}) IS NULL"), f"the target {table.names[i]!r} is missing")
    binary = (
        len(columns) > 1
        and task != "regression"
        and all(each.whole and each.low >= 0 and each.high <= 1 for each in summaries)
    )
    stored = [table.stored(name, sql, "f8") for name, sql in zip(names, expressions, strict=True)]
    if not like and any(not np.isfinite([each.low, each.high]).all() for each in summaries):
        raise UserError(f"{source}: a target of {names[0]!r} is infinite: mend or drop the row")
    return like or Target("labels" if binary else "values", names), stored


def _holes(table: Table, i: int) -> bool:
    """Return whether some row has no target."""
    texts = table.texts(i)
    return sum(texts.values()) < table.n_rows or any(is_missing(text, table.missing) for text in texts)


def _number(table: Table, i: int) -> str:
    """Return the SQL of a target that is a number."""
    name = table.names[i]
    kind = table.notations.get(name) or table.kind(i)
    if isinstance(kind, Dress):
        table.remarks.append(f"{table.source}: the numbers of {name!r} have {kind}")
    elif kind != "number":
        what = "a date" if isinstance(kind, Dates) else "text"
        raise UserError(f"{table.source}: the target {name!r} is {what}: a regression needs numbers")
    table.kinds[i] = kind
    return table.number(i, kind)


def _classes(table: Table, i: int, task: str, like: Target | None, blank: bool) -> tuple[Target, Stored] | None:
    """Return the classes of a column and how they are stored; None where it looks like a regression."""
    some = table.some(i)
    if len(some) == SOME and like is None and task == "auto" and kind_of(some, *table.notation) != "text":
        return None
    counts = {text: n for text, n in table.texts(i).items() if not is_missing(text, table.missing)}
    name, source = table.names[i], table.source
    texts = [text.strip() for text in counts]
    kind = kind_of(texts, *table.notation) if texts and table.types[i] != "BOOLEAN" else "text"
    if isinstance(kind, Dates) and task == "auto" and like is None:
        raise UserError(
            f"{source}: the target {name!r} holds dates: name another one, --target COLUMN; or, where they are classes,"
            " --task classification"
        )
    numeric = kind == "number" and not any(text.isdigit() and int(text) >= 1 << 53 for text in texts)
    if like is None and (isinstance(kind, Dress) or numeric):
        values = {float(text) for text in texts if is_number(text)}
        whole = all(value.is_integer() for value in values)
        few = whole and len(values) <= MAX_CLASSES and not scarce(len(values), table.n_rows)
        if task != "classification" and (isinstance(kind, Dress) or not few):
            return None
        if task != "classification" and len(counts) and not all(map(is_number, texts)):
            bad = table.number(i, "number")
            table.numeric(i, bad, table.summaries([bad])[0])
            counts = {text: n for text, n in counts.items() if is_number(text.strip())}
    if len(counts) >= MANY:
        raise UserError(f"{source}: the target {name!r} has more than {MANY:,} different texts: no classes to learn")
    values_of = _values(counts, numeric)
    named = commonest(counts, values_of)
    classes = list(like.classes) if like else [named[value] for value in sorted(named)]
    number = {value: k for k, value in enumerate(_values(classes, numeric).values())}
    if like is None and len(classes) < 2:
        only = " ".join("".join(classes).split())[:60] or "none"
        words = [text for text in table.texts(i) if text.strip() and is_missing(text, table.missing)]
        hint = f"; {', '.join(map(repr, words[:3]))} mean a missing value, where they are classes: --missing ''"
        raise UserError(
            f"{source}: the target {name!r} has one class only ({only}): two are needed{hint * bool(words)}"
        )
    codes = {text: number.get(values_of[text], -1) for text in counts}
    if like is None:
        table.remarks += _remarks(source, name, [counts[text] for text in counts], classes, table.n_rows)
    elif unknown := [text for text, code in codes.items() if code < 0]:
        rows = sum(counts[text] for text in unknown)
        few_of = ", ".join(map(repr, unknown[:3])) + " ..." * (len(unknown) > 3)
        table.remarks.append(
            f"{source}: {rows} rows have a class that training has not ({few_of}): they count in no figure"
        )
        if not blank and rows == sum(counts.values()):
            known = ", ".join(classes[:5])
            raise UserError(f"{source}: the target {name!r} has none of the classes of the training data ({known})")
    sql, lookup, dtype = table.coded(i, codes, -1)
    return like or Target("classes", (name,), tuple(classes)), Stored(name, sql, dtype, codes=lookup)


def _values(texts: Iterable[str], numeric: bool) -> dict[str, Any]:
    """Return the value of each text; texts of the same value are one class."""
    texts = list(texts)
    if numeric and all(is_number(text.strip()) for text in texts):
        return {text: float(text) for text in texts}
    stripped = [text.strip() for text in texts]
    alike = same(stripped)
    return {text: alike[bare] for text, bare in zip(texts, stripped, strict=True)}


def _remarks(source: str, name: str, counts: Sequence[int], classes: Sequence[str], n_rows: int) -> list[str]:
    """Return what is odd about classes: very many, or with a row each."""
    if len(classes) > MAX_CLASSES:
        few = f"{len(classes):,} classes with {n_rows / len(classes):.1f} rows each"
        return [f"{source}: {name!r} has {few}: is it a target?"]
    if (single := sum(n == 1 for n in counts)) and n_rows >= FEW_ROWS:
        return [f"{source}: {single} of {len(classes)} classes of {name!r} have a single row"]
    return []
