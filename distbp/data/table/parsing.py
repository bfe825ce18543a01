"""Reading a table of text: again, until what its columns are taken for agrees with its rows."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distbp.data.table import database
from distbp.data.table.columns import Table
from distbp.data.table.database import Reject
from distbp.data.table.kinds import Kind, is_missing
from distbp.data.table.layout import not_in
from distbp.data.table.reading import Reading
from distbp.data.table.textfile import TextFile
from distbp.errors import UserError


class TextReader:
    """Read a table of text into the database, with what most of its rows say of the columns."""

    def __init__(self, reading: Reading, clean: Path, tables: Any, kinds: dict[int, Kind]) -> None:
        self.reading, self.tables, self.kinds = reading, tables, kinds
        self.layout, self.names, self.source = reading.layout, reading.layout.names, reading.source
        self.file, self.remarks = (
            TextFile(reading.path, self.layout, clean=clean, more=reading.more),
            list(reading.remarks),
        )
        spellings = {"", *(text for i in kinds for text in reading.sample[i] if is_missing(text, reading.missing))}
        for _ in range(4):
            self._read(clean, sorted(spellings))
            if not self._learn(spellings):
                break

    def table(self) -> Table:
        """Return the table, with the rows that are bad for the reader."""
        numeric = ["DOUBLE" if self.kinds.get(i) == "number" else "VARCHAR" for i in range(len(self.names))]
        table = Table(
            self.tables, self.source, self.names, numeric, self.kinds, missing=self.reading.missing,
            place=self.file.place, where=self.file.where, slots=self.file.slots, remarks=self.remarks,
            decimal=self.reading.options.decimal, thousands=self.reading.options.thousands,
        )  # fmt: skip
        table.drop(np.isin(np.arange(table.n_rows), self.swallowing), "a quote opens here and closes in another row")
        for line, _, reject in self.file.bad:
            table.bad.append((line, self._why(line, reject), reject.text.rstrip("\r\n")))
        return table

    def _read(self, clean: Path, spellings: Sequence[str]) -> None:
        def attempt(quote: str) -> list[Reject]:
            return database.read_text(
                self.tables, clean, delimiter=self.layout.separator,
                quote=quote, skipped=self.layout.skipped, missing=spellings,
                numeric=[self.kinds.get(i) == "number" for i in range(len(self.names))],
            )  # fmt: skip

        file = self.file = replace(self.file, rejects=attempt(self.file.quote))
        self.swallowing = self._swallowing() if file.quote else []
        if file.quote and (self.swallowing or any(reject.why == "UNQUOTED VALUE" for reject in file.rejects)):
            # quotes that part nothing, as for inches: without them all is well, or they were quotes after all
            plain = attempt("")
            if all(reject.why == "CAST" for reject in plain) and self._quoted(plain) <= _records(file.rejects):
                self.file, self.swallowing = replace(file, quote="", rejects=plain), []
                self.remarks.append(f"{self.source}: quotes are taken as part of the text: some do not end")
            else:
                self.file = replace(file, rejects=attempt(file.quote))
                self._refuse_lost_places()

    def _refuse_lost_places(self) -> None:
        """Refuse a line with several texts behind closing quotes: the library begins a row within it."""
        lines = Counter(reject.number for reject in self.file.rejects if reject.why == "UNQUOTED VALUE")
        if line := next((line for line, n in lines.items() if n > 1), 0):
            raise UserError(
                f"{self.source}, line {line}: texts go on behind closing quotes; mend the line, or remove it"
            )

    def _quoted(self, rejects: Sequence[Reject]) -> int:
        """Count rows with a text within quotes, where these are read as text, and those that are no rows then."""
        quoted = [f"c{i} LIKE '\"%\"'" for i in range(len(self.names)) if self.kinds.get(i) != "number"]
        if not quoted:
            return _records(rejects)
        found = database.query(self.tables, f"SELECT count(*) FROM t WHERE {' OR '.join(quoted)}")
        return _records(rejects) + int(found[0][0])

    def _swallowing(self) -> list[int]:
        """Return rows with a text whose lines would be whole rows: a quote opens in one and closes in another."""
        delimiter, last = self.layout.delimiter, len(self.names) - 1
        found = []
        for i in (i for i in range(len(self.names)) if self.kinds.get(i) != "number"):
            for row, text in database.texts_of_lines(self.tables, i, delimiter):
                first, *between, end = (line.count(delimiter) for line in text.split("\n"))
                if first == last - i and end == i and all(n == last for n in between):
                    found.append(row)
        return found

    def _learn(self, spellings: set[str]) -> bool:
        """Learn from texts in numeric columns: spellings of a missing value, or that a column is text; return if so."""
        failed: dict[int, list[str]] = {}
        for reject in self.file.rejects:
            if reject.why == "CAST" and reject.column is not None:
                fields = self._fields(reject)
                failed.setdefault(reject.column, []).append(
                    fields[reject.column] if reject.column < len(fields) else ""
                )
        new = {
            text for texts in failed.values() for text in texts if is_missing(text, self.reading.missing)
        } - spellings
        spellings |= new
        total = int(database.query(self.tables, "SELECT count(*) FROM t")[0][0]) + len(
            {reject.byte for reject in self.file.rejects}
        )
        texts = [i for i, bad in failed.items() if 2 * len(bad) > total]
        self.kinds |= dict.fromkeys(texts, "text")
        return bool(new or texts)

    def _fields(self, reject: Reject) -> list[str]:
        text = reject.text.rstrip("\r\n")
        try:
            return next(csv.reader([text], delimiter=self.layout.separator), [])
        except csv.Error:
            return [text]

    def _why(self, line: int, reject: Reject) -> str:
        """Say why a part of the file is no row; another encoding is an error in any case."""
        if reject.why == "INVALID ENCODING":
            raise not_in(self.layout.encoding, self.source, line)
        if reject.why == "CAST" and reject.column is not None:
            return f"column {self.names[reject.column]!r} is numeric"
        if reject.why == "UNQUOTED VALUE":
            return "a quote opens here that does not end" + f" within {reject.lines} lines" * (reject.lines > 1)
        if reject.why == "LINE SIZE OVER MAXIMUM":
            return "more than 16 MB in a line"
        return f"{len(self._fields(reject))} fields where the header has {len(self.names)}"


def _records(rejects: Sequence[Reject]) -> int:
    return len({reject.byte for reject in rejects})
