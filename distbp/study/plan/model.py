"""Time to a goal from what was measured: T(B, P) = S(B) t(B, P).

S(B), the steps, is of a batch-size study, measured or from the fitted curve; t(B, P), the time of a step of B rows over
P ranks, is measured for the ranks that there are, and between batch sizes a power law. For more ranks

    t(B, P) = c(B / P) + alpha ceil(log2 P) + beta 2 (P - 1) / P M

with c(b) the measured step of b rows on one rank and an Allreduce of M bytes, whose latency alpha and inverse bandwidth
beta are fitted (Thakur, Rabenseifner & Gropp 2005: a tree for what is short, a ring for what is long; one term each).
Nothing overlaps in this model: where the trainer overlaps, it is faster.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distbp.study.experiment import Range

_WORTH = 0.5
"""Efficiency below which more ranks are called a waste."""


@dataclass(frozen=True)
class Network:
    """Latency in seconds, inverse bandwidth in seconds a byte, and how far the measurements are from it (a share)."""

    alpha: float
    beta: float
    error: float = 0.0

    def allreduce(self, ranks: int, n_bytes: float) -> float:
        """Return the seconds of an Allreduce."""
        return self.alpha * math.ceil(math.log2(ranks)) + self.beta * 2.0 * (ranks - 1) / ranks * n_bytes


def fit_allreduce(measured: Sequence[Mapping[str, Any]]) -> Network:
    """Fit alpha and beta to {"ranks", "bytes", "seconds"} by least squares of the relative errors, neither below 0.

    Those of one rank are left out; of none the network is one without cost.
    """
    rows = [(m["ranks"], m["bytes"], m["seconds"]) for m in measured if m["ranks"] > 1]
    if not rows:
        return Network(0.0, 0.0)
    terms = np.array([[math.ceil(math.log2(P)) / t, 2.0 * (P - 1) / P * n_bytes / t] for P, n_bytes, t in rows])
    tried = np.zeros((3, 2))
    for found, keep in zip(tried, ([0, 1], [0], [1]), strict=True):
        found[keep] = np.linalg.lstsq(terms[:, keep], np.ones(len(rows)), rcond=None)[0]
    alpha, beta = min(
        (found for found in tried if found.min() >= 0.0), key=lambda x: float(np.sum((terms @ x - 1.0) ** 2))
    )
    return Network(float(alpha), float(beta), float(np.median(np.abs(terms @ [alpha, beta] - 1.0))))


class StepTime:
    """The time of a step, t(B, P), of measured steps: {"batch_size", "ranks", "seconds", "low", "high"}.

    For more ranks than were measured `network` carries a gradient of so many bytes.
    """

    def __init__(self, measured: Sequence[Mapping[str, Any]], network: Network, n_bytes: int) -> None:
        self._network, self._n_bytes = network, n_bytes
        self.ranks = sorted({m["ranks"] for m in measured})  # that were measured
        in_order = sorted(measured, key=lambda m: m["batch_size"])
        self.measured = {ranks: [m for m in in_order if m["ranks"] == ranks] for ranks in self.ranks}

    def __call__(self, batch_size: float, ranks: int) -> Range:
        """Return seconds of a step: quartiles where it was measured; from the model half and twice the Allreduce."""
        if ranks in self.ranks:
            return self._between(batch_size, ranks)
        low, middle, high = self._between(batch_size / ranks, 1)
        wait = self._network.allreduce(ranks, self._n_bytes)
        return low + wait / 2.0, middle + wait, high + 2.0 * wait

    def _between(self, batch_size: float, ranks: int) -> Range:
        """Read a power law between two measured batch sizes; beyond them the nearest, or in proportion to the rows."""
        rows, beyond = self.measured[ranks], max(1.0, batch_size / self.measured[ranks][-1]["batch_size"])
        B, x = np.log([m["batch_size"] for m in rows]), math.log(batch_size)
        logs = (np.interp(x, B, np.log([m[name] for m in rows])) for name in ("low", "seconds", "high"))
        low, middle, high = (float(np.exp(log)) * beyond for log in logs)
        return low, middle, high


@dataclass(frozen=True)
class Steps:
    """S(B): measured at some batch sizes, else S_min (1 + B_crit / B), each (low, middle, high)."""

    s_min: Range
    b_crit: Range
    measured: Mapping[int, Range]

    def __call__(self, batch_size: int) -> Range:
        """Return the steps to the goal."""
        if batch_size in self.measured:
            return self.measured[batch_size]
        middle = self.s_min[1] * (1.0 + self.b_crit[1] / batch_size)
        share = self.s_min[0] / self.s_min[1], self.s_min[2] / self.s_min[1]
        return middle * share[0], middle, middle * share[1]


@dataclass(frozen=True)
class Prediction:
    """Time to the goal with a batch size and a number of ranks: T(B, P) = S(B) t(B, P)."""

    batch_size: int
    ranks: int
    steps: Range
    step_seconds: Range
    measured: bool  # so many ranks were; else it is an extrapolation

    @property
    def seconds(self) -> Range:
        """Return T(B, P)."""
        S, t = self.steps, self.step_seconds
        return S[0] * t[0], S[1] * t[1], S[2] * t[2]


def predict(steps: Steps, step_time: StepTime, batch_sizes: Sequence[int], ranks: Sequence[int]) -> list[Prediction]:
    """Return T(B, P) for all pairs in which each rank has a row."""
    pairs = [(B, P) for P in ranks for B in batch_sizes if B >= P]
    return [Prediction(B, P, steps(B), step_time(B, P), P in step_time.ranks) for B, P in pairs]


@dataclass(frozen=True)
class Plan:
    """What is known, and what follows."""

    study: dict[str, Any]  # study.json
    network: Network  # of the extrapolation
    predictions: list[Prediction]  # for all B and P
    ranks_per_node: int  # for node-hours
    hosts: int  # of the calibration
    steps: Steps
    step_time: StepTime

    @property
    def relative(self) -> bool:
        """Tell whether times are multiples of S_min steps, for there is no study."""
        return self.study["curve"]["study"] is None

    def best(self, ranks: int) -> Prediction:
        """Return the batch size with the shortest time on so many ranks."""
        return _soonest(p for p in self.predictions if p.ranks == ranks)

    def all_ranks(self) -> list[int]:
        """Return the numbers of ranks that are predicted."""
        return sorted({p.ranks for p in self.predictions})

    def alone(self) -> Prediction:
        """Return the best on one rank."""
        return _soonest(predict(self.steps, self.step_time, sorted({p.batch_size for p in self.predictions}), [1]))

    def speed_up(self, prediction: Prediction) -> float:
        """Return how many times as fast it is as the best batch size on one rank."""
        return self.alone().seconds[1] / prediction.seconds[1]

    def recommended(self) -> Prediction:
        """Return the fastest of the numbers of ranks that are used with an efficiency of at least a half."""
        found = [self.best(ranks) for ranks in self.all_ranks()]
        return _soonest([p for p in found if self.speed_up(p) >= _WORTH * p.ranks] or found[:1])


def _soonest(predictions: Iterable[Prediction]) -> Prediction:
    return min(predictions, key=lambda p: p.seconds[1])
