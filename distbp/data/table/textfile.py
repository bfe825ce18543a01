"""A table of text as a file: its lines, its records, and where they stand."""

import bz2
import codecs
import csv
import gzip
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.table.database import MAX_LINE, Reject
from distbp.data.table.layout import Layout, not_in, parts_of
from distbp.errors import UserError

Array = NDArray[Any]

_HEAD = 1 << 20
"""Bytes that are looked at to find out what the columns are."""
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BLANK = re.compile(rb"\n\r?(?=\n)")
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


def opened(path: Path, mode: str, **more: Any) -> Any:
    """Open a file, compressed or not."""
    return _OPENERS.get(path.suffix.lower(), open)(path, mode, **more)


def head_of(path: Path) -> bytes:
    """Return the beginning of a file, in whole lines."""
    try:
        with opened(path, "rb") as stream:
            head: bytes = stream.read(_HEAD + 1)
    except _DAMAGED as error:
        raise UserError(f"{path}: not a whole table of text: {error}") from error
    if len(head) <= _HEAD:
        return head
    return head[: max(head.rfind(b"\n"), head.rfind(b"\r")) + 1 or _HEAD]


def decode(head: bytes, encoding: str, source: str) -> str:
    """Return the text of the beginning of a file."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError as error:
        raise not_in(encoding, source, 1 + head[: error.start].count(b"\n"), head[error.start]) from None


@dataclass
class TextFile:
    """A table of text: where it is, how it is laid out, and what its parts that are no rows are."""

    path: Path
    layout: Layout
    quote: str = '"'
    clean: Path | None = None
    """The copy that was read in its place, line for line."""
    rejects: list[Reject] = field(default_factory=list)
    more: tuple[tuple[Path, Layout], ...] = ()
    """Files whose rows follow."""

    def text(self, newline: str | None = "") -> Iterator[str]:
        """Yield its lines, their ends as they are, or with None all alike; then those of the rows that follow."""
        yield from _lines(self.path, self.layout, newline, 0, bool(self.more))
        for path, layout in self.more:
            yield from _lines(path, layout, newline, layout.skipped, True)

    def where(self, line: int) -> str:
        """Return the name of the file and the line in it, of a line of all."""
        path, above = self.path, 0
        for after, layout in self.more:
            with opened(path, "rb") as stream:
                n = sum(1 for _ in stream) - above
            if line <= n:
                break
            path, above, line = after, layout.skipped, line - n
        return f"{path.name}, line {line + above}"

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield (line, fields) of each record below the header, also of bad ones, as the standard library has it."""
        lines, first = self.text(), self.layout.skipped
        for _ in range(first):
            next(lines, None)
        if self.layout.delimiter == " ":
            yield from ((first + i, parts_of(line)) for i, line in enumerate(lines, 1) if line.strip())
            return
        quoting: Any = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))  # of the process, as the library has it
        reader = csv.reader(lines, delimiter=self.layout.delimiter, quoting=quoting, skipinitialspace=True)
        start = 0
        for fields in reader:
            if fields and (len(fields) > 1 or fields[0].strip(" ")):
                yield first + start + 1, fields
            start = reader.line_num

    @cached_property
    def bad_lines(self) -> dict[int, Reject]:
        """The lines in which rejects begin."""
        return {line: reject for line, _, reject in self.bad}

    @cached_property
    def bad(self) -> list[tuple[int, int, Reject]]:
        """The line in which each record that is rejected begins, the blank lines among the rows before it, and it."""
        if not self.rejects:
            return []
        found: list[tuple[int, int, Reject]] = []
        wanted = sorted(self.rejects, key=lambda reject: (reject.byte, reject.why == "CAST"))
        blanks = set[int]()
        line, blank, end = self.layout.skipped + 1, 0, b"\n"
        with opened(self.clean or self.path, "rb") as stream:
            byte = sum(len(stream.readline()) for _ in range(self.layout.skipped))
            for reject in wanted:
                while byte < reject.byte and (part := stream.read(min(1 << 20, reject.byte - byte))):
                    byte, line = byte + len(part), line + part.count(b"\n")
                    blank += len(_BLANK.findall(end + part))
                    end = part[-1:]
                if not reject.text.strip(" \r\n"):  # spaces alone are no row
                    blanks.add(reject.byte)
                    continue
                if not found or found[-1][2].byte != reject.byte:
                    found.append((line, blank + len(blanks), reject))
        return found

    def place(self, row: int) -> tuple[int, str]:
        """Return line and content of a row."""
        good = ((line, fields) for line, fields in self.records() if line not in self.bad_lines)
        for k, (line, fields) in enumerate(good):
            if k == row:
                return line, self.layout.delimiter.join(fields)
        return self.layout.skipped + 1 + row, ""

    def slots(self, keep: Array) -> tuple[int, Array]:
        """Return how many rows the file has, bad ones with them, and the place among them of each row to keep."""
        above = self.layout.skipped + 1
        before = [r.number - above - blank - k for k, (_, blank, r) in enumerate(self.bad)]
        rows = np.arange(len(keep))
        places = rows + np.searchsorted(np.maximum.accumulate(before), rows, side="right") if before else rows
        return len(keep) + len(before), places[keep]


def _ended(line: str) -> str:
    """Return a line with its end, which the last one of a file may lack."""
    return line if line[-1:] in ("\n", "\r") else line + "\n"


def _lines(path: Path, layout: Layout, newline: str | None, skipped: int, ended: bool) -> Iterator[str]:
    """Yield the lines of a file behind the first ones, each with its end where that is wanted."""
    n = 0
    try:
        with opened(path, "rt", encoding=layout.encoding, newline=newline) as stream:
            for n, line in enumerate(stream, 1):
                if n > skipped:
                    yield _ended(line) if ended else line
    except UnicodeDecodeError as error:
        raise not_in(layout.encoding, path.name, n + 1) from error
    except _DAMAGED as error:
        raise UserError(f"{path}: not a whole table of text: {error}") from error
