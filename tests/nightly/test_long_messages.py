"""Messages whose length 32 bits do not hold."""

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
