"""Dates and times as texts: how a column of them is written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_CLOCK = r"(?P<clock>\d{1,2}:\d{2}(?P<second>:\d{2}(?P<fraction>\.\d+)?)?(?P<half>\s?[AaPp][Mm])?)"
_ZONE = r"\s?(Z|UTC|[-+]\d{2}(:?\d{2})?)"
_ISO = re.compile(rf"\d{{4}}-\d{{1,2}}-\d{{1,2}}([T ]{_CLOCK}({_ZONE})?)?")
_MONTH = "[A-Z][A-Za-z]{2,8}"
_DAY, _YEAR = r"\d{1,2}", r"\d{1,4}"
_DATE = re.compile(
    rf"(?P<a>{_YEAR}|{_MONTH})(?P<mark>[-/. ])(?P<b>{_DAY}|{_MONTH})(?P<comma>,?)[-/. ](?P<c>{_YEAR})"
    rf"(?P<gap>[T ]{_CLOCK})?"
)
_TIME = re.compile(_CLOCK)


@dataclass(frozen=True)
class Dates:
    """How the dates or times of a column are written: formats of strptime, none for ISO 8601; `clock`: no date."""

    formats: tuple[str, ...] = ()
    clock: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """The numbers that a network gets of each."""
        return ("hour",) if self.clock else DATE_FEATURES

    def __str__(self) -> str:
        return "a time of day" if self.clock else "a date" if self.formats else "a date (ISO 8601)"


DATE_FEATURES = ("days", "year", "month", "weekday", "hour")
"""Days since 1970, Monday is 1, the hour has a fraction."""


def dates_of(texts: Sequence[str], month_first: bool | None = None) -> Dates | None:
    """Return how the dates or times of a column are written, None where one is none or they disagree.

    Where day and month can be either, `month_first` says which; by default a slash does.
    """
    if all(map(_ISO.fullmatch, texts)):
        return Dates()
    if clocks := [found for text in texts if (found := _TIME.fullmatch(text))]:
        return Dates(_clock_formats(clocks), clock=True) if len(clocks) == len(texts) else None
    dates = [found for text in texts if (found := _DATE.fullmatch(text))]
    if len(dates) < len(texts) or len({(found["mark"], found["comma"]) for found in dates}) > 1:
        return None
    mark, comma = dates[0]["mark"], dates[0]["comma"]
    first = mark == "/" if month_first is None else month_first
    order = _order([(found["a"], found["b"], found["c"]) for found in dates], month_first=first)
    if order is None:
        return None
    date = f"{order[0]}{mark}{order[1]}{comma}{' ' if comma else mark}{order[2]}"
    clocks = [found for found in dates if found["clock"]]
    gap = "T" if clocks and clocks[0]["gap"].startswith("T") else " "
    return Dates((*(f"{date}{gap}{clock}" for clock in _clock_formats(clocks)), date))


def _order(parts: Sequence[tuple[str, str, str]], month_first: bool) -> tuple[str, str, str] | None:
    """Return the formats of the three parts of a date; where both orders can be, as people write it with that mark."""
    names = next(((i, each[i]) for each in parts for i in (0, 1) if each[i].isalpha()), None)
    year = "%Y" if all(len(each[2]) == 4 for each in parts) else "%y"
    if names is not None:
        month = "%b" if len(names[1]) == 3 and all(len(each[names[0]]) == 3 for each in parts) else "%B"
        if any(not each[names[0]].isalpha() or not each[1 - names[0]].isdigit() for each in parts):
            return None
        return (month, "%d", year) if names[0] == 0 else ("%d", month, year)
    if all(len(each[0]) == 4 for each in parts):
        return ("%Y", "%m", "%d") if _within(parts, 1, 12) and _within(parts, 2, 31) else None
    if not all(len(each[2]) in (2, 4) for each in parts):
        return None
    orders = [(("%d", "%m", year), 1, 0), (("%m", "%d", year), 0, 1)]
    for order, month_at, day_at in reversed(orders) if month_first else orders:
        if _within(parts, month_at, 12) and _within(parts, day_at, 31):
            return order
    return None


def _within(parts: Sequence[tuple[str, str, str]], i: int, most: int) -> bool:
    return all(each[i].isdigit() and 1 <= int(each[i]) <= most for each in parts)


def _clock_formats(clocks: Sequence[re.Match[str]]) -> tuple[str, ...]:
    """Return the formats of times of day, the longest first."""
    found = {
        ("%I" if one["half"] else "%H") + ":%M" + (":%S" if one["second"] else "") + (".%f" if one["fraction"] else "")
        + (" %p" if one["half"] and one["half"][0].isspace() else "%p" if one["half"] else "")
        for one in clocks
    }  # fmt: skip
    return tuple(sorted(found, key=len, reverse=True))
