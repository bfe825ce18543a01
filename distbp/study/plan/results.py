"""What a calibration says: predicted times by batch size and ranks, and how many ranks are worth it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distbp.study.experiment import read_study
from distbp.study.plan.model import Network, Prediction, Steps, StepTime, fit_allreduce, predict
from distbp.study.trials import read_results

__all__ = ["Plan", "read_plan"]

_WORTH = 0.5
"""Efficiency below which more ranks are called a waste."""


@dataclass(frozen=True)
class Plan:
    """What is known, and what follows."""

    study: dict[str, Any]  # study.json
    measured: list[dict[str, Any]]  # steps
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
        return min((p for p in self.predictions if p.ranks == ranks), key=lambda p: p.seconds[1])

    def all_ranks(self) -> list[int]:
        """Return the numbers of ranks that are predicted."""
        return sorted({p.ranks for p in self.predictions})

    def speed_up(self, prediction: Prediction) -> float:
        """Return how many times as fast it is as the best batch size on one rank."""
        return self.alone().seconds[1] / prediction.seconds[1]

    def alone(self) -> Prediction:
        """Return the best on one rank."""
        sizes = sorted({p.batch_size for p in self.predictions})
        return min(predict(self.steps, self.step_time, sizes, [1]), key=lambda p: p.seconds[1])

    def recommended(self) -> Prediction:
        """Return the fastest of the numbers of ranks that are used with an efficiency of at least a half."""
        found = [self.best(ranks) for ranks in self.all_ranks()]
        worth = [p for p in found if self.speed_up(p) >= _WORTH * p.ranks] or found[:1]
        return min(worth, key=lambda p: p.seconds[1])


def read_plan(folder: Path) -> Plan:
    """Read ``study.json`` and ``trials.jsonl``, and predict."""
    study, results = read_study(folder), read_results(folder)
    measured = [r for name, r in results.items() if name.startswith("step ")]
    network = fit_allreduce([r for name, r in results.items() if name.startswith("allreduce ")])
    if study["network_given"] is not None:
        network = Network(study["network_given"][0], 1.0 / study["network_given"][1])
    curve = study["curve"]
    if curve["study"] is None:
        noise = results["noise scale"]
        steps = Steps((1.0, 1.0, 1.0), (noise["low"], noise["noise_scale"], noise["high"]), {})
    else:
        known = {int(b): tuple(s) for b, s in curve["steps"].items()}
        steps = Steps(tuple(curve["s_min"]), tuple(curve["b_crit"]), known)
    step_time, job = StepTime(measured, network, 4 * study["parameters"]), results["job"]
    predictions = predict(steps, step_time, study["batch_sizes"], study["predict_ranks"])
    per_node = study["ranks_per_node"] or job["cores"]
    return Plan(study, measured, network, predictions, per_node, job["hosts"], steps, step_time)
