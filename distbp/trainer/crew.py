"""The crew: the ranks that compute, on each host no more than it has cores.

Ranks that take turns on a core compute nothing sooner, and each wait costs a change of turns. So those for which a host
has no core sleep through the steps, without a message, and have the result of the others at the end. The gradient is
that of the batch whoever computes it; in exact mode to the last bit.
"""

import time
from collections.abc import Callable

import numpy as np

from distbp.comm.communicator import Communicator, Request, SharedMemory
from distbp.comm.recorder import ASLEEP
from distbp.errors import UserError
from distbp.trainer.memory import RunMemory

_NAP = 0.005
"""Seconds between looks of a rank that sleeps."""
_ROOM = 1 << 20
"""Bytes of shared memory that a host has to have for it."""


class Crew:
    """The ranks of `comm` that compute; all of them make one in the same place.

    Parameters
    ----------
    comm : Communicator
        The ranks. Where some may be lost all compute: who sleeps would not know what the others knew.
    everyone : bool
        Whether all are to compute.

    Attributes
    ----------
    comm : Communicator
        Of those that compute; of a rank that does not, this one alone.
    asleep : bool
        Whether this rank sleeps.
    """

    def __init__(self, comm: Communicator, *, everyone: bool = False) -> None:
        self._all, self.comm, self.asleep, self._why = comm, comm, False, ""
        self._end: Request | None = None
        self._bell: SharedMemory | None = None
        if everyone or not comm.crowded or all(comm.allgather_obj(comm.has_core)):
            return
        if comm.elastic or min(comm.allgather_obj(comm.shared_free())) < _ROOM:
            self._why = "ranks that may be lost" if comm.elastic else "no room in /dev/shm"
            return
        self.asleep = not comm.has_core
        self.comm = comm.crew()
        self._bell = comm.on_host().shared(1, np.uint8)
        self._ring(False)
        self._bell.barrier()

    @property
    def sleepers(self) -> int:
        """Return how many ranks sleep; on one that does not."""
        return self._all.size - self.comm.size

    def describe(self) -> str:
        """Say who computes where a host has more ranks than cores, or ""; on a rank that does."""
        if self.sleepers:
            return (
                f"{self.comm.size} of {self._all.size} ranks compute, one for each core;"
                " the others sleep (--oversubscribe: all compute)"
            )
        if self._why:
            return f"warning: more ranks than cores, and all compute ({self._why}): as many ranks as cores are faster"
        return ""

    def stops(self) -> bool:
        """Return whether a rank of this host that sleeps wants to stop."""
        return self._bell is not None and bool(self._bell.array[0])

    def _ring(self, stop: bool) -> None:
        if self._bell is not None:
            self._bell.array[0] = stop

    def sleep(self, wants_stop: Callable[[], bool]) -> None:
        """Return when the others have done their steps; meanwhile pass on that this rank wants to stop.

        Raises
        ------
        UserError
            They have failed.
        """
        recorder, failed = self._all.recorder, np.zeros((self._all.size, 1), np.uint8)
        end = self._all.iallgather(np.zeros(1, np.uint8), failed)
        recorder.wait(ASLEEP)
        while not end.test():
            if wants_stop():
                self._ring(True)
            recorder.tick()
            time.sleep(_NAP)
        recorder.leave()
        if failed.any():
            raise UserError("the ranks that compute have failed")

    def wake(self, *, failed: bool = False) -> None:
        """Let those that sleep go on, once all that compute have called this; they do not wait where they `failed`."""
        if self.sleepers and not self.asleep:
            here = np.array([failed], np.uint8)
            self._end = self._all.iallgather(here, np.empty((self._all.size, 1), np.uint8))
            if not failed:
                self._end.wait()

    def share(self, memory: RunMemory) -> None:
        """Let those that have slept have the parameters and states of the others; all ranks call it."""
        if self.sleepers:
            memory.share(self._all, changes=self.asleep)
            self._all.recorder.agree_on(max(self._all.allgather_obj(self._all.recorder.count)))
            self._ring(False)

    def close(self) -> None:
        """Give back what all share; all ranks call it, or none."""
        if self._bell is not None:
            self._bell.free()
            self._bell = None
