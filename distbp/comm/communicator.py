"""Communicators: how ranks talk, in three small protocols.

`Communicator` speaks MPI's own words. It is a `Host` too, which tells of the ranks that share memory, and knows its
`Members`, who may be lost. One contract, kept by `SerialCommunicator` (one process, no MPI), by `MPICommunicator`, by
`ElasticCommunicator`, whose ranks may die, and by `ThreadCommunicator`, for tests. What most of them do alike is here.

Buffers are contiguous NumPy arrays and are changed in place. Names that end in ``_obj`` take what JSON can say, and
send it as bytes: nothing is pickled. Every rank must make the same calls in the same order.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.comm.host import shared_memory_free
from distbp.comm.recorder import Recorder

Array = NDArray[Any]

OPERATIONS = {"sum": np.add, "max": np.maximum, "min": np.minimum}


class Request(Protocol):
    """Follow a collective that is under way."""

    def test(self) -> bool:
        """Return whether its buffer may be used; lets MPI go on with it."""
        ...

    def wait(self) -> None:
        """Return when its buffer may be used."""
        ...


class Done:
    """Stand for a collective that is over."""

    def test(self) -> bool:
        """Return True."""
        return True

    def wait(self) -> None:
        """Return at once."""


class SharedMemory(NamedTuple):
    """Hold memory that all ranks of a communicator read and write; see `Host.shared`."""

    array: Array
    barrier: Callable[[], None]
    """Returns when all ranks have called it, and each sees what the others wrote before."""
    free: Callable[[], None]
    """Gives it back; all ranks call it, none uses `array` again."""


class Host(Protocol):
    """Tell of the host of this rank, and connect the ranks that share its memory."""

    host: str
    host_ranks: int
    """Ranks on this host."""
    host_cores: int
    """Cores that they may use together."""
    crowded: bool
    """Whether some host has more ranks than cores."""
    has_core: bool = True
    """Whether there is a core for this rank: those of a host that come first have them; all ranks of a part."""
    background: bool
    """Whether another thread may `test` requests while this one computes."""

    def on_host(self) -> "Communicator":
        """Return the ranks that can share memory with this one, in their order; made once."""
        ...

    def across_hosts(self) -> "Communicator":
        """Return the ranks that have this one's number in their `on_host`, one from each host; made once."""
        ...

    def crew(self) -> "Communicator":
        """Return the ranks that have a core, uncrowded; to one that has none this rank alone; made once."""
        ...

    def shared_free(self) -> int:
        """Return the bytes that this host can give to `shared`."""
        return shared_memory_free()

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """Allocate `n` elements that all ranks of this communicator read and write; they must be `on_host`."""
        ...


class Members(Protocol):
    """Tell who the ranks are, and lead them through losses to the end; here as where none can be lost."""

    size: int
    elastic: bool = False
    """Whether the ranks that are left can go on when one dies: every call may then raise `RankLost`."""
    name: int
    """The rank that this process started as; `recover` changes `rank`, never this."""

    @property
    def names(self) -> list[int]:
        """Return the `name` of each rank."""
        return list(range(self.size))

    def whois(self, name: int) -> str:
        """Describe a rank for people, by the name it started with."""
        return f"rank {name}"

    def agree(self) -> None:
        """Return on all ranks, or raise `RankLost` on all that are left."""
        return  # nobody can be lost

    def recover(self) -> list[int]:
        """Join those that are left, who all call this after a `RankLost`; return the names of the lost ones."""
        raise AssertionError("no rank of this communicator can be lost")

    def leave(self, code: int) -> int:
        """Return the exit code when all ranks have called this: the end."""
        return code

    def all_failed(self, patience: float) -> bool:
        """Return whether every rank calls this within `patience` seconds (then they can end in step)."""
        ...

    def abort(self, code: int) -> None:
        """End all ranks now; where the others can go on without this one, this one only."""
        ...


class Communicator(Host, Members, Protocol):
    """Connect the ranks, in MPI's own words."""

    rank: int
    recorder: Recorder
    """The last collectives of this rank."""

    @property
    def is_root(self) -> bool:
        """Return whether this is rank 0."""
        return self.rank == 0

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Replace `buffer` by its sum, max or min over all ranks."""
        ...

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Replace `buffer` by the one of `root`."""
        ...

    def barrier(self) -> None:
        """Return when all ranks have called this."""
        ...

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Start sending row r of `send` to rank r; row r of `receive` comes from rank r."""
        ...

    def iallgather(self, send: Array, receive: Array) -> Request:
        """Start collecting the `send` of each rank r in row r of `receive`, on all ranks."""
        ...

    def split(self, color: int) -> "Communicator":
        """Return the ranks that give the same color, in their order; all ranks call it."""
        ...

    def bcast_obj(self, value: Any, root: int = 0) -> Any:
        """Return the JSON value of `root`."""
        data = _encode(value) if self.rank == root else np.zeros(0, np.uint8)
        length = np.array([len(data)], np.int64)
        self.bcast(length, root)
        if self.rank != root:
            data = np.zeros(int(length[0]), np.uint8)
        self.bcast(data, root)
        return _decode(data)

    def allgather_obj(self, value: Any) -> list[Any]:
        """Return the JSON values of all ranks, by rank."""
        # a sum with zeros elsewhere: one collective serves every purpose
        data = _encode(value)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(data)
        self.allreduce(lengths)
        ends = np.cumsum(lengths)
        everyone = np.zeros(int(ends[-1]), np.uint8)
        everyone[ends[self.rank] - len(data) : ends[self.rank]] = data
        self.allreduce(everyone)
        return [_decode(part) for part in np.split(everyone, ends[:-1])]


def _encode(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def _decode(data: NDArray[np.uint8]) -> Any:
    return json.loads(data.tobytes())


def check_buffer(buffer: Array, op: str = "sum") -> None:
    """Assert what every collective asks of its arguments."""
    assert buffer.flags.c_contiguous, "a buffer of a collective is contiguous"
    assert op in OPERATIONS, f"unknown operation {op}: one of {', '.join(OPERATIONS)}"
