"""How much of what could be tried is tried: pairs of options every day, all of them at night."""

import itertools
import os
from collections.abc import Iterable
from typing import Any

NIGHTLY, QUICK = (os.environ.get("DISTBP_TESTS") == name for name in ("nightly", "quick"))
"""As ``scripts/test nightly`` sets it: whole grids, 1,000 examples, and what takes minutes; quick: 20 examples."""


def pairs(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return combinations in which every value of an axis stands beside every value of each other axis.

    Greedy, and the same in every process: each combination is the one that brings most pairs which are not there yet.
    """
    values = [list(axis) for axis in axes]
    places = list(itertools.product(*(range(len(axis)) for axis in values)))
    inside = {place: set(itertools.combinations(enumerate(place), 2)) for place in places}
    missing, found = set().union(*inside.values()), []
    while missing:
        best = max(places, key=lambda place: len(inside[place] & missing))
        missing -= inside[best]
        found.append(tuple(axis[i] for axis, i in zip(values, best, strict=True)))
    return found


def combinations(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return pairs of these axes to parametrize a test by, at night all combinations."""
    return list(itertools.product(*axes)) if NIGHTLY else pairs(*axes)


def examples(number: int, **more: Any) -> Any:
    """Let hypothesis try so many examples, at night 1,000, and 20 where it has to be quick."""
    from hypothesis import settings

    return settings(deadline=None, max_examples=1000 if NIGHTLY else min(number, 20) if QUICK else number, **more)
