"""The lecture's assignment: what the mini-batch size does to the efficiency and to the prediction error of a network.

Each batch size is tried with each learning rate, on the first seed; the other seeds run with the rates that were best
for their batch size, and with the rates beside the fastest. So no batch size is judged at the best rate of another one
(Shallue et al. 2019 found that behind many contradictions in the literature). A trial runs for at least so many epochs
and at least so many steps, and is measured at geometrically spaced steps: results at equal epochs, steps and seconds
come from the same trials.
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.data.loading import Data
from distbp.data.prepared import Prepared
from distbp.errors import Diverged, UsageError, UserError
from distbp.optim.rules import OPTIMIZERS
from distbp.run.build import build_trainer
from distbp.run.options import TrainConfig
from distbp.study.batch_size.figures import figures
from distbp.study.batch_size.results import choose_goal, rates_worth_repeating
from distbp.study.experiment import Experiment, at_least_1, listed, of_trial, refuse
from distbp.study.trials import Say, agreed_results, groups_of, marks, work_through
from distbp.trainer import noise_scale
from distbp.trainer.trainer import Trainer

__all__ = ["BATCH_SIZE", "BatchSizeTrial", "batch_sizes_up_to", "measured", "run_trial"]

_DEFAULTS = ("--optimizer", "sgd", "--hidden", "128", "--noise-scale", "5", "--validation-fraction", "0.2")
_NOT_HERE = {
    "batch_size": "the batch sizes of this study are --batch-sizes",
    "lr": "the rates of this study are --rates",
    "lr_scaling": "each batch size has its own best one of --rates",
    "epochs": "every training has --least-epochs, and more where these are fewer than --least-steps",
    "steps": "every training has --least-steps, and more where these are less than --least-epochs",
    "early_stopping": "every training goes to its end, and counts by its best validation error",
    "target_metric": "the goal of this study is --goal",
}


@dataclass(frozen=True, order=True)
class BatchSizeTrial:
    """A training with one batch size, learning rate and seed, of so many steps."""

    batch_size: int
    rate: float
    seed: int
    steps: int

    def __str__(self) -> str:
        return f"B={self.batch_size} rate={self.rate:g} seed={self.seed} steps={self.steps}"

    def cost(self) -> float:
        """Return about how long it takes: a step costs something, and each row in it."""
        return self.steps * (40.0 + self.batch_size)


def batch_sizes_up_to(rows: int, first: int = 4) -> list[int]:
    """Return powers of two from `first` on, and all rows as the last: the full batch."""
    powers = [first << k for k in range(64) if first << k < rows]
    if len(powers) > 1 and powers[-1] * 1.5 > rows:
        powers.pop()
    return [*powers, rows]


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch-sizes", metavar="B,B,...", help="powers of two from 4 on, and all rows, by default")
    parser.add_argument("--rates", metavar="R,R,...", help="learning rates; eight around the optimizer's default")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="trainings of each kind [5]")
    parser.add_argument("--goal", metavar="METRIC=VALUE", help="e.g. error/val=0.05; chosen from the data by default")
    parser.add_argument("--least-epochs", type=int, default=30, metavar="N", help="of each training [30]")
    parser.add_argument("--least-steps", type=int, default=1000, metavar="N", help="of each training [1000]")
    parser.add_argument(
        "--halving", action="store_true",
        help="end hopeless trainings early: all rates for 1/8 of the steps, the better half of them for 1/4, and so on",
    )  # fmt: skip


def _ask(options: argparse.Namespace, config: TrainConfig, data: Data) -> dict[str, Any]:
    refuse(config, _NOT_HERE)
    rows = data.train.n_rows
    sizes = listed(options, "batch_sizes") or batch_sizes_up_to(rows)
    if sizes[-1] > rows:
        raise UserError(f"--batch-sizes {sizes[-1]}: there are {rows} training rows")
    rates = listed(options, "rates", float)
    rates = rates or [OPTIMIZERS[config.optimizer].lr_default * 2.0**k for k in range(-2, 6)]
    at_least_1(options, "seeds", "least_epochs", "least_steps")
    return {
        "batch_sizes": sizes, "rates": rates, "seeds": options.seeds, "epochs": options.least_epochs,
        "least_steps": options.least_steps,
        "steps": [max(options.least_steps, -(-rows // b) * options.least_epochs) for b in sizes],
        "halving": options.halving, "goal": _goal(options.goal),
    }  # fmt: skip


def _goal(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    metric, _, value = text.partition("=")
    with suppress(ValueError):
        if metric in ("error/train", "error/val", "error/test", "loss/train", "loss/val", "loss/test"):
            return {"metric": metric, "value": float(value)}
    raise UsageError(f"--goal {text!r}: loss or error of train, val or test, e.g. error/val=0.05")


def _run(
    asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator, folder: Path, say: Say
) -> list[BatchSizeTrial]:
    """Tune the rate of each batch size on seed 0, then train with the other seeds at the rates that are worth it."""
    group = groups_of(comm, asked["ranks_per_trial"])

    def train(trial: BatchSizeTrial, group: Communicator) -> dict[str, Any]:
        budgets = asked["least_steps"], asked["epochs"] * -(-data.train.n_rows // trial.batch_size)
        return run_trial(trial, config, data, group, also=budgets)

    everything, steps_of = list[BatchSizeTrial](), dict(zip(asked["batch_sizes"], asked["steps"], strict=True))
    left = {b: list(asked["rates"]) for b in steps_of}
    for part in (8, 4, 2, 1) if asked["halving"] else (1,):
        trials = [BatchSizeTrial(b, rate, 0, -(-steps_of[b] // part)) for b in steps_of for rate in left[b]]
        everything += trials
        what = f"rates, {'all' if part == 1 else f'1/{part} of the'} steps"
        work_through(trials, train, group, folder, say, what, best=_best)
        results = agreed_results(folder, comm)
        for b in steps_of:
            mine = [trial for trial in trials if trial.batch_size == b]
            ranked = sorted(mine, key=lambda trial: (_smallest_loss(results[str(trial)]), trial))
            left[b] = sorted(trial.rate for trial in ranked[: max(2, len(ranked) // 2)])
    repeated = rates_worth_repeating(asked, results, choose_goal(asked, results))
    seeds = range(asked["seeds"])
    trials = [BatchSizeTrial(b, rate, seed, steps_of[b]) for b in steps_of for rate in repeated[b] for seed in seeds]
    everything += [trial for trial in trials if trial not in everything]
    work_through(trials, train, group, folder, say, "other seeds", best=_best)
    return sorted(everything)


def _best(results: Iterable[dict[str, Any]]) -> str:
    """Return the smallest validation error, and whose it is."""
    found = [(mark.get("error/val", mark["error/train"]), r["trial"]) for r in results for mark in r["marks"]]
    return "{:.4f} with {}".format(*min(found)) if found else "none"


def _smallest_loss(result: dict[str, Any]) -> float:
    return min((mark.get("loss/val", mark["loss/train"]) for mark in result["marks"]), default=math.inf)


def run_trial(
    trial: BatchSizeTrial, config: TrainConfig, data: Data, comm: Communicator, *, also: Sequence[int] = ()
) -> dict[str, Any]:
    """Train one trial on all ranks of `comm`, and measure it at its marks and at those of `also`."""
    config = of_trial(config, batch_size=trial.batch_size, lr=trial.rate, seed=trial.seed, steps=trial.steps)
    trainer, found = build_trainer(config, data, comm), list[dict[str, Any]]()
    spent = {"compute": 0.0, "reduction": 0.0, "evaluation": 0.0}
    status, summary = "complete", "diverged"
    try:
        for step in sorted({*marks(trial.steps), *(step for step in also if step < trial.steps)}):
            trained, waited = trainer.position.seconds, comm.recorder.waited
            trainer.fit(steps=step)
            waited = comm.recorder.waited - waited
            spent["reduction"] += waited
            spent["compute"] += trainer.position.seconds - trained - waited
            start = time.perf_counter()
            with np.errstate(over="ignore", invalid="ignore"):  # seen in the numbers instead
                found.append(measured(trainer, data))
            spent["evaluation"] += time.perf_counter() - start
            if not all(math.isfinite(value) for value in found[-1].values()):
                found.pop()  # JSON has no infinities
                raise Diverged("the loss is not finite")
        name = "val" if "error/val" in found[-1] else "train"
        summary = f"error/{name} {found[-1][f'error/{name}']:.4f}"
    except Diverged:
        status = "diverged"
    finally:
        trainer.close()
    return {**dataclasses.asdict(trial), "status": status, "marks": found, "seconds": spent, "summary": summary}


def measured(trainer: Trainer, data: Data) -> dict[str, Any]:
    """Return loss and error on all rows of each part, and how far the training is.

    The error is the share of wrong classes, or for values the root of the mean squared error.
    """
    state = trainer.position
    mark: dict[str, Any] = {
        "step": state.step, "epoch": trainer.sampler.epochs(state.step), "examples": state.examples,
        "seconds": state.seconds,
    }  # fmt: skip
    parts: dict[str, Prepared | None] = {"train": data.train, "val": data.validation, "test": data.test}
    for name, part in parts.items():
        if part is not None:
            figures = trainer.evaluate(part)
            error = 1.0 - figures["accuracy"] if "accuracy" in figures else figures.get("rmse", figures["loss"])
            mark |= {f"loss/{name}": figures["loss"], f"error/{name}": error}
    return mark | {k: v for k, v in noise_scale.figures(trainer.noise.state.sums).items() if k == "noise_scale"}


BATCH_SIZE = Experiment(
    "What the batch size does to speed and to prediction error.", _DEFAULTS, _add_options, _ask, _run, figures
)
