"""The library that reads tables, DuckDB, in this process: the one module that knows it.

Columns are called ``c0``, ``c1``, ... whatever their names are, and rows keep the order of the file.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from distbp.data.kinds import Dress
from distbp.errors import UserError

Array = NDArray[Any]


_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))
"""What `str.strip` takes away; DuckDB's trim takes spaces alone if it is told nothing."""


class Reject(NamedTuple):
    """A part of the file that is no row: where it begins (bytes from 0), how many lines it has, why, and its text."""

    byte: int
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
        config: dict[str, Any] = {"temp_directory": folder, "autoinstall_known_extensions": "false"}
        database = duckdb.connect(config=config)
        try:
            database.execute("SET enable_progress_bar = false")  # it would go to standard output
            yield database
        finally:
            database.close()


def read_text(
    database: Any, path: Path, *, delimiter: str, quote: str, skipped: int, numeric: Sequence[bool],
    missing: Sequence[str],
) -> list[Reject]:  # fmt: skip
    """Read a table of text in UTF-8 into the table ``t``; return what is no row.

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
        "nullstr": "[" + ", ".join(map(quoted, missing)) + "]", "max_line_size": str(1 << 24),
    }  # fmt: skip
    given = ", ".join(f"{name}={value}" for name, value in options.items())
    try:
        database.execute(f"CREATE TABLE t AS SELECT * FROM read_csv({quoted(str(path))}, {given})")
    except duckdb.Error as error:
        raise NotReadable(f"{path}: not a whole table of text: {str(error).splitlines()[0]}") from error
    found = database.execute(
        "SELECT line_byte_position, column_idx, error_type, csv_line FROM reject_errors ORDER BY line_byte_position"
    ).fetchall()
    rejects = []
    for byte, column, why, text in found:
        place = None if column is None else column - 1
        rejects.append(Reject(byte - 1, 1 + (text or "").rstrip("\r\n").count("\n"), place, why, text or ""))
    return rejects


def value_of(i: int, missing: Sequence[str]) -> str:
    """Return the SQL of a text: without blanks around it, NULL where it means that there is no value."""
    no_value, text = ", ".join(map(quoted, missing)), f"trim(c{i}, {quoted(_BLANKS)})"
    return f"CASE WHEN lower({text}) IN ({no_value}) THEN NULL ELSE {text} END"


def number_in(i: int, dress: Dress, missing: Sequence[str]) -> str:
    """Return the SQL of the number that a text is."""
    text = value_of(i, missing)
    if dress.thousands:
        text = f"replace({text}, {quoted(dress.thousands)}, '')"
    text = f"regexp_replace({text}, '[^0-9.,+-]', '', 'g')"
    return f"try_cast(replace({text}, {quoted(dress.decimal)}, '.') AS DOUBLE)"


def n_rows(database: Any) -> int:
    """Count the rows."""
    return int(database.execute("SELECT count(*) FROM t").fetchone()[0])


def numbers(database: Any, expressions: Sequence[str]) -> Array:
    """Return the numbers of expressions as (rows, expressions) float64, NaN where there is none."""
    if not expressions:
        return np.zeros((n_rows(database), 0))
    chosen = ", ".join(f"coalesce({one}, 'nan'::DOUBLE) AS n{k}" for k, one in enumerate(expressions))
    found = database.execute(f"SELECT {chosen} FROM t").fetchnumpy()
    return np.stack([np.asarray(found[f"n{k}"]) for k in range(len(expressions))], axis=1)


def texts_of_lines(database: Any, i: int, delimiter: str) -> list[tuple[int, str]]:
    """Return texts of several lines that hold the separator, with their rows; the first 1,000."""
    found: list[tuple[int, str]] = database.execute(
        f"SELECT rowid, c{i} FROM t WHERE contains(c{i}, chr(10)) AND contains(c{i}, {quoted(delimiter)}) LIMIT 1000"
    ).fetchall()
    return found


def flags(database: Any, expression: str) -> Array:
    """Return a condition of each row, as bool (rows,)."""
    return np.asarray(database.execute(f"SELECT {expression} AS f FROM t").fetchnumpy()["f"], bool)


def categories(database: Any, expression: str) -> list[tuple[str, int]]:
    """Return the different texts of an expression, sorted, and how often each occurs."""
    found: list[tuple[str, int]] = database.execute(
        f"SELECT v, count(*) FROM (SELECT {expression} AS v FROM t) WHERE v IS NOT NULL GROUP BY v ORDER BY v"
    ).fetchall()
    return found


def codes(database: Any, expression: str, texts: Sequence[str]) -> Array:
    """Return the place of each text in `texts`, -1 where there is none, as int64 (rows,)."""
    if not texts:
        return np.full(n_rows(database), -1)
    database.execute("DROP TABLE IF EXISTS names")
    database.execute("CREATE TABLE names AS SELECT unnest($1::VARCHAR[]) AS v", [list(texts)])
    database.execute("DROP TYPE IF EXISTS kind")
    database.execute("CREATE TYPE kind AS ENUM (SELECT v FROM names)")
    found = database.execute(
        f"SELECT coalesce(enum_code(try_cast({expression} AS kind))::BIGINT, -1) AS k FROM t"
    ).fetchnumpy()
    return np.asarray(found["k"])
