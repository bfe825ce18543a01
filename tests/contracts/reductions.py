"""Ways of reduction, and what each of them owes a network."""

import numpy as np
import pytest
from toy_training import trainer

from distbp.gradient.choose import REDUCTIONS

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def outlives(comm):
    t = trainer(comm, reduction="shared")
    t.fit(steps=5)
    before = t.network.theta.copy()
    t.close()
    t.close()
    network = t.network
    assert np.array_equal(network.theta, before)
    network.theta[:] = comm.rank  # nobody else's
    comm.barrier()
    assert np.all(network.theta == comm.rank) and np.all(network.layers[0].W == comm.rank)
    assert len(network.part.tape.X) == 0
    network.backward(network.forward(np.ones((2, network.sizes[0]))))
    with pytest.raises(RuntimeError, match="closed: make a new Trainer"):
        t.step()
