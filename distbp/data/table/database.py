"""The library that reads tables, DuckDB, in this process: the one module that knows it.

A table is called ``t`` and its columns ``c0``, ``c1``, ... whatever their names are; rows keep the order of the file.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.data.table import arrow
from distbp.errors import UserError

Array = NDArray[Any]


MAX_LINE = 1 << 24
"""Bytes of a row at most."""
_MANY_COLUMNS = 300


class Reject(NamedTuple):
    """A part of the file that is no row: its byte (from 0), its number (from 1, blank lines count), its lines, why."""

    byte: int
    number: int
    lines: int
    column: int | None
    why: str
    text: str


class NotReadable(UserError):
    """The library cannot read a file at all."""


def quoted(text: str) -> str:
    """Return a text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def connection() -> Iterator[Any]:
    """Open a database in memory, which may leave it for a folder of its own."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="distbp-") as folder:
        config: dict[str, Any] = {
            "temp_directory": folder, "autoinstall_known_extensions": "false", "TimeZone": "UTC",
        }  # fmt: skip
        database = duckdb.connect(config=config)
        try:
            # a bar would go to standard output; a notebook without widgets has none, and says so
            with contextlib.suppress(duckdb.InvalidInputException):
                database.execute("SET enable_progress_bar = false")
            yield database
        except Exception as error:
            if _is_interrupt(error):
                raise KeyboardInterrupt from error
            raise
        finally:
            database.close()


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C is behind an error, which the library says in two ways."""
    import duckdb

    if error is None:
        return False
    by_message = isinstance(error, RuntimeError) and str(error) == "Query interrupted"
    return by_message or isinstance(error, duckdb.InterruptException) or _is_interrupt(error.__cause__)


def read_text(
    database: Any, path: Path, *, delimiter: str, quote: str, skipped: int, numeric: Sequence[bool],
    missing: Sequence[str],
) -> list[Reject]:  # fmt: skip
    """Read a table of text in UTF-8; return what is no row.

    Parameters
    ----------
    database : duckdb.DuckDBPyConnection
        That of `connection`.
    path : Path
        The file, plain or ``.gz``.
    delimiter, quote : str
        What parts fields, and what may stand around one; "" for nothing.
    skipped : int
        Lines above the first row.
    numeric : sequence of bool
        Of each column, whether it holds numbers; else texts.
    missing : sequence of str
        Texts, as they stand in the file, that are no value.
    """
    import duckdb

    for table in ("t", "reject_errors", "reject_scans"):
        database.execute(f"DROP TABLE IF EXISTS {table}")
    columns = ", ".join(
        f"'c{i}': {quoted('DOUBLE' if is_number else 'VARCHAR')}" for i, is_number in enumerate(numeric)
    )
    options = {
        "auto_detect": "false", "header": "false", "skip": skipped, "delim": quoted(delimiter), "quote": quoted(quote),
        "escape": quoted(quote), "columns": f"{{{columns}}}", "store_rejects": "true", "rejects_limit": "0",
        "nullstr": "[" + ", ".join(map(quoted, missing)) + "]", "max_line_size": str(MAX_LINE),
        "buffer_size": str(2 * MAX_LINE),  # 16 lines of this size, the default, are 256 MB
    }  # fmt: skip
    given = ", ".join(f"{name}={value}" for name, value in options.items())
    try:
        database.execute(f"CREATE TABLE t AS SELECT * FROM read_csv({quoted(str(path))}, {given})")
    except duckdb.Error as error:
        raise NotReadable(f"{path}: not a whole table of text: {str(error).splitlines()[0]}") from error
    found = query(
        database,
        "SELECT line_byte_position, line, column_idx, error_type, csv_line FROM reject_errors"
        " ORDER BY line_byte_position",
    )
    rejects = []
    for byte, number, column, why, text in found:
        place = None if column is None else column - 1
        rejects.append(Reject(byte - 1, number, 1 + (text or "").rstrip("\r\n").count("\n"), place, why, text or ""))
    return rejects


def plan_simply(database: Any, n_columns: int) -> None:
    """Let queries of very many columns be as they are: the time to make them better grows with their square."""
    if n_columns > _MANY_COLUMNS:
        database.execute("PRAGMA disable_optimizer")


def view(database: Any, relation: str) -> tuple[list[str], list[str]]:
    """Let ``t`` be a relation of SQL that is read when it is needed; return names and types of its columns."""
    described = query(database, f"DESCRIBE SELECT * FROM {relation}")
    names = [str(row[0]) for row in described]
    renamed = ", ".join(f"c{i}" for i in range(len(names)))
    database.execute(f"CREATE VIEW t AS SELECT * FROM {relation} AS u({renamed})")
    return names, [str(row[1]) for row in described]


def register(database: Any, name: str, table: Any) -> None:
    """Let a table in memory have a name."""
    try:
        database.register(name, table)
    except Exception as error:  # what cannot be a table ends in many ways
        kind = type(table).__name__
        raise UserError(f"a {kind} is no table: a path, a data frame, or what has __arrow_c_stream__") from error


def query(database: Any, sql: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query; what is wrong with a file is `NotReadable`."""
    import duckdb

    try:
        found: list[tuple[Any, ...]] = database.execute(sql).fetchall()
    except duckdb.Error as error:
        raise NotReadable(str(error).splitlines()[0]) from error
    return found


def stream(database: Any, expressions: Sequence[str]) -> Iterator[list[Array]]:
    """Yield the values of expressions, which are numbers and never NULL, for some rows after others."""
    import duckdb

    chosen = ", ".join(f"{one} AS e{k}" for k, one in enumerate(expressions))
    try:
        yield from arrow.batches(database.sql(f"SELECT {chosen} FROM t"))
    except (duckdb.Error, OSError) as error:
        raise NotReadable(str(error).splitlines()[0]) from error


def flags(database: Any, condition: str) -> Array:
    """Return a condition of each row, as bool (rows,)."""
    parts = [part.astype(bool) for (part,) in stream(database, [f"({condition})::UTINYINT"])]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def texts_of_lines(database: Any, i: int, delimiter: str) -> list[tuple[Any, ...]]:
    """Return texts of several lines that hold the separator, with their rows; the first 1,000."""
    return query(
        database,
        f"SELECT rowid, c{i} FROM t WHERE contains(c{i}, chr(10)) AND contains(c{i}, {quoted(delimiter)}) LIMIT 1000",
    )


def distinct(database: Any, i: int, limit: int) -> dict[str, int]:
    """Return the different texts of a column and how often each occurs, sorted; at most `limit` of them."""
    text = f"c{i}::VARCHAR"
    return dict(
        query(database, f"SELECT {text}, count(*) FROM t WHERE c{i} IS NOT NULL GROUP BY 1 ORDER BY 1 LIMIT {limit}")
    )


def row(database: Any, number: int) -> str:
    """Return what a row holds, for messages."""
    found = query(database, f"SELECT * FROM t LIMIT 1 OFFSET {number}")
    return ",".join("" if value is None else str(value) for value in found[0]) if found else ""


def some(database: Any, i: int, limit: int) -> list[str]:
    """Return different texts of a column, at most `limit` of them."""
    found = query(database, f"SELECT DISTINCT c{i}::VARCHAR FROM t WHERE c{i} IS NOT NULL LIMIT {limit}")
    return [text for (text,) in found]


def code_of(database: Any, i: int, texts: Sequence[str]) -> str:
    """Return the SQL of the place of a column's text among some, 0 where it is none of them and k + 1 for the k-th."""
    if not texts:
        return "0::UINTEGER"
    database.execute(f"CREATE OR REPLACE TEMP TABLE names{i} AS SELECT unnest($1::VARCHAR[]) AS v", [list(texts)])
    database.execute(f"DROP TYPE IF EXISTS kind{i}")
    database.execute(f"CREATE TYPE kind{i} AS ENUM (SELECT v FROM names{i})")
    return f"coalesce(enum_code(try_cast(c{i}::VARCHAR AS kind{i}))::UINTEGER + 1, 0)::UINTEGER"
