"""What the race of ``tradeoff`` came to: errors, goals, and who reaches them when.

Middle values are medians over the seeds (the lower of two), with the least and the greatest beside them. The *goals* of
the race follow from what was reached: the best error of a method is the least of its curve; the first goal lies 1 %
above the best error of the worst method, so that all reach it, the second 1 % above that of the second worst.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distbp.study.tradeoff.race import Curve

__all__ = ["Heats", "Spread", "common", "label_of", "spread"]

_ABOVE = 1.01
_POINTS = 80

Spread = tuple[float, float, float]


def label_of(method: str) -> tuple[Any, ...]:
    """Return name and values of the label of a method: ``b=100`` is ``("batches", 100)``."""
    return ("batches", int(method[2:])) if method.startswith("b=") else (method,)


def spread(values: Sequence[float]) -> Spread:
    """Least, middle (the lower of two) and greatest."""
    ordered = sorted(values)
    return ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]


@dataclass(frozen=True)
class Heats:
    """The race: curves of each method by seed, the one exact steps, the rates that were tuned, and who diverged."""

    curves: dict[str, list[Curve]]
    exact: list[dict[str, Any]]
    rates: dict[str, float]
    diverged: list[str]

    @classmethod
    def of(cls, results: dict[str, dict[str, Any]]) -> "Heats":
        """From the results of a study."""
        curves: dict[str, list[Curve]] = {}
        rates, diverged = {}, []
        for one in results.values():
            if "n" not in one and "curve" in one and not one.get("tuning"):
                if one["curve"]:
                    curves.setdefault(one["method"], []).append(one["curve"])
                if one["diverged"]:
                    diverged.append(one["trial"])
                if "rate" in one:
                    rates[one["method"]] = one["rate"]
        exact = [one for one in results.values() if one.get("method") == "exact"]
        return cls(curves, exact, rates, diverged)

    def best(self, method: str) -> float:
        """Its best error, the middle one of the seeds."""
        return spread([min(curve["error"]) for curve in self.curves[method]])[1]

    def goals(self) -> list[float]:
        """Errors that all methods reach, and all but the worst."""
        worst = sorted((self.best(method) for method in self.curves), reverse=True)
        return sorted({_ABOVE * error for error in worst[:2]}, reverse=True)

    def to_goal(self, method: str, goal: float, what: str) -> Spread:
        """``examples``, ``steps`` or ``seconds`` until the error is at most `goal`; infinite where it never is."""
        curves = self.curves[method]
        first = [next((i for i, error in enumerate(c["error"]) if error <= goal), None) for c in curves]
        return spread([math.inf if i is None else c[what][i] for c, i in zip(curves, first, strict=True)])

    def within(self, method: str, seconds: float) -> Spread:
        """Its error where it was last measured within so many seconds of training, or first."""
        curves = self.curves[method]
        last = [max([0, *(i for i, t in enumerate(c["seconds"]) if t <= seconds)]) for c in curves]
        return spread([c["error"][i] for c, i in zip(curves, last, strict=True)])

    def after(self, method: str, steps: int) -> Spread:
        """Its error after so many steps; not a number where it was not measured there."""
        found = [dict(zip(c["steps"], c["error"], strict=True)).get(steps, math.nan) for c in self.curves[method]]
        return spread(found)


def common(curves: Sequence[Curve], what: str) -> tuple[list[float], list[Spread]]:
    """The spread of curves whose points lie at different places: read where all of them are, on a log scale."""
    low, high = max(max(c[what][0], 1e-6) for c in curves), min(c[what][-1] for c in curves)
    if not low < high:
        return [], []
    x = np.geomspace(low, high, _POINTS)
    read = [np.interp(np.log(x), np.log(np.maximum(c[what], 1e-6)), c["error"]) for c in curves]
    return x.tolist(), [spread(list(values)) for values in zip(*read, strict=True)]
