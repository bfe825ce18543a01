"""CSV files: columns with names, types and holes, as they are found in the wild.

A column is numeric when most of its values in the first rows are numbers, else it holds categories.
After that a row is *bad* when it has more or fewer fields than the header, text in a numeric column,
or no target. A bad row is an error that names line and content; or, on request, it is dropped and
counted. The parsing of quotes and separators is the standard library's.
"""

import csv
import gzip
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import ArrayDataset, Column, Target, infer_target, parse_columns
from distbp.errors import UserError

Array = NDArray[Any]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Texts that mean a missing value, in lower case."""
_CHUNK = 65536
_MAX_CATEGORIES = 1000


class _BadRows:
    """Raise at the first bad row, or count them."""

    def __init__(self, source: str, skip: bool) -> None:
        self.source, self.skip, self.count, self.first = source, skip, 0, ""

    def add(self, line: int, why: str, fields: list[str]) -> None:
        content = ",".join(fields)
        shown = content if len(content) <= 60 else content[:57] + "..."
        text = f"line {line}: {why}: {shown!r}"
        if not self.skip:
            raise UserError(f"{self.source}, {text}; mend the line, or drop such rows with --bad-rows skip")
        self.count += 1
        self.first = self.first or text


class _Column:
    """Hold one column while it is read: numbers, or texts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.numeric: bool | None = None
        self.parts: list[Array] = []

    def add(self, texts: list[str]) -> list[int]:
        """Append a chunk; return the places of texts that a numeric column cannot hold."""
        if self.numeric is not False:
            numbers, bad = _numbers(texts)
            if self.numeric is None and (present := sum(text.strip().lower() not in MISSING for text in texts)):
                self.numeric = len(bad) * 2 < present
            if self.numeric is not False:
                self.parts.append(numbers)
                return bad
        # chunks of nothing but holes came before the first text
        self.parts = [part if part.dtype == object else np.full(len(part), "", object) for part in self.parts]
        self.parts.append(np.array([text.strip() for text in texts], dtype=object))
        return []

    def finish(self, keep: Array, source: str) -> tuple[Column, Array]:
        values = np.concatenate(self.parts)[keep]
        if self.numeric is not False:
            return Column(self.name), values
        categories = sorted({text for text in values if text.lower() not in MISSING})
        if len(categories) > _MAX_CATEGORIES:
            many = f"{len(categories)} different texts, too many for categories"
            raise UserError(f"{source}: column {self.name!r} has {many}; leave it out with --ignore {self.name}")
        number = {text: float(i) for i, text in enumerate(categories)}
        codes = np.array([number.get(text, np.nan) for text in values])
        return Column(self.name, tuple(categories)), codes


def _numbers(texts: list[str]) -> tuple[Array, list[int]]:
    try:
        return np.array(texts, np.float64), []
    except ValueError:
        pass
    numbers, bad = np.full(len(texts), np.nan), []
    for i, text in enumerate(texts):
        if text.strip().lower() in MISSING:
            continue
        try:
            numbers[i] = float(text)
        except ValueError:
            bad.append(i)
    return numbers, bad


def read_csv(
    path: Path,
    target: str | None = None,
    *,
    header: str = "auto",
    bad_rows: str = "error",
    weight: str | None = None,
    ignore: str | None = None,
    categorical: str | None = None,
    task: str = "auto",
    like: Target | None = None,
    columns_like: tuple[Column, ...] = (),
) -> tuple[ArrayDataset, list[str]]:
    """Read a CSV file, plain or ``.gz``; return the data, and remarks for the user.

    Parameters
    ----------
    path : Path
        The file; the separator is the commonest of comma, semicolon and tab in its first line.
    target : str, optional
        Names or numbers of the target columns; by default those of `like` where they are there, or
        without it the last one; ``""`` when there is none.
    header : {"auto", "yes", "no"}
        Whether the first line holds names.
    bad_rows : {"error", "skip"}
        What to do with them.
    weight, ignore, categorical : str, optional
        The column of sample weights, columns to leave out, columns of categories that look numeric.
    task, like
        See `infer_target`.
    columns_like : tuple of Column
        Columns of the training data; those of the same name are read as numbers or categories as they were.
    """
    source, remarks = path.name, list[str]()
    bad = _BadRows(source, bad_rows == "skip")
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            names, rows = _rows(stream, source, header, remarks)
            columns = [_Column(name) for name in names]
            known = {column.name: column.categories is None for column in columns_like}
            for column in columns:
                column.numeric = known.get(column.name)
            for i in parse_columns(categorical, names, source):
                columns[i].numeric = False
            targets = _target_columns(target, like, names, source)
            lines, keep = _fill(columns, rows, targets, bad)
    except (UnicodeDecodeError, csv.Error, EOFError, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole CSV file in UTF-8: {error}") from error
    if bad.count:
        remarks.append(f"{source}: dropped {bad.count} bad rows, the first {bad.first}")
    if not keep.any():
        raise UserError(f"{source}: no rows")
    dropped, weights = {*targets, *parse_columns(ignore, names, source)}, None
    if weight:
        place = parse_columns(weight, names, source)[0]
        dropped.add(place)
        kind, weights = columns[place].finish(keep, source)
        if kind.categories is not None:
            raise UserError(f"{source}: the sample weights in {weight!r} are text")
    inputs = [column.finish(keep, source) for i, column in enumerate(columns) if i not in dropped]
    if not inputs:
        raise UserError(f"{source}: no input column is left beside the target")
    X = np.stack([values for _, values in inputs], axis=1)
    described = tuple(column for column, _ in inputs)
    y, meaning, classes = None, None, None
    if targets:
        y = _target_values([columns[i] for i in targets], keep)
        meaning, classes = infer_target(y, tuple(names[i] for i in targets), source, task=task, like=like)
    dataset = ArrayDataset(X, y, meaning, classes, weights=weights, columns=described, lines=lines[keep], source=source)
    return dataset, remarks


def _target_columns(target: str | None, like: Target | None, names: list[str], source: str) -> list[int]:
    if target is not None:
        return parse_columns(target, names, source)
    if like is None:
        return [len(names) - 1]
    return [names.index(name) for name in like.names] if set(like.names) <= set(names) else []


def _rows(
    stream: Any, source: str, header: str, remarks: list[str]
) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    """Return column names, and (line number, fields) of each row."""
    first = stream.readline()
    if not first.strip():
        raise UserError(f"{source}: the first line is empty")
    stream.seek(0)
    reader = csv.reader(stream, delimiter=max(",;\t", key=first.count))
    fields = [field.strip() for field in next(reader)]
    named = header == "yes" or (header == "auto" and len(_numbers(fields)[1]) * 2 > len(fields))
    if named and fields[0][:2] in ("b'", 'b"'):
        remarks.append(f"{source}: removed a stray {fields[0][:2]} before the header")
        fields[0] = fields[0][2:]
    if named and len(set(fields)) < len(fields):
        twice = next(name for name in fields if fields.count(name) > 1)
        raise UserError(f"{source}: two columns are called {twice!r}")
    rows = ((reader.line_num, row) for row in reader if row)
    return (fields, rows) if named else ([str(i) for i in range(len(fields))], chain([(1, fields)], rows))


def _fill(
    columns: list[_Column], rows: Iterator[tuple[int, list[str]]], targets: list[int], bad: _BadRows
) -> tuple[Array, Array]:
    """Read all rows into `columns`; return the line of each, and which are good."""

    def whole() -> Iterator[tuple[int, list[str]]]:
        for line, fields in rows:
            if len(fields) == len(columns):
                yield line, fields
            else:
                bad.add(line, f"{len(fields)} fields where the header has {len(columns)}", fields)

    found, all_lines, all_keep = whole(), [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    while chunk := list(islice(found, _CHUNK)):
        keep = np.ones(len(chunk), bool)
        for j, column in enumerate(columns):
            texts = [fields[j] for _, fields in chunk]
            wrong = [(i, f"column {column.name!r} is numeric") for i in column.add(texts)]
            if j in targets:
                empty = (i for i, text in enumerate(texts) if text.strip().lower() in MISSING)
                wrong += [(i, f"the target {column.name!r} is missing") for i in empty]
            for i, why in wrong:
                if keep[i]:
                    bad.add(chunk[i][0], why, chunk[i][1])
                keep[i] = False
        all_lines.append(np.array([line for line, _ in chunk], np.int64))
        all_keep.append(keep)
    return np.concatenate(all_lines), np.concatenate(all_keep)


def _target_values(columns: list[_Column], keep: Array) -> Array:
    parts = [np.concatenate(column.parts)[keep] for column in columns]
    if len(parts) == 1:
        return parts[0].astype(str) if parts[0].dtype == object else parts[0]
    return np.stack(parts, axis=1)
