"""A function on ranks, from a notebook: it goes there as it stands, and its result comes back."""

import time

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


def test_the_time_is_limited():
    def sleeps():
        import time

        time.sleep(60)

    began = time.monotonic()
    with pytest.raises(UserError, match="not done after 3 s: given up"):
        launch(2, timeout=3)(sleeps)
    assert time.monotonic() - began < 30
    with pytest.raises(UserError, match="at least one rank"):
        launch(0)


@pytest.mark.parametrize("where", ["record", "options", "before"])
def test_an_error_of_one_rank_ends_all(where):
    def work(where):
        from distbp import communicator, fit

        def refuse(record):
            raise ValueError("no such thing")

        options = {"epochs": 4, "hidden": [8], "verbose": False}
        comm = communicator()
        if where == "record":
            fit("digits", on_record=refuse, **options)
        if where == "options" and comm.rank == 1:
            options["hidden"] = [0]
        if where == "before" and comm.rank == 1:
            raise ValueError("no such thing")
        fit("digits", **options)

    began = time.monotonic()
    with pytest.raises(UserError, match="on 2 ranks: .*(no such thing|hidden)"):
        launch(2, timeout=60)(work, where)
    assert time.monotonic() - began < 40
