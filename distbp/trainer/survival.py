"""Survival: after a loss all ranks that are left stand at the same place of the run, and go on.

When a rank dies in a collective, some of the others may have its result, and be a step ahead. Nobody undoes a step:
whoever is behind gets everything from one that is ahead.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.errors import RankLost, UserError
from distbp.trainer.memory import RunMemory
from distbp.trainer.state import UNSETTLED, Memory, Position, TrainState

__all__ = ["Survival", "catch_up"]

Array = NDArray[Any]

_FALSE_ALARMS = 3


def catch_up(comm: Communicator, place: list[int], arrays: dict[str, Array], state: TrainState) -> Memory | None:
    """Return what a rank that is ahead remembers, for one that is behind; None for one that is not.

    Parameters
    ----------
    comm : Communicator
        The ranks that are left.
    place : list of int
        How far this rank is: the greater, the further.
    arrays, state : dict
        All that it remembers: arrays of one length and dtype, one of them ``theta``; and JSON.

    Raises
    ------
    RankLost
        On all ranks, if another one is lost meanwhile; then all are where they were.
    """
    places: list[list[int]] = comm.allgather_obj(place)
    source = places.index(max(places))
    if min(places) == places[source]:
        return None
    found = comm.bcast_obj({"state": state, "arrays": list(arrays)}, source)
    mine = comm.rank == source
    given = {name: arrays[name] if mine else np.empty_like(arrays["theta"]) for name in found["arrays"]}
    for array in given.values():
        comm.bcast(array, source)
    comm.agree()  # nobody begins to change what it has before all have it all
    return Memory(given, found["state"]) if place < places[source] else None


class Survival:
    """A context in which the loss of a rank is survived: whoever is left catches up, and repeats what it did.

    Parameters
    ----------
    comm : Communicator
        The ranks; nothing is survived where ``comm.elastic`` is off.
    position : Position
        Of the run, which is that of the rank that is ahead afterwards.
    memory : RunMemory
        All that this rank remembers.
    replay : callable
        Tells the observers what a rank that was behind has missed.
    abandon : callable
        Gives up what was under way.
    rebuild : callable
        ``rebuild(lost, start)`` does what takes fewer ranks, once all stand at the same place; the names of the lost
        ranks, and the clock when the loss was noticed.
    """

    def __init__(
        self,
        comm: Communicator,
        position: Position,
        *,
        memory: RunMemory,
        replay: Callable[[], None],
        abandon: Callable[[], None],
        rebuild: Callable[[list[int], float], None],
    ) -> None:
        self._comm, self._position = comm, position
        self._memory, self._replay = memory, replay
        self._abandon, self._rebuild = abandon, rebuild
        self.repeats = False
        """Whether what was interrupted by a loss is to be done again."""
        self._before: Memory | None = None
        self._false_alarms = self._alarm_at = 0

    def keep(self) -> None:
        """Remember this place: what comes after a step can be done again from here."""
        if self._comm.elastic:
            self._before = self._memory.take()

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
                lost += self._comm.recover()
                self._abandon()
                if self._position.phase == UNSETTLED and self._before is not None:
                    self._memory.give(self._before)
                arrays, state = self._memory.take()
                ahead = catch_up(self._comm, [self._position.step, self._position.phase], arrays, state)
                if ahead is not None:
                    self._memory.give(ahead)
                    self._replay()
                    if self._position.phase == UNSETTLED:
                        self.keep()
                self._rebuild(lost, start)
                break
            except RankLost as another:
                error = another
        step = self._position.step
        self._false_alarms = 0 if lost or self._alarm_at != step else self._false_alarms + 1
        self._alarm_at = step
        if self._false_alarms > _FALSE_ALARMS:
            raise UserError(f"step {step + 1}: MPI fails again and again, and no rank is lost: {error}")
