"""P ranks as threads of one process: the same contract as MPI, for tests and for trying things out."""

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.comm.communicator import (
    OPERATIONS,
    Done,
    JsonObjects,
    Request,
    SharedMemory,
    available_cores,
    check_buffer,
)
from distbp.comm.recorder import Recorder
from distbp.errors import RankLost

__all__ = ["Death", "ThreadCommunicator", "run_threads"]

Array = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Death:
    """That a rank dies in its n-th collective, for tests of what the others do then.

    Attributes
    ----------
    rank : int
        The rank, by the name it started with.
    collective : int
        Number of the collective (`Recorder.count`), the first is 1.
    heard_by : frozenset of int
        Ranks that have its part of that collective all the same, and go on to the next; none by default.
    """

    rank: int
    collective: int
    heard_by: frozenset[int] = frozenset()


class _Dead(BaseException):
    """The end of a rank."""


class _ThreadWorld:
    def __init__(self, names: Sequence[int]) -> None:
        size = len(names)
        self.names = list(names)
        self.barrier = threading.Barrier(size)
        self.failed = threading.Barrier(size)
        self.slots: list[Any] = [None] * size
        self.parts: list[_ThreadWorld] = []
        self.turn = threading.Condition()
        self.dead: set[int] = set()
        self.votes: dict[int, dict[int, bool]] = {}
        self.results: dict[int, bool] = {}
        self.next: _ThreadWorld | None = None

    def abort(self) -> None:
        """Let every rank fail at its next collective, whatever the world."""
        self.barrier.abort()
        for part in self.parts:
            part.abort()

    def bury(self, name: int) -> None:
        """A rank is dead; it may have moved on to a later world."""
        world: _ThreadWorld | None = self
        while world is not None:
            with world.turn:
                world.dead.add(name)
                world.turn.notify_all()
                after = world.next
            world.abort()
            world = after

    def vote(self, turn: int, name: int, yes: bool) -> bool:
        """One result for all, when each rank has voted or died."""
        with self.turn:
            votes = self.votes.setdefault(turn, {})
            votes[name] = yes
            self.turn.notify_all()
            self.turn.wait_for(lambda: turn in self.results or votes.keys() | self.dead >= set(self.names))
            return self.results.setdefault(turn, all(votes.get(n, False) for n in self.names))

    def shrink(self, turn: int, name: int) -> "_ThreadWorld":
        """The world of those who are left when they meet here."""
        self.vote(turn, name, True)
        with self.turn:
            if self.next is None:
                self.next = _ThreadWorld([n for n in self.names if n not in self.dead])
            return self.next


class _ThreadMemory:
    def __init__(self, array: Array, barrier: Callable[[], None]) -> None:
        self.array, self.barrier = array, barrier

    def free(self) -> None:
        self.barrier()


class ThreadCommunicator(JsonObjects):
    """One of P ranks that are threads of this process; `run_threads` makes them."""

    crowded = background = False

    def __init__(
        self,
        rank: int,
        size: int,
        world: _ThreadWorld,
        hosts: Sequence[int] | None = None,
        deaths: Sequence[Death] | None = None,
    ) -> None:
        self.rank, self.size, self._world = rank, size, world
        self.elastic, self._deaths = deaths is not None, deaths or ()
        self.name, self.recorder, self._turn = rank, Recorder(), 0
        self.host, self.host_cores = socket.gethostname(), len(available_cores())
        hosts = [0] * size if hosts is None else hosts
        self._host_number = hosts[rank]
        self.host_ranks = hosts.count(hosts[rank])
        self._met = False
        self._on_host: ThreadCommunicator | None = None
        self._across_hosts: ThreadCommunicator | None = None

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Each rank reads all buffers in the order of ranks, so all get the same bits."""
        check_buffer(buffer, op)
        slots = self._world.slots
        slots[self.rank] = buffer
        self._begin("allreduce", buffer.nbytes)
        total = slots[0].copy()
        for other in slots[1:]:
            OPERATIONS[op](total, other, out=total)
        self._end()
        buffer[...] = total

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Blocks: correct, not fast."""
        self._collect(send, receive, lambda theirs: theirs[self.rank])
        return Done()

    def iallgather(self, send: Array, receive: Array) -> Request:
        """Blocks."""
        self._collect(send, receive, lambda theirs: theirs)
        return Done()

    def _collect(self, send: Array, receive: Array, mine: Callable[[Array], Array]) -> None:
        check_buffer(send)
        check_buffer(receive)
        self._world.slots[self.rank] = send
        self._begin("collect", send.nbytes)
        for row, theirs in zip(receive.reshape(self.size, -1), self._world.slots, strict=True):
            row[...] = mine(theirs).reshape(-1)
        self._end()

    def on_host(self) -> "ThreadCommunicator":
        """By the hosts that `run_threads` was given."""
        if self._on_host is None:
            self._on_host = self.split(self._host_number)
        return self._on_host

    def across_hosts(self) -> "ThreadCommunicator":
        """As the contract says."""
        if self._across_hosts is None:
            self._across_hosts = self.split(self.on_host().rank)
        return self._across_hosts

    def split(self, color: int) -> "ThreadCommunicator":
        """As the contract says; the first of them makes their world."""
        colors = self.allgather_obj(color)
        ranks = [rank for rank, other in enumerate(colors) if other == color]
        if self.rank == ranks[0]:
            world = _ThreadWorld(ranks)
            self._world.parts.append(world)
            self._world.slots[self.rank] = world
        self.barrier()
        world = self._world.slots[ranks[0]]
        self.barrier()
        part = ThreadCommunicator(ranks.index(self.rank), len(ranks), world)
        part.recorder = self.recorder
        return part

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """An array of the first rank: threads share all memory."""
        if self.rank == 0:
            self._world.slots[0] = np.empty(n, dtype)
        self.barrier()
        array = self._world.slots[0]
        self.barrier()
        return _ThreadMemory(array, self.barrier)

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Copy from the slot of `root`."""
        check_buffer(buffer)
        self._world.slots[self.rank] = buffer
        self._begin("bcast", buffer.nbytes)
        if self.rank != root:
            buffer[...] = self._world.slots[root]
        self._end()

    def barrier(self) -> None:
        """Raises `threading.BrokenBarrierError` when another rank has failed."""
        self._begin("barrier", 0)
        self._end()

    def _begin(self, operation: str, nbytes: int) -> None:
        """All are here, and see what the others brought."""
        self.recorder.enter(operation, nbytes)
        place = self.name, self.recorder.count
        mine = [death for death in self._deaths if (death.rank, death.collective) == place]
        if mine and not mine[0].heard_by:
            self._die()
        self._meet()
        if mine:
            while self._world.barrier.n_waiting < self.size - 1 and not self._world.barrier.broken:
                time.sleep(0)  # until the others have taken what they need
            self._die()

    def _end(self) -> None:
        """All have taken what they need."""
        try:
            self._meet()
        except RankLost:
            number = self.recorder.count
            if not any(self.name in death.heard_by and death.collective == number for death in self._deaths):
                raise
        self.recorder.leave()

    def _meet(self) -> None:
        try:
            self._world.barrier.wait()
        except threading.BrokenBarrierError:
            if not self.elastic:
                raise
            raise RankLost("a rank has died") from None

    def _die(self) -> None:
        self._world.bury(self.name)
        raise _Dead

    @property
    def names(self) -> list[int]:
        """Those that are left."""
        return self._world.names

    def agree(self) -> None:
        """As the contract says."""
        if self.elastic and not self._vote(True):
            self._met = True
            raise RankLost("a rank was lost before all had come here")

    def _vote(self, yes: bool) -> bool:
        self._turn += 1
        return self._world.vote(self._turn, self.name, yes)

    def recover(self) -> list[int]:
        """As `distbp.comm.elastic` does it."""
        before = self._world.names
        self._world.abort()
        if not self._met:
            self._vote(False)
        self._met = False
        self._turn += 1
        self._world = self._world.shrink(self._turn, self.name)
        self.rank, self.size = self._world.names.index(self.name), len(self._world.names)
        self.host_ranks = self.size
        return [name for name in before if name not in self._world.names]

    def all_failed(self, patience: float) -> bool:
        """As the contract says."""
        try:
            self._world.failed.wait(patience)
        except threading.BrokenBarrierError:
            return False
        return True

    def abort(self, code: int) -> None:
        """Let every other rank fail at its next collective."""
        self._world.abort()


def run_threads(
    size: int,
    function: Callable[[ThreadCommunicator], T],
    *,
    ranks_per_host: int | None = None,
    hosts: Sequence[int] | None = None,
    deaths: Sequence[Death] | None = None,
) -> list[T]:
    """Run `function` on `size` ranks, threads of this process; their results by rank.

    With `ranks_per_host` they pretend to be on several hosts, the last of which may have fewer ranks; with
    `hosts`, number of the host of each rank, on these. With `deaths`, even an empty list, ranks may die: the result of
    a dead one is None.

    The first exception of a rank ends the others at their next collective and is raised here.
    """
    if ranks_per_host is not None:
        hosts = [rank // ranks_per_host for rank in range(size)]
    world = _ThreadWorld(range(size))
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def rank_main(rank: int) -> None:
        try:
            results[rank] = function(ThreadCommunicator(rank, size, world, hosts, deaths))
        except _Dead:
            pass
        except BaseException as error:
            if not isinstance(error, threading.BrokenBarrierError):
                errors.append(error)
            world.bury(rank)

    threads = [threading.Thread(target=rank_main, args=(r,), daemon=True) for r in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    if world.barrier.broken and deaths is None:
        raise threading.BrokenBarrierError("a rank has aborted")
    return results
