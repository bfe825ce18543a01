"""The log: means over the steps since the last record."""

from dataclasses import dataclass, field
from typing import Any

from distbp.data.sampling import Epochs
from distbp.gradient.statistics import STATISTICS, Statistics
from distbp.trainer.state import Latest


@dataclass
class _State:
    sums: list[float] = field(default_factory=lambda: [0.0] * len(STATISTICS))
    since: float = 0.0


class Log:
    """Adds up the statistics of steps.

    Parameters
    ----------
    every : int or Epochs
        Steps or epochs between records; 0 is never.
    """

    def __init__(self, every: int | Epochs = 0) -> None:
        self.every, self.state = every, _State()

    def add(self, statistics: Statistics) -> None:
        """Add a step."""
        self.state.sums = [a + b for a, b in zip(self.state.sums, statistics, strict=False)]

    def take(self, seconds: float, latest: Latest, *, hits: bool, reset: bool) -> dict[str, Any]:
        """Return the means up to now, `seconds` into the run, and rate and norm of the latest step.

        There is no loss where every step was skipped. With `hits` the accuracy is one of the means. With `reset` the
        next record begins here.
        """
        sums = dict(zip(STATISTICS, self.state.sums, strict=True))
        record: dict[str, Any] = {}
        if sums["rows"]:
            record["loss/train"] = sums["loss"] / sums["rows"]
            if hits:
                record["accuracy/train"] = sums["hits"] / sums["rows"]
        record |= {"lr": latest.lr, "grad_norm": latest.grad_norm}
        record["samples_per_second"] = sums["rows"] / max(1e-9, seconds - self.state.since)
        if reset:
            self.state.sums, self.state.since = [0.0] * len(STATISTICS), seconds
        return record
