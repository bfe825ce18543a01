"""How far one gradient is from another, and how much of that is rounding.

The reference is the delta recursion, and for a model of the user's, which has none, autodiff. The reference itself is
held against the complex step, where that applies, and against autodiff or differences where it does not.

An error is relative to the largest derivative of the same weights or biases, so that layers with small gradients
count as much as others. That of differences is relative to the largest derivative of all: what they round is the cost,
which knows no layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from distbp.check.gradients import differences
from distbp.check.problem import Array, Problem

METHODS = {
    "recursion": "delta recursion",
    "autodiff": "autodiff",
    "complex": "complex step",
    "paths": "sum over paths",
    "ranks": "sum over ranks",
    "central": "central differences",
}
"""Methods, in the order in which they are trusted."""
LIMITS = dict.fromkeys(METHODS, 1e-10) | {"central": 1e-6}

_PER_PARAMETER = ("central", "complex")  # work is proportional to their number: of large models they take some of them
_SMALLER_STEPS = (1e-6, 1e-7)
"""Steps for derivatives that are off by the first one: a kink may lie within it, which a wrong derivative survives."""


@dataclass(frozen=True)
class Result:
    """Holds what a method gave: its error, against which other method, where that is largest, and its seconds."""

    error: float
    against: str
    where: str
    seconds: float


@dataclass
class Measurement:
    """All methods on one network or model; those that do not apply are not in `results`."""

    depth: int
    width: int
    parameters: int
    paths: int
    cost_seconds: float = 0.0
    results: dict[str, Result] = field(default_factory=dict)

    def evaluations(self, name: str) -> float:
        """Return the time of a method in evaluations of the cost."""
        return self.results[name].seconds / self.cost_seconds


def results_of(problem: Problem, found: dict[str, tuple[Array, float]], where: Array) -> dict[str, Result]:
    """Return the error of each method, given gradients and seconds by method; see `compare` for `where`."""
    reference = "recursion" if "recursion" in found else "autodiff"
    witness = next(name for name in ("complex", "autodiff", "central") if name in found and name != reference)
    results = {}
    for name in (name for name in METHODS if name in found):
        other = witness if name == reference else reference
        of, by = (other, name) if other in _PER_PARAMETER else (name, other)
        if of == "central":
            error, part = _error_of_differences(problem, found[of][0], found[by][0][where], where)
        else:
            numbers = where if of in _PER_PARAMETER else None
            error, part = relative_error(found[of][0], found[by][0], problem.network.parts, numbers)
        results[name] = Result(error, other, part, found[name][1])
    return results


def _error_of_differences(problem: Problem, central: Array, truth: Array, where: Array) -> tuple[float, str]:
    """Return the largest error by the largest derivative, and its part; try smaller steps where one is off."""
    scale = max(float(np.max(np.abs(truth))), np.finfo(float).tiny)
    errors: Array = np.nan_to_num(np.abs(central - truth) / scale, nan=np.inf)
    for h in _SMALLER_STEPS:
        off = np.flatnonzero(errors > LIMITS["central"])[:500]
        errors[off] = np.fmin(errors[off], np.abs(differences(problem, h, where[off]) - truth[off]) / scale)
    worst = int(np.argmax(errors))
    return float(errors[worst]), next(name for name, s in problem.network.parts if s.start <= where[worst] < s.stop)


def relative_error(
    gradient: Array, reference: Array, parts: Sequence[tuple[str, slice]], where: Array | None = None
) -> tuple[float, str]:
    """Return the largest error, of each part relative to its largest derivative, and in which part it is.

    `gradient` may be that of the parameters numbered in `where` alone.
    """
    where = np.arange(len(reference)) if where is None else where
    errors = {}
    for name, part in parts:
        chosen = (where >= part.start) & (where < part.stop)
        error = float(np.max(np.abs(gradient[chosen] - reference[where[chosen]]), initial=0.0))
        scale = float(np.max(np.abs(reference[part]), initial=0.0))
        error = error / scale if scale else (np.inf if error else 0.0)
        errors[name] = error if error == error else np.inf  # NaN is the worst
    worst = max(errors, key=errors.__getitem__)
    return errors[worst], worst


def disagreements(measurements: Sequence[Measurement], what: str) -> list[str]:
    """Return a line for each error above its limit, the most trusted methods first."""
    lines = []
    for name, m in [(name, m) for name in METHODS for m in measurements if name in m.results]:
        result = m.results[name]
        limit = max(LIMITS[name], LIMITS[result.against])
        if not result.error <= limit:
            size = f"at depth {m.depth}, width {m.width}, " if m.paths else ""
            lines.append(
                f"{METHODS[name]} and {METHODS[result.against]} differ by {result.error:.1e}, relative, in"
                f" {result.where}, {size}{what}; at most {limit:.0e} is rounding"
            )
    return lines
