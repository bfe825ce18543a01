"""Are rows of damaged tables ever lost without a word? Tables, written in some way and then damaged, are read.

    .venv/bin/python scripts/fuzz_tables.py [--tables 1000] [--seed 0] [--keep FOLDER]

Every table must be read or refused in one line (`UserError`), within a limit of time; and where bad rows are dropped,
the rows that are left and those that are named must be as many as the file has: as lines, or as records where quotes
hold the ends of lines. What fails is kept in ``--keep``. Exit code 1 if anything did.
"""

import argparse
import csv
import gzip
import io
import random
import re
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from distbp import UserError
from distbp.data.table.conversion import read_table
from distbp.data.table.inputs import part_of

SECONDS = 20
CELLS = {
    "number": lambda r: f"{r.gauss(0, 100):.4g}",
    "whole": lambda r: str(r.randrange(-50, 2000)),
    "word": lambda r: r.choice(["red", "green", "blue", "J\u00fcrgen", "n/a", "x y"]),
    "comma": lambda r: f"{r.randrange(1, 999)},{r.randrange(10, 99)}",
    "date": lambda r: f"20{r.randrange(10, 30)}-{r.randrange(1, 13):02d}-{r.randrange(1, 29):02d}",
    "hole": lambda r: r.choice(["", "NA", "1.5", "-", "2"]),
    "logical": lambda r: r.choice(["True", "FALSE"]),
}


def table(r):
    """Return the bytes of a table of text, and its separator."""
    kinds = r.choices(list(CELLS), k=r.randrange(1, 7))
    separator, end = r.choice(",;\t|"), r.choice(["\n", "\r\n"])
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=separator, lineterminator=end, quoting=r.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    )
    if r.random() < 0.8:
        writer.writerow([*(f"{kind}{i}" for i, kind in enumerate(kinds)), "target"])
    for _ in range(r.randrange(1, 80)):
        writer.writerow([*(CELLS[kind](r) for kind in kinds), r.choice("ab")])
    return out.getvalue().encode(r.choice(["utf-8", "utf-8", "utf-8-sig", "utf-16", "cp1252"])), separator


def damage(r, content, separator):
    """Return bytes of a table that are damaged in up to three ways."""
    ways = {
        "insert": lambda c, i: c[:i] + r.choice([b'"', b"'", b"\0", b"\n", b"\r", b"\xff", separator.encode()]) + c[i:],
        "remove": lambda c, i: c[:i] + c[i + r.randrange(1, 4) :],
        "cut": lambda c, i: c[: max(i, 1)],
        "repeat": lambda c, i: c[:i] + c[max(0, i - 40) :],
        "huge": lambda c, i: c[:i] + b"z" * r.choice([1000, 140_000]) + c[i:],
        "quotes": lambda c, i: c[:i] + b'""' + c[i:],
        "line": lambda c, i: c[:i] + b"\n" + separator.encode() * r.randrange(9) + b"\n" + c[i:],
    }
    for _ in range(r.randrange(4)):
        content = ways[r.choice(list(ways))](content, r.randrange(len(content) + 1))
    return content


def packed(r, content):
    """Return bytes and suffix of a file, compressed at times, and then cut at times."""
    if r.random() < 0.8:
        return content, r.choice([".csv", ".txt", ".tsv"])
    content = gzip.compress(content)
    return (content[: r.randrange(len(content))] if r.random() < 0.3 else content), ".csv.gz"


def other(r, folder):
    """Return bytes and suffix of a damaged table of another format."""
    import duckdb

    suffix = r.choice([".parquet", ".jsonl"])
    path = folder / f"whole{suffix}"
    if not path.exists():
        how = {".parquet": "parquet", ".jsonl": "json"}[suffix]
        rows = "SELECT i AS a, i / 7 AS b, 'k' || i % 3 AS c, i % 2 AS y FROM range(50) t(i)"
        duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT {how})")
    return damage(r, path.read_bytes(), ","), suffix


def text_of(path):
    """Return the text of a file; None for one that is damaged, or not in UTF-8."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except (OSError, EOFError, UnicodeDecodeError):
        return None


def counts(text, separator):
    """Return how many rows a text has, as lines, as records, and those with more than blanks."""
    csv.field_size_limit(1 << 24)
    records = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row]
    lines = [line for line in re.split("\r\n|\n|\r", text) if line]
    filled = [line for line in lines if line.strip()], [row for row in records if separator.join(row).strip()]
    return tuple(map(len, (lines, records, *filled)))


def check(path, separator):
    """Return what is wrong with how a file is read; "" for nothing."""
    try:
        dataset, remarks = read_table(path, bad_rows="skip")
    except UserError as error:
        text = re.sub("zzz+|\u7a7a+", "", str(error))
        return "" if "\n" not in text and len(text) < 600 else f"no line: {text[:200]!r}"
    if path.suffix in (".parquet", ".jsonl"):
        return ""
    text = text_of(path)
    if text is None:
        return ""
    n = counts(text, separator)
    names = [column.name for column in dataset.columns] + list(dataset.target.names)
    header = 1 if any(not (part_of(name) or name).isdigit() for name in names) else 0
    above = sum(int(found[1]) for text in remarks if (found := re.search(r": (\d+) lines? above the table", text)))
    rows = [each - header - above for each in n]
    named = dataset.slots[0] if dataset.slots else dataset.n_rows
    if named in rows or "quote opens" in " ".join(remarks):
        return ""
    if dataset.slots and '"' in text and min(rows) <= named <= max(rows):
        return ""  # where quotes are broken in a row that is named, who says what is a row?
    return f"{named} rows are left or named of {rows}: {remarks}"


def one(r, folder):
    """Return what is wrong with how a table of random damage is read; it lies in the folder then."""
    content, separator = table(r)
    packing = r.random() < 0.9
    content, suffix = packed(r, damage(r, content, separator)) if packing else other(r, folder)
    path = folder / f"t{suffix}"
    path.write_bytes(content)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS)
    try:
        return (wrong := check(path, separator)) and f"{path.name}: {wrong}"
    except Exception:
        return f"{path.name}: " + traceback.format_exc().strip().replace("\n", "\n    ")
    finally:
        signal.alarm(0)


def _too_long(*_):
    raise TimeoutError(f"{SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.seed, options.seed + options.tables):
            wrong = one(random.Random(seed), Path(name))
            if wrong:
                failed += 1
                print(f"{seed}: {wrong}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    found = wrong.split(":")[0]
                    (options.keep / f"{seed}-{found}").write_bytes((Path(name) / found).read_bytes())
    print(f"{options.tables} tables, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
