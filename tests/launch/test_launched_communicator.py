"""Launched ranks wait in one way."""

import pytest

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
