"""The race: one problem, one network, one start, and several ways down.

``b=B``     mini-batch gradient descent with batches of B rows
``gd``      gradient descent: each step takes the gradient of all rows
``lbfgs``   L-BFGS on all rows; see `distbp.study.tradeoff.objective`
``exact``   one step of gradient descent, with the best of many rates

What counts is how far they come on the test rows, by examples seen, steps, and seconds of training. An example counts
each time that its gradient is computed, so a line search costs what it costs. Each is measured on the same rows as it
goes: after every step where steps are long, and else at steps that are a factor apart. Measuring costs no seconds.

Middle values are medians over the seeds (the lower of two), with the least and the greatest beside them. The *goals*
follow from what was reached: the best error of a method is the least of its curve; the first goal lies 1 % above the
best error of the worst method, so that all reach it, the second 1 % above that of the second worst.
"""

import dataclasses
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.dataset import ArrayDataset
from distbp.data.prepared import Data, Prepared
from distbp.data.preprocessing import Preprocessor
from distbp.data.sampling import Permutation
from distbp.data.splitting import Subset
from distbp.network.losses import Loss
from distbp.randomness import key
from distbp.run.build import build_trainer
from distbp.run.options import TrainConfig
from distbp.study.experiment import Range, of_trial
from distbp.study.tradeoff.objective import BLOCK, Objective, lbfgs, objective
from distbp.study.trials import by_name, marks, train_and_measure
from distbp.trainer.evaluation import evaluate

Array = NDArray[Any]
Curve = dict[str, list[float]]
"""``steps``, ``examples``, ``seconds``; what was measured there: ``error``, ``loss`` (test) and ``train`` (loss)."""

MEASURED = 20_000
"""Most test rows, and most training rows, on which a trial is measured."""
OVERHEAD = 400
"""What a step costs besides its rows, in rows; only to know what to do first."""
EXACT_RATES = tuple(2.0**k for k in range(-6, 11))
"""Among these the one exact step may choose."""
_ABOVE = 1.01
_POINTS = 80


@dataclass(frozen=True)
class Rows:
    """Training rows, test rows, and the training rows on which the objective is measured."""

    train: Prepared
    test: Prepared
    sample: Prepared


@dataclass(frozen=True)
class Race:
    """A trial: a way down with its rate, from the start of `seed`; a run that only tunes the rate is ``tuning``."""

    method: str
    seed: int
    rate: float
    steps: int
    batch: int
    tuning: bool = False

    def __str__(self) -> str:
        rate = f" rate={self.rate:g}" if self.rate else ""
        return f"{'tune' if self.tuning else 'race'} {self.method}{rate} seed={self.seed}"

    def cost(self) -> float:
        """Return about how long it takes, in rows."""
        return float(self.steps * (self.batch + OVERHEAD))


def in_memory(rows: Prepared, which: Array) -> Prepared:
    """Return some rows, computed once: data that is made row by row would cost more than the training."""
    parts = [rows.take(which[lo : lo + 65536]) for lo in range(0, len(which), 65536)]
    X, y, w = (None if one[0] is None else np.concatenate(one) for one in zip(*parts, strict=True))
    assert X is not None and rows.target is not None
    classes = np.arange(len(rows.target.classes)) if rows.target.kind == "classes" else None
    dataset = ArrayDataset(X, y, rows.target, class_values=classes, weights=w)
    n = X.shape[1]
    as_it_is = Preprocessor([(c.name, None) for c in dataset.columns], [0.0] * n, [1.0] * n, [0.0] * n)
    return Prepared(Subset(dataset), as_it_is, rows.dtype)


def drawn(n: int, most: int, seed: int, purpose: str) -> Array:
    """Return `most` numbers of 0 .. n - 1 in the order of a permutation: fewer are the first of more."""
    return Permutation(n, key(seed, f"tradeoff {purpose}"))(np.arange(min(n, most)))


def measured(network: Any, loss: Loss, rows: Rows, comm: Communicator) -> dict[str, float]:
    """Return error (share wrong, or loss of a regression) and loss on the test rows, and the loss on training rows."""
    test, train = (evaluate(network, loss, part, comm) for part in (rows.test, rows.sample))
    error = 1.0 - test["accuracy"] if "accuracy" in test else test["loss"]
    return {"error": error, "loss": test["loss"], "train": train["loss"]}


def trained(
    config: TrainConfig, data: Data, rows: Rows, at: Sequence[int], comm: Communicator, *, epoch: bool = False
) -> tuple[Curve, bool]:
    """Train to each of the steps `at`, with ``epoch`` to the end of the first epoch too, and measure.

    Returns the curve, and whether the run diverged: then it ends where it was measured last.
    """
    with closing(build_trainer(config, dataclasses.replace(data, train=rows.train), comm)) as trainer:

        def measure() -> dict[str, float]:
            state = trainer.position
            clocks = {"steps": state.step, "examples": state.examples, "seconds": state.seconds}
            return clocks | measured(trainer.network, trainer.loss, rows, comm)

        first = trainer.sampler.steps_per_epoch
        steps = sorted({*at, first} if epoch and first < at[-1] else at)
        found, diverged = train_and_measure(steps, lambda step: trainer.fit_until(steps=step), measure)
    return by_name(found), diverged is not None


def race(trial: Race, config: TrainConfig, data: Data, rows: Rows, comm: Communicator) -> dict[str, Any]:
    """Do a trial; return its line of ``trials.jsonl``, with ``curve`` and, where the steps ran away, ``diverged``."""
    n, small = rows.train.n_rows, trial.method.startswith("b=")
    config = of_trial(
        config, optimizer=config.optimizer if small else "sgd", lr=trial.rate or None,
        batch_size=min(trial.batch, n) if small else n, micro_batch=min(config.micro_batch or BLOCK, BLOCK),
        steps=trial.steps, seed=config.seed + trial.seed,
    )  # fmt: skip
    about = {"method": trial.method, "seed": trial.seed}
    if trial.method in ("lbfgs", "exact"):
        with closing(build_trainer(config, dataclasses.replace(data, train=rows.train), SerialCommunicator())) as alone:
            network, loss = alone.network, alone.loss
        J = objective(network, loss, rows.train, comm, weight_decay=config.weight_decay or 0.0)
        do = _lbfgs if trial.method == "lbfgs" else _one_exact_step
        return about | do(J, network, trial, partial(measured, network, loss, rows, comm))
    at = [trial.steps] if trial.tuning else marks(trial.steps)
    curve, diverged = trained(config, data, rows, at, comm, epoch=not trial.tuning)
    summary = "diverged" if diverged else f"error {curve['error'][-1]:.4f} after {curve['seconds'][-1]:.1f} s"
    about |= {"rate": trial.rate, "tuning": trial.tuning, "diverged": diverged}
    return about | {"curve": curve, "summary": summary}


def _lbfgs(J: Objective, network: Any, trial: Race, measure: Callable[[], dict[str, float]]) -> dict[str, Any]:
    points = list[dict[str, float]]()
    passes, seconds, since = 0, 0.0, time.perf_counter()

    def counted(theta: Array) -> tuple[float, Array]:
        nonlocal passes
        passes += 1
        return J(theta)

    def each(theta: Array) -> None:
        nonlocal seconds, since
        seconds += time.perf_counter() - since
        network.theta[...] = theta
        clocks = {"steps": len(points) + 1, "examples": passes * trial.batch, "seconds": seconds}
        points.append(clocks | measure())
        since = time.perf_counter()

    lbfgs(counted, network.theta.copy(), passes=trial.steps, each=each)
    summary = f"error {points[-1]['error']:.4f} after {seconds:.1f} s" if points else "no step"
    return {"curve": by_name(points), "diverged": not points, "summary": summary}


def _one_exact_step(J: Objective, network: Any, trial: Race, measure: Callable[[], dict[str, float]]) -> dict[str, Any]:
    theta, start = network.theta.astype(np.float64), time.perf_counter()
    gradient = J(theta)[1]
    seconds, before = time.perf_counter() - start, measure()
    found = [{"rate": 0.0} | before]
    with np.errstate(over="ignore", invalid="ignore"):
        for rate in EXACT_RATES:
            network.theta[...] = theta - rate * gradient
            found.append({"rate": rate} | measure())
    best = min((one for one in found if math.isfinite(one["loss"])), key=lambda one: one["error"], default=found[0])
    clocks = {"seconds": seconds, "examples": trial.batch}
    return {**best, **clocks, "before": before, "summary": f"error {best['error']:.4f}"}


def label_of(method: str) -> tuple[Any, ...]:
    """Return name and values of the label of a method: ``b=100`` is ``("batches", 100)``."""
    return ("batches", int(method[2:])) if method.startswith("b=") else (method,)


def spread(values: Sequence[float]) -> Range:
    """Return least, middle (the lower of two) and greatest."""
    ordered = sorted(values)
    return ordered[0], ordered[(len(ordered) - 1) // 2], ordered[-1]


def last_within(values: Sequence[float], most: float) -> int:
    """Return the place of the last one of rising values that is at most so much; 0 where none is."""
    return max(0, bisect_right(values, most) - 1)


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

    def to_goal(self, method: str, goal: float, what: str) -> Range:
        """Return ``examples``, ``steps`` or ``seconds`` until the error is at most `goal`; infinite if it never is."""
        runs = [zip(curve["error"], curve[what], strict=True) for curve in self.curves[method]]
        return spread([next((at for error, at in run if error <= goal), math.inf) for run in runs])

    def within(self, method: str, seconds: float) -> Range | None:
        """Return the error where it was last measured within so many seconds of training, or first."""
        curves = self.curves.get(method, ())
        return spread([curve["error"][last_within(curve["seconds"], seconds)] for curve in curves]) if curves else None

    def after(self, method: str, steps: int, what: str = "error") -> Range:
        """Return the error or ``seconds`` after so many steps; not a number where it was not measured there."""
        runs = [dict(zip(curve["steps"], curve[what], strict=True)) for curve in self.curves.get(method, ())]
        return spread([run.get(steps, math.nan) for run in runs] or [math.nan])


def common(curves: Sequence[Curve], what: str) -> tuple[list[float], list[Range]]:
    """Return the spread of curves whose points lie at different places, where all of them are, on a log scale."""
    low, high = max(max(c[what][0], 1e-6) for c in curves), min(c[what][-1] for c in curves)
    if not low < high:
        return [], []
    x = np.geomspace(low, high, _POINTS)
    read = [np.interp(np.log(x), np.log(np.maximum(c[what], 1e-6)), c["error"]) for c in curves]
    return x.tolist(), [spread(list(values)) for values in zip(*read, strict=True)]
