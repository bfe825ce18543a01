"""Where a run is, and all that it remembers: the same value for a checkpoint, a rank that catches up, and a way back.

A component of the trainer has a name and a state, a dataclass of plain numbers and texts that stays the same object;
nothing in it belongs to a rank. Arrays are kept beside, each rank those of its shard.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from distbp.gradient.statistics import Statistics

Array = NDArray[Any]

UNSETTLED, SETTLED, FINISHED = 0, 1, 2
"""Phases of a step: what comes after it (log, evaluation, checkpoint) is not yet done, is done, and the run is over."""

TrainState = dict[str, Any]
"""The state of each component, by its name; JSON."""


@dataclass
class Position:
    """Says where a run is: steps done, and what of the last one is done."""

    step: int = 0
    phase: int = SETTLED
    examples: int = 0
    seconds: float = 0.0
    ended: str = ""
    """Why, where it ended before its last step."""


@dataclass
class Latest:
    """Keeps what the last step has left behind for those who come later."""

    lr: float = 0.0
    grad_norm: float = 0.0
    batch_loss: float = 0.0
    stop: bool = False
    """Whether some rank wants to stop."""
    records: list[dict[str, Any]] = field(default_factory=list)
    """Log records of the step."""

    def renew(self, lr: float, statistics: Statistics, batch_size: int) -> None:
        """Begin with another step."""
        self.lr, self.grad_norm, self.batch_loss = lr, statistics.norm, statistics.loss / batch_size
        self.stop, self.records = statistics.stop > 0, []

    def clear(self) -> None:
        """Begin as if there had been no step."""
        vars(self).update(vars(Latest()))


class Memory(NamedTuple):
    """All that a run goes on from: arrays, of all but theta and tables this rank's shard, and JSON."""

    arrays: dict[str, Array]
    state: TrainState


def is_table(name: str) -> bool:
    """Return whether an array of a memory is a table of embeddings, or one beside it: it is whole."""
    return "embedding/" in name
