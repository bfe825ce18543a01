"""Steps whose loss or gradient is not finite: the run ends with a line, or goes on without them."""

from dataclasses import dataclass

from distbp.errors import Diverged
from distbp.gradient.statistics import Statistics

_MAX_SKIPPED = 100


@dataclass
class _State:
    skipped: int = 0
    """Steps in a row."""


class Nonfinite:
    """Decides about a step that was not taken, on all ranks alike.

    Parameters
    ----------
    action : {"stop", "skip"}
        What such a step does; after 100 of them in a row the run ends in any case.
    """

    def __init__(self, action: str = "stop") -> None:
        self.action, self.state = action, _State()

    def see(self, statistics: Statistics, step: int) -> str:
        """Return "" where step number `step` was finite, else what was skipped; raises `Diverged` to end the run."""
        if statistics.finite:
            self.state.skipped = 0
            return ""
        self.state.skipped += 1
        what = f"the loss of {int(statistics.nonfinite)} rows" if statistics.nonfinite else "the gradient"
        skipped = self.state.skipped
        if self.action == "skip" and skipped <= _MAX_SKIPPED:
            return f"{what} is not finite; step skipped"
        times = f" for {skipped} steps" if skipped > 1 else ""
        raise Diverged(
            f"step {step}: {what} is not finite{times}: lower --lr, clip with --clip-norm 1, or look for"
            " extreme values in the data (--on-nonfinite skip passes over such steps)"
        )
