"""When a run has seen enough: a metric reached its target, or has stopped improving.

What is watched must be something that the run will see; the rest is an error before the first step.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from distbp.errors import UsageError

__all__ = ["MetricTarget", "is_better", "require_metric"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"


@dataclass(frozen=True)
class MetricTarget:
    """When to be satisfied, e.g. ``accuracy/val>=0.97``."""

    metric: str
    sign: str
    value: float

    @classmethod
    def parse(cls, text: str) -> "MetricTarget":
        """From ``METRIC>=NUMBER`` or ``METRIC<=NUMBER``."""
        found = re.fullmatch(rf"\s*(\w+/(?:val|train))\s*(>=|<=)\s*({_NUMBER})\s*", text)
        if found is None:
            raise UsageError(f"target metric {text!r}: write e.g. 'accuracy/val>=0.97' or 'loss/val<=0.1'")
        return cls(found[1], found[2], float(found[3]))

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.value:g}"

    def reached(self, record: dict[str, Any]) -> bool:
        """Whether `record` has it and it is good enough."""
        if self.metric not in record:
            return False
        new = record[self.metric]
        return bool(new >= self.value if self.sign == ">=" else new <= self.value)


def is_better(metric: str, new: float, old: float | None) -> bool:
    """Whether `new` is an improvement: losses and errors fall, all other metrics rise."""
    if old is None or not math.isfinite(old):
        return math.isfinite(new)
    falls = metric.split("/")[0] in ("loss", "rmse", "mae")
    return new < old if falls else new > old


def require_metric(what: str, metric: str, seen: list[str]) -> None:
    """Refuse to watch what the run never has."""
    if metric not in seen:
        raise UsageError(
            f"{what} watches {metric!r}, which this run never has: it has {', '.join(seen) or 'none'}"
            " (it takes validation rows and --eval-every, or --log-every)"
        )
