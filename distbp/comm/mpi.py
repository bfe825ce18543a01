"""The ranks of an MPI launch, by mpi4py; this is the only module that imports it."""

import os
import socket
import sys
import time
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.comm.communicator import Communicator, Request, SharedMemory, check_buffer
from distbp.comm.host import available_cores, with_core
from distbp.comm.launchers import Launch, launch_of
from distbp.comm.meeting import ROOM, Meeting
from distbp.comm.processes import siblings_live
from distbp.comm.recorder import Recorder

Array = NDArray[Any]

CHUNK_BYTES = 1 << 30
"""Longer buffers go in chunks: many an MPI counts bytes in a C int."""


def library_version() -> str:
    """Return what the MPI that mpi4py finds says of itself, on one or several lines; MPI is not initialised for it.

    Raises
    ------
    ImportError, RuntimeError
        There is no mpi4py, or it finds no MPI.
    """
    version: str = loaded_mpi().Get_library_version()
    return version.strip("\0\n")


def loaded_mpi() -> Any:
    """Import mpi4py.MPI and leave MPI uninitialised: a launcher that does not fit is to be named before."""
    import mpi4py

    if "mpi4py.MPI" not in sys.modules:
        mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    return MPI


def _garbles_pmi2(library: str, launch: Launch | None) -> bool:
    """Return whether MPICH would send uninitialised bytes behind its UCX address to SLURM.

    They are packed: zeros fit in a message of SLURM's pmi2, what else lies in a long used heap does not, and MPI_Init
    dies (MPICH 5.0.2). By its other network module, OFI, which is as fast over TCP, addresses are whole.
    """
    return launch is not None and launch.launcher == "srun --mpi=pmi2" and "ch4:ucx ofi" in library


class MPICommunicator(Communicator):
    """Connect the ranks of an MPI launch, by mpi4py.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        Its ranks; COMM_WORLD by default. It is duplicated, so messages of others do not mix with ours.
    """

    thread_level: ClassVar[str] = "serialized"
    """One thread at a time talks: more is slower, and deadlocks over TCP."""
    settings: ClassVar[dict[str, str]] = {"OMPI_MCA_osc": "^ucx"}
    """Open MPI's one-sided UCX component complains at every window, and is not needed on one host."""

    def __init__(self, comm: Any = None) -> None:
        self._mpi = MPI = loaded_mpi()
        if not MPI.Is_initialized():
            for name, value in self.settings.items():
                os.environ.setdefault(name, value)
            if _garbles_pmi2(library_version(), launch_of(os.environ)):
                os.environ.setdefault("MPIR_CVAR_CH4_NETMOD", "ofi")
            with siblings_live(os.environ):
                MPI.Init_thread(getattr(MPI, f"THREAD_{self.thread_level.upper()}"))
        self._ops = {"sum": MPI.SUM, "max": MPI.MAX, "min": MPI.MIN}
        self.crowded = True  # until all ranks know whether any of them is
        self.background = MPI.Query_thread() >= MPI.THREAD_SERIALIZED
        self.recorder = Recorder()
        self.host = socket.gethostname()
        self._adopt((MPI.COMM_WORLD if comm is None else comm).Dup())
        self.name = self.rank
        self._names = list(range(self.size))
        everyone = self.allgather_obj([self.host, available_cores()])
        here = {rank: cores for rank, (host, cores) in enumerate(everyone) if host == self.host}
        self.host_ranks, self.host_cores = len(here), len(set().union(*here.values()))
        self.has_core = self.rank in with_core(here)
        # More ranks than cores: a rank that spins in MPI keeps the core from the one it waits for. All
        # ranks do the same, since blocking and non-blocking collectives do not match each other.
        self.crowded = any(self.allgather_obj(self.host_ranks > self.host_cores))
        self.library = library_version().splitlines()[0]

    @property
    def names(self) -> list[int]:
        """Return the number in the whole launch of each rank."""
        return self._names

    def _adopt(self, comm: Any) -> None:
        """Talk on `comm` from now on."""
        self._comm = self._failures = self._gathers = comm
        self._groups: dict[str, MPICommunicator] = {}
        self._meeting: Meeting | None = None
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._failures = self._copy(comm)
        self._gathers = self._copy(comm)  # so that all-to-alls and gathers may overtake each other

    def _copy(self, comm: Any) -> Any:
        return comm.Dup()

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Call MPI_Allreduce, in place."""
        check_buffer(buffer, op)
        self.recorder.enter("allreduce", buffer.nbytes)
        if self._meeting is not None and buffer.nbytes <= ROOM:
            self._meeting.allreduce(buffer, op)
        else:
            for chunk in _chunks(buffer):
                if self.crowded:
                    self._wait(self._comm.Iallreduce(self._mpi.IN_PLACE, chunk, self._ops[op]))
                else:
                    self._comm.Allreduce(self._mpi.IN_PLACE, chunk, self._ops[op])
        self.recorder.leave()

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Call MPI_Ialltoall, of rows."""
        check_buffer(send)
        check_buffer(receive)
        self.recorder.tick()
        return _MPIRequest(self, self._comm.Ialltoall(_bytes(send), _bytes(receive)), (send, receive))

    def iallgather(self, send: Array, receive: Array) -> Request:
        """Call MPI_Iallgather."""
        check_buffer(send)
        check_buffer(receive)
        self.recorder.tick()
        return _MPIRequest(self, self._gathers.Iallgather(_bytes(send), _bytes(receive)), (send, receive))

    def on_host(self) -> Communicator:
        """Call MPI_Comm_split_type, for shared memory."""
        if "on" not in self._groups:
            here = self._part(self._comm.Split_type(self._mpi.COMM_TYPE_SHARED))
            self._groups["on"] = here
            if here.size == self.size and not (self.crowded or self.elastic):
                self._meeting = here._meeting = here._meet()
        return self._groups["on"]

    def _meet(self) -> Meeting | None:
        """Return where the ranks, all of one host, meet without MPI, if the host has memory for it."""
        size = Meeting.size_for(self.size)
        if self.size == 1 or min(self.allgather_obj(self.shared_free())) < 2 * size:
            return None
        window, memory = self._window(size)
        if self.rank == 0:
            memory[:] = 0
        window.Sync()
        self.barrier()
        window.Sync()
        return Meeting(memory, self.rank, self.size, window.Sync, self._comm.Iprobe)  # a probe lets MPI go on

    def across_hosts(self) -> Communicator:
        """Call MPI_Comm_split, by the rank on the host."""
        if "across" not in self._groups:
            self._groups["across"] = self._part(self._comm.Split(self.on_host().rank))
        return self._groups["across"]

    def crew(self) -> Communicator:
        """Call MPI_Comm_split, by whether there is a core."""
        if "crew" not in self._groups:
            self._groups["crew"] = self.split(0 if self.has_core else 1 + self.rank)
            self._groups["crew"].crowded = False  # the others sleep
        return self._groups["crew"]

    def split(self, color: int) -> "MPICommunicator":
        """Call MPI_Comm_split."""
        return self._part(self._comm.Split(color))

    def _part(self, comm: Any) -> "MPICommunicator":
        part = MPICommunicator(comm)
        part.crowded, part.has_core = self.crowded, True  # by its own ranks alone it might think otherwise
        part.recorder, part.name = self.recorder, self.name
        part._names = [self.names[rank] for rank in comm.Get_group().Translate_ranks(None, self._comm.Get_group())]
        return part

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """Call MPI_Win_allocate_shared, all of it by rank 0; who touches a page first has it near."""
        window, memory = self._window(n * np.dtype(dtype).itemsize)

        def synchronised() -> None:
            window.Sync()
            self.barrier()
            window.Sync()

        # the fence of a meeting is that of the processor: for all windows at once
        barrier = synchronised if self._meeting is None else self.barrier

        def free() -> None:
            window.Unlock_all()
            window.Free()

        return SharedMemory(memory.view(dtype), barrier, free)

    def _window(self, size: int) -> tuple[Any, Array]:
        window = self._mpi.Win.Allocate_shared(size if self.rank == 0 else 0, 1, comm=self._comm)
        window.Lock_all()
        return window, np.asarray(window.Shared_query(0)[0])[:size].view(np.uint8)

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Call MPI_Bcast."""
        check_buffer(buffer)
        self.recorder.enter("bcast", buffer.nbytes)
        for chunk in _chunks(buffer):
            self._wait(self._comm.Ibcast(chunk, root))
        self.recorder.leave()

    def barrier(self) -> None:
        """Call MPI_Barrier."""
        self.recorder.enter("barrier")
        if self._meeting is not None:
            self._meeting.barrier()
        elif self.crowded:
            self._wait(self._comm.Ibarrier())
        else:
            self._comm.Barrier()
        self.recorder.leave()

    def _test(self, request: Any) -> bool:
        done: bool = request.Test()
        return done

    def _wait(self, request: Any) -> None:
        while self.crowded and not request.Test():
            time.sleep(0)
        request.Wait()

    def all_failed(self, patience: float) -> bool:
        """Enter a barrier that does not wait for ever; return whether all came to it."""
        deadline = time.monotonic() + patience
        try:
            request = self._failures.Ibarrier()
            while not request.Test():
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.01)
        except self._mpi.Exception:  # one is no more, under a launcher that lets the others live
            return False
        return True

    def abort(self, code: int) -> None:
        """Call MPI_Abort."""
        self._mpi.COMM_WORLD.Abort(code)


class _MPIRequest:
    """Keep the buffers of a collective under way, which mpi4py does not."""

    def __init__(self, comm: MPICommunicator, request: Any, buffers: tuple[Array, Array]) -> None:
        self._comm, self._request, self._buffers = comm, request, buffers

    def test(self) -> bool:
        return self._comm._test(self._request)

    def wait(self) -> None:
        self._comm._wait(self._request)


def _bytes(buffer: Array) -> Array:
    """Return the bytes of a buffer: MPI has no name for numbers of 16 bits."""
    return buffer.reshape(-1).view(np.uint8)


def _chunks(buffer: Array) -> list[Array]:
    if buffer.nbytes <= CHUNK_BYTES:
        return [buffer]
    flat, step = buffer.reshape(-1), max(1, CHUNK_BYTES // buffer.itemsize)
    return [flat[i : i + step] for i in range(0, flat.size, step)]
