"""Transport between the ranks of an MPI launch."""

import numpy as np
import pytest
from transport_contract import check, each_kind

from distbp.gradient.transport import Transport


@each_kind
@pytest.mark.parametrize("cuts", [(), (10_000, 20_001, 60_000, 60_001, 250_000)])
def test_ranks_get_the_sum_while_a_thread_looks_after_it(kind, cuts, comm):
    for _ in range(3):
        check(comm, kind, 300_000, cuts)


def test_pieces_are_used_again_and_again(comm):
    transport = Transport(comm)
    for step in range(30):
        vector = np.full(5000, float(step), np.float64)
        for lo in range(4000, -1, -1000):
            transport.start([vector], lo, lo + 1000)
        transport.wait()
        assert np.all(vector == step * comm.size)
    transport.close()
