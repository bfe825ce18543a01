"""Front door: ``python -m distbp.check``: the lecture's argument as an experiment.

One gradient, by the sum over all paths, the delta recursion, automatic differentiation, central differences and the
complex step, on networks of growing depth and width: the error and the time of each, and how they grow. Under
``mpirun -n P`` also the gradient that P ranks sum. An activation, loss or model of your own is checked the same way.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

from distbp.check.comparison import compare, obstacle, step_errors, time_again
from distbp.check.errors import disagreements
from distbp.check.growth import product_graphs
from distbp.check.problem import TARGETS, Problem, dense_problem, model_problem
from distbp.check.report import Report
from distbp.comm.agreement import on_root, wait_quietly
from distbp.comm.communicator import Communicator
from distbp.comm.world import communicator
from distbp.errors import DONE, UsageError, UserError
from distbp.markup import plain
from distbp.network.activations import ACTIVATIONS
from distbp.network.losses import LOSSES
from distbp.network.user_functions import is_function_name, resolve
from distbp.run.blas import limited_blas
from distbp.run.entry_point import run

NETWORKS: dict[int, tuple[int, ...]] = {
    2: (4, 8, 12, 16), 4: (2, 4, 6, 8), 8: (2, 3, 4, 5, 8, 16, 32, 64), 16: (2,), 32: (2,), 64: (2,),
}  # fmt: skip
"""Depths by width. The depth is the number of layers of weights."""
QUICK: dict[int, tuple[int, ...]] = {2: (4, 7, 10), 4: (2, 4, 6), 8: (2, 4, 8, 16)}
STEPS = [10.0 ** (-k / 2.0) for k in range(2, 27)]
_STEPS_OF = (8, 3)  # width and depth of the network whose differences are taken with many steps
_MODEL_SECONDS = 3.0  # about the most for the differences of a model, which may be large and slow


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m distbp.check", description=plain(__doc__), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--activation", help=f"{', '.join(ACTIVATIONS)}, or module:function; tanh by default")
    parser.add_argument("--loss", default="squared-error", help=f"{', '.join(LOSSES)}, or module:function")
    parser.add_argument("--model", metavar="MODULE:NAME", help="a pair (init, predict) in place of dense networks")
    parser.add_argument("--inputs", type=int, metavar="N", help="inputs of a row for --model; 8 by default")
    parser.add_argument("--outputs", type=int, metavar="N", help="outputs, and targets, for --model; 3 by default")
    parser.add_argument("--targets", choices=TARGETS, default="auto", help="random targets; auto: what the loss wants")
    parser.add_argument("--seed", type=int, default=0, help="of parameters and data; 0 by default")
    parser.add_argument("--plot", metavar="FILE", help="draw times and errors: .png, .svg or .pdf; needs matplotlib")
    parser.add_argument("--quick", action="store_true", help="small networks only, in some seconds")
    options = parser.parse_args(arguments)
    return run(lambda comm: check(options, comm), lambda: communicator(elastic=False))


def check(options: argparse.Namespace, comm: Communicator) -> int:
    """Check as `options` say, on all ranks of `comm`; an error above its limit is a `UserError` on all of them."""
    _refuse(options)
    # a user's function may overflow: its numbers tell
    with limited_blas(comm, 1), warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        report = _check_model(options, comm) if options.model else _check_networks(options, comm)
    wrong: list[str] = comm.bcast_obj(disagreements(report.measurements, report.what) + report.wrong_graphs())
    if options.plot:
        from distbp.check.plot import draw

        on_root(comm, lambda: draw(report, options.plot), f"--plot {options.plot}")
        _print(comm, ["", f"plot: {options.plot}"])
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(wrong[0] + more)
    _print(comm, ["", "all methods agree"])
    return DONE


def _refuse(options: argparse.Namespace) -> None:
    """Refuse options that cannot be honoured, before any work."""
    name = options.activation or "tanh"
    if not is_function_name(name) and name not in ACTIVATIONS:
        raise UsageError(f"--activation {name}: one of {', '.join(ACTIVATIONS)}, or module:function")
    if not is_function_name(options.loss) and options.loss not in LOSSES:
        raise UsageError(f"--loss {options.loss}: one of {', '.join(LOSSES)}, or module:function")
    for option in ("inputs", "outputs"):
        value = getattr(options, option)
        if value is not None and not options.model:
            raise UsageError(f"--{option} is for --model; dense networks of several sizes are made without it")
        if value is not None and value < 1:
            raise UsageError(f"--{option} {value}: at least 1")
    if options.activation and options.model:
        raise UsageError("--activation is for dense networks, and --model has its own")
    if options.seed < 0:
        raise UsageError(f"--seed {options.seed}: at least 0")
    if options.plot and not options.plot.endswith((".png", ".svg", ".pdf")):
        raise UsageError(f"--plot {options.plot}: a name that ends in .png, .svg or .pdf")
    if options.plot and find_spec("matplotlib") is None:
        raise UserError("--plot needs matplotlib, which is not installed: pip install matplotlib")


def _check_networks(options: argparse.Namespace, comm: Communicator) -> Report:
    """Check dense networks of all sizes; print the table while the times are measured for the last time."""
    activation = options.activation or "tanh"
    outputs = getattr(resolve(options.loss, "--loss"), "n_outputs", None) if is_function_name(options.loss) else None

    def problem(width: int, depth: int) -> Problem:
        sizes = [width] * depth + [outputs or width]
        return dense_problem(sizes, activation, options.loss, targets=options.targets, seed=options.seed)

    what = f"--activation {activation} --loss {options.loss}"
    example = problem(*_STEPS_OF)
    why_not = obstacle(example, what, (activation, options.loss))
    report = Report(what, comm.size, [f"complex step: does not apply, {why_not}"] if why_not else [])
    _print(comm, report.head_lines())
    problems = [problem(w, depth) for w, depths in (QUICK if options.quick else NETWORKS).items() for depth in depths]
    found = [(each, m) for each in problems if (m := compare(each, comm, analytic=not why_not)) is not None]
    if comm.is_root:
        for is_last in [True] if options.quick else [False, True]:  # what disturbs one turn does not disturb all
            for each, measured in found:
                time_again(each, measured)
                if is_last:
                    report.measurements.append(measured)
                    print(report.row(), flush=True)
        report.steps = list(zip(STEPS, step_errors(example, STEPS), strict=True))
        report.graphs = product_graphs()
        parts = (report.growth_lines(), report.step_lines(), report.product_lines())
        _print(comm, [*report.remarks, *(line for part in parts for line in ("", *part))])
    wait_quietly(comm)
    return report


def _check_model(options: argparse.Namespace, comm: Communicator) -> Report:
    """Check the user's model, by what applies."""
    problem = model_problem(
        options.model, options.inputs or 8, options.outputs or 3, options.loss,
        targets=options.targets, seed=options.seed,
    )  # fmt: skip
    what = f"--model {options.model} --loss {options.loss}"
    why_not = obstacle(problem, what, (options.model, options.loss))
    remarks = [f"complex step: does not apply, {why_not}"] if why_not else []
    remarks.insert(0, "sum over paths, delta recursion: do not apply, they are for dense networks")
    report = Report(what, comm.size, remarks)
    max_seconds = _MODEL_SECONDS / (10.0 if options.quick else 1.0)
    measured = compare(problem, comm, analytic=not why_not, max_seconds=max_seconds, seed=options.seed)
    if measured is not None:
        report.measurements.append(measured)
        errors = step_errors(problem, STEPS, max_seconds=max_seconds, seed=options.seed)
        report.steps = list(zip(STEPS, errors, strict=True))
        _print(comm, [*report.model_lines(len(problem.X)), *report.remarks, "", *report.step_lines()])
    return report


def _print(comm: Communicator, lines: Sequence[str]) -> None:
    if comm.is_root:
        print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
