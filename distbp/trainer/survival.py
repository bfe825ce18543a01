"""Survival: after a loss all ranks that are left stand at the same place of the run, and go on.

When a rank dies in a collective, some of the others may have its result, and be a step ahead. Nobody undoes a step:
whoever is behind gets everything from one that is ahead.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.errors import RankLost, UserError
from distbp.trainer.memory import RunMemory
from distbp.trainer.state import UNSETTLED, Memory, Position

_FALSE_ALARMS = 3


@dataclass
class Survival:
    """A context in which the loss of a rank is survived: whoever is left catches up, and repeats what it did."""

    comm: Communicator
    """The ranks; nothing is survived where ``comm.elastic`` is off."""
    position: Position
    """Of the run, which is that of the rank that is ahead afterwards."""
    memory: RunMemory
    """All that this rank remembers."""
    replay: Callable[[], None]
    """Tells the observers what a rank that was behind has missed."""
    abandon: Callable[[], None]
    """Gives up what was under way."""
    rebuild: Callable[[list[int], float], None]
    """Does what takes fewer ranks, once all stand at the same place.

    It is told the names of the lost ranks, and the clock when the loss was noticed.
    """
    repeats: bool = False
    """Whether what was interrupted by a loss is to be done again."""
    _before: Memory | None = field(default=None, init=False)
    _false_alarms: int = field(default=0, init=False)
    _alarm_at: int = field(default=0, init=False)

    def keep(self) -> None:
        """Remember this place: what comes after a step can be done again from here."""
        if self.comm.elastic:
            self._before = self.memory.take()

    def __enter__(self) -> None:
        """Begin what may be interrupted."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        """Survive a loss; other errors are raised on."""
        if not isinstance(error, RankLost):
            return False
        self.repeats = True
        self._survive(error)
        return True

    def _survive(self, error: RankLost) -> None:
        start, lost = time.perf_counter(), list[int]()
        while True:
            try:
                lost += self.comm.recover()
                self.abandon()
                if self.position.phase == UNSETTLED and self._before is not None:
                    self.memory.give(self._before)
                if (ahead := self._from_ahead()) is not None:
                    self.memory.give(ahead)
                    self.replay()
                    if self.position.phase == UNSETTLED:
                        self.keep()
                self.rebuild(lost, start)
                break
            except RankLost as another:
                error = another
        step = self.position.step
        self._false_alarms = 0 if lost or self._alarm_at != step else self._false_alarms + 1
        self._alarm_at = step
        if self._false_alarms > _FALSE_ALARMS:
            raise UserError(f"step {step + 1}: MPI fails again and again, and no rank is lost: {error}")

    def _from_ahead(self) -> Memory | None:
        """Return what a rank that is ahead remembers, where this one is behind; all that are left call it.

        If another one is lost meanwhile all raise `RankLost`, and are where they were.
        """
        comm, mine = self.comm, self.memory.take()
        place = [self.position.step, self.position.phase]
        places: list[list[int]] = comm.allgather_obj(place)
        source = places.index(max(places))
        if min(places) == places[source]:
            return None
        shapes = {name: array.shape for name, array in mine.arrays.items()}
        found = comm.bcast_obj({"state": mine.state, "arrays": shapes}, source)
        given = mine.arrays
        if comm.rank != source:
            dtype = mine.arrays["theta"].dtype
            given = {name: np.empty(shape, dtype) for name, shape in found["arrays"].items()}
        for array in given.values():
            comm.bcast(array, source)
        comm.agree()  # nobody begins to change what it has before all have it all
        return Memory(given, found["state"]) if place < places[source] else None
