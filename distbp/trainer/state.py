"""Where a run is, and all that it remembers: the same value for a checkpoint, a rank that catches up, and a way back.

A component of the trainer has a name, a state of plain numbers and texts, and `state_dict` and `load_state_dict`;
nothing in it belongs to a rank. Arrays are kept beside, each rank those of its shard.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from distbp.gradient.statistics import Statistics

__all__ = ["FINISHED", "SETTLED", "UNSETTLED", "Component", "Latest", "Memory", "Position", "TrainState", "updated"]

Array = NDArray[Any]

UNSETTLED, SETTLED, FINISHED = 0, 1, 2
"""Phases of a step: what comes after it (log, evaluation, checkpoint) is not yet done, is done, and the run is over."""

TrainState = dict[str, Any]
"""The state of each component, by its name; JSON."""


class Component(Protocol):
    """A part of the loop that remembers something."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers, as JSON."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        ...


def updated(target: Any, state: Mapping[str, Any]) -> None:
    """Set the fields of a dataclass that `state` has; others, of an earlier version, are passed over."""
    for name in {f.name for f in fields(target)} & state.keys():
        setattr(target, name, state[name])


@dataclass
class Position:
    """Says where a run is: steps done, and what of the last one is done."""

    step: int = 0
    phase: int = SETTLED
    examples: int = 0
    seconds: float = 0.0
    ended: str = ""
    """Why, where it ended before its last step."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position as JSON."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a position."""
        updated(self, state)


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

    def state_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over."""
        updated(self, state)


class Memory(NamedTuple):
    """All that a run goes on from: arrays, of all but theta this rank's shard, and JSON."""

    arrays: dict[str, Array]
    state: TrainState
