"""Steps whose loss or gradient is not finite: the run ends with a line, or goes on without them."""

from collections.abc import Mapping
from typing import Any

from distbp.errors import Diverged
from distbp.gradient.statistics import Statistics

__all__ = ["Nonfinite"]

_MAX_SKIPPED = 100


class Nonfinite:
    """Decides about a step that was not taken, on all ranks alike.

    Parameters
    ----------
    action : {"stop", "skip"}
        What such a step does; after 100 of them in a row the run ends in any case.
    """

    def __init__(self, action: str = "stop") -> None:
        self.action, self.skipped = action, 0

    def see(self, statistics: Statistics, step: int) -> str:
        """Return "" where step number `step` was finite, else what was skipped; raises `Diverged` to end the run."""
        if statistics.finite:
            self.skipped = 0
            return ""
        self.skipped += 1
        what = f"the loss of {int(statistics.nonfinite)} rows" if statistics.nonfinite else "the gradient"
        if self.action == "skip" and self.skipped <= _MAX_SKIPPED:
            return f"{what} is not finite; step skipped"
        times = f" for {self.skipped} steps" if self.skipped > 1 else ""
        raise Diverged(
            f"step {step}: {what} is not finite{times}: lower --lr, clip with --clip-norm 1, or look for"
            " extreme values in the data (--on-nonfinite skip passes over such steps)"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps were skipped in a row."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.skipped = state.get("skipped", 0)
