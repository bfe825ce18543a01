"""Replicas of launched ranks are equal."""

UNEQUAL_THREADS = """
import numpy as np
from threadpoolctl import threadpool_limits
from distbp import LAMB, Network, SoftmaxCrossEntropy, Trainer, communicator, load

comm = communicator("mpi")
data = load("digits", comm=comm, dtype=np.float64)
network = Network([64, 256, 128, 10], dtype=np.float64)
with threadpool_limits(1 + comm.rank, user_api="blas"):
    Trainer(network, SoftmaxCrossEntropy(), LAMB(clip_norm=0.5), data.train, comm=comm, batches=32).fit(steps=60)
least, greatest = network.theta.copy(), network.theta.copy()
comm.allreduce(least, "min")
comm.allreduce(greatest, "max")
assert np.array_equal(least, greatest), np.count_nonzero(least != greatest)
"""


def test_replicas_stay_equal_with_other_numbers_of_blas_threads(launch):
    done = launch("-c", UNEQUAL_THREADS, ranks=2, timeout=120)
    assert done.returncode == 0, done.stderr
