"""A world of one rank: the contract without MPI."""

import os
import socket
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.comm.communicator import Communicator, Done, Request, SharedMemory, check_buffer
from distbp.comm.host import available_cores
from distbp.comm.recorder import Recorder

Array = NDArray[Any]


class SerialCommunicator(Communicator):
    """Keep the contract of a communicator for one rank."""

    rank = name = 0
    size = host_ranks = 1
    crowded = background = False

    def __init__(self) -> None:
        self.host, self.host_cores = socket.gethostname(), len(available_cores())
        self.recorder = Recorder()

    def allreduce(self, buffer: Array, op: str = "sum") -> None:
        """Leave the buffer: it is the sum over one rank."""
        check_buffer(buffer, op)

    def bcast(self, buffer: Array, root: int = 0) -> None:
        """Leave the buffer: it is the one of the root."""
        check_buffer(buffer)

    def barrier(self) -> None:
        """Return at once."""

    def ialltoall(self, send: Array, receive: Array) -> Request:
        """Copy the row of this rank."""
        receive[...] = send
        return Done()

    iallgather = ialltoall

    def on_host(self) -> Communicator:
        """Return itself."""
        return self

    across_hosts = crew = on_host

    def split(self, color: int) -> Communicator:
        """Return itself."""
        return self

    def shared(self, n: int, dtype: DTypeLike) -> SharedMemory:
        """Allocate memory like any other."""
        return SharedMemory(np.empty(n, dtype), self.barrier, self.barrier)

    def all_failed(self, patience: float) -> bool:
        """Return True: one rank is all ranks."""
        return True

    def abort(self, code: int) -> None:
        """End this process."""
        os._exit(code)
