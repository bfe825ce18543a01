"""A table in the database: what its columns are, which of its rows are bad, and the SQL of its values."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.table import database
from distbp.data.table.database import quoted
from distbp.data.table.dates import Dates
from distbp.data.table.kinds import Dress, Kind, is_missing, kind_of
from distbp.errors import UserError

Array = NDArray[Any]

FEW_ROWS = 20
"""Rows of a table in which different values, or classes of one row, mean nothing."""
SOME = 2_000
"""Different texts of a column that tell what it holds."""
MANY = 200_000
"""Different texts of a column that are looked at."""
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))
"""What `str.strip` takes away; DuckDB's trim takes spaces alone if it is told nothing."""
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
            "UHUGEINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
_TEXT = ("VARCHAR", "ENUM", "UUID", "BOOLEAN")
_PARTS = {"days": "epoch({})/86400", "year": "year({})", "month": "month({})", "weekday": "isodow({})",
          "hour": "hour({0})+minute({0})/60"}  # fmt: skip
_LARGEST_FLOAT32 = 3e38
_TYPES = {"i1": "TINYINT", "u1": "UTINYINT", "i2": "SMALLINT", "u2": "USMALLINT", "i4": "INTEGER", "u4": "UINTEGER",
          "f4": "FLOAT", "f8": "DOUBLE"}  # fmt: skip
"""SQL's names of NumPy's types."""
_FIRST_ROWS = 20_000
_SUMMARY_WIDTH = 400
"""Expressions that are summarised at a time."""


@dataclass(frozen=True)
class Summary:
    """Say how many numbers an expression has, the least, the greatest, and whether all are whole.

    `mean`, without its sign, and `deviation` are those of the first rows.
    """

    count: int
    low: float
    high: float
    mean: float = 0.0
    deviation: float = 0.0
    whole: bool = True

    def alike(self, other: "Summary") -> bool:
        """Return whether two expressions may be the same."""
        return (self.count, self.low, self.high) == (other.count, other.low, other.high)

    def dtype(self, n_rows: int, compact: bool) -> str:
        """Return the smallest type that loses nothing, or, of a fraction, less than a millionth of the deviation."""
        if self.whole and self.count == n_rows:
            for bits in (8, 16, 32):
                if -(2 ** (bits - 1)) <= self.low and self.high < 2 ** (bits - 1):
                    return f"i{bits // 8}"
                if self.low >= 0 and self.high < 2**bits:
                    return f"u{bits // 8}"
        largest = max(abs(self.low), abs(self.high))
        if not largest <= _LARGEST_FLOAT32:
            return "f8"
        small = largest <= 1 << 24 if self.whole else compact and self.mean <= 16 * self.deviation
        return "f4" if small or not self.count else "f8"


@dataclass(frozen=True)
class Stored:
    """Say how a column is stored: its name, the SQL of its numbers, their type, and what becomes of codes.

    Attributes
    ----------
    name : str
    sql : str
        Never NULL.
    dtype : str
        Of NumPy.
    categories : tuple of str, optional
        What the numbers of a column of categories mean; one more is a missing one.
    codes : ndarray, optional
        The number to store for each one that the database gives.
    """

    name: str
    sql: str
    dtype: str
    categories: tuple[str, ...] | None = None
    codes: Array | None = None


class Table:
    """A table in the database.

    Parameters
    ----------
    tables : duckdb.DuckDBPyConnection
        Where it is.
    source : str
        Name of the file, for messages.
    names, types : sequence of str
        Of its columns; types are those of SQL.
    kinds : dict of int to Kind
        What the columns that are wanted are taken for; found out here where they are not given.
    missing : frozenset of str
        Texts that mean a missing value, in lower case.
    place : callable
        Returns line, or number, and content of a row.
    where : callable
        Returns the name of the file and the line in it, for messages, of what `place` gives.
    slots : callable, optional
        Returns how many rows the file has and the place of each that is kept, where bad ones are no rows here.
    """

    def __init__(
        self, tables: Any, source: str, names: Sequence[str], types: Sequence[str], kinds: dict[int, Kind], *,
        missing: frozenset[str], place: Callable[[int], tuple[int, str]],
        where: Callable[[int], str], slots: Callable[[Array], tuple[int, Array]] | None = None,
        remarks: Sequence[str] = (),
        decimal: str | None = None, thousands: str | None = None,
    ) -> None:  # fmt: skip
        self.tables, self.source, self.names, self.types, self.kinds = tables, source, names, types, kinds
        self.missing, self._place, self._slots, self._where = missing, place, slots, where
        self.notation = decimal, thousands
        self.notations: dict[str, Kind] = {}
        """How columns were written in the training data."""
        self.remarks, self.bad = list(remarks), list[tuple[int, str, str]]()
        database.plan_simply(tables, len(names))
        self.n_rows = int(database.query(tables, "SELECT count(*) FROM t")[0][0])
        self.keep = np.ones(self.n_rows, bool)
        self._as_they_stand: dict[str, str] = {}
        self._texts: dict[int, dict[str, int]] = {}
        self._summarised: dict[str, Summary] = {}

    def kind(self, i: int) -> Kind:
        """Return what a column is taken for: by its type, a text by what it holds; "" for what is no column of a table.

        Of a table of text this is known before.
        """
        if i not in self.kinds:
            self.kinds[i] = self._kind(i)
        return self.kinds[i]

    def _kind(self, i: int) -> Kind:
        base = self.types[i].split("(")[0]
        if base in _NUMERIC:
            return "number"
        if base.startswith(("DATE", "TIMESTAMP")) and not base.endswith("]"):
            return Dates()
        if base.startswith("TIME") and not base.endswith("]"):
            return Dates(clock=True)
        if base not in _TEXT or self.types[i].endswith("]"):
            return ""
        if base != "VARCHAR":
            return "text"
        texts = [text for text in self.some(i) if not is_missing(text, self.missing)]
        return kind_of(texts, *self.notation) if texts else "number"

    def some(self, i: int) -> list[str]:
        """Return some different texts of a column."""
        return database.some(self.tables, i, SOME)

    def texts(self, i: int) -> dict[str, int]:
        """Return the different texts of a column and how often each occurs, as they stand; at most `MANY`."""
        if i not in self._texts:
            self._texts[i] = database.distinct(self.tables, i, MANY)
        return self._texts[i]

    def number(self, i: int, kind: Kind | None = None) -> str:
        """Return the SQL of the numbers of a column, NULL where there is none."""
        kind = self.kind(i) if kind is None else kind
        if self.types[i] != "VARCHAR":
            sql = f"nullif(c{i}::DOUBLE, 'nan'::DOUBLE)"
            self._as_they_stand[sql] = f"c{i}"
            return sql
        text = _trimmed(i)
        if isinstance(kind, Dress):
            if kind.thousands:
                text = f"replace({text}, {quoted(kind.thousands)}, '')"
            text = f"replace({text}, '\u2212', '-')"
            bare = f"regexp_replace({text}, '-$|[^0-9.,+-]', '', 'g')"
            number = f"try_cast(replace({bare}, {quoted(kind.decimal)}, '.') AS DOUBLE)"
            negative = f"starts_with({text}, '(') OR ends_with({text}, '-')"  # as accountants write it
            return f"CASE WHEN {negative} THEN -{number} ELSE {number} END"
        return f"nullif(try_cast({text} AS DOUBLE), 'nan'::DOUBLE)"

    def stored(self, name: str, sql: str, dtype: str) -> Stored:
        """Return how numbers are stored."""
        cast = f"({sql})::{_TYPES[dtype]}"
        return Stored(name, cast if dtype[0] in "iu" else f"coalesce({cast}, 'nan'::{_TYPES[dtype]})", dtype)

    def dates(self, i: int, kind: Dates) -> dict[str, str]:
        """Return the SQL of the numbers that a network gets of a date, by their names."""
        instant = f"c{i}::TIMESTAMP"
        if self.types[i] == "VARCHAR":
            text = _trimmed(i)
            formats = "[" + ", ".join(map(quoted, kind.formats)) + "]"
            instant = f"try_strptime({text}, {formats})" if kind.formats else f"try_cast({text} AS TIMESTAMPTZ)"
        elif kind.clock:
            instant = f"c{i}::TIME"
        return {part: f"({_PARTS[part].format(instant)})::DOUBLE" for part in kind.features}

    def summaries(self, expressions: Sequence[str]) -> list[Summary]:
        """Summarise the numbers of expressions: those of all rows, but their deviation from the first rows alone."""
        new = [sql for sql in expressions if sql not in self._summarised]
        for lo in range(0, len(new), _SUMMARY_WIDTH):
            some = new[lo : lo + _SUMMARY_WIDTH]
            self._summarised |= zip(some, self._summaries(some), strict=True)
        return [self._summarised[sql] for sql in expressions]

    def _summaries(self, expressions: Sequence[str]) -> list[Summary]:
        n = len(expressions)
        if not n:
            return []
        finite = ", ".join(f"CASE WHEN isfinite({sql}) THEN {sql} END AS v{k}" for k, sql in enumerate(expressions))
        asked = ", ".join(f"avg(v{k}), stddev_pop(v{k}), bool_and(v{k} = trunc(v{k}))" for k in range(n))
        (first,) = database.query(self.tables, f"SELECT {asked} FROM (SELECT {finite} FROM t LIMIT {_FIRST_ROWS})")
        # numbers of a file may be summarised there: as they stand, with NaN, which no whole number is
        fraction = [first[3 * k + 2] is False and sql in self._as_they_stand for k, sql in enumerate(expressions)]
        chosen = [self._as_they_stand[sql] if fraction[k] else sql for k, sql in enumerate(expressions)]
        within = ", ".join(f"{sql} AS v{k}" for k, sql in enumerate(chosen))
        whole = [f", bool_and(v{k} = trunc(v{k}))" if first[3 * k + 2] is not False else ", false" for k in range(n)]
        asked = ", ".join(f"count(v{k}), min(v{k}), max(v{k}){whole[k]}" for k in range(n))
        (row,) = database.query(self.tables, f"SELECT {asked} FROM (SELECT {within} FROM t)")
        found = []
        for k in range(n):
            count, low, high, is_whole = row[4 * k : 4 * k + 4]
            low, high = float(low or 0.0), float(high or 0.0)
            is_whole = is_whole is not False and math.isfinite(low) and math.isfinite(high)
            found.append(Summary(count, low, high, abs(first[3 * k] or 0.0), first[3 * k + 1] or 0.0, is_whole))
        return found

    def holes(self, i: int) -> str:
        """Return the SQL of whether a column has no value."""
        if self.types[i] not in ("VARCHAR", "DOUBLE", "FLOAT"):
            return f"c{i} IS NULL"
        words = ", ".join(map(quoted, sorted(self.missing | ({"nan"} if self.types[i] != "VARCHAR" else set()))))
        return f"(c{i} IS NULL OR lower({_trimmed(i)}) IN ({words}))"

    def numeric(self, i: int, sql: str, summary: Summary, what: str = "numeric") -> None:
        """Let the rows be bad whose text is not what the column is taken for; `sql` gives NULL for them."""
        if summary.count < self.n_rows and self.types[i] == "VARCHAR":
            wrong = database.flags(self.tables, f"({sql}) IS NULL AND NOT {self.holes(i)}")
            self.drop(wrong, f"column {self.names[i]!r} is {what}")

    def drop(self, wrong: Array, why: str) -> None:
        """Let some rows be bad."""
        new = np.flatnonzero(wrong & self.keep)
        self.keep[new] = False
        if len(new):
            line, text = self._place(int(new[0]))
            self.bad += [(line, why, text), *[(1 << 62, why, "")] * (len(new) - 1)]

    def settle(self, bad_rows: str) -> str:
        """Raise the first bad row as an error, or return a remark that counts them all."""
        found = ""
        if self.bad:
            line, why, text = min(self.bad)
            first = f"{self._where(line)}: {why}: {text if len(text) <= 60 else text[:57] + '...'!r}"
            if bad_rows != "skip":
                raise UserError(f"{first}; {self._cure(why, text)}")
            found = (
                f"{self.source}: dropped {len(self.bad)} bad rows, the first {first.removeprefix(self.source + ', ')}"
            )
        if not self.keep.any():
            raise UserError(f"{self.source}: no rows")
        return found

    def _cure(self, why: str, text: str) -> str:
        mixed = ",".join(name for name in self.names if any(f"column {name!r} is" in why for _, why, _ in self.bad))
        cure = "mend the line, or drop such rows with --bad-rows skip"
        if mixed:
            cure += f"; where they are no numbers: --categorical {mixed}, or --ignore {mixed}"
        if why.endswith("is missing") and text and not text.endswith((",", ";", "\t", "|")):
            cure += "; where that text is a class: --missing ''"
        return cure

    def slots(self) -> tuple[int, Array]:
        """Return how many rows the file has, bad ones with them, and the place of each good one."""
        return self._slots(self.keep) if self._slots else (self.n_rows, np.flatnonzero(self.keep))

    def coded(self, i: int, numbers: Mapping[str, int], default: int) -> tuple[str, Array, str]:
        """Return SQL, codes and type that give each text of a column its number, `default` where it has none."""
        texts = list(numbers)
        codes = np.array([default, *(numbers[text] for text in texts)])
        low, high = int(codes.min()), int(codes.max())
        dtype = Summary(1, low, high).dtype(1, True)
        return database.code_of(self.tables, i, texts), codes.astype(dtype), dtype


def _trimmed(i: int) -> str:
    """Return the SQL of the text of a column without blanks around it."""
    return f"trim(c{i}::VARCHAR, {quoted(_BLANKS)})"
