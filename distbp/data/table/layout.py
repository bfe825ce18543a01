"""How a table of text is laid out: encoding, lines above the header, separator, quotes, and the names of the columns.

What is found comes from the first lines. Whoever knows better says so: ``--encoding``, ``--delimiter``, ``--header``.
"""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from distbp.data.table.kinds import is_missing
from distbp.errors import UserError

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
"""Names of the usual separators; ``space`` is any run of spaces and tabs."""
_PREFERRED = "\t;|, "  # a decimal comma lies within fields that semicolons part, and a space within a text
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_DAMAGED = 0.15
"""Part of the lines that may be damaged, where several separators part most lines alike."""
_LINES = 200
"""Lines that are looked at."""
_TITLES = 20
"""Lines above the header at most."""


@dataclass(frozen=True)
class Layout:
    """Describe a table of text.

    Attributes
    ----------
    encoding : str
        In Python's words.
    delimiter : str
        Of fields; a space stands for any run of spaces and tabs.
    header : tuple of str
        The names as they stand in the first line; empty where it is a row.
    names : tuple of str
        Of the columns; the number, from 0, of one that has none.
    skipped : int
        Lines above the first row.
    folded : bool
        Whether one of them goes on in the next one, within quotes.
    remarks : list of str
        What the user may want to know.
    """

    encoding: str
    delimiter: str
    header: tuple[str, ...]
    names: tuple[str, ...]
    skipped: int
    folded: bool
    remarks: list[str] = field(default_factory=list)

    @property
    def separator(self) -> str:
        """Return what stands between fields where the library reads them."""
        return "\t" if self.delimiter == " " else self.delimiter


def encoding_of(head: bytes, wanted: str | None = None) -> str:
    """Return the encoding of a file that begins with `head`: the one wanted, that of its byte-order mark, or UTF-8."""
    if wanted:
        try:
            found = codecs.lookup(wanted).name
        except LookupError:
            raise UserError(f"--encoding {wanted}: Python knows no such encoding; try utf-8, cp1252, utf-16") from None
        return "utf-8-sig" if found == "utf-8" else found
    return next((name for mark, name in _BOMS if head.startswith(mark)), "utf-8-sig")


def not_in(encoding: str, source: str, line: int, byte: int | None = None) -> UserError:
    """Return the error of a byte that the encoding does not have."""
    other = "cp1252" if encoding.startswith("utf-8") else "utf-8"
    text = f"line {line} is not in {encoding.removesuffix('-sig').upper()}"
    text += "" if byte is None else f" (byte 0x{byte:02x})"
    return UserError(f"{source}, {text}: say which it is, e.g. --encoding {other}")


def find_layout(
    head: str, source: str, encoding: str = "utf-8", *, delimiter: str | None = None, header: str = "auto",
    target: str | None = None, known: Sequence[str] = (), prefer: str = "",
) -> Layout:  # fmt: skip
    """Find out how a table is laid out from its first lines.

    Parameters
    ----------
    head : str
        Whole lines from the beginning of the file.
    source : str
        Name of the file, for messages.
    encoding : str
        Passed on.
    delimiter : str, optional
        The separator, or its name in `DELIMITERS`; else the one that parts most lines alike.
    header : {"auto", "yes", "no"}
        Whether the first line holds names.
    target : str, optional
        Names of target columns: a first line that has them all is a header.
    known : sequence of str
        Names that a header is expected to have.
    prefer : str
        A separator that the file's name speaks for.
    """
    lines, remarks, above = re.split(r"\r\n|\n|\r", head)[: _LINES + _TITLES], list[str](), 0
    if lines and (given := re.fullmatch(r'"?sep=(.)"?', lines[0].strip(), re.I)):  # Excel's
        delimiter, above = delimiter or given[1], 1
    while above < len(lines) and not lines[above].strip():
        above += 1
    if above == len(lines):
        raise UserError(f"{source}: the table is empty" + (": every line is blank" if head else ""))
    separator = _delimiter(lines[above:], DELIMITERS.get(str(delimiter), delimiter), prefer)
    records = list(records_of(lines[above:], separator))
    titles = _titles(records)
    if skipped := sum(1 for start, _ in records[:titles] if lines[above + start].strip()):
        remarks.append(f"{source}: {skipped} line{'s' * (skipped > 1)} above the table left out: {lines[above][:60]!r}")
    rows = [fields for _, fields in records[titles:] if fields]
    if not rows:
        raise UserError(f"{source}: the table is empty: no line of it has a field")
    first = [" ".join(name.split()) for name in rows[0]]
    if first[0][:2] in ("b'", 'b"') and first[0].count(first[0][1]) == 1:
        remarks.append(f"{source}: removed a stray {first[0][:2]} before the header")
        first[0] = first[0][2:]
    named = header == "yes" or (header == "auto" and is_header(first, rows[1:], target, known))
    usual = Counter(map(len, rows)).most_common(1)[0][0]
    if named and len(first) == usual - 1 > 1:  # R has no name for those of the rows; others end rows alone with a mark
        last = not any(row[-1].strip() for row in rows[1:] if len(row) == usual)
        first = [*first, ""] if last else ["", *first]
    names = tuple(name if named and name else str(i) for i, name in enumerate(first))
    if named and (twice := next((name for name, n in Counter(names).items() if name and n > 1), "")):
        raise UserError(f"{source}: two columns are called {twice!r}: rename one of them")
    if header == "auto" and named and all(map(_is_number, first)):
        remarks.append(f"{source}: the first line, {','.join(first)[:60]}, is the header (--header no: it is a row)")
    skipped = above + (records[titles + named][0] if titles + named < len(records) else len(lines) - above)
    folded = skipped > above + titles + named
    return Layout(encoding, separator, tuple(first) if named else (), names, skipped, folded, remarks)


def _titles(records: Sequence[tuple[int, list[str]]]) -> int:
    """Count the records above the table: comments, and lines with fewer fields than the usual row."""
    widths = Counter(len(fields) for _, fields in records if fields)
    if not widths:
        return 0
    usual = max(widths, key=lambda width: (widths[width], width))
    for i, (_, fields) in enumerate(records[: _TITLES + 1]):
        below = next((row for _, row in records[i + 1 :] if row), [])
        if len(fields) == usual - 1 > 1 and len(below) == usual and not any(map(_is_number, fields)):
            if not below[-1].strip() or any(map(_is_number, below)):  # names of rows, or a last separator
                return i
        if fields and (len(fields) >= usual or usual == 1) and not (fields[0].startswith("#") and len(fields) < usual):
            return i if i < len(records) - 1 else 0
    return 0


def parts_of(line: str) -> list[str]:
    """Return the fields of a line between which runs of spaces and tabs stand, but not within quotes."""
    if '"' not in line:
        return line.split()
    csv.field_size_limit(max(csv.field_size_limit(), len(line)))  # of the process
    return next(csv.reader([line.strip().replace("\t", " ")], delimiter=" ", skipinitialspace=True), [])


def records_of(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (lines before it, fields) of each record, up to one that does not end; a blank line has no fields."""
    if delimiter == " ":
        yield from ((i, parts_of(line)) for i, line in enumerate(lines))
        return
    reader, start = csv.reader(iter([line + "\n" for line in lines]), delimiter=delimiter, skipinitialspace=True), 0
    try:
        for fields in reader:
            yield start, fields if any(field.strip() for field in fields) else []
            start = reader.line_num
    except csv.Error:  # a field that does not end within these lines, or is too long
        return


def _delimiter(lines: Sequence[str], wanted: str | None, prefer: str) -> str:
    """Return the separator that parts most lines in the same number of fields, more than one."""
    if wanted:
        if len(wanted) != 1:
            names = ", ".join(DELIMITERS)
            raise UserError(f"--delimiter {wanted!r}: one character, or {names}")
        return wanted
    shares: dict[str, tuple[float, bool]] = {}
    for separator in _PREFERRED:
        found = [len(fields) for _, fields in records_of(lines, separator) if fields]
        widths = Counter(found)
        width = max((n for n in widths if n > 1), key=lambda n: (widths[n], n), default=1)
        if width > 1:
            shares[separator] = widths[width] / widths.total(), found[0] == width
    best = max((share for share, _ in shares.values()), default=0.0)
    scores = {}
    for separator, (share, first) in shares.items():
        # what stands within the fields of all rows is not in the header
        most = share > 0.5
        scores[separator] = separator == prefer and most, share > best - _DAMAGED, most and first, round(share, 1)
    return max(scores, key=scores.__getitem__, default=",")  # the first of equals


_BOOLEANS = [{"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}]
_NUMBER = re.compile(r"\s*[-+]?(\d+([.,]\d*)*|[.,]\d+)([eE][-+]?\d+)?\s*%?\s*")


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def is_header(
    first: Sequence[str], rows: Sequence[Sequence[str]], target: str | None = None, known: Sequence[str] = ()
) -> bool:
    """Return whether a first line holds names, not values.

    It does when it has half of the known names or names the target, when its numbers count up, when some column holds
    numbers below a text, and, where all is text, when no name is as the values of its column.
    """
    if known and not all(name.isdigit() and int(name) < len(known) for name in known):
        if 2 * len(set(known) & set(first)) >= len(known):
            return True
    names = [name.strip() for name in target.split(",")] if target else []
    if names and all(name in first for name in names) and not all(name.lstrip("-").isdigit() for name in names):
        return True
    numbers = [int(name) for name in first if re.fullmatch(r"\d{1,9}", name)]
    if names and set(names) <= set(first) and _count_up(numbers):
        return True
    if len(numbers) >= max(2, len(first) - 1) and _count_up(numbers) and (len(numbers) > 2 or not numbers[0]):
        return [list(first)] != [list(row) for row in rows[:1]]
    texts = [i for i, name in enumerate(first) if any(map(str.isalnum, name)) and not _is_number(name)]
    unnamed = bool(known) and all(name.isdigit() for name in known)
    if not texts or not rows:
        return bool(texts) and not unnamed
    below = [[row[i].strip() for row in rows if i < len(row) and row[i].strip()] for i in texts]
    if any(column and sum(map(_is_number, column)) > 0.5 * len(column) for column in below):
        return True
    if len(texts) * 2 <= len(first) or unnamed:  # numbers in most places, and texts where the rows have some
        return False
    again = sum(_is_value(first[i], column) for i, column in zip(texts, below, strict=True))
    return len(set(first)) == len(first) and 2 * again <= len(texts) - (len(texts) == 1)


def _is_value(text: str, column: Sequence[str]) -> bool:
    """Return whether a text is a value as those of a column: one of them, missing, a boolean, or of the same shape."""
    if text in column or is_missing(text):
        return True
    if {text.lower(), *(below.lower() for below in column)} in _BOOLEANS:
        return True
    shape = re.sub(r"\d+", "0", text)  # as of dates and times, not of class1 above class2
    dated = shape.count("0") > 1 or not re.search(r"[^\W\d_]", text)
    return dated and "0" in shape and 2 * sum(re.sub(r"\d+", "0", below) == shape for below in column) > len(column)


def _count_up(numbers: Sequence[int]) -> bool:
    return bool(numbers) and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
