"""The split of the excess error, after Bottou & Bousquet 2007, section 2.

R(f) is the expected loss of a prediction f: the mean over the test rows, of the 0-1 loss for classes and labels (so R
is the share wrong), and of the network's loss for values. Three predictions stand between a short training and
the best:

    f*        the best possible prediction: of the known densities where the data are synthetic classes, and otherwise
              the best of all runs of the study stands for it
    f*_F      the best in the family F of networks of a width: for it stands the best of the long runs on the most rows,
              over seeds, of that width or less, for a wide network can do what a narrow one does
    f_n       the minimum of the mean loss of n training rows in F: for it stands the end of the long run, along which
              the learning rate falls to 0
    f~_n      what a budget of examples gives: the same run where it has seen so many

    E = R(f~_n) - R(f*) = E_app + E_est + E_opt

    E_app = R(f*_F) - R(f*)        approximation: the family is too small
    E_est = R(f_n)  - R(f*_F)      estimation: the rows are too few
    E_opt = R(f~_n) - R(f_n)       optimisation: the training is too short

R is measured on the same test rows throughout, so what is common cancels. E_opt can be below 0: on few rows the long
run learns their accidents, and to stop early is better. The *objective gap* J(f~_n) - J(f_n), of the mean loss J of
training rows, is what an optimiser sees of it. A narrow network may end in a poor local minimum: what it loses by that
is counted as estimation, for its end stands for f_n.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.run.options import TrainConfig
from distbp.study.experiment import of_trial
from distbp.study.tradeoff.race import MEASURED, OVERHEAD, Curve, Rows, drawn, in_memory, last_within, spread, trained
from distbp.study.trials import marks

NAMES = ("app", "est", "opt")
"""Approximation, estimation, optimisation."""


@dataclass(frozen=True)
class Fit:
    """A trial: a network with one hidden layer (or none, with a width of 0) on n rows, from the start of `seed`."""

    n: int
    width: int
    seed: int
    rate: float
    examples: int
    batch: int
    tuning: bool = False

    def __str__(self) -> str:
        rate = f" rate={self.rate:g}" if self.tuning else ""
        return f"split {'tune ' * self.tuning}n={self.n} width={self.width}{rate} seed={self.seed}"

    def cost(self) -> float:
        """Return about how long it takes, in rows."""
        return self.examples / self.batch * (self.batch * (1 + self.width / 64) + OVERHEAD)


def fit(trial: Fit, config: TrainConfig, data: Data, rows: Rows, comm: Communicator) -> dict[str, Any]:
    """Do a trial; return its line of ``trials.jsonl``, with ``curve``, the last point of which is f_n."""
    which = drawn(rows.train.n_rows, trial.n, config.seed + trial.seed, "rows")
    rows = Rows(in_memory(rows.train, which), rows.test, in_memory(rows.train, which[:MEASURED]))
    steps = max(1, trial.examples // trial.batch)
    config = of_trial(
        config, hidden=str(trial.width or "none"), lr=trial.rate, schedule="cosine", steps=steps,
        batch_size=min(trial.batch, trial.n), seed=config.seed + trial.seed,
    )  # fmt: skip
    curve, diverged = trained(config, data, rows, [steps] if trial.tuning else marks(steps, 1.6), comm)
    return {
        "n": trial.n, "width": trial.width, "seed": trial.seed, "rate": trial.rate, "tuning": trial.tuning,
        "diverged": diverged, "curve": curve, "summary": "diverged" if diverged else f"error {curve['error'][-1]:.4f}",
    }  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Excess error and its three parts, and the gap of the objective; each is a number for a seed."""

    app: float
    est: float
    opt: float
    gap: float

    @property
    def total(self) -> float:
        """E = E_app + E_est + E_opt."""
        return self.app + self.est + self.opt


def leading(parts: Sequence[Parts]) -> str:
    """Return the part whose middle value over the seeds is the greatest."""
    return max(NAMES, key=lambda name: spread([getattr(one, name) for one in parts])[1])


def budgets(longest: int, least: int) -> list[int]:
    """Return budgets of examples, a factor of the root of 10 apart, up to the long run."""
    halves = range(int(2.0 * math.log10(longest / least) + 1e-9) + 1)
    return [round(longest / 10.0 ** (k / 2.0)) for k in reversed(halves)]


class Split:
    """The terms, from lines of `fit` that are no tunings and did not diverge; `best` is R(f*), where it is known."""

    def __init__(self, results: Iterable[dict[str, Any]], best: float | None = None) -> None:
        good = [one for one in results if not one["tuning"] and not one["diverged"]]
        self.curves: dict[tuple[int, int, int], Curve] = {(o["n"], o["width"], o["seed"]): o["curve"] for o in good}
        self.rates: dict[int, float] = {one["width"]: one["rate"] for one in good}
        self.sizes = sorted({n for n, _, _ in self.curves})
        self.widths = sorted({width for _, width, _ in self.curves})
        self.known = best is not None
        self.best = min(min(c["error"]) for c in self.curves.values()) if best is None else best

    def seeds(self, n: int, width: int) -> list[int]:
        """Return the seeds of the runs on n rows."""
        return sorted(seed for m, w, seed in self.curves if (m, w) == (n, width))

    def of_family(self, width: int) -> float:
        """Return R(f*_F); not a number where each such run diverged."""
        most = (c["error"][-1] for (n, w, _), c in self.curves.items() if n == self.sizes[-1] and w <= width)
        return min(most, default=math.nan)

    def parts(self, n: int, width: int, seed: int, budget: float) -> Parts:
        """Return the parts of a run where it has seen at most `budget` examples (before that, at its first mark)."""
        curve, family = self.curves[n, width, seed], self.of_family(width)
        at = last_within(curve["examples"], budget)
        return Parts(
            app=family - self.best, est=curve["error"][-1] - family, opt=curve["error"][at] - curve["error"][-1],
            gap=curve["train"][at] - curve["train"][-1],
        )  # fmt: skip

    def medians(self, n: int, width: int, budget: float) -> dict[str, Any]:
        """Return the spread of each part, their sum and the gap over the seeds, and which part is ``leading``."""
        parts = [self.parts(n, width, seed, budget) for seed in self.seeds(n, width)]
        ranges = {name: spread([getattr(one, name) for one in parts]) for name in (*NAMES, "total", "gap")}
        return ranges | {"leading": leading(parts)}

    def best_width(self, n: int, budget: float = math.inf) -> int:
        """Return the width with the least excess error on n rows within a budget, or at the end of the long run."""
        widths = [width for width in self.widths if self.seeds(n, width)]
        return min(widths, key=lambda width: self.medians(n, width, budget)["total"][1])

    def sides(self, longest: int) -> dict[str, dict[str, Any]]:
        """Cut the split along one of its three sides at a time: the rows n, the width, the budget of examples.

        The width that they share is the best one on the most rows; few rows are the second of three sizes or more. By
        the name of the chart: ``at``, the places along the side; what is the same at all of them (``n``, ``width``,
        ``budget``); and `medians` at the ``points``.
        """
        few, most = self.sizes[1 if len(self.sizes) > 2 else 0], self.sizes[-1]
        steps, width = budgets(longest, max(1, longest // 3000)), self.best_width(most)
        middle = steps[-3:][0]

        def side(name: str, at: list[int], **same: int) -> dict[str, Any]:
            return {"at": at, **same, "points": [self.medians(**same, **{name: place}) for place in at]}

        kept, widths = [n for n in self.sizes if self.seeds(n, width)], [w for w in self.widths if self.seeds(few, w)]
        sides = {"split-rows": side("n", kept, width=width, budget=middle)}
        sides["split-width"] = side("width", widths, n=few, budget=middle)
        for n, name in {few: "few", most: "most"}.items():
            if n in kept:
                sides[f"split-budget-{name}"] = side("budget", steps, n=n, width=width)
        return sides
