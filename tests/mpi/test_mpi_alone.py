"""What needs a real MPI: only mpirun collects it."""

import numpy as np
from communicator_contract import every_check

from distbp.comm import mpi as module


@every_check
def test_every_rank_alone(check, comm):
    """Any communicator of mpi4py will do, also one of a single rank."""
    from mpi4py import MPI

    alone = module.MPICommunicator(MPI.COMM_SELF)
    assert (alone.rank, alone.size) == (0, 1)
    check(alone)


def test_two_communicators_do_not_meet(comm):
    from mpi4py import MPI

    other = module.MPICommunicator(MPI.COMM_WORLD)
    one, two = np.zeros((comm.size, 3)), np.zeros((comm.size, 3))
    requests = [comm.iallgather(np.ones(3), one), other.iallgather(np.full(3, 10.0), two)]
    for request in reversed(requests):
        request.wait()
    assert (one == 1.0).all() and (two == 10.0).all()


def test_parts_wait_as_the_whole_does(monkeypatch):
    """Seen alone, the ranks of one host may not be crowded where those of another are."""
    from mpi4py import MPI

    whole = module.MPICommunicator(MPI.COMM_WORLD)
    monkeypatch.setattr(whole, "crowded", "as here")
    assert whole.on_host().crowded == whole.across_hosts().crowded == "as here"
