"""One gradient by all methods that apply: how far each is off, and how long it takes.

The reference is the delta recursion, and for a model of the user's, which has none, autodiff. The reference itself is
held against the complex step, where that applies, and against autodiff or differences where it does not.

An error is relative to the largest derivative of the same weights or biases, so that layers with small gradients
count as much as others. That of differences is relative to the largest derivative of all: what they round is the cost,
which knows no layers.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.autodiff import NotDifferentiable
from distbp.check.gradients import (
    by_autodiff,
    complex_step,
    count_paths,
    differences,
    path_sum,
    recursion,
    summed_by_ranks,
    why_no_complex_step,
)
from distbp.check.growth import stopwatch
from distbp.check.problem import ANALYTIC, Problem
from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.errors import UserError
from distbp.gradient.choose import gradient_reducer
from distbp.network.dense import Network
from distbp.network.user_functions import is_function_name
from distbp.randomness import bits, key, normal

__all__ = [
    "LIMITS", "METHODS", "Measurement", "Result", "compare", "complaints", "obstacle", "relative_error", "step_errors",
    "time_again",
]  # fmt: skip

Array = NDArray[Any]

METHODS = {
    "recursion": "delta recursion",
    "autodiff": "autodiff",
    "complex": "complex step",
    "paths": "sum over paths",
    "ranks": "sum over ranks",
    "central": "central differences",
}
"""In the order in which they are trusted."""
LIMITS = dict.fromkeys(METHODS, 1e-10) | {"central": 1e-6}

_SOME = ("central", "complex")
"""Methods whose work is proportional to the number of parameters: of large models they take some of them."""
_STEP = 1e-5
_SMALLER = (1e-6, 1e-7)
"""Steps for derivatives that are off by the first one: a kink may lie within it, which a wrong derivative survives."""
_MOST_PATHS = 200_000
_RANK_RUNS = 9
_LONG = 0.25
"""Seconds of work that is not timed again."""


@dataclass(frozen=True)
class Result:
    """What a method gave: its error, against which other method, where that is largest, and its seconds."""

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


# --- what applies --------------------------------------------------------------------------------------------------


def obstacle(problem: Problem, what: str, names: Sequence[str]) -> str:
    """Why the complex step does not apply, or ""; what is wrong with the user's functions is a `UserError`.

    `what` they are, as options; `names` of activation, loss or model.
    """
    try:
        np.asarray(problem.cost(problem.parameters(problem.network.theta)), np.float64)
        by_autodiff(problem)
    except NotDifferentiable as error:
        raise UserError(f"{what}: {error}") from error
    except UserError:
        raise
    except Exception as error:
        hint = "" if problem.y.ndim == 1 else "; --targets classes gives whole numbers"
        raise UserError(f"{what}: {type(error).__name__}: {error} (inputs and targets are random{hint})") from error
    kinked = [name for name in names if not is_function_name(name) and name not in ANALYTIC]
    if kinked:
        return f"{' and '.join(kinked)}: not analytic"
    n = problem.network.n_parameters
    return why_no_complex_step(problem, normal(key(0, "check direction"), np.arange(n)))


# --- how it is computed ----------------------------------------------------------------------------------------


def compare(
    problem: Problem, comm: Communicator, *, analytic: bool, most: float = np.inf, seed: int = 0
) -> Measurement | None:
    """All methods on one problem; called by all ranks, and rank 0 gets the answer.

    Parameters
    ----------
    problem : Problem
        The same on all ranks.
    comm : Communicator
        The ranks.
    analytic : bool
        Whether the complex step applies.
    most : float
        About the most seconds for differences, which then are of some of the parameters only, drawn by `seed`.
    seed : int
        Of that drawing.
    """
    summed = _by_ranks(problem, comm) if comm.size > 1 else None
    measured = _measured(problem, summed, analytic, most, seed) if comm.is_root else None
    wait_quietly(comm)
    return measured


def _measured(
    problem: Problem, summed: tuple[Array, float] | None, analytic: bool, most: float, seed: int
) -> Measurement:
    """What rank 0 does of `compare`, given the gradient that the ranks have summed."""
    network = problem.network
    dense = isinstance(network, Network)
    paths = count_paths(network.sizes) if dense else 0
    done = Measurement(len(network.sizes) - 1, network.sizes[0], network.n_parameters, paths)
    done.cost_seconds = _cost_seconds(problem)
    where = _drawn(network.n_parameters, most / (2.0 * done.cost_seconds), seed)
    found = {name: stopwatch(method) for name, method in _methods(problem, where, analytic, paths).items()}
    if summed is not None:
        found["ranks"] = summed
    done.results = _judge(problem, found, where)
    return done


def _methods(problem: Problem, where: Array, analytic: bool, paths: int) -> dict[str, Callable[[], Array]]:
    """The work of each method that applies on one rank."""
    work: dict[str, Callable[[], Array]] = {"autodiff": lambda: by_autodiff(problem)}
    if isinstance(problem.network, Network):
        work["recursion"] = lambda: recursion(problem)
        if paths <= _MOST_PATHS:
            work["paths"] = lambda: path_sum(problem)
    work["central"] = lambda: differences(problem, _STEP, where)
    if analytic:
        work["complex"] = lambda: complex_step(problem, where)
    return work


def _cost_seconds(problem: Problem) -> float:
    parameters = problem.parameters(problem.network.theta)
    return stopwatch(lambda: problem.cost(parameters))[1]


def time_again(problem: Problem, measured: Measurement) -> None:
    """Measure the shorter times of a dense network once more, and keep the best: others use the machine, too."""
    measured.cost_seconds = min(measured.cost_seconds, _cost_seconds(problem))
    everything = np.arange(measured.parameters)
    for name, method in _methods(problem, everything, "complex" in measured.results, measured.paths).items():
        before = measured.results[name]
        if before.seconds < _LONG:
            measured.results[name] = replace(before, seconds=min(before.seconds, stopwatch(method)[1]))


def _drawn(n: int, most: float, seed: int) -> Array:
    """All numbers of parameters, or up to `most` of them, but at least 20, in the order of a random permutation."""
    if n <= most:
        return np.arange(n)
    return np.argsort(bits(key(seed, "check parameters"), np.arange(n)))[: max(20, int(most))]


def _by_ranks(problem: Problem, comm: Communicator) -> tuple[Array, float]:
    """The gradient by all ranks, and the median of the seconds of some runs."""
    theta = problem.network.theta.copy()
    reducer = gradient_reducer(comm, problem.network, batch_size=len(problem.X))
    gradient, times = summed_by_ranks(problem, reducer), []
    for _ in range(_RANK_RUNS):
        comm.barrier()
        times.append(_seconds(lambda: summed_by_ranks(problem, reducer)))
    reducer.close()
    assert np.array_equal(problem.network.theta, theta)
    return gradient, float(np.median(times))


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _judge(problem: Problem, found: dict[str, tuple[Array, float]], where: Array) -> dict[str, Result]:
    """The error of each method."""
    reference = "recursion" if "recursion" in found else "autodiff"
    judge = next(name for name in ("complex", "autodiff", "central") if name in found and name != reference)
    results = {}
    for name in METHODS:
        if name not in found:
            continue
        gradient, seconds = found[name]
        other = judge if name == reference else reference
        error, part = _error(problem, found, where, name, other)
        results[name] = Result(error, other, part, seconds)
    return results


def _error(
    problem: Problem, found: dict[str, tuple[Array, float]], where: Array, name: str, other: str
) -> tuple[float, str]:
    """The largest error of one method against another, and in which part."""
    if name not in _SOME and other in _SOME:
        name, other = other, name
    parts, gradient, reference = problem.network.parts, found[name][0], found[other][0]
    if name == "central":
        errors = _difference_errors(problem, gradient, reference[where], where)
        worst = int(np.argmax(errors))
        return float(errors[worst]), next(part for part, s in parts if s.start <= where[worst] < s.stop)
    return relative_error(gradient, reference, parts, where if name in _SOME else None)


def _difference_errors(problem: Problem, central: Array, truth: Array, where: Array) -> Array:
    """Of each difference, relative to the largest derivative; smaller steps are tried where it is off."""
    scale = max(float(np.max(np.abs(truth))), np.finfo(float).tiny)
    errors: Array = np.nan_to_num(np.abs(central - truth) / scale, nan=np.inf)
    for h in _SMALLER:
        off = np.flatnonzero(errors > LIMITS["central"])[:500]
        if len(off):
            again = np.abs(differences(problem, h, where[off]) - truth[off]) / scale
            errors[off] = np.fmin(errors[off], again)
    return errors


def relative_error(
    gradient: Array, reference: Array, parts: Sequence[tuple[str, slice]], where: Array | None = None
) -> tuple[float, str]:
    """The largest error, and in which part: of each part, relative to its largest derivative.

    `gradient` may be that of the parameters numbered in `where` alone.
    """
    where = np.arange(len(reference)) if where is None else where
    worst, place = -1.0, ""
    for name, part in parts:
        chosen = (where >= part.start) & (where < part.stop)
        error = float(np.max(np.abs(gradient[chosen] - reference[where[chosen]]), initial=0.0))
        scale = float(np.max(np.abs(reference[part]), initial=0.0))
        error = error / scale if scale else (np.inf if error else 0.0)
        if not error <= worst:  # so that NaN is the worst
            worst, place = error if error == error else np.inf, name
    return worst, place


def step_errors(problem: Problem, steps: Sequence[float], *, most: float = np.inf, seed: int = 0) -> list[list[float]]:
    """For each step h the relative errors of forward and central differences, against autodiff."""
    where = _drawn(problem.network.n_parameters, most / (3.0 * len(steps) * _cost_seconds(problem)), seed)
    truth = by_autodiff(problem)[where]
    scale = float(np.max(np.abs(truth)))
    return [
        [
            float(np.max(np.abs(differences(problem, h, where, central=central) - truth))) / scale
            for central in (False, True)
        ]
        for h in steps
    ]


def complaints(measurements: Sequence[Measurement], what: str) -> list[str]:
    """A line for each error above its limit, the most trusted methods first."""
    lines = []
    for name in METHODS:
        for m in measurements:
            result = m.results.get(name)
            if result is None:
                continue
            limit = max(LIMITS[name], LIMITS[result.against])
            if not result.error <= limit:
                size = f"at depth {m.depth}, width {m.width}, " if m.paths else ""
                lines.append(
                    f"{METHODS[name]} and {METHODS[result.against]} differ by {result.error:.1e}, relative, in"
                    f" {result.where}, {size}{what}; at most {limit:.0e} is rounding"
                )
    return lines
