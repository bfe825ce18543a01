"""The input columns of a table: how each is stored, and which are left out because nothing can be learnt from them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from distbp.data.dataset import Column
from distbp.data.table import database
from distbp.data.table.columns import FEW_ROWS, MANY, Stored, Summary, Table
from distbp.data.table.dates import DATE_FEATURES, Dates
from distbp.data.table.kinds import Dress, commonest, is_missing, is_number, same

_IDS = re.compile(
    r"(?i:(.*[_ #.-])?(id|idx|index|no|nr|row|row_?number|rowid|rownames|unnamed: ?[\d.]+|level_0)\.?|#|)|.*[a-z]I[dD]"
)
"""Names of columns that number the rows, or tell which one it is."""
_FEW_TEXTS = 1000
"""Different texts up to which a column is never taken for one that tells the rows apart."""
_FEATURE = re.compile(rf"(.+) \(({'|'.join(DATE_FEATURES)})\)")


def base_of(name: str, names: Sequence[str]) -> str | None:
    """Return the column of a table that an input is made of: itself, or the date that it is a part of."""
    return next((base for base in (name, part_of(name)) if base in names), None)


def part_of(name: str) -> str | None:
    """Return the column of dates that an input is a part of, by its name."""
    found = _FEATURE.fullmatch(name)
    return found[1] if found else None


class Inputs:
    """Find out how the input columns of a table are stored.

    Parameters
    ----------
    table : Table
    columns : list of int
        Those that are wanted.
    known : dict of str to Column
        Columns of the training data; then there is nothing to decide.
    keep : set of int
        Columns that are not left out.
    compact : bool
        Whether fractions may become float32.
    choose : bool
        Whether columns from which nothing can be learnt are left out.
    """

    def __init__(
        self,
        table: Table,
        columns: Sequence[int],
        known: Mapping[str, Column],
        keep: set[int],
        compact: bool,
        choose: bool = True,
    ) -> None:
        self.table, self.known, self.compact = table, known, compact
        self.keep = keep if choose and not known else set(columns)
        self.stored: list[Stored] = []
        self.left_out: dict[str, str] = {}
        self._of: dict[str, int] = {}
        self._numbers: dict[str, Summary] = {}
        self._categories = {i: self._category(i) for i in columns if table.kind(i) == "text"}
        numbers = {i: self._expressions(i) for i in columns}
        every = {name: sql for each in numbers.values() for name, sql in each.items()}
        self._numbers = dict(zip(every, table.summaries(list(every.values())), strict=True))
        for i in columns:
            self._add(i, numbers[i])

    def _expressions(self, i: int) -> dict[str, str]:
        """Return the SQL of the numbers that a column gives, by the names of the inputs."""
        table, name, kind = self.table, self.table.names[i], self.table.kind(i)
        if isinstance(kind, Dates):
            parts = {f"{name} ({part})": sql for part, sql in table.dates(i, kind).items()}
            return {part: sql for part, sql in parts.items() if not self.known or part in self.known}
        return {name: table.number(i)} if kind == "number" or isinstance(kind, Dress) else {}

    def _add(self, i: int, numbers: Mapping[str, str]) -> None:
        table, name, kind = self.table, self.table.names[i], self.table.kind(i)
        free = i not in self.keep
        if kind == "":
            self.left_out[name] = f"{table.types[i].lower()}: no number, text or date"
        elif kind == "text":
            self._add_category(i, free)
        else:
            if isinstance(kind, Dress):
                table.remarks.append(f"{table.source}: the numbers of {name!r} have {kind}")
            if isinstance(kind, Dates) and kind.formats and not self.known:
                table.remarks.append(f"{table.source}: {name!r} is read as dates, {kind.formats[-1]}")
            if numbers:
                first = next(iter(numbers))
                table.numeric(i, numbers[first], self._numbers[first], "a date" * isinstance(kind, Dates) or "numeric")
            why = self._useless(i, numbers) if free else ""
            if why:
                self.left_out[name] = why
                return
            for part, sql in numbers.items():
                summary = self._numbers[part]
                if part != name and free and _constant(summary, table.n_rows):
                    continue
                self.stored.append(table.stored(part, sql, summary.dtype(table.n_rows, self.compact)))
                self._of[part] = i

    def _useless(self, i: int, numbers: Mapping[str, str]) -> str:
        """Return why nothing can be learnt from a column of numbers or dates, if so."""
        table, name = self.table, self.table.names[i]
        summaries = [self._numbers[part] for part in numbers]
        if not any(each.count for each in summaries):
            return "empty"
        if all(_constant(each, table.n_rows) for each in summaries):
            return "constant"
        first, n = summaries[0], table.n_rows
        if n >= FEW_ROWS and name in numbers and first.whole and first.count == n and _IDS.fullmatch(name):
            if database.query(table.tables, f"SELECT count(DISTINCT c{i}) FROM t")[0][0] == n:
                return "different in every row"
        return ""

    def _category(self, i: int) -> tuple[list[str], dict[str, int]]:
        """Return the categories of a column, and the place of each text among them."""
        table, name = self.table, self.table.names[i]
        counts = {text: n for text, n in table.texts(i).items() if not is_missing(text, table.missing)}
        categories = list(self.known[name].categories or ()) if name in self.known else []
        values = same((text.strip() for text in counts), categories if name in self.known else None)
        if name in self.known:
            place = {value: k for k, value in enumerate(same(categories).values())}
        else:
            categories = sorted(commonest(counts, {text: values[text.strip()] for text in counts}).values())
            place = {values[text]: k for k, text in enumerate(categories)}
        if unseen := [text for text in counts if values[text.strip()] not in place]:
            rows = sum(counts[text] for text in unseen)
            few = ", ".join(map(repr, unseen[:3])) + " ..." * (len(unseen) > 3)
            what = f"{len(unseen)} of {len(counts)} values ({few}; {rows} rows)"
            table.remarks.append(f"{table.source}: column {name!r}: {what} were not, or hardly, in the training data")
            new = sorted({values[text.strip()] for text in unseen})
            place |= {value: len(categories) + k for k, value in enumerate(new)}
            categories += new
        codes = {text: place[values[text.strip()]] for text in counts}
        return categories, codes

    def _add_category(self, i: int, free: bool) -> None:
        table, name = self.table, self.table.names[i]
        categories, codes = self._categories[i]
        present = sum(table.texts(i).values())
        if free:
            if not categories:
                self.left_out[name] = "empty"
            elif len(categories) == 1 and sum(table.texts(i)[text] for text in codes) == table.n_rows:
                self.left_out[name] = "constant"
            elif len(codes) >= MANY or (len(categories) == table.n_rows and table.n_rows >= FEW_ROWS):
                exact = len(codes) < MANY
                self.left_out[name] = "different in every row" if exact else f"more than {MANY:,} different texts"
            elif present and 2 * len(categories) > present and len(categories) > _FEW_TEXTS:
                self.left_out[name] = f"{len(categories):,} different texts"
        if name in self.left_out:
            return
        sql, lookup, dtype = table.coded(i, codes, len(categories))
        self.stored.append(Stored(name, sql, dtype, tuple(categories), lookup))
        self._of[name] = i

    def leave_out_copies(self, t: int, *, classes: bool) -> None:
        """Leave out columns that hold the same as the target, column `t`, in every row."""
        if self.known:
            return
        table, number = self.table, self.table.number(t, "number" if classes else None)
        texts = table.texts(t) if classes else {}
        summary = _as_numbers(texts) if classes else table.summaries([number])[0]
        for stored in list(self.stored):
            i = self._of[stored.name]
            if i in self.keep or stored.name != table.names[i]:
                continue
            if table.kind(i) == "text":
                one, other, may = f"c{i}::VARCHAR", f"c{t}::VARCHAR", texts == table.texts(i)
            else:
                one, other, may = table.number(i), number, self._numbers[stored.name].alike(summary)
            differs = f"SELECT 1 FROM t WHERE {one} IS DISTINCT FROM {other} LIMIT 1"
            if may and not database.query(table.tables, differs):
                self.stored.remove(stored)
                self.left_out[stored.name] = "the same as the target"

    def summary(self) -> str:
        """Return a line that says what the columns are."""
        words = {"category": "categories", "date": "dates", "number": "numbers"}
        kinds = Counter(dict((self._of[one.name], self._word(one)) for one in self.stored).values())
        parts = [f"{kinds[kind]} {many if kinds[kind] > 1 else kind}" for kind, many in words.items() if kinds[kind]]
        if kinds["category"]:
            sizes = {one.name: len(one.categories) for one in self.stored if one.categories is not None}
            wide = sorted(sizes, key=sizes.__getitem__, reverse=True)
            most = ", ".join(f"{name} {sizes[name]:,}" for name in wide[:3])
            parts[0] += f" ({most}{', ...' * (len(wide) > 3)})"
        n = kinds.total() + len(self.left_out)
        line = f"{n} column{'s' * (n > 1)}: {', '.join(parts)}"
        return line + (f"; left out: {self.omitted()}" if self.left_out else "")

    def _word(self, stored: Stored) -> str:
        if stored.categories is not None:
            return "category"
        return "date" if isinstance(self.table.kind(self._of[stored.name]), Dates) else "number"

    def omitted(self) -> str:
        """Return which columns are left out, and why."""
        by_reason: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            by_reason.setdefault(why, []).append(name or "''")
        return ", ".join(
            f"{', '.join(names[:5])}{' ...' * (len(names) > 5)} ({why})" for why, names in by_reason.items()
        )


def _constant(summary: Summary, n_rows: int) -> bool:
    return summary.low == summary.high and summary.count == n_rows


def _as_numbers(counts: Mapping[str, int]) -> Summary:
    """Summarise the numbers among texts that occur so often."""
    numbers = {text: float(text) for text in counts if is_number(text.strip())}
    values = numbers.values()
    return Summary(sum(counts[text] for text in numbers), min(values, default=0.0), max(values, default=0.0))
