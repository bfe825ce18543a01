"""Judgement of evaluations: a metric reached its target, or has stopped improving; which one was the best.

What is watched must be something that the run will see; the rest is an error before the first step.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distbp.data.dataset import Target
from distbp.data.sampling import Epochs
from distbp.errors import UsageError
from distbp.network.losses import Loss
from distbp.trainer.watched import Watched, falls

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class MetricTarget:
    """Tells when to be satisfied, e.g. ``accuracy/val>=0.97``."""

    metric: str
    sign: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "MetricTarget":
        """From ``METRIC>=NUMBER`` or ``METRIC<=NUMBER``."""
        found = re.fullmatch(rf"\s*([\w.]+(?::[\w.]+)?/(?:val|train))\s*(>=|<=)\s*({_NUMBER})\s*", text)
        if found is None:
            raise UsageError(f"target metric {text!r}: write e.g. 'accuracy/val>=0.97' or 'loss/val<=0.1'")
        return cls(found[1], found[2], float(found[3]))

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.value:g}"

    def reached(self, record: Mapping[str, Any]) -> bool:
        """Return whether `record` has it and it is good enough."""
        new = record.get(self.metric, math.nan)
        return bool(new >= self.value if self.sign == ">=" else new <= self.value)


def is_better(metric: str, new: float, old: float | None) -> bool:
    """Return whether `new` is an improvement: losses and errors fall, all other metrics rise."""
    if old is None or not math.isfinite(old):
        return math.isfinite(new)
    return new < old if falls(metric) else new > old


@dataclass
class _State:
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    last: float | None = None
    """Of the latest evaluation."""
    ended_best: int | None = None
    """The step of one that was due to the end of the run alone, where it was the best."""


class Judge:
    """Judges the evaluations of a run.

    Parameters
    ----------
    every : int or Epochs
        Steps or epochs between evaluations; 0 is never.
    monitor : str
        Metric that early stopping and the best checkpoint watch.
    patience : int, optional
        Early stopping: the run ends after so many evaluations without improvement, and the best parameters return.
    target : MetricTarget, optional
        The run ends when it is reached.
    keep_best : bool
        The parameters of the best evaluation return at the end, also without early stopping.
    """

    def __init__(
        self,
        every: int | Epochs = 0,
        *,
        monitor: str = "loss/val",
        patience: int | None = None,
        target: MetricTarget | None = None,
        keep_best: bool = False,
    ) -> None:
        self.every, self.monitor, self.patience, self.target = every, monitor, patience, target
        self.keep_best = keep_best or patience is not None
        self.state = _State()
        self.watched = Watched([monitor, *([target.metric] if target else [])])

    def require(
        self, evaluated: list[str], logged: list[str], of: tuple[Target | None, Loss], *, plateau: bool
    ) -> None:
        """Refuse to watch what a run never has, given the metrics that are evaluated and logged, target and loss."""
        self.watched.refuse(*of)
        watched = [("early stopping", self.monitor, evaluated)] if self.patience is not None else []
        watched += [("keeping the best", self.monitor, evaluated)] if self.keep_best and evaluated else []
        watched += [("the plateau schedule", "loss/val", evaluated)] if plateau else []
        watched += [("the target", self.target.metric, evaluated + logged)] if self.target is not None else []
        for what, metric, seen in watched:
            if metric not in [*seen, *(self.watched.metrics() if evaluated else [])]:
                raise UsageError(
                    f"{what} watches {metric!r}, which this run never has: it has {', '.join(seen) or 'none'}"
                    " (it takes validation rows and --eval-every, or --log-every)"
                )

    def see(self, record: Mapping[str, Any], step: int) -> str:
        """Judge the metrics of an evaluation after `step` steps; return ``early`` where it is time to stop."""
        state = self.state
        state.last, state.ended_best = record[self.monitor], None
        if self._is_best(record):
            state.best, state.best_step, state.waited = record[self.monitor], step, 0
            return ""
        state.waited += 1
        return "early" if self.patience is not None and state.waited >= self.patience else ""

    def ends(self) -> list[str]:
        """Return why a run that is where this one is may have ended."""
        early = self.patience is not None and self.state.waited >= self.patience
        return [*(["early"] if early else []), *([str(self.target)] if self.target else [])]

    def reached(self, record: Mapping[str, Any]) -> str:
        """Return the target where a record reaches it, else ""."""
        return str(self.target) if self.target and self.target.reached(record) else ""

    def improved_at(self, step: int) -> bool:
        """Return whether the best parameters are those of `step`, and are wanted again."""
        return self.keep_best and self.state.best_step == step

    def saves(self, step: int) -> bool:
        """Return whether the parameters of `step` are worth a checkpoint of their own."""
        return self.patience is not None and self.state.best_step == step

    def see_end(self, record: Mapping[str, Any], step: int) -> None:
        """Look at an evaluation that a longer run would not have had."""
        self.state.last = record[self.monitor]
        self.state.ended_best = step if self._is_best(record) else None

    def _is_best(self, record: Mapping[str, Any]) -> bool:
        """Return whether an evaluation is better than all before; or as good, but for early stopping."""
        new, best = record[self.monitor], self.state.best
        return is_better(self.monitor, new, best) or (new == best and self.patience is None)

    def keeps_last(self, step: int, ended: str) -> bool:
        """Return whether the parameters of a run that ends at `step` stay, since they are the best or what was asked.

        `ended` says why it ends before its time.
        """
        return self.state.ended_best == step or ended not in ("", "early")

    @property
    def kept(self) -> tuple[float | None, int | None]:
        """Return what is watched of the model that is kept at the end, and its step."""
        state = self.state
        return (state.best, state.best_step) if state.ended_best is None else (state.last, state.ended_best)
