"""What the texts of a column are: numbers, also in the dress of a country or a currency, dates, or categories."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, TypeVar

from distbp.data.table.dates import Dates, dates_of

V = TypeVar("V")

MISSING = frozenset(
    "|na|n/a|n.a.|#n/a|#n/a n/a|#na|<na>|nan|-nan|nat|null|(null)|\\n|none|nil|?|-|--|.|#value!|#div/0!|#ref!|#name?"
    "|#num!|#null!|1.#ind|-1.#ind|1.#qnan|-1.#qnan".split("|")
)
"""Texts that mean a missing value, in lower case: those of pandas, R, SQL, Excel, and common hands."""

_PLAIN = re.compile(r"[-+]?(?!0\d)(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|infinity)", re.I)
_WHOLE = re.compile(r"[-+]?(?:0|[1-9]\d*)\.0+")
_CODE = re.compile(r"[-+]?0\d+")
_MONEY = r"(?:[$\u20ac\u00a3\u00a5\u20b9]|[A-Z]{3}\b|US\$)"
_UNITS = r"kg|mg|lbs?|oz|km|cm|mm|mi|ft|in|ml|cl|hrs?|min|sec|ms|us|ns|kb|mb|gb|tb|kw|kwh|hp|cc|mph|kmh"
_UNIT = rf"(?:[%\u2030\u00b0$\u20ac\u00a3\u00a5\u20b9]|\s[^\W\d_]{{1,4}}\.?|(?:{_UNITS})\b)"
_SIGN = r"[-+\u2212"
_BODY = r"\d(?:[\d.,' \u00a0\u202f]*\d)?[.,]?|[.,]\d+"
_DRESSED = re.compile(rf"'?({_SIGN}(]?)\s*({_MONEY}?)\s*({_SIGN}]?)\s*({_BODY})\s*({_UNIT}?)\s*(-|\))?", re.I)
_GROUPED = {mark: re.compile(rf"[1-9]\d{{0,2}}(?:{re.escape(mark)}\d{{3}})+") for mark in ",.' \u00a0\u202f"}


@dataclass(frozen=True)
class Dress:
    """How the numbers of a column are written: what begins the fraction, parts thousands, and stands around."""

    decimal: str = "."
    thousands: str = ""
    around: str = ""

    def __str__(self) -> str:
        parts = [f"{self.around} around them"] if self.around else []
        parts += ["a decimal comma"] if self.decimal == "," else []
        parts += [f"{self.thousands!r} between thousands"] if self.thousands else []
        return " and ".join(parts) or "signs around"


def is_number(text: str) -> bool:
    """Return whether a text is a number as programs write it; a code with leading zeros is none."""
    return _PLAIN.fullmatch(text) is not None


def is_missing(text: str, missing: frozenset[str] = MISSING) -> bool:
    """Return whether a text means that there is no value."""
    return text.strip().lower() in missing


Kind = str | Dress | Dates
"""``number``, ``text``, numbers in a dress, or dates."""


def notation_of(kind: Kind) -> list[Any] | None:
    """Return how a column is written, for JSON, where that is not plain: data that is read later is written so too."""
    return None if isinstance(kind, str) else [type(kind).__name__, *astuple(kind)]


def kind_in(notation: Sequence[Any]) -> Kind:
    """Return what `notation_of` was given."""
    name, *values = notation
    return Dress(*values) if name == "Dress" else Dates(tuple(values[0]), *values[1:])


def kind_of(texts: Iterable[str], decimal: str | None = None, thousands: str | None = None) -> Kind:
    """Return what the texts of a column are, of which none is missing.

    A column is numeric when most of its texts are numbers and none is a code with leading zeros; in a dress all have
    to be, and all be dates where it holds them.
    """
    stripped = [text.strip() for text in texts]
    if any(_CODE.fullmatch(text) for text in stripped):
        return "text"
    plain = sum(map(is_number, stripped))
    if decimal in (None, ".") and not thousands and plain == len(stripped):
        return "number"
    if dressed := dress_of(stripped, decimal, thousands):
        return dressed
    return "number" if 2 * plain > len(stripped) else dates_of(stripped) or "text"


LOGICAL = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"})
"""Words of yes and no, in any case of letters."""


def same(texts: Iterable[str], like: Iterable[str] | None = None) -> dict[str, str]:
    """Return for each text the one that stands for its value: ``1`` and ``1.0``, ``TRUE`` and ``True`` are one.

    Where `like` are the categories that are known, they say whether texts are words of yes and no; of true and false
    ``1`` and ``0`` are, too.
    """
    texts = list(texts)
    lower = {text.lower() for text in (texts if like is None else like)}
    if not any(lower <= words for words in LOGICAL):
        return {text: value_of(text) for text in texts}
    numbers = {"1": "true", "0": "false"} if like is not None and lower <= LOGICAL[0] else {}
    return {text: numbers.get(value_of(text), text.lower()) for text in texts}


def commonest(counts: Mapping[str, int], values: Mapping[str, V]) -> dict[V, str]:
    """Return for each value the text that it has most often, without blanks around it."""
    best: dict[V, str] = {}
    for text in sorted(counts, key=lambda text: (-counts[text], text)):
        best.setdefault(values[text], text.strip())
    return best


def value_of(text: str) -> str:
    """Return a text without a fraction of zeros, where it is a number."""
    return text.partition(".")[0] if _WHOLE.fullmatch(text) else text


def dress_of(texts: Sequence[str], decimal: str | None = None, thousands: str | None = None) -> Dress | None:
    """Return how the numbers of a column are written, None where one is none or they disagree."""
    bodies, around = [], Counter[str]()
    for text in texts:
        found = _DRESSED.fullmatch(text)
        if (
            not found
            or bool(found[1]) + bool(found[3]) + (found[6] == "-") > 1
            or (found[1] == "(") != (found[6] == ")")
        ):
            return None
        bodies.append(found[4].strip())
        around[found[2] or found[5]] += 1
    if len(around) > 1 + ("" in around) or ("" in around and around.keys() & {"%", "\u2030"}):
        return None  # 0.2 beside 1 % can mean two things
    for mark in [decimal] if decimal else [".", ","]:
        group = thousands if thousands is not None else _grouping(bodies, mark)
        if group is not None and all(_written(body, mark, group) for body in bodies):
            return Dress(mark, group, next((unit for unit in around if unit), ""))
    return None


def _grouping(bodies: Sequence[str], decimal: str) -> str | None:
    """Return what parts thousands where `decimal` begins the fraction, "" for nothing; None where that cannot be."""
    whole = [body.partition(decimal)[0] for body in bodies]
    marks = {mark for body in whole for mark in body if not mark.isdigit()}
    if not marks:
        return ""
    return marks.pop() if len(marks) == 1 and marks <= set(_GROUPED) else None


def _written(body: str, decimal: str, thousands: str) -> bool:
    whole, point, fraction = body.partition(decimal)
    if point and not fraction.isdigit() and fraction:
        return False
    return not whole or whole.isdigit() or bool(thousands and _GROUPED[thousands].fullmatch(whole))
