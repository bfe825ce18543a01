"""One exact gradient step, or many approximate ones? And what is an error made of?

The experiment ``tradeoff`` has two parts, a `race` on a million rows and the `split` of the excess error of smaller
trainings. Rates are tuned, each method's its own, before anything is compared:

    mini-batches        a fifth of the steps of the race, on all rows
    gradient descent    all of its steps, on a twentieth of the rows, for its best rate does not depend on their number
    the split           a quarter of the budget, on the most rows, each width its own

The best is the one with the least loss on training rows at the end.
"""

import argparse
import math
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data, Prepared
from distbp.data.synthetic import SyntheticDataset, read_synthetic
from distbp.errors import UsageError, UserError
from distbp.run.build import with_usual
from distbp.run.options import TrainConfig
from distbp.study.experiment import Experiment, at_least_1, listed, numbers, refuse
from distbp.study.tradeoff.figures import figures
from distbp.study.tradeoff.race import MEASURED, Race, Rows, drawn, in_memory, race
from distbp.study.tradeoff.split import Fit, fit
from distbp.study.trials import groups_of, say, work_through
from distbp.trainer.evaluation import EVALUATION_BLOCK

_LEAST = 2 * EVALUATION_BLOCK


def _add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--rows", type=int, metavar="N", help="training rows of the race [all]")
    add("--batch-sizes", default="100,1000,10000", metavar="B,...", help="of the race [100,1000,10000]")
    add("--passes", type=int, default=100, metavar="N", help="of gradient descent and L-BFGS over all rows [100]")
    add("--lbfgs", action=argparse.BooleanOptionalAction, default=True, help="whether L-BFGS takes part [yes]")
    add("--sizes", default="100,500,2500,12500,62500", metavar="N,...", help="rows in the split [100,500,...,62500]")
    add("--widths", default="2,4,8,32", metavar="U,...", help="hidden units in the split; none: linear [2,4,8,32]")
    add("--budget", type=int, default=1_000_000, metavar="N", help="examples of a long run in the split [1000000]")
    add("--rates", default="0.1,0.3,1,3,10", metavar="R,...", help="learning rates to choose from [0.1,0.3,1,3,10]")
    add("--seeds", type=int, default=3, metavar="N", help="repetitions of each: start, batches, rows [3]")


def _ask(options: Namespace, config: TrainConfig, data: Data) -> dict[str, Any]:
    at_least_1(options, "passes", "budget", "seeds")
    if config.steps is not None or config.epochs == 0:
        raise UsageError("--epochs, at least 1, say how long the mini-batches of the race take; leave --steps out")
    refuse(
        config,
        model="the study varies the --widths of a dense network; leave it out",
        dropout="the methods need one objective to minimise; leave it out",
    )
    if options.lbfgs and find_spec("scipy") is None:
        raise UserError(
            "L-BFGS needs scipy, which is not installed: pip install 'distbp[study]', or leave it out with --no-lbfgs"
        )
    rows = data.train.n_rows if options.rows is None else options.rows
    if not 1 <= rows <= data.train.n_rows:
        raise UsageError(f"--rows {rows}: between 1 and the {data.train.n_rows} training rows")
    batch_sizes, sizes = (listed(options, name) for name in ("batch_sizes", "sizes"))
    for option, most in ("batch-sizes", batch_sizes[-1]), ("sizes", sizes[-1]):
        if most > rows:
            raise UsageError(f"--{option} {most}: at most the {rows} rows of the race")
    if (test := data.test or data.validation) is None:
        raise UserError("no test rows: give --test-fraction, --test-data or --validation-fraction")
    return {
        "rows": rows, "batch_sizes": batch_sizes, "epochs": 10 if config.epochs is None else config.epochs,
        "passes": options.passes, "lbfgs": options.lbfgs, "sizes": sizes, "widths": _widths(options.widths),
        "batch": with_usual(config).batch_size,
        "budget": options.budget, "rates": listed(options, "rates", float), "seeds": options.seeds,
        "kind": data.target.kind, "test_rows": min(test.n_rows, MEASURED), "best": _best_possible(config, data, test),
    }  # fmt: skip


def _widths(text: str) -> list[int]:
    """Return ``none,2,8`` as hidden units, 0 for none."""
    parts = [part.strip() for part in text.split(",")]
    units = [part for part in parts if part != "none"]
    return [0] * ("none" in parts) + (numbers(",".join(units), "--widths", int) if units else [])


def _best_possible(config: TrainConfig, data: Data, test: Prepared) -> float | None:
    """Return the share of measured test rows that the best possible prediction has wrong; None if it is not known."""
    if not config.data.startswith("synthetic:") or config.validation_data or config.test_data:
        return None
    source: SyntheticDataset = read_synthetic(config.data.partition(":")[2])
    X, y, _ = test.take(drawn(test.n_rows, MEASURED, config.seed, "test"))
    scale, shift = np.array(data.preprocessor.scale), np.array(data.preprocessor.shift)
    scores = source.log_densities(X / scale + shift)
    return None if scores is None else float(np.mean(scores.argmax(axis=1) != y))


def _run(asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator, folder: Path) -> list[Race | Fit]:
    group = groups_of(comm, asked["ranks_per_trial"])
    test = data.test or data.validation
    assert test is not None
    train = in_memory(data.train, drawn(data.train.n_rows, asked["rows"], config.seed, "train"))
    measured = in_memory(test, drawn(test.n_rows, MEASURED, config.seed, "test"))
    rows = Rows(train, measured, _head(train, MEASURED))
    part = Rows(_head(train, max(min(train.n_rows, _LEAST), train.n_rows // 20)), measured, rows.sample)

    def do(trial: Race | Fit, group: Communicator) -> dict[str, Any]:
        if isinstance(trial, Fit):
            return fit(trial, config, data, rows, group)
        return race(trial, config, data, part if trial.tuning and trial.method == "gd" else rows, group)

    first = _tunings(asked)
    second = _trials(asked, work_through(first, do, group, folder, say, "tuning"))
    work_through(second, do, group, folder, say, "race and split")
    return [*first, *second]


def _head(rows: Prepared, n: int) -> Prepared:
    return rows if n >= rows.n_rows else in_memory(rows, np.arange(n))


def _steps(asked: dict[str, Any]) -> dict[int, int]:
    """Return the steps of the race for each batch size."""
    return {b: asked["epochs"] * -(-asked["rows"] // b) for b in asked["batch_sizes"]}


def _tunings(asked: dict[str, Any]) -> list[Race | Fit]:
    trials: list[Race | Fit] = []
    most, budget, batch = asked["sizes"][-1], asked["budget"] // 4, asked["batch"]
    for rate in asked["rates"]:
        trials += [Race(f"b={b}", 0, rate, max(1, n // 5), b, tuning=True) for b, n in _steps(asked).items()]
        trials += [Race("gd", 0, rate, asked["passes"], asked["rows"] // 20, tuning=True)]
        trials += [Fit(most, width, 0, rate, budget, batch, tuning=True) for width in asked["widths"]]
    return trials


def _trials(asked: dict[str, Any], results: dict[str, dict[str, Any]]) -> list[Race | Fit]:
    """Return the race and the split, at the rates that the tunings, with these `results`, found best."""
    trials: list[Race | Fit] = []

    def best(name: str, value: Any) -> float:
        found = [one for one in results.values() if one.get(name) == value]
        score = [math.inf if one["diverged"] else one["curve"]["train"][-1] for one in found]
        if not found or min(score) == math.inf:
            raise UserError(f"every run with {name} {value} diverged: give lower --rates")
        return float(found[score.index(min(score))]["rate"])

    small = [(b, best("method", f"b={b}"), steps) for b, steps in _steps(asked).items()]
    of_gd, of_width = best("method", "gd"), {width: best("width", width) for width in asked["widths"]}
    rows, passes, budget, batch = (asked[name] for name in ("rows", "passes", "budget", "batch"))
    for seed in range(asked["seeds"]):
        trials += [Race(f"b={b}", seed, rate, steps, b) for b, rate, steps in small]
        trials += [Race("gd", seed, of_gd, passes, rows), Race("exact", seed, 0.0, 1, rows)]
        trials += [Race("lbfgs", seed, 0.0, passes, rows)] if asked["lbfgs"] else []
        trials += [Fit(n, width, seed, of_width[width], budget, batch) for n in asked["sizes"] for width in of_width]
    return trials


TRADEOFF = Experiment(
    about="one exact gradient step or many approximate ones; approximation, estimation and optimisation error",
    defaults=(
        "--recipe", "plain", "--validation-fraction", "0",
        "--data", "synthetic:spirals,rows=1250000,columns=2,classes=2,noise=0.1",
        "--hidden", "32", "--optimizer", "sgd", "--epochs", "10",
    ),  # fmt: skip
    add_options=_add_options, ask=_ask, run=_run, figures=figures,
)  # fmt: skip
