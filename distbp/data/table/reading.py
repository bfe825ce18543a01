"""What is known of a table of text from its beginning, and how it is to be read."""

import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from distbp.data.table.dates import Dates, dates_of
from distbp.data.table.formats import TableOptions
from distbp.data.table.kinds import MISSING, Dress, Kind, is_missing, kind_of
from distbp.data.table.layout import Layout, encoding_of, find_layout, parts_of, records_of
from distbp.data.table.textfile import TextFile, decode, head_of
from distbp.errors import UserError

_ROWS = 2000
"""Rows that tell what a column is, until others disagree."""


class Reading:
    """The state of reading one table: what its columns are taken for, until all rows agree."""

    def __init__(self, path: Path, options: TableOptions, target: str | None, names: tuple[str, ...]) -> None:
        self.path, self.source, self.options = path, path.name, options
        head = head_of(path)
        encoding = encoding_of(head, options.encoding)
        text = decode(head, encoding, self.source)
        prefer = "\t" if re.search(r"\.(tsv|tab)(\.\w+)?$", path.name, re.I) else ""
        self.layout = find_layout(
            text, self.source, encoding, delimiter=options.delimiter, header=options.header, target=target,
            known=names, prefer=prefer,
        )  # fmt: skip
        self.remarks = list(self.layout.remarks)
        self.more: tuple[tuple[Path, Layout], ...] = ()
        self.missing = MISSING if options.missing is None else spellings(options.missing)
        lines = re.split(r"\r\n|\n|\r", text)[self.layout.skipped :]
        records = (fields for _, fields in records_of(lines, self.layout.delimiter) if fields)
        rows = list(itertools.islice(records, _ROWS))
        self.sample = [[row[i] for row in rows if i < len(row)] for i in range(len(self.layout.names))]

    def append(self, others: Sequence[Path]) -> None:
        """Let the rows of other files follow, which have the same columns."""
        found = []
        for path in others:
            layout = Reading(path, self.options, None, self.layout.names).layout
            if layout.names != self.layout.names and layout.header:
                raise UserError(
                    f"{path}: other columns than {self.path.name}: {_differences(layout.names, self.layout.names)}"
                )
            if len(layout.names) != len(self.layout.names):
                raise UserError(
                    f"{path}: {len(layout.names)} columns where {self.path.name} has {len(self.layout.names)}"
                )
            found.append((path, layout))
        self.more = tuple(found)
        self.source = f"{self.path.name} and {len(found)} more" if found else self.source

    def texts(self, i: int) -> list[str]:
        """Return the texts of a column in the first lines that are there."""
        return [text for text in self.sample[i] if not is_missing(text, self.missing)]

    def kind(self, i: int) -> Kind:
        """Return what a column is taken for: where its texts can be read in two ways, as others of the file."""
        kind = self._kinds[i]
        if isinstance(kind, Dates) and kind.formats and self._day_first:
            return dates_of([text.strip() for text in self.texts(i)], month_first=False) or kind
        if self.options.decimal is None and self._decimal_comma and (kind == "number" or isinstance(kind, Dress)):
            texts = self.texts(i)
            other = kind_of(texts, ",", self.options.thousands)
            return other if isinstance(other, Dress) and any(not text.strip().isdigit() for text in texts) else kind
        return kind

    @cached_property
    def _kinds(self) -> list[Kind]:
        """What the columns are taken for, each by itself."""
        options = self.options
        return [kind_of(self.texts(i), options.decimal, options.thousands) for i in range(len(self.sample))]

    @cached_property
    def _decimal_comma(self) -> bool:
        """Whether some numbers of the file can only have a decimal comma."""
        return any(isinstance(kind, Dress) and kind.decimal == "," for kind in self._kinds)

    @cached_property
    def _day_first(self) -> bool:
        """Whether some dates of the file can only have the day first, with a slash."""
        return any(
            isinstance(kind, Dates) and kind.formats and kind.formats[-1].startswith("%d/") for kind in self._kinds
        )

    def unnamed(self) -> set[int]:
        """Return columns without a name that hold nothing, as behind a last separator, or count the rows."""
        found = set()
        for i, name in enumerate(self.layout.names if self.layout.header else ()):
            if name != str(i) or name in self.layout.header:
                continue
            texts = self.texts(i)
            counts = [int(text) for text in texts if text.strip().isdigit()]
            if not texts:
                found.add(i)
            elif len(counts) == len(texts) and (np.all(np.diff(counts) == 1) or len(set(counts)) == len(counts) >= 20):
                found.add(i)
                self.remarks.append(f"{self.source}: left out: column {i}, which has no name and numbers the rows")
        return found

    @property
    def is_foreign(self) -> bool:
        """Return whether the library cannot read the file as it is."""
        if self.more or self.layout.folded:
            return True
        ours = self.layout.encoding.startswith("utf-8") and self.path.suffix.lower() not in (".bz2", ".xz")
        return not ours or self.layout.delimiter == " "

    @contextlib.contextmanager
    def clean(self, copied: bool) -> Iterator[Path]:
        """Give the file, or a copy in UTF-8 with one separator and one end of lines, line for line as this one.

        What stands above the rows is left empty: a quote that opens there does not reach into them.
        """
        if not copied:
            yield self.path
            return
        with TemporaryDirectory(prefix="distbp-") as folder:
            copy = Path(folder) / "table.csv"
            with open(copy, "w", encoding="utf-8", newline="") as out:
                for n, line in enumerate(TextFile(self.path, self.layout, more=self.more).text(newline=None)):
                    spaced = self.layout.delimiter == " "
                    line = self.layout.separator.join(parts_of(line)) + "\n" if spaced else line
                    out.write("-\n" if n < self.layout.skipped else line)
            yield copy


def spellings(missing: str) -> frozenset[str]:
    """Return the texts that mean a missing value, of a list with commas between."""
    return frozenset({"", *(word.strip().lower() for word in missing.split(","))})


def _differences(here: Sequence[str], there: Sequence[str]) -> str:
    more, fewer = sorted(set(here) - set(there)), sorted(set(there) - set(here))
    parts = [f"{word} {', '.join(names[:5])}" for word, names in (("with", more), ("without", fewer)) if names]
    return ", ".join(parts) or "in another order"
