"""A function on ranks, from a notebook: it goes there as it stands, and its result comes back."""

import numpy as np
import pytest

from distbp import fit, launch
from distbp.errors import UserError

pytest.importorskip("mpi4py")


def test_a_function_is_called_by_each_rank_and_its_result_comes_back(capfd):
    factor = 3.0

    def work(x):
        from distbp import communicator

        comm = communicator()
        total = np.full(1, x * factor)
        comm.allreduce(total)
        if comm.is_root:
            print("hello from", comm.size)
        return total[0], comm.size

    assert launch(2, timeout=60)(work, 2.0) == (12.0, 2)


def test_a_training_on_ranks_is_the_one_here():
    def work():
        from distbp import fit

        return fit("digits", epochs=2, hidden=[16], exact=True, verbose=False)

    run, here = launch(3, timeout=60)(work), fit("digits", epochs=2, hidden=[16], exact=True, verbose=False)
    assert run.model.to_bytes() == here.model.to_bytes() and run.history["loss/val"].shape == (2,)
    assert run.results["ranks"] == 3


def test_an_error_is_one_line():
    def fails():
        raise ValueError("no such thing")

    with pytest.raises(UserError, match="on 2 ranks: ValueError: no such thing"):
        launch(2, timeout=60)(fails)
