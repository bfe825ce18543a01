"""Tables: columns with names, kinds and holes, as programs and people write them.

How a text is laid out, and what the columns are, is found out from its beginning (`layout`, `kinds`); then the
library reads it (`database`), and what it has read becomes records (`records`). A row is *bad* when it has more or
fewer fields than the others, text in a numeric column, or no target. A bad row is an error that names line and
content; or, on request, it is dropped and counted.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import Column, parse_columns
from distbp.data.table import database, records
from distbp.data.table.columns import Stored, Table
from distbp.data.table.formats import RELATIONS, TEXTS, TableOptions, suffix_of
from distbp.data.table.inputs import Inputs, base_of
from distbp.data.table.kinds import MISSING, Dress, Kind, kind_in, notation_of
from distbp.data.table.parsing import TextReader
from distbp.data.table.reading import Reading, spellings
from distbp.data.table.records import Meaning, TableDataset
from distbp.data.table.target import target_of
from distbp.data.table.textfile import TextFile
from distbp.errors import UserError

Array = NDArray[Any]

_AT_ONCE = 4096
"""Records that are filled at a time, column by column: they stay in the cache."""
Writer = Callable[[Meaning, np.dtype[Any], int, Iterator[Array]], None]
"""Takes what the records of a table mean, their type, how many there are, and all of them in order."""


def read_table(
    source: Path | Sequence[Path] | Any, options: TableOptions | None = None, **more: Any
) -> tuple[TableDataset, list[str]]:
    """Read a table into memory; return the data, and remarks for the user.

    Parameters
    ----------
    source : Path, list of Path, or a table
        Files of one format, or anything with ``__arrow_c_stream__``, or a data frame of pandas.
    options : TableOptions
        See there.
    **more
        Single ones, in their place.
    """
    found: list[Any] = []

    def keep(meaning: Meaning, dtype: np.dtype[Any], n_rows: int, parts: Iterator[Array]) -> None:
        found.append((np.concatenate([np.zeros(0, dtype), *(part.copy() for part in parts)]), meaning))

    convert(source, options or TableOptions(**more), keep)
    ((rows, meaning),) = found
    return TableDataset(rows, meaning), meaning.remarks


def convert(source: Any, options: TableOptions, write: Writer) -> None:
    """Read a table and give it to `write`, converted."""
    paths = [source] if isinstance(source, Path) else []
    if isinstance(source, list) and all(isinstance(path, Path) for path in source):
        paths = source
    if paths and suffix_of(paths[0]) in TEXTS:
        _convert_text(paths, options, write)
        return
    with database.connection() as tables:
        try:
            name, relation = _relation(tables, source, paths)
            names, types = database.view(tables, relation)
            missing = MISSING if options.missing is None else spellings(options.missing)
            table = Table(
                tables, name, names, types, {}, missing=missing, where=lambda number: f"{name}, row {number}",
                place=lambda row: (row + 1, database.row(tables, row)),
                decimal=options.decimal, thousands=options.thousands,
            )  # fmt: skip
            roles = Roles(names, name, options)
            _write(table, roles, options, write)
        except database.NotReadable as error:
            raise UserError(f"{paths[0] if paths else 'the table'}: not a whole table: {error}") from error


def _relation(tables: Any, source: Any, paths: Sequence[Path]) -> tuple[str, str]:
    """Return name and SQL of what is no text."""
    if not paths:
        database.register(tables, "frame", source)
        return "the table", "frame"
    files = "[" + ", ".join(database.quoted(str(path)) for path in paths) + "]"
    name = paths[0].name if len(paths) == 1 else f"{paths[0].parent.name}/"
    return name, RELATIONS[suffix_of(paths[0])].format(files)


def _reading(paths: Sequence[Path], options: TableOptions) -> Reading:
    """Return what is known of a text, or of several that are one table."""
    expected = (*(column.name for column in options.columns_like), *(options.like.names if options.like else ()))
    reading = Reading(paths[0], options, options.target, expected)
    reading.append(paths[1:])
    return reading


def _convert_text(paths: Sequence[Path], options: TableOptions, write: Writer) -> None:
    reading = _reading(paths, options)
    roles = Roles(list(reading.layout.names), reading.source, options, reading.unnamed)
    kinds: dict[int, Kind] = {i: reading.kind(i) for i in (*roles.inputs, *roles.weights)}
    roles.decide(kinds)
    written = {reading.layout.names[i]: reading.kind(i) for i in roles.targets}
    with database.connection() as tables:
        for copied in (reading.is_foreign, True):
            try:
                with reading.clean(copied) as clean:
                    table = TextReader(reading, clean, tables, kinds).table()
                    table.notations = {name: kind for name, kind in written.items() if isinstance(kind, Dress)}
                    _write(table, roles, options, write)
                return
            except database.NotReadable as error:  # such as lines that end now in one way, now in another
                if copied:
                    raise UserError(str(error)) from error


class Roles:
    """Say which columns are inputs, target and weight, by their names and what is known from before."""

    def __init__(
        self, names: list[str], source: str, options: TableOptions, unnamed: Callable[[], set[int]] = set
    ) -> None:
        self.names, self.source, self.options = names, source, options
        self.known = {column.name: column for column in options.columns_like}
        left_out = set() if self.known else unnamed()
        last = max(set(range(len(names))) - left_out, default=0)
        self.targets = self._targets(last)
        by_number = options.weight is not None and options.weight.strip().lstrip("-").isdigit()
        self.weights = parse_columns(options.weight if by_number else self._there(options.weight), names, source)[:1]
        ignored = parse_columns(self._there(options.ignore), names, source)
        apart = {*self.targets, *self.weights, *left_out, *ignored}
        self.inputs = [i for i in range(len(names)) if i not in apart]
        bases = {name: base_of(name, names) for name in self.known}
        if self.known and None not in bases.values():
            self.inputs = [i for i in self.inputs if names[i] in set(bases.values())]
        if not self.inputs:
            raise UserError(f"{source}: no input column is left beside the target")
        self.categorical = set(parse_columns(self._there(options.categorical), names, source))
        self.keep = set(parse_columns(options.keep_columns, names, source)) if not self.known else set()

    def _there(self, wanted: str | None) -> str | None:
        """Leave out what data that is read later need not have."""
        later = bool(self.known or self.options.like)
        kept = [item for item in wanted.split(",") if not later or item.strip() in self.names] if wanted else []
        return ",".join(kept)

    def _targets(self, last: int) -> list[int]:
        options, names = self.options, self.names
        if options.target is not None:
            return parse_columns(options.target, names, self.source)
        if options.like is None:
            return [last]
        wanted = set(options.like.names)  # an input of that name is one: its target stood beside the table
        return [names.index(name) for name in options.like.names] if wanted <= set(names) - set(self.known) else []

    def decide(self, kinds: dict[int, Kind]) -> None:
        """Change what columns are taken for to what was asked for, and to what they were before."""
        for i in self.inputs:
            column = self.known.get(self.names[i])
            guessed = isinstance(kinds.get(i), Dress) and not (self.options.decimal or self.options.thousands)
            if notation := self.options.notations.get(self.names[i]):
                kinds[i] = kind_in(notation)
            elif column is not None and guessed:  # what "1,500" means does not depend on the other rows
                kinds[i] = "number"
            if column is not None and column.categories is None and kinds.get(i) == "text":
                kinds[i] = "number"
            if i in self.categorical or (column is not None and column.categories is not None):
                kinds[i] = "text"


def _write(table: Table, roles: Roles, options: TableOptions, write: Writer) -> None:
    """Convert the columns that have a role."""
    for i in (*roles.inputs, *roles.weights):
        table.kind(i)
    roles.decide(table.kinds)
    table.settle(options.bad_rows)  # before what is left of it seems to be of one class
    inputs = Inputs(table, roles.inputs, roles.known, roles.keep, options.compact, bool(roles.targets))
    target, y = None, list[Stored]()
    table.notations |= {name: kind_in(notation) for name, notation in options.notations.items()}
    if roles.targets:
        target, y = target_of(table, roles.targets, task=options.task, like=options.like, blank=options.blank_target)
        if len(roles.targets) == 1:
            inputs.leave_out_copies(roles.targets[0], classes=target.kind == "classes")
    w = [_weight(table, i) for i in roles.weights]
    table.remarks += filter(None, [table.settle(options.bad_rows)])
    if not inputs.stored:
        why = f"; left out: {inputs.omitted()}; --keep-columns NAME keeps a column" if inputs.left_out else ""
        raise UserError(f"{table.source}: no input column is left beside the target{why}")
    slots = table.slots() if table.bad else None
    more = [("y", y[0].dtype, len(y))] if y else []
    more += [("w", "f8", 1)] if w else []
    more += [("slot", "i8", 1)] if slots else []
    dtype, places = records.layout([column.dtype for column in inputs.stored], more)
    columns = tuple(Column(column.name, column.categories) for column in inputs.stored)
    meaning = Meaning(
        table.source, columns, tuple(places), target, table.remarks, "" if roles.known else inputs.summary(),
        inputs.left_out, _notations(table), slots[0] if slots else 0,
    )  # fmt: skip
    at = [*places, *(("y", k) for k in range(len(y))), *(("w", 0) for _ in w)]
    parts = _records(table, dtype, list(zip([*inputs.stored, *y, *w], at, strict=True)), slots)
    write(meaning, dtype, int(table.keep.sum()), parts)


def _notations(table: Table) -> dict[str, list[Any]]:
    """Return how the columns of texts are written that are not plain."""
    of_texts = {i: kind for i, kind in table.kinds.items() if table.types[i] == "VARCHAR"}
    return {table.names[i]: notation for i, kind in of_texts.items() if (notation := notation_of(kind))}


def _weight(table: Table, i: int) -> Stored:
    name = table.names[i]
    if table.kind(i) == "text":
        raise UserError(f"{table.source}: the sample weights in {name!r} are text")
    sql = table.number(i)
    (summary,) = table.summaries([sql])
    table.numeric(i, sql, summary)
    if summary.count < table.n_rows - len(table.bad) or summary.low < 0 or not np.isfinite(summary.high):
        raise UserError(f"{table.source}: the sample weights in {name!r} must be one number of at least 0 for each row")
    return table.stored(name, sql, "f8")


def _records(
    table: Table, dtype: np.dtype[Any], columns: Sequence[tuple[Stored, tuple[str, int]]],
    slots: tuple[int, Array] | None,
) -> Iterator[Array]:  # fmt: skip
    """Yield the records of the good rows, in memory that is used again for those after the next ones."""
    lo = n_before = 0
    buffer, other = np.zeros(0, dtype), np.zeros(0, dtype)
    everything = bool(table.keep.all())
    for values in database.stream(table.tables, [column.sql for column, _ in columns]):
        n = len(values[0])
        chosen = np.flatnonzero(table.keep[lo : lo + n])
        buffer, other = other, buffer  # the last records are still being written
        if len(chosen) > len(buffer):
            buffer = np.zeros(len(chosen), dtype)
        out = buffer[: len(chosen)]
        values = values if everything else [value[chosen] for value in values]
        for first in range(0, len(out), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            for (column, (name, k)), value in zip(columns, values, strict=True):
                out[name][some, k] = value[some] if column.codes is None else column.codes[value[some]]
        if slots is not None:
            out["slot"][:, 0] = slots[1][n_before : n_before + len(out)]
        lo, n_before = lo + n, n_before + len(out)
        yield out


def texts_of(paths: Sequence[Path], options: TableOptions, columns: str) -> tuple[list[str], list[list[str]]]:
    """Return the names of some columns, and their texts in every row of the file, bad ones with them."""
    if suffix_of(paths[0]) in TEXTS:
        reading = _reading(paths, options)
        names, places = _named(columns, list(reading.layout.names), reading.source)
        records = TextFile(paths[0], reading.layout, more=reading.more).records()
        return names, [[row[i] if i < len(row) else "" for i in places] for _, row in records]
    with database.connection() as tables:
        name, relation = _relation(tables, None, paths)
        every, _ = database.view(tables, relation)
        names, places = _named(columns, every, name)
        chosen = ", ".join(f"coalesce(c{i}::VARCHAR, '')" for i in places)
        return names, [list(row) for row in database.query(tables, f"SELECT {chosen} FROM t")]


def _named(columns: str, names: list[str], source: str) -> tuple[list[str], list[int]]:
    places = parse_columns(columns, names, source)
    return [names[i] for i in places], places
