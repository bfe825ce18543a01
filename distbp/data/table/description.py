"""What a table holds, column by column, for people."""

import numpy as np

from distbp.data.dataset import Column, Target
from distbp.data.table.inputs import part_of
from distbp.data.table.kinds import LOGICAL
from distbp.data.table.records import TableDataset

_COMMONEST = 3
_LOGICAL = (*LOGICAL, {"0", "1"})
_HEAD = ("column", "kind", "missing", "distinct", "least", "most", "commonest")


def describe(table: TableDataset) -> list[str]:
    """Return the lines of a page about a table: its columns, its target, and how to have it otherwise."""
    rows: list[tuple[str, ...]] = [_HEAD]
    seen = set[str]()
    for i, column in enumerate(table.columns):
        name = part_of(column.name) or column.name
        if name in seen:
            continue
        seen.add(name)
        rows.append(_category(table, i) if column.categories is not None else _number(table, i, name))
    rows += [(name, "left out", "", "", "", "", why) for name, why in table.left_out.items()]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += ["", *([_target(table, table.target)] if table.target else [])]
    if any(column.categories is None for column in table.columns):
        lines.append("numbers that are names: --categorical NAME; a column to leave out: --ignore NAME")
    if table.left_out:
        lines.append("a column to have in spite of that: --keep-columns NAME")
    return lines


def _target(table: TableDataset, target: Target) -> str:
    y = table.take_target(np.arange(table.n_rows))
    assert y is not None
    if target.kind != "classes":
        many = "; where they are classes: --task classification" if target.kind == "values" else ""
        return f"target: {target}, from {y.min():.6g} to {y.max():.6g}{many}"
    counts = np.bincount(y, minlength=len(target.classes))
    most = [f"{target.classes[k]} ({counts[k]:,})" for k in np.argsort(-counts, kind="stable")[:10]]
    numbers = all(name.lstrip("-").isdigit() for name in target.classes)
    other = "; where they are a quantity: --task regression" if numbers else ""
    return f"target: {target}: {', '.join(most)}{' ...' if len(counts) > 10 else ''}{other}"


def _category(table: TableDataset, i: int) -> tuple[str, ...]:
    column = table.columns[i]
    categories = column.categories or ()
    counts = np.bincount(table.values(i), minlength=len(categories) + 1)
    order = [k for k in np.argsort(-counts[:-1], kind="stable")[:_COMMONEST] if counts[k]]
    commonest = ", ".join(f"{_short(categories[k])} ({counts[k]:,})" for k in order)
    kind = "boolean" if is_logical(column) else "category"
    first, last = (_short(categories[0]), _short(categories[-1])) if categories else ("", "")
    return column.name, kind, _count(counts[-1]), f"{len(categories):,}", first, last, commonest


def is_logical(column: Column) -> bool:
    """Return whether a column of categories says yes or no."""
    return {text.lower() for text in column.categories or ()} in _LOGICAL


def _number(table: TableDataset, i: int, name: str) -> tuple[str, ...]:
    values = table.values(i)
    there = values if values.dtype.kind != "f" else values[~np.isnan(values)]
    missing = _count(len(values) - len(there))
    if not len(there):
        return name, "number", missing, "0", "", "", ""
    order = np.sort(there)
    new = np.flatnonzero(np.append(True, order[1:] != order[:-1]))
    counts = np.diff(np.append(new, len(order)))
    if name != table.columns[i].name:
        part = table.columns[i].name[len(name) + 2 : -1]
        ends = [_date(v) if part == "days" else f"{v:g}" for v in (order[0], order[-1])]
        return name, "date" if part != "hour" else "time", missing, f"{len(new):,}", *ends, ""
    top = np.argsort(-counts, kind="stable")[:_COMMONEST] if counts.max() > 1 else ()
    commonest = ", ".join(f"{order[new[k]]:.6g} ({counts[k]:,})" for k in top)
    return name, "number", missing, f"{len(new):,}", f"{order[0]:.6g}", f"{order[-1]:.6g}", commonest


def _date(days: float) -> str:
    return str(np.datetime64(round(float(days) * 86400), "s")).replace("T", " ").removesuffix(" 00:00:00")


def _count(n: int) -> str:
    return f"{n:,}" if n else ""


def _short(text: str) -> str:
    return text if len(text) <= 16 else text[:15] + "\u2026"
