"""Embeddings on the ranks of an MPI launch: the bits of one process in exact mode, and its sums otherwise."""

import numpy as np
import pytest
from coded_training import train

from distbp import SerialCommunicator

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("reduction", ["allreduce", "overlap", "shared"])
def test_exact_mode_has_the_bits_of_one_process(comm, reduction):
    how = {"leaves": 4, "steps": 25}
    assert np.array_equal(train(comm, reduction=reduction, **how), train(SerialCommunicator(), **how))


@pytest.mark.parametrize("reduction", ["allreduce", "overlap", "shared"])
def test_ranks_train_what_one_process_does(comm, reduction):
    found = train(comm, reduction=reduction, steps=25)
    assert np.allclose(found, train(SerialCommunicator(), steps=25), rtol=1e-9, atol=1e-9)
