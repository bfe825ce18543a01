"""P ranks as threads of one process: the same contract as MPI, for tests and for trying things out."""

import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from numpy.typing import NDArray

from distbp.communicator import REDUCTIONS, Done, JsonObjects, Request, available_cores, check_buffer

__all__ = ["ThreadCommunicator", "run_threads"]

Array = NDArray[Any]
T = TypeVar("T")


class _ThreadWorld:
    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.failed = threading.Barrier(size)
        self.slots: list[Any] = [None] * size


class ThreadCommunicator(JsonObjects):
    """One of P ranks that are threads of this process; `run_threads` makes them."""

    def __init__(self, rank: int, size: int, world: _ThreadWorld) -> None:
        self.rank, self.size, self._world = rank, size, world
        self.host, self.host_ranks, self.host_cores = socket.gethostname(), size, len(available_cores())

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Each rank reads all buffers in the order of ranks, so all get the same bits."""
        check_buffer(buffer, op)
        slots = self._world.slots
        slots[self.rank] = buffer
        self.barrier()
        total = slots[0].copy()
        for other in slots[1:]:
            REDUCTIONS[op](total, other, out=total)
        self.barrier()
        buffer[...] = total

    def iallreduce(self, buffer: Array) -> Request:
        """Blocks: correct, not fast."""
        self.allreduce(buffer)
        return Done()

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Copy from the slot of `root`."""
        check_buffer(buffer)
        self._world.slots[self.rank] = buffer
        self.barrier()
        if self.rank != root:
            buffer[...] = self._world.slots[root]
        self.barrier()

    def barrier(self) -> None:
        """Raises `threading.BrokenBarrierError` when another rank has failed."""
        self._world.barrier.wait()

    def all_failed(self, patience: float) -> bool:
        """As the contract says."""
        try:
            self._world.failed.wait(patience)
        except threading.BrokenBarrierError:
            return False
        return True

    def abort(self, code: int) -> None:
        """Let every other rank fail at its next collective."""
        self._world.barrier.abort()


def run_threads(size: int, function: Callable[[ThreadCommunicator], T]) -> list[T]:
    """Run `function` on `size` ranks, threads of this process; their results by rank.

    The first exception of a rank ends the others at their next collective and is raised here.
    """
    world = _ThreadWorld(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def rank_main(rank: int) -> None:
        try:
            results[rank] = function(ThreadCommunicator(rank, size, world))
        except BaseException as error:
            if not isinstance(error, threading.BrokenBarrierError):
                errors.append(error)
            world.barrier.abort()

    threads = [threading.Thread(target=rank_main, args=(r,), daemon=True) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    if world.barrier.broken:
        raise threading.BrokenBarrierError("a rank has aborted")
    return results
