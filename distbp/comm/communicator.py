"""Communicators: how ranks talk, in MPI's own words.

One contract, kept by `SerialCommunicator` (one process, no MPI), by `MPICommunicator` in `mpi`, by
`ElasticCommunicator` in `elastic`, whose ranks may die, and by `ThreadCommunicator` in `threads`, for tests.

Buffers are contiguous NumPy arrays and are changed in place. Names that end in ``_obj`` take what
JSON can say, and send it as bytes: nothing is pickled. Every rank must make the same calls in the
same order.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.comm.recorder import Recorder
from distbp.errors import UserError

__all__ = [
    "Communicator",
    "Request",
    "SharedMemory",
    "SerialCommunicator",
    "available_cores",
    "on_root",
    "require_equal",
    "wait_quietly",
]

Array = NDArray[Any]

OPERATIONS = {"sum": np.add, "max": np.maximum, "min": np.minimum}


class Request(Protocol):
    """A collective under way."""

    def test(self) -> bool:
        """Whether its buffer may be used; lets MPI go on with it."""
        ...

    def wait(self) -> None:
        """Return when its buffer may be used."""
        ...


class Done:
    """A collective that is over."""

    def test(self) -> bool:
        """It is."""
        return True

    def wait(self) -> None:
        """Nothing to wait for."""


class SharedMemory(Protocol):
    """Memory that all ranks of a communicator read and write; see `Communicator.shared`."""

    array: Array

    def barrier(self) -> None:
        """Return when all ranks have come here, and each sees what the others wrote before."""
        ...

    def free(self) -> None:
        """Give it back; all ranks call it, none uses `array` again."""
        ...


class Communicator(Protocol):
    """What the rest of distbp asks of the ranks."""

    rank: int
    size: int
    host: str
    host_ranks: int
    """Ranks on this host."""
    host_cores: int
    """Cores that they may use together."""
    crowded: bool
    """Whether some host has more ranks than cores."""
    background: bool
    """Whether another thread may `test` requests while this one computes."""
    elastic: bool
    """Whether the ranks that are left can go on when one dies: every call may then raise `RankLost`."""
    name: int
    """The rank that this process started as; `recover` changes `rank`, never this."""
    recorder: Recorder
    """What this rank did last."""

    @property
    def names(self) -> list[int]:
        """The `name` of each rank."""
        ...

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0."""
        ...

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Replace `buffer` by its sum, max or min over all ranks."""
        ...

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Start sending row r of `send` to rank r; row r of `receive` comes from rank r."""
        ...

    def iallgather(self, send: Array, receive: Array) -> Request:
        """Start collecting the `send` of each rank r in row r of `receive`, on all ranks."""
        ...

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Replace `buffer` by the one of `root`."""
        ...

    def barrier(self) -> None:
        """Return when all ranks have come here."""
        ...

    def bcast_obj(self, value: Any, root: int = 0) -> Any:
        """The JSON value of `root`."""
        ...

    def allgather_obj(self, value: Any) -> list[Any]:
        """The JSON values of all ranks, by rank."""
        ...

    def on_host(self) -> "Communicator":
        """The ranks that can share memory with this one, in their order; made once."""
        ...

    def across_hosts(self) -> "Communicator":
        """The ranks that have this one's number in their `on_host`, one from each host; made once."""
        ...

    def split(self, color: int) -> "Communicator":
        """The ranks that give the same color, in their order; all ranks call it."""
        ...

    def shared_free(self) -> int:
        """Bytes that this host can give to `shared`."""
        ...

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """`n` elements that all ranks of this communicator read and write; they must be `on_host`."""
        ...

    def all_failed(self, patience: float) -> bool:
        """Whether every rank calls this within `patience` seconds (then they can end in step)."""
        ...

    def abort(self, code: int) -> None:
        """End all ranks now; where the others can go on without this one, this one only."""
        ...

    def agree(self) -> None:
        """Return on all ranks, or raise `RankLost` on all that are left."""
        ...

    def whois(self, name: int) -> str:
        """A rank, by the name it started with, for people."""
        ...

    def recover(self) -> list[int]:
        """Meet those that are left, who all call this after a `RankLost`; names of the lost ones."""
        ...

    def leave(self, code: int) -> int:
        """The exit code, when all ranks have come here: the end."""
        ...


def _encode(value: Any) -> Array:
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def _decode(data: Array) -> Any:
    return json.loads(data.tobytes())


class JsonObjects:
    """What is the same for every communicator: JSON values on top of buffers."""

    rank: int
    size: int
    elastic = False

    @property
    def is_root(self) -> bool:
        return self.rank == 0

    def agree(self) -> None:
        """Nobody can be lost."""

    @property
    def names(self) -> list[int]:
        return list(range(self.size))

    def whois(self, name: int) -> str:
        return f"rank {name}"

    def recover(self) -> list[int]:
        raise AssertionError("no rank of this communicator can be lost")

    def leave(self, code: int) -> int:
        return code

    def shared_free(self) -> int:
        try:
            there = os.statvfs("/dev/shm")
        except OSError:  # another system, another place: MPI knows
            return sys.maxsize
        return there.f_bavail * there.f_frsize

    def bcast_obj(self: Any, value: Any, root: int = 0) -> Any:
        data = _encode(value) if self.rank == root else np.zeros(0, np.uint8)
        length = np.array([len(data)], np.int64)
        self.bcast(length, root)
        if self.rank != root:
            data = np.zeros(int(length[0]), np.uint8)
        self.bcast(data, root)
        return _decode(data)

    def allgather_obj(self: Any, value: Any) -> list[Any]:
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


class SerialMemory:
    """Memory of one rank."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def barrier(self) -> None:
        """Nobody else is there."""

    def free(self) -> None:
        """The array is given back when nobody refers to it."""


class SerialCommunicator(JsonObjects):
    """A world of one rank."""

    rank = name = 0
    size = 1
    host_ranks = 1
    crowded = background = False

    def __init__(self) -> None:
        self.host, self.host_cores = socket.gethostname(), len(available_cores())
        self.recorder = Recorder()

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """The sum over one rank is the buffer itself."""
        check_buffer(buffer, op)

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """To itself."""
        receive[...] = send
        return Done()

    iallgather = ialltoall

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Nothing to do."""
        check_buffer(buffer)

    def on_host(self) -> Communicator:
        """Itself."""
        return self

    across_hosts = on_host

    def split(self, color: int) -> Communicator:
        """Itself."""
        return self

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """Memory like any other."""
        return SerialMemory(np.empty(n, dtype))

    def barrier(self) -> None:
        """Nothing to wait for."""

    def all_failed(self, patience: float) -> bool:
        """One rank is all ranks."""
        return True

    def abort(self, code: int) -> None:
        """End this process."""
        os._exit(code)


def check_buffer(buffer: Array, op: str = "sum") -> None:
    """What every collective asks of its arguments."""
    assert buffer.flags.c_contiguous, "a buffer of a collective is contiguous"
    assert op in OPERATIONS, f"unknown operation {op}: one of {', '.join(OPERATIONS)}"


def require_equal(comm: Communicator, value: Any, what: str) -> None:
    """Raise `UserError` on all ranks unless all have the same JSON `value`."""
    differs = json.dumps(value, sort_keys=True) != json.dumps(comm.bcast_obj(value), sort_keys=True)
    ranks = [str(comm.names[rank]) for rank, bad in enumerate(comm.allgather_obj(differs)) if bad]
    if ranks:
        raise UserError(f"{what} on rank {', '.join(ranks[:5])} differ from rank 0's: do all hosts read the same file?")


def on_root(comm: Communicator, action: Callable[[], object], problem: str) -> None:
    """Let rank 0 do `action`; what goes wrong with a file there is a `UserError` on all ranks."""
    said = ""
    if comm.is_root:
        try:
            action()
        except UserError as error:
            said = str(error)
        except OSError as error:
            said = f"{problem}: {error.strerror or error}"
    said = comm.bcast_obj(said)
    if said:
        raise UserError(said)


def wait_quietly(comm: Communicator) -> None:
    """A barrier in which ranks sleep: a rank that waits in MPI keeps a core busy, and times would tell of that."""
    request = comm.iallgather(np.zeros(1), np.empty(comm.size))
    while not request.test():
        time.sleep(0.005)


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))
