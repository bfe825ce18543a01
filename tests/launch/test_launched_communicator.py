"""Messages and waiting of launched ranks."""

import pytest

LONG = """
import sys
import numpy as np
from distbp import communicator

comm = communicator("mpi")
n = 2**31 + 5
buffer = np.full(n, comm.rank + 1, np.uint8)
comm.allreduce(buffer, "max")
assert buffer[0] == buffer[n // 2] == buffer[-1] == comm.size and buffer.min() == comm.size
buffer[:] = comm.rank
comm.bcast(buffer, root=1)
assert buffer[0] == buffer[-1] == 1 and buffer.min() == 1
"""


def test_messages_of_more_than_two_to_the_31_bytes(launch):
    done = launch("-c", LONG, ranks=2, timeout=120)
    assert done.returncode == 0, done.stderr


UNEQUAL = """
import os
import numpy as np
from mpi4py import MPI

if MPI.COMM_WORLD.rank == 0:
    os.sched_setaffinity(0, {0})
from distbp import communicator, run_threads

comm = communicator("mpi")
for _ in range(100):
    buffer = np.ones(1000)
    comm.allreduce(buffer)
    assert (buffer == comm.size).all()
    comm.barrier()
flags = comm.allgather_obj(comm.crowded)
assert len(set(flags)) == 1, flags
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_with_other_cores_wait_in_the_same_way(launch, ranks):
    """Blocking and non-blocking collectives do not match: one rank must not yield while another spins."""
    done = launch("-c", UNEQUAL, ranks=ranks, timeout=30)
    assert done.returncode == 0, done.stderr
