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
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.errors import UsageError
from distbp.optim.rules import OPTIMIZERS
from distbp.run.build import build_trainer
from distbp.run.next_step import command
from distbp.run.options import TrainConfig
from distbp.study.batch_size.figures import figures
from distbp.study.batch_size.results import choose_goal, judge, judged, rates_worth_repeating
from distbp.study.experiment import OWN, Experiment, at_least_1, batch_sizes, listed, of_trial, refuse
from distbp.study.trials import groups_of, marks, say, train_and_measure, work_through
from distbp.trainer import noise_scale
from distbp.trainer.trainer import Trainer

_DEFAULTS = (
    "--recipe", "plain", "--optimizer", "sgd", "--hidden", "128", "--noise-scale", "5", "--validation-fraction", "0.2",
)  # fmt: skip


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
    refuse(
        config,
        **OWN,
        lr_scaling="each batch size has its own best one of --rates",
        epochs="every training has --least-epochs, and more where these are fewer than --least-steps",
        steps="every training has --least-steps, and more where these are less than --least-epochs",
        early_stopping="every training goes to its end, and counts by its best validation error",
        target_metric="the goal of this study is --goal",
    )
    rows, least = data.train.n_rows, OPTIMIZERS[config.optimizer].lr_default / 4.0
    sizes = batch_sizes(options, rows, batch_sizes_up_to(rows))
    rates = listed(options, "rates", float) or [least * 2.0**k for k in range(8)]
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
    asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator, folder: Path
) -> list[BatchSizeTrial]:
    """Tune the rate of each batch size on seed 0, then train with the other seeds at the rates that are worth it."""
    group, everything = groups_of(comm, asked["ranks_per_trial"]), set[BatchSizeTrial]()

    def train(trials: list[BatchSizeTrial], what: str) -> dict[str, dict[str, Any]]:
        def do(trial: BatchSizeTrial, group: Communicator) -> dict[str, Any]:
            return run_trial(trial, asked, config, data, group)

        everything.update(trials)
        return work_through(trials, do, group, folder, say, what, best=_best)

    steps_of = dict(zip(asked["batch_sizes"], asked["steps"], strict=True))
    left = {b: list(asked["rates"]) for b in steps_of}
    for part in (8, 4, 2, 1) if asked["halving"] else (1,):
        trials = [BatchSizeTrial(b, rate, 0, -(-steps_of[b] // part)) for b in steps_of for rate in left[b]]
        results = train(trials, f"rates, {'all' if part == 1 else f'1/{part} of the'} steps")
        for b in steps_of:
            mine = [result for result in results.values() if result["batch_size"] == b]
            losses = [min((judged(mark)[1] for mark in result["marks"]), default=math.inf) for result in mine]
            ranked = sorted(zip(losses, (result["rate"] for result in mine), strict=True))
            left[b] = sorted(rate for _, rate in ranked[: max(2, len(ranked) // 2)])
    repeated, seeds = rates_worth_repeating(asked, results, choose_goal(asked, results)), range(asked["seeds"])
    trials = [BatchSizeTrial(b, rate, seed, steps_of[b]) for b in steps_of for rate in repeated[b] for seed in seeds]
    of_all = train(trials, "other seeds")
    if comm.is_root and (winner := _winner(of_all.values(), config)):
        say(f"the smallest validation error was found with: {winner}")
    return sorted(everything)


def _best(results: Iterable[dict[str, Any]]) -> str:
    """Return the smallest validation error, and whose it is."""
    found = [(judged(mark)[0], result["trial"]) for result in results for mark in result["marks"]]
    return "{:.4f} with {}".format(*min(found)) if found else "none"


def _winner(results: Iterable[dict[str, Any]], config: TrainConfig) -> str:
    """Return the command that trains as the best trial did."""
    found = [(judged(mark)[0], mark["step"], result) for result in results for mark in result["marks"]]
    if not found:
        return ""
    _, step, best = min(found, key=lambda one: one[:2])
    more: list[Any] = ["--recipe", "plain", "--optimizer", config.optimizer, "--hidden", config.hidden]
    more += ["--validation-fraction", config.validation_fraction] if config.validation_data is None else []
    more += ["--target", config.target] if config.target else []
    rate = ["--lr", f"{best['rate']:g}", "--batch-size", best["batch_size"], "--steps", step, "--seed", best["seed"]]
    return command("distbp.train", "--data", config.data, *more, *rate)


def run_trial(
    trial: BatchSizeTrial, asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator
) -> dict[str, Any]:
    """Train one trial on all ranks of `comm`, and measure it at its marks and at the budgets that all have."""
    config = of_trial(config, batch_size=trial.batch_size, lr=trial.rate, seed=trial.seed, steps=trial.steps)
    budgets = asked["least_steps"], asked["epochs"] * -(-data.train.n_rows // trial.batch_size)
    seconds = {"compute": 0.0, "reduction": 0.0, "evaluation": 0.0}
    with closing(build_trainer(config, data, comm)) as trainer:

        def train(step: int) -> None:
            waited = comm.recorder.waited
            trainer.fit_until(steps=step)
            seconds["reduction"] += comm.recorder.waited - waited

        def measure() -> dict[str, float]:
            start = time.perf_counter()
            mark = _measure(trainer, data)
            seconds["evaluation"] += time.perf_counter() - start
            return mark

        at = {*marks(trial.steps), *(step for step in budgets if step < trial.steps)}
        found, diverged = train_and_measure(sorted(at), train, measure)
    seconds["compute"] = trainer.position.seconds - seconds["reduction"]
    status = "diverged" if diverged else "complete"
    summary = "diverged" if diverged else f"error/{judge(found[-1])} {judged(found[-1])[0]:.4f}"
    return {**dataclasses.asdict(trial), "status": status, "marks": found, "seconds": seconds, "summary": summary}


def _measure(trainer: Trainer, data: Data) -> dict[str, float]:
    """Return loss and error on all rows of each part, and how far the training is.

    The error is the share of wrong classes, or for values the root of the mean squared error.
    """
    at = trainer.position
    mark = {"step": at.step, "epoch": trainer.sampler.epochs(at.step), "examples": at.examples, "seconds": at.seconds}
    for name, part in ("train", data.train), ("val", data.validation), ("test", data.test):
        if part is not None:
            figures = trainer.evaluate(part)
            error = 1.0 - figures["accuracy"] if "accuracy" in figures else figures.get("rmse", figures["loss"])
            mark |= {f"loss/{name}": figures["loss"], f"error/{name}": error}
    return mark | {k: v for k, v in noise_scale.figures(trainer.noise.state.sums).items() if k == "noise_scale"}


BATCH_SIZE = Experiment(
    "What the batch size does to speed and to prediction error.", _DEFAULTS, _add_options, _ask, _run, figures
)
