"""The columns of a table of text: read again until what they are taken for agrees with the rows, then made numbers."""

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data import database
from distbp.data.database import Reject
from distbp.data.dataset import MAX_CLASSES, ArrayDataset, Column, Target, infer_target
from distbp.data.kinds import Dress, is_missing, kind_of
from distbp.data.layout import not_in
from distbp.data.reading import Reading
from distbp.data.textfile import Lines, TextFile
from distbp.errors import UserError

Array = NDArray[Any]

_MAX_CATEGORIES = 1000


class Table:
    """A table in the database: read again until what its columns are taken for agrees with most of its rows."""

    def __init__(
        self, reading: Reading, clean: Path, tables: Any, kinds: dict[int, str | Dress], blank_target: bool
    ) -> None:
        self.reading, self.tables, self.kinds, self.blank_target = reading, tables, kinds, blank_target
        self.layout, self.names, self.source = reading.layout, reading.layout.names, reading.source
        self.missing = sorted(reading.missing)
        self.file = TextFile(reading.path, self.layout, clean=clean)
        self.remarks, self.bad = list(reading.remarks), list[tuple[int, str, str]]()
        spellings = {"", *(text for i in kinds for text in reading.sample[i] if is_missing(text, reading.missing))}
        for _ in range(4):
            self._read(clean, sorted(spellings))
            if not self._learn(spellings):
                break
        self.n_rows = database.n_rows(tables)
        self.keep = np.ones(self.n_rows, bool)
        self._drop(np.isin(np.arange(self.n_rows), self.swallowing), "a quote opens here and closes in another row")
        for line, reject in self.file.bad_lines.items():
            self.bad.append((line, self._why(line, reject), reject.text.rstrip("\r\n")))

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
            if all(reject.why == "CAST" for reject in plain):
                self.file, self.swallowing = replace(file, quote="", rejects=plain), []
                self.remarks.append(f"{self.source}: quotes are taken as part of the text: some do not end")
            else:
                self.file = replace(file, rejects=attempt(file.quote))

    def _swallowing(self) -> list[int]:
        """Return rows with a text whose lines would be whole rows: a quote opens in one and closes in another."""
        delimiter, last = self.layout.delimiter, len(self.names) - 1
        found = []
        for i in (i for i in range(len(self.names)) if self.kinds.get(i) != "number"):
            for row, text in database.texts_of_lines(self.tables, i, delimiter):
                first, *between, end = (line.count(delimiter) for line in text.splitlines())
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
        total = database.n_rows(self.tables) + len({reject.byte for reject in self.file.rejects})
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

    def _drop(self, wrong: Array, why: str) -> None:
        """Let some rows be bad."""
        new = np.flatnonzero(wrong & self.keep)
        self.keep[new] = False
        if len(new):
            line, text = self.file.place(int(new[0]))
            self.bad += [(line, why, text), *[(1 << 62, why, "")] * (len(new) - 1)]

    def _settle(self) -> None:
        """Raise the first bad row as an error, or count them all in a remark."""
        if not self.bad:
            return
        line, why, text = min(self.bad)
        first = f"line {line}: {why}: {text if len(text) <= 60 else text[:57] + '...'!r}"
        if self.reading.options.bad_rows == "skip":
            self.remarks.append(f"{self.source}: dropped {len(self.bad)} bad rows, the first {first}")
            return
        numeric = {name for name in self.names if any(f"{name!r} is numeric" in why for _, why, _ in self.bad)}
        cure = "mend the line, or drop such rows with --bad-rows skip"
        if numeric:
            mixed = ",".join(name for name in self.names if name in numeric)
            cure += f"; where they are no numbers: --categorical {mixed}, or --ignore {mixed}"
        if why.endswith("is missing") and text and not text.endswith(self.layout.delimiter):
            cure += "; where that text is a class: --missing ''"
        raise UserError(f"{self.source}, {first}; {cure}")

    def arrays(
        self, inputs: list[int], targets: list[int], weights: list[int], known: dict[str, Column], task: str,
        like: Target | None,
    ) -> tuple[ArrayDataset, list[str]]:  # fmt: skip
        """Return the data set of the good rows, and all remarks."""
        if any(self.kinds[i] == "text" for i in weights):
            raise UserError(f"{self.source}: the sample weights in {self.names[weights[0]]!r} are text")
        number = [i for i in [*inputs, *weights] if self.kinds[i] != "text"]
        values = dict(zip(number, database.numbers(self.tables, [self._number(i) for i in number]).T, strict=True))
        for i in number:
            if isinstance(self.kinds[i], Dress):
                self._drop(np.isnan(values[i]) & ~self._holes(i), f"column {self.names[i]!r} is numeric")
                self.remarks.append(f"{self.source}: the numbers of {self.names[i]!r} have {self.kinds[i]}")
        for i in () if self.blank_target else targets:
            self._drop(self._holes(i), f"the target {self.names[i]!r} is missing")
        y = self._target(targets, task) if targets else None
        self._settle()
        if not self.keep.any():
            raise UserError(f"{self.source}: no rows")
        columns, out = list[Column](), list[Array]()
        for i in inputs:
            found = (Column(self.names[i]), values[i]) if i in values else self._category(i, known.get(self.names[i]))
            if found is not None:
                columns.append(found[0])
                out.append(found[1][self.keep])
        if not columns:
            raise UserError(f"{self.source}: no input column is left beside the target")
        meaning, classes = None, None
        if y is not None:
            y = y[self.keep]
            meaning, classes = infer_target(y, tuple(self.names[i] for i in targets), self.source, task=task, like=like)
        w = values[weights[0]][self.keep] if weights else None
        lines: Any = Lines(self.file, np.flatnonzero(self.keep))
        dataset = ArrayDataset(
            np.stack(out, axis=1), y, meaning, classes, weights=w, columns=tuple(columns), lines=lines,
            source=self.source,
        )  # fmt: skip
        if self.bad:
            dataset.slots = self._slots()
        return dataset, self.remarks

    def _slots(self) -> tuple[int, Array]:
        """Return how many rows the file has, bad ones with them, and the place of each good one."""
        bad = self.file.bad_lines
        within = {start + k for start, reject in bad.items() for k in range(1, reject.lines)}
        good = np.array([line not in bad for line, _ in self.file.records() if line not in within])
        return len(good), np.flatnonzero(good)[self.keep]

    def _number(self, i: int) -> str:
        dress = self.kinds[i]
        return database.number_in(i, dress, self.missing) if isinstance(dress, Dress) else f"c{i}"

    def _holes(self, i: int) -> Array:
        return database.flags(self.tables, f"{database.value_of(i, self.missing)} IS NULL")

    def _category(self, i: int, known: Column | None) -> tuple[Column, Array] | None:
        """Return a column of categories; None for one that has too many."""
        expression = database.value_of(i, self.missing)
        counts = dict(database.categories(self.tables, expression))
        texts = list(known.categories or ()) if known else sorted(counts)
        if known is None and len(texts) > _MAX_CATEGORIES:
            many = "a different text in every row" if len(texts) == self.n_rows else f"{len(texts):,} different texts"
            self.remarks.append(f"{self.source}: left out: {self.names[i]} ({many})")
            return None
        if unseen := [text for text in counts if text not in set(texts)]:
            rows = sum(counts[text] for text in unseen)
            few = ", ".join(map(repr, unseen[:3])) + " ..." * (len(unseen) > 3)
            what = f"{len(unseen)} of {len(counts)} values ({few}; {rows} rows) were not in the training data"
            self.remarks.append(f"{self.source}: column {self.names[i]!r}: {what}")
        codes = database.codes(self.tables, expression, texts).astype(np.float64)
        codes[codes < 0] = np.nan
        return Column(self.names[i], tuple(texts)), codes

    def _target(self, targets: list[int], task: str) -> Array:
        """Return the raw target: texts, or numbers where all are."""
        parts = []
        for i in targets:
            expression = database.value_of(i, self.missing)
            texts = [text for text, _ in database.categories(self.tables, expression)]
            kind = kind_of(texts, self.reading.options.decimal, self.reading.options.thousands) if texts else "number"
            if isinstance(kind, Dress):
                self.kinds[i] = kind
                self.remarks.append(f"{self.source}: the numbers of {self.names[i]!r} have {kind}")
                parts.append(database.numbers(self.tables, [self._number(i)])[:, 0])
            elif kind == "number" and task != "classification" and not _too_large(texts):
                parts.append(database.numbers(self.tables, [f"try_cast({expression} AS DOUBLE)"])[:, 0])
                self._drop(np.isnan(parts[-1]) & ~self._holes(i), f"column {self.names[i]!r} is numeric")
            else:
                codes = database.codes(self.tables, expression, texts)
                parts.append(np.array([*texts, ""])[codes])
        return parts[0] if len(parts) == 1 else np.stack(parts, axis=1)


def _too_large(texts: Sequence[str]) -> bool:
    """Return whether a few whole numbers, as of classes, are too large to be told apart as float64."""
    return len(texts) <= MAX_CLASSES and any(text.isdigit() and int(text) >= 1 << 53 for text in texts)
