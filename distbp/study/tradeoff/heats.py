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
    """Return least, middle (the lower of two) and greatest."""
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
        """Take those of the results of a study that are of the race."""
        race = [one for one in results.values() if "n" not in one and not one.get("tuning")]
        runs, curves = [one for one in race if "curve" in one], dict[str, list[Curve]]()
        for one in runs:
            if one["curve"]:
                curves.setdefault(one["method"], []).append(one["curve"])
        rates = {one["method"]: one["rate"] for one in runs if "rate" in one}
        diverged = [one["trial"] for one in runs if one["diverged"]]
        return cls(curves, [one for one in race if one["method"] == "exact"], rates, diverged)

    def best(self, method: str) -> float:
        """Return the best error of a method, the middle one of the seeds."""
        return spread([min(curve["error"]) for curve in self.curves[method]])[1]

    def goals(self) -> list[float]:
        """Return errors that all methods reach, and all but the worst."""
        worst = sorted((self.best(method) for method in self.curves), reverse=True)
        return sorted({_ABOVE * error for error in worst[:2]}, reverse=True)

    def to_goal(self, method: str, goal: float, what: str) -> Spread:
        """Return ``examples``, ``steps`` or ``seconds`` until the error is at most `goal`; infinite if it never is."""
        runs = [zip(curve["error"], curve[what], strict=True) for curve in self.curves[method]]
        return spread([next((at for error, at in run if error <= goal), math.inf) for run in runs])

    def within(self, method: str, seconds: float) -> Spread:
        """Return the error where it was last measured within so many seconds of training, or first."""
        curves = self.curves[method]
        last = [max([0, *(i for i, t in enumerate(c["seconds"]) if t <= seconds)]) for c in curves]
        return spread([c["error"][i] for c, i in zip(curves, last, strict=True)])

    def after(self, method: str, steps: int, what: str = "error") -> Spread:
        """Return the error or ``seconds`` after so many steps; not a number where it was not measured there."""
        curves = self.curves[method]
        return spread([dict(zip(c["steps"], c[what], strict=True)).get(steps, math.nan) for c in curves])


def common(curves: Sequence[Curve], what: str) -> tuple[list[float], list[Spread]]:
    """Return the spread of curves whose points lie at different places, where all of them are, on a log scale."""
    low, high = max(max(c[what][0], 1e-6) for c in curves), min(c[what][-1] for c in curves)
    if not low < high:
        return [], []
    x = np.geomspace(low, high, _POINTS)
    read = [np.interp(np.log(x), np.log(np.maximum(c[what], 1e-6)), c["error"]) for c in curves]
    return x.tolist(), [spread(list(values)) for values in zip(*read, strict=True)]
