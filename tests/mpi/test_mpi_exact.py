"""Exact mode on the ranks of an MPI launch: the bits are those of one process."""

import pytest
from exact_training import alone, exact_sums, run  # noqa: F401


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("reduction", ["shared", "overlap", "allreduce"])
@pytest.mark.parametrize("options", [{}, {"micro_batch": 2}])
def test_ranks_give_the_bits_of_one_process(sums, reduction, options, comm):
    assert run(comm, reduction=reduction, **options) == alone(sums=sums, **options)
