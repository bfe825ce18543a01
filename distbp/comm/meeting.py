"""How the ranks of one host meet in shared memory: they look for each other for a moment, and then sleep between looks.

In MPI a rank that waits keeps its core busy. On a machine that has other work it so takes the core from the rank that
it waits for, and both stand still for a turn of the scheduler, some milliseconds, at each of the barriers of a step.
One that sleeps gives its core away, and has it back as soon as the other is there.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

ROOM = 1024
"""Bytes of the longest message."""
_LINE = 64
_LOOKS, _NAP = 1000, 1e-6
"""Looks before a rank sleeps, some 50 us, and how long it sleeps: no less than the timer of the system allows."""
_ADD_UP = {"sum": np.add.reduce, "max": np.maximum.reduce, "min": np.minimum.reduce}


class Meeting:
    """Let ranks wait for each other, and add up short messages.

    Parameters
    ----------
    memory : ndarray of uint8 of shape (Meeting.size_for(size),)
        Shared by the ranks, zeros.
    rank, size : int
        Number of this rank, and how many there are.
    fence : callable
        Makes what this rank wrote before it visible to the others, and what they wrote to this one.
    progress : callable
        Is called between sleeps: whom this rank waits for may wait for a message that it has not sent to the end.
    """

    def __init__(
        self, memory: Array, rank: int, size: int, fence: Callable[[], object], progress: Callable[[], object]
    ) -> None:
        self._came = memory[: size * _LINE].view(np.int64).data
        self._slots = memory[size * _LINE :].reshape(2, size, ROOM)
        per_line = _LINE // 8
        self._mine, self._others = rank * per_line, [k * per_line for k in range(size) if k != rank]
        self._rank, self._fence, self._progress, self._count = rank, fence, progress, 0
        self._views: dict[tuple[str, int], list[Array]] = {}

    @staticmethod
    def size_for(size: int) -> int:
        """Return the bytes of memory that so many ranks need."""
        return size * (_LINE + 2 * ROOM)

    def barrier(self) -> None:
        """Return when all ranks are here, and each sees what the others wrote before."""
        self._fence()
        self._count = count = self._count + 1
        came = self._came
        came[self._mine] = count
        for other in self._others:
            looks = 0
            while came[other] < count:
                looks += 1
                if looks > _LOOKS:
                    self._progress()
                    time.sleep(_NAP)
        self._fence()

    def allreduce(self, buffer: Array, op: str) -> None:
        """Replace `buffer`, of at most `ROOM` bytes, by its sum, max or min over the ranks, in their order."""
        key = buffer.dtype.str, buffer.size
        if (views := self._views.get(key)) is None:
            views = self._views[key] = [slots[:, : buffer.nbytes].view(buffer.dtype) for slots in self._slots]
        # in turns of two: who writes here again has met those that may still read what is there now
        rows = views[self._count % 2]
        rows[self._rank] = buffer.reshape(-1)
        self.barrier()
        buffer[...] = _ADD_UP[op](rows, axis=0).reshape(buffer.shape)
