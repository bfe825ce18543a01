"""The learning rate: the peak, which is the optimiser's own, times the factor of the schedule."""

from collections.abc import Mapping
from typing import Any

from distbp.optim.optimizer import Optimizer
from distbp.optim.schedules import Schedule

__all__ = ["Rate"]


class Rate:
    """Sets the rate of an optimiser before each step.

    Parameters
    ----------
    optimizer : Optimizer
        Its `lr` is the peak.
    schedule : Schedule
        Factor by step.
    """

    def __init__(self, optimizer: Optimizer, schedule: Schedule) -> None:
        self.optimizer, self.schedule, self.peak = optimizer, schedule, optimizer.lr

    def set(self, step: int) -> None:
        """Set the rate of step number `step`."""
        self.optimizer.lr = self.peak * self.schedule(step)

    def state_dict(self) -> dict[str, Any]:
        """Return what the schedule has observed, as JSON."""
        return dict(self.schedule.state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.schedule.state.update(state)
