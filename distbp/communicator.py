"""Communicators: how ranks talk, in MPI's own words.

`SerialCommunicator` (one process, no MPI) and `MPICommunicator` (mpi4py) keep one contract; so does
`ThreadCommunicator` in `threads`, for tests.

Buffers are contiguous NumPy arrays and are changed in place. Names that end in ``_obj`` take what
JSON can say, and send it as bytes: nothing is pickled. Every rank must make the same calls in the
same order. This is the only module that imports mpi4py.
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

from distbp.errors import UserError

__all__ = [
    "Communicator",
    "MPICommunicator",
    "Request",
    "SharedMemory",
    "SerialCommunicator",
    "available_cores",
    "communicator",
    "launched_processes",
    "on_root",
    "require_equal",
]

Array = NDArray[Any]

CHUNK_BYTES = 1 << 30
"""Longer buffers go in pieces: many an MPI counts bytes in a C int."""

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
        """End all ranks now."""
        ...


def _encode(value: Any) -> Array:
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def _decode(data: Array) -> Any:
    return json.loads(data.tobytes())


class JsonObjects:
    """What is the same for every communicator: JSON values on top of buffers."""

    rank: int
    size: int

    @property
    def is_root(self) -> bool:
        return self.rank == 0

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

    rank = 0
    size = 1
    host_ranks = 1
    crowded = background = False

    def __init__(self) -> None:
        self.host, self.host_cores = socket.gethostname(), len(available_cores())

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


class MPICommunicator(JsonObjects):
    """The ranks of an MPI launch, by mpi4py.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Its ranks; COMM_WORLD by default. It is duplicated, so nobody else's messages are met.
    """

    def __init__(self, comm: Any = None) -> None:
        import mpi4py

        if "mpi4py.MPI" not in sys.modules:
            # one thread at a time talks: more is slower, and deadlocks over TCP
            mpi4py.rc.thread_level = "serialized"
            # Open MPI's one-sided UCX component complains at every window, and is not needed on one host
            os.environ.setdefault("OMPI_MCA_osc", "^ucx")
        from mpi4py import MPI

        self._mpi = MPI
        self._ops = {"sum": MPI.SUM, "max": MPI.MAX, "min": MPI.MIN}
        self.crowded = True  # until all ranks know whether any of them is
        self.background = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        self._comm = (MPI.COMM_WORLD if comm is None else comm).Dup()
        self._failures = self._comm.Dup()
        self._gathers = self._comm.Dup()  # so that all-to-alls and gathers may overtake each other
        self._groups: dict[str, Communicator] = {}
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.host = socket.gethostname()
        everyone = self.allgather_obj([self.host, available_cores()])
        here = [cores for host, cores in everyone if host == self.host]
        self.host_ranks, self.host_cores = len(here), len(set().union(*here))
        # More ranks than cores: a rank that spins in MPI keeps the core from the one it waits for. All
        # ranks do the same, since blocking and non-blocking collectives do not match each other.
        self.crowded = any(self.allgather_obj(self.host_ranks > self.host_cores))
        self.library = MPI.Get_library_version().strip("\0\n").splitlines()[0]

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """MPI_Allreduce in place."""
        check_buffer(buffer, op)
        for piece in _pieces(buffer):
            if self.crowded:
                self._wait(self._comm.Iallreduce(self._mpi.IN_PLACE, piece, self._ops[op]))
            else:
                self._comm.Allreduce(self._mpi.IN_PLACE, piece, self._ops[op])

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """MPI_Ialltoall of rows."""
        check_buffer(send)
        check_buffer(receive)
        return _MPIRequest(self._wait, self._comm.Ialltoall(_bytes(send), _bytes(receive)), (send, receive))

    def iallgather(self, send: Array, receive: Array) -> Request:
        """MPI_Iallgather."""
        check_buffer(send)
        check_buffer(receive)
        return _MPIRequest(self._wait, self._gathers.Iallgather(_bytes(send), _bytes(receive)), (send, receive))

    def on_host(self) -> Communicator:
        """MPI_Comm_split_type for shared memory."""
        if "on" not in self._groups:
            self._groups["on"] = self._part(self._comm.Split_type(self._mpi.COMM_TYPE_SHARED))
        return self._groups["on"]

    def across_hosts(self) -> Communicator:
        """MPI_Comm_split by the rank on the host."""
        if "across" not in self._groups:
            self._groups["across"] = self._part(self._comm.Split(self.on_host().rank))
        return self._groups["across"]

    def _part(self, comm: Any) -> Communicator:
        part = MPICommunicator(comm)
        part.crowded = self.crowded  # by its own ranks alone it might think otherwise
        return part

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """MPI_Win_allocate_shared, all of it by rank 0; who touches a page first has it near."""
        size = n * np.dtype(dtype).itemsize
        window = self._mpi.Win.Allocate_shared(size if self.rank == 0 else 0, 1, comm=self._comm)
        memory = np.asarray(window.Shared_query(0)[0])[:size].view(np.uint8).view(dtype)
        return _MPIMemory(window, memory, self.barrier)

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """MPI_Bcast."""
        check_buffer(buffer)
        for piece in _pieces(buffer):
            self._wait(self._comm.Ibcast(piece, root))

    def barrier(self) -> None:
        """MPI_Barrier."""
        if self.crowded:
            self._wait(self._comm.Ibarrier())
        else:
            self._comm.Barrier()

    def _wait(self, request: Any) -> None:
        while self.crowded and not request.Test():
            time.sleep(0)
        request.Wait()

    def all_failed(self, patience: float) -> bool:
        """A barrier that does not wait for ever."""
        request = self._failures.Ibarrier()
        deadline = time.monotonic() + patience
        while not request.Test():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def abort(self, code: int) -> None:
        """MPI_Abort."""
        self._mpi.COMM_WORLD.Abort(code)


class _MPIRequest:
    """Keeps the buffers, which mpi4py does not."""

    def __init__(self, wait: Callable[[Any], None], request: Any, buffers: tuple[Array, Array]) -> None:
        self._wait, self._request, self._buffers = wait, request, buffers

    def test(self) -> bool:
        done: bool = self._request.Test()
        return done

    def wait(self) -> None:
        self._wait(self._request)


class _MPIMemory:
    def __init__(self, window: Any, array: Array, barrier: Callable[[], None]) -> None:
        self._window, self.array, self._barrier = window, array, barrier
        window.Lock_all()

    def barrier(self) -> None:
        self._window.Sync()
        self._barrier()
        self._window.Sync()

    def free(self) -> None:
        self._window.Unlock_all()
        self._window.Free()


def _bytes(buffer: Array) -> Array:
    """As MPI knows it: it has no name for numbers of 16 bits."""
    return buffer.reshape(-1).view(np.uint8)


def _pieces(buffer: Array) -> list[Array]:
    if buffer.nbytes <= CHUNK_BYTES:
        return [buffer]
    flat, step = buffer.reshape(-1), max(1, CHUNK_BYTES // buffer.itemsize)
    return [flat[i : i + step] for i in range(0, flat.size, step)]


def require_equal(comm: Communicator, value: Any, what: str) -> None:
    """Raise `UserError` on all ranks unless all have the same JSON `value`."""
    differs = json.dumps(value, sort_keys=True) != json.dumps(comm.bcast_obj(value), sort_keys=True)
    ranks = [str(rank) for rank, bad in enumerate(comm.allgather_obj(differs)) if bad]
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


def available_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def launched_processes() -> int | None:
    """How many processes the launcher says it started; None without a launcher.

    mpirun's own variables count first: below it, SLURM's describe mpirun's daemons.
    """
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return None


def communicator(kind: str = "auto") -> Communicator:
    """The communicator of this process.

    Parameters
    ----------
    kind : {"auto", "mpi", "serial"}
        ``auto`` is MPI under a launcher and serial without one.

    Raises
    ------
    UserError
        When a launcher started several processes but MPI sees a world of one: they would be that
        many serial runs, each overwriting the others' files.
    """
    if kind not in ("auto", "mpi", "serial"):
        raise ValueError(f"unknown communicator {kind!r}: one of auto, mpi, serial")
    launched = launched_processes()
    if kind == "serial" or (kind == "auto" and launched is None):
        return SerialCommunicator()
    try:
        comm = MPICommunicator()
    except (ImportError, RuntimeError) as error:
        if kind == "auto" and launched == 1:
            return SerialCommunicator()
        raise UserError(
            f"a launcher started {launched or 1} processes but MPI cannot be loaded"
            f" ({' '.join(str(error).split())}): pip install 'distbp[mpi]' into this environment"
        ) from error
    if comm.size == 1 and (launched or 1) > 1:
        raise UserError(
            f"the launcher started {launched} processes but MPI sees a world of one: this mpirun or"
            f" srun belongs to another MPI than mpi4py's ({comm.library}); use the mpirun next to"
            f" {sys.executable}, or srun --mpi=pmi2 or --mpi=pmix"
        )
    return comm
