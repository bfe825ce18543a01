"""Every way of reduction between the ranks of an MPI launch."""

import numpy as np
import pytest
from reductions import TIGHT, each_reduction, outlives
from toy_training import alone, train


@each_reduction
@pytest.mark.parametrize(
    ("sharing", "options"),
    [
        ("gradients", {}),
        ("gradients", {"bucket_bytes": 300}),
        ("gradients", {"micro_batch": 4, "bucket_bytes": 96}),
        ("units", {"dropout": 0.0}),
    ],
)
def test_ranks_give_the_parameters_of_one_process(reduction, sharing, options, comm, monkeypatch):
    monkeypatch.setattr("distbp.gradient.choose.shares_units", lambda *_: sharing == "units")
    monkeypatch.setattr("distbp.comm.mpi.MPICommunicator.crowded", False, raising=False)
    np.testing.assert_allclose(train(comm, reduction=reduction, **options), alone(**options), **TIGHT)


def test_a_network_outlives_the_memory_of_its_ranks(comm):
    outlives(comm)
