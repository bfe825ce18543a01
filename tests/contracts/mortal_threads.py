"""Ranks as threads that die where a test says so: what the others do then, without MPI and without processes."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distbp import RankLost, ThreadCommunicator, run_threads
from distbp.comm.threads import ThreadWorld


@dataclass(frozen=True)
class Death:
    """The death of a rank in its n-th collective.

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


class MortalWorld(ThreadWorld):
    """A world whose ranks may die: the others vote, and go on in a smaller one."""

    def __init__(self, names: Sequence[int]) -> None:
        super().__init__(names)
        self.turn = threading.Condition()
        self.dead: set[int] = set()
        self.votes: dict[int, dict[int, bool]] = {}
        self.results: dict[int, bool] = {}
        self.next: MortalWorld | None = None

    def bury(self, name: int) -> None:
        """Let all know that a rank is dead; it may have moved on to a later world."""
        world: MortalWorld | None = self
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

    def shrink(self, turn: int, name: int) -> "MortalWorld":
        """The world of those who are left when all of them have called this."""
        self.vote(turn, name, True)
        with self.turn:
            if self.next is None:
                self.next = MortalWorld([n for n in self.names if n not in self.dead])
            return self.next


class MortalThreadCommunicator(ThreadCommunicator):
    """A rank that may die, as one of an `ElasticCommunicator` may."""

    elastic = True

    def __init__(self, rank: int, world: MortalWorld, deaths: Sequence[Death]) -> None:
        super().__init__(rank, world)
        self._world: MortalWorld = world
        self._deaths, self._turn, self._voted = deaths, 0, False

    def _begin(self, operation: str, nbytes: int) -> None:
        self.recorder.enter(operation, nbytes)
        place = self.name, self.recorder.count
        mine = [death for death in self._deaths if (death.rank, death.collective) == place]
        if mine and not mine[0].heard_by:
            self._die()
        self._wait()
        if mine:
            while self._world.barrier.n_waiting < self.size - 1 and not self._world.barrier.broken:
                time.sleep(0)  # until the others have taken what they need
            self._die()

    def _end(self) -> None:
        try:
            self._wait()
        except RankLost:
            number = self.recorder.count
            if not any(self.name in death.heard_by and death.collective == number for death in self._deaths):
                raise
        self.recorder.leave()

    def _wait(self) -> None:
        try:
            self._world.barrier.wait()
        except threading.BrokenBarrierError:
            raise RankLost("a rank has died") from None

    def _die(self) -> None:
        self._world.bury(self.name)
        raise _Dead

    def agree(self) -> None:
        if not self._vote(True):
            self._voted = True
            raise RankLost("a rank was lost before all had come here")

    def _vote(self, yes: bool) -> bool:
        self._turn += 1
        return self._world.vote(self._turn, self.name, yes)

    def recover(self) -> list[int]:
        """As `distbp.comm.elastic` does it."""
        before = self._world.names
        self._world.abort()
        if not self._voted:
            self._vote(False)
        self._voted = False
        self._turn += 1
        self._world = self._world.shrink(self._turn, self.name)
        self.rank, self.size = self._world.names.index(self.name), len(self._world.names)
        self.host_ranks = self.size
        return [name for name in before if name not in self._world.names]


def run_mortal_threads(
    size: int, function: Callable[[ThreadCommunicator], Any], deaths: Sequence[Death] = ()
) -> list[Any]:
    """As `run_threads`, on ranks that may die: the result of a dead one is None."""
    world = MortalWorld(range(size))

    def until_death(comm: ThreadCommunicator) -> Any:
        try:
            return function(MortalThreadCommunicator(comm.rank, world, deaths))
        except _Dead:
            return None
        except threading.BrokenBarrierError:  # in a part of the world: not the cause
            world.bury(comm.rank)
            return None
        except BaseException:
            world.bury(comm.rank)
            raise

    return run_threads(size, until_death)
