"""How stable is mini-batch backpropagation: what one example of the training data does to the network.

The experiment of Hardt, Recht & Singer (2016, "Train faster, generalize better", arXiv:1509.01240), section 7. Pairs of
networks are trained from the same start through the same permutations, on data that differ in one row; their distance
and the generalisation gap (held-out minus training) are followed, for several learning rates, batch sizes and replaced
rows. Beside them:

* the control: a row that is replaced by itself must leave a distance of exactly 0;
* the convex case: logistic regression on the same rows, whose distance has a bound; see `bound`.
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data, Prepared
from distbp.data.sampling import BatchSampler
from distbp.errors import UsageError, UserError
from distbp.run.build import build_trainer, run_length
from distbp.run.options import TrainConfig
from distbp.study.experiment import OWN, Experiment, at_least_1, listed, of_trial, refuse
from distbp.study.stability.bound import constants, growth, largest_rate, meetings
from distbp.study.stability.figures import figures
from distbp.study.stability.twins import apart, by_layer, twins
from distbp.study.trials import by_name, groups_of, marks, say, train_and_measure, work_through
from distbp.trainer.trainer import Trainer

_CONVEX: dict[str, Any] = {
    "hidden": "none", "model": None, "loss": "softmax-cross-entropy", "optimizer": "sgd", "schedule": "constant",
    "warmup": "0", "weight_decay": 0.0, "clip_norm": None, "dropout": 0.0, "dtype": "float64",
}  # fmt: skip
"""What the bound takes for granted."""


@dataclass(frozen=True)
class Pair:
    """A trial: two trainings on data that differ in one row.

    The number of the replacement is the repetition too: parameters and permutations start from the seed of the study
    plus this number. None is the control, which replaces a row by itself.
    """

    kind: str  # "network", the one that was asked for, or "convex", logistic regression
    batch_size: int
    rate: float
    replacement: int | None
    steps: int = field(compare=False)

    def __str__(self) -> str:
        what = "control" if self.replacement is None else f"replacement {self.replacement}"
        return f"{self.kind} batch {self.batch_size} rate {self.rate!r} {what}"

    def cost(self) -> float:
        """Return about how long it takes beside the others."""
        return self.steps * (200.0 + self.batch_size)


def pairs(asked: dict[str, Any]) -> list[Pair]:
    """Return all trials of a study, from its ``study.json``."""
    return [
        Pair(kind, b, rate, replacement, steps)
        for kind, rates in (("network", asked["rates"]), ("convex", asked["convex_rates"]))
        for b, steps in zip(asked["batch_sizes"], asked["steps"], strict=True)
        for rate in rates
        for replacement in [None, *range(asked["replacements"])]
    ]


def _add_options(parser: ArgumentParser) -> None:
    convex = "those of logistic regression; the bound holds up to 2/beta [a quarter, half and all of it, rounded down]"
    longer = "with --steps, small batches train longer: so many times a pair meets the row that differs [10]"
    add = parser.add_argument
    add("--batch-sizes", default="8,32,128", metavar="B,B,...", help="batch sizes [8,32,128]")
    add("--rates", default="0.05,0.1,0.2", metavar="X,X,...", help="learning rates [0.05,0.1,0.2]")
    add("--convex-rates", metavar="X,X,...", help=convex)
    add("--replacements", type=int, default=5, metavar="N", help="rows to replace, one at a time [5]")
    add("--least-epochs", type=int, default=10, metavar="N", help=longer)


def _ask(options: Namespace, config: TrainConfig, data: Data) -> dict[str, Any]:
    at_least_1(options, "replacements", "least_epochs")
    equally_long = "both networks of a pair must train equally long"
    rates_alike = "the rates of this study are --rates, at every batch size alike"
    refuse(config, **OWN, lr_scaling=rates_alike, early_stopping=equally_long, target_metric=equally_long)
    sizes, n = listed(options, "batch_sizes"), data.train.n_rows - options.replacements
    if sizes[-1] > n:
        raise UserError(
            f"--batch-sizes {options.batch_sizes}: {sizes[-1]} is above the {max(n, 0)} rows that are left of"
            f" {data.train.n_rows} when {options.replacements} (--replacements) are set aside"
        )
    if data.test is None and data.validation is None:
        raise UserError("the generalisation gap needs rows that are not trained on: give --test-fraction 0.2")
    return {
        "batch_sizes": sizes, "rates": listed(options, "rates", float), "replacements": options.replacements,
        "rows_of_a_twin": n, "steps": [_steps(config, n, b, options.least_epochs) for b in sizes],
        "held_out": "validation" if data.test is None else "test",
        "measure": "error" if data.target.kind == "classes" else "loss", **_ask_convex(options, data),
    }  # fmt: skip


def _ask_convex(options: Namespace, data: Data) -> dict[str, Any]:
    if data.target.kind != "classes":
        if options.convex_rates is not None:
            raise UsageError(f"--convex-rates {options.convex_rates}: logistic regression needs classes to learn")
        return {"convex_rates": [], "lipschitz": None, "smoothness": None}
    found = constants(data.train)
    rates = listed(options, "convex_rates", float) or [largest_rate(found.limit) * part for part in (0.25, 0.5, 1.0)]
    return {"convex_rates": rates, "lipschitz": found.lipschitz, "smoothness": found.smoothness}


def _steps(config: TrainConfig, n: int, batch_size: int, least_epochs: int) -> int:
    """Return how long a pair trains: as `distbp.train`, but --steps never means less than so many epochs."""
    epochs, steps = run_length(config)
    sampler = BatchSampler(n, batch_size, drop_last=config.drop_last)
    least = least_epochs * sampler.steps_per_epoch
    return max(1, sampler.total_steps(epochs, None if steps is None else max(steps, least)))


def _run(asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator, folder: Path) -> list[Pair]:
    def do(pair: Pair, group: Communicator) -> dict[str, Any]:
        return run_pair(pair, asked, config, data, group)

    trials = pairs(asked)
    work_through(trials, do, groups_of(comm, asked["ranks_per_trial"]), folder, say, "pairs")
    return trials


def run_pair(pair: Pair, asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator) -> dict[str, Any]:
    """Train both networks of a pair in turn to the same marks on all ranks of `comm`; return its line of results."""
    one, other, place = twins(data.train, asked["replacements"], pair.replacement, seed=config.seed)
    config = of_trial(
        config, **(_CONVEX if pair.kind == "convex" else {}),
        batch_size=pair.batch_size, lr=pair.rate, seed=config.seed + (pair.replacement or 0), steps=pair.steps,
    )  # fmt: skip
    with ExitStack() as at_end:
        views = (dataclasses.replace(data, train=rows) for rows in (one, other))
        trainers = [at_end.enter_context(closing(build_trainer(config, view, comm))) for view in views]

        def train(step: int) -> None:
            for trainer in trainers:
                trainer.fit_until(steps=step)

        def measure() -> dict[str, float]:
            return _measure(trainers, getattr(data, asked["held_out"]), asked["measure"])

        at = marks(pair.steps)
        measured, diverged = train_and_measure(at, train, measure)
    at, columns, sampler = at[: len(measured)], by_name(measured), trainers[0].sampler
    met, sizes = meetings(sampler, place, pair.steps)
    if pair.kind == "convex":
        columns["bound"] = (2.0 * pair.rate * asked["lipschitz"] * growth(met, sizes, np.array(at, int))).tolist()
    return {
        **dataclasses.asdict(pair), "row": int(one.rows[place]), "by": int(other.rows[place]), "diverged": diverged,
        "step": at, "epoch": [sampler.epochs(step) for step in at], "met": np.searchsorted(met, at).tolist(), **columns,
        "summary": f"diverged before step {diverged}" if diverged else f"distance {columns['distance'][-1]:.3g}",
    }  # fmt: skip


def _measure(trainers: list[Trainer], held_out: Prepared, measure: str) -> dict[str, float]:
    """Return how far apart the networks are, in all and by layer, and how the first does on trained and other rows."""
    a, b = (trainer.network.theta for trainer in trainers)
    found, one = dict(zip(("distance", "relative"), apart(a, b), strict=True)), trainers[0]
    for name, places in by_layer(one.network.parts).items():
        found[f"distance/{name}"], found[f"relative/{name}"] = apart(a[places], b[places])
    for name, rows in ("train", one.train), ("held_out", held_out):
        figures = one.evaluate(rows)
        found[f"loss/{name}"] = figures["loss"]
        if measure == "error":
            found[f"error/{name}"] = 1.0 - figures["accuracy"]
    return found


STABILITY = Experiment(
    about="twins: what one example does to the parameters, and the generalisation gap, by learning rate and batch size",
    defaults=("--recipe", "plain", "--data", "digits", "--hidden", "128", "--optimizer", "sgd", "--dtype", "float64"),
    add_options=_add_options, ask=_ask, run=_run, figures=figures,
)  # fmt: skip
