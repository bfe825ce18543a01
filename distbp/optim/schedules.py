"""Learning-rate schedules: the rate as a function of the step.

A schedule gives a *factor* of the peak rate. Steps count from 0. During `warmup` steps the factor
rises linearly to 1 (Goyal et al. 2017, section 2.2) and the schedule proper begins behind it. Only
`plateau` remembers anything, and what it remembers (`state`) goes into the checkpoint.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

SCHEDULES = ("constant", "step", "exponential", "cosine", "inverse", "plateau")
SCALINGS: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
}
"""By what the rate is multiplied, where the batch size is multiplied by `ratio`."""


@dataclass
class PlateauState:
    """What a ``plateau`` has observed."""

    factor: float = 1.0
    best: float = math.inf
    waited: int = 0


class Schedule:
    """Give the factor of the learning rate at each step.

    Parameters
    ----------
    kind : str
        ``constant``; ``step``: times `decay` every `every` steps; ``exponential``: the same, smoothly;
        ``cosine``: half a cosine down to `floor` at step `total` (Loshchilov & Hutter 2017, equation 5);
        ``inverse``: 1 / (1 + t / `every`)^`power`; ``plateau``: times `decay` when the watched loss has
        not improved for more than `patience` evaluations.
    total : int
        Steps of the whole run (cosine).
    every : int
        Steps between decays, or the time constant of ``inverse``.
    """

    def __init__(
        self,
        kind: str = "constant",
        *,
        warmup: int = 0,
        total: int = 0,
        every: int = 1,
        decay: float = 0.1,
        power: float = 0.5,
        floor: float = 0.0,
        patience: int = 5,
    ) -> None:
        if kind not in SCHEDULES:
            raise ValueError(f"unknown schedule {kind!r}: one of {', '.join(SCHEDULES)}")
        if not 0.0 < decay <= 1.0:
            raise ValueError(f"the decay of the learning rate must lie in (0, 1], not {decay}")
        if warmup < 0:
            raise ValueError(f"a warm-up has at least 0 steps, not {warmup}")
        self.kind, self.warmup, self.total, self.every = kind, warmup, total, max(1, every)
        self.decay, self.power, self.floor, self.patience = decay, power, floor, patience
        self.state = PlateauState()

    def __call__(self, step: int) -> float:
        """Return the factor at `step`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return max(self.floor, self._factor(step - self.warmup))

    def _factor(self, t: int) -> float:
        match self.kind:
            case "step":
                return float(self.decay ** (t // self.every))
            case "exponential":
                return float(self.decay ** (t / self.every))
            case "cosine":
                part = min(1.0, t / max(1, self.total - self.warmup))
                return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * part))
            case "inverse":
                return float((1.0 + t / self.every) ** -self.power)
            case "plateau":
                return self.state.factor
        return 1.0

    def observe(self, loss: float) -> None:
        """Tell ``plateau`` the loss of an evaluation; the other kinds do not listen."""
        state = self.state
        if self.kind != "plateau":
            return
        if loss < state.best:
            state.best, state.waited = loss, 0
            return
        state.waited += 1
        if state.waited > self.patience:
            state.factor, state.waited = state.factor * self.decay, 0


def scale_rate(lr: float, rule: str, batch_size: int, base: int) -> float:
    """Return the rate for `batch_size`, given the one for a batch of `base` rows.

    ``linear``: times B / base (Goyal et al. 2017); ``sqrt``: times its root (Krizhevsky 2014).
    """
    if rule not in SCALINGS:
        raise ValueError(f"unknown scaling of the rate {rule!r}: one of {', '.join(SCALINGS)}")
    return lr * SCALINGS[rule](batch_size / base)
