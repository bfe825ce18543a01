"""One gradient by all methods that apply: how far each is off (`errors`), and how long it takes."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from distbp.autodiff import NotDifferentiable
from distbp.check import gradients
from distbp.check.errors import Measurement, results_of
from distbp.check.growth import stopwatch, timed
from distbp.check.problem import ANALYTIC, Array, Problem
from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.errors import UserError
from distbp.gradient.choose import gradient_reducer
from distbp.network.dense import Network
from distbp.network.user_functions import is_function_name
from distbp.randomness import bits, key, normal

_STEP = 1e-5
_MOST_PATHS = 200_000
_RANK_RUNS = 9
_LONG = 0.25  # seconds of work that is not timed again


def obstacle(problem: Problem, what: str, names: Sequence[str]) -> str:
    """Return why the complex step does not apply, or "".

    `what` is differentiated, as options; `names` are those of activation, loss or model. What is wrong with functions
    of the user's is a `UserError`.
    """
    try:
        np.asarray(problem.cost(problem.parameters(problem.network.theta)), np.float64)
        gradients.by_autodiff(problem)
    except NotDifferentiable as error:
        raise UserError(f"{what}: {error}") from error
    except UserError:
        raise
    except Exception as error:
        hint = "" if problem.y.ndim == 1 else "; --targets classes gives whole numbers"
        raise UserError(f"{what}: {type(error).__name__}: {error} (inputs and targets are random{hint})") from error
    if kinked := [name for name in names if not is_function_name(name) and name not in ANALYTIC]:
        return f"{' and '.join(kinked)}: not analytic"
    n = problem.network.n_parameters
    return gradients.why_no_complex_step(problem, normal(key(0, "check direction"), np.arange(n)))


def compare(
    problem: Problem, comm: Communicator, *, analytic: bool, max_seconds: float = np.inf, seed: int = 0
) -> Measurement | None:
    """Compare all methods on one problem, the same on all ranks, which all call this; rank 0 gets the answer.

    The complex step applies where the cost is `analytic`. Where differences would take more than about `max_seconds`,
    they are of some of the parameters only, drawn by `seed`.
    """
    ranks = {"ranks": _by_ranks(problem, comm)} if comm.size > 1 else {}
    done = None
    if comm.is_root:
        network = problem.network
        paths = gradients.count_paths(network.sizes) if isinstance(network, Network) else 0
        done = Measurement(len(network.sizes) - 1, network.sizes[0], network.n_parameters, paths)
        done.cost_seconds = _cost_seconds(problem)
        where = _sampled(network.n_parameters, max_seconds / (2.0 * done.cost_seconds), seed)
        found = {name: stopwatch(method) for name, method in _methods(problem, where, analytic, paths).items()}
        done.results = results_of(problem, found | ranks, where)
    wait_quietly(comm)
    return done


def _methods(problem: Problem, where: Array, analytic: bool, paths: int) -> dict[str, Callable[[], Array]]:
    """Return the work of each method that applies on one rank."""
    work: dict[str, Callable[[], Array]] = {"autodiff": lambda: gradients.by_autodiff(problem)}
    if isinstance(problem.network, Network):
        work["recursion"] = lambda: gradients.recursion(problem)
        if paths <= _MOST_PATHS:
            work["paths"] = lambda: gradients.path_sum(problem)
    work["central"] = lambda: gradients.differences(problem, _STEP, where)
    if analytic:
        work["complex"] = lambda: gradients.complex_step(problem, where)
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


def _sampled(n: int, most: float, seed: int) -> Array:
    """Return the numbers of all parameters; of more than `most`, that many but at least 20 in random order."""
    numbers = np.arange(n)
    return numbers if n <= most else np.argsort(bits(key(seed, "check parameters"), numbers))[: max(20, int(most))]


def _by_ranks(problem: Problem, comm: Communicator) -> tuple[Array, float]:
    """Return the gradient by all ranks, and the median of the seconds of some runs."""
    theta = problem.network.theta.copy()
    reducer = gradient_reducer(comm, problem.network, batch_size=len(problem.X))
    gradient, times = gradients.summed_by_ranks(problem, reducer), []
    for _ in range(_RANK_RUNS):
        comm.barrier()
        times.append(timed(lambda: gradients.summed_by_ranks(problem, reducer))[1])
    reducer.close()
    assert np.array_equal(problem.network.theta, theta)
    return gradient, float(np.median(times))


def step_errors(
    problem: Problem, steps: Sequence[float], *, max_seconds: float = np.inf, seed: int = 0
) -> list[list[float]]:
    """Return for each step h the relative errors of forward and central differences, against autodiff."""
    where = _sampled(problem.network.n_parameters, max_seconds / (3.0 * len(steps) * _cost_seconds(problem)), seed)
    truth = gradients.by_autodiff(problem)[where]
    scale = float(np.max(np.abs(truth)))

    def error(h: float, central: bool) -> float:
        return float(np.max(np.abs(gradients.differences(problem, h, where, central=central) - truth))) / scale

    return [[error(h, central) for central in (False, True)] for h in steps]
