"""The fit of a preprocessor on the ranks of an MPI launch."""

import numpy as np
import pytest
from fits import SERIAL, fit_values, fit_weighted

from distbp import load
from distbp.data import moments


@pytest.mark.parametrize("fit", [fit_weighted, fit_values])
def test_the_fit_gives_the_same_bits_on_any_number_of_ranks(monkeypatch, fit, comm):
    monkeypatch.setattr(moments, "BLOCK_ELEMENTS", 1)
    assert fit(comm) == fit(SERIAL)


def test_ranks_of_a_host_have_the_rows_once(comm):
    """What one writes all see; before that the rows are those of a process alone."""
    mine, alone = load("digits", comm=comm).train, load("digits").train
    every = np.arange(alone.n_rows)
    for a, b in zip(mine.take(every), alone.take(every), strict=True):
        np.testing.assert_array_equal(a, b)
    X = mine._ready[0]
    comm.barrier()
    X[comm.rank, 0] = 200 + comm.rank
    comm.barrier()
    assert X[: comm.size, 0].tolist() == [200 + rank for rank in range(comm.size)]
