"""No check of the doctor hangs, ever, and no rank dies in it unnoticed."""

import socket
import sys
import threading
import time

import pytest
from test_doctor import agree

from distbp import run_threads
from distbp.doctor.finding import FAILURE, WARNING
from distbp.doctor.supervision import Supervision

ENDS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""For tests in which threads end by SystemExit in place of their process."""


@pytest.fixture
def ended(monkeypatch):
    """What would end this process, and what it says."""
    calls = []
    monkeypatch.setattr("os._exit", lambda code: (calls.append(code), sys.exit())[1])
    monkeypatch.setattr("os.write", lambda to, text: calls.append(text.decode()))
    return calls


def watched(size, act, limit=0.3, before=lambda comm: comm.barrier()):
    """Findings that end the ranks; `before` is called in front of the second check, `act` in it."""
    found = []

    def work(comm):
        watch = Supervision(comm, limit, found.append)
        assert watch.unseen == []
        with watch.check("first"):
            comm.barrier()
        before(comm)
        with watch.check("second"):
            act(comm, watch)
        watch.close()
        return watch

    watches = run_threads(size, work)
    for thread in threading.enumerate():
        if "(_run)" in thread.name:
            thread.join(5)
    for watch in watches:
        for connection in watch.lines:  # as the system does at the end of a process
            connection.close()
    return found


@pytest.mark.parametrize("size", [1, 2, 5])
def test_those_who_come_through_end_nobody(ended, size):
    assert watched(size, lambda comm, watch: comm.barrier(), limit=5.0) == []
    time.sleep(0.3)
    assert ended == []


@ENDS
def test_who_is_behind_is_named(ended):
    def act(comm, watch):
        if comm.rank == 1:
            time.sleep(1)
        comm.barrier()

    (found,) = watched(3, act)
    assert found.ranks == (1,) and found.status == FAILURE and "in 'second' within 0.3 s" in found.figure
    assert 2 in ended


@ENDS
def test_who_does_not_come_to_a_check_is_named(ended):
    """Whoever is behind in it: those wait for nobody else."""

    def act(comm, watch):
        if comm.rank == 2:
            comm.recorder.enter("barrier")
        time.sleep(1)

    (found,) = watched(3, act, before=lambda comm: time.sleep(comm.rank == 1))
    assert found.ranks == (1,) and "did not answer in 'second' within 0.3 s" in found.figure


@ENDS
def test_who_dies_is_named_with_the_check(ended):
    def act(comm, watch):
        if comm.rank == 1:
            watch._root._socket.shutdown(socket.SHUT_RDWR)
        time.sleep(0.5)

    (found,) = watched(3, act, limit=5.0)
    assert found.ranks == (1,) and found.figure.endswith("died in 'second'") and "lack of memory" in found.advice
    assert any(isinstance(call, str) and "the process of rank 0 on" in call for call in ended)  # so it seems to rank 1


@ENDS
def test_when_all_wait_in_the_same_collective_it_is_the_network(ended, monkeypatch):
    def act(comm, watch):
        comm.recorder.enter("allreduce")
        time.sleep(1)

    (found,) = watched(3, act)
    assert found.figure == "no rank came out of 'second' within 0.3 s" and "network" in found.advice


@ENDS
def test_a_rank_that_fails_alone_is_named(ended):
    def act(comm, watch):
        if comm.rank == 1:
            with pytest.raises(SystemExit):
                watch.fail("second", "ValueError: odd")

    (found,) = watched(3, act)
    assert "rank 1 on" in found.figure and "ValueError: odd" in found.figure and found.ranks == (1,)


@ENDS
def test_without_connections_nothing_is_known_and_a_hang_still_ends(ended, monkeypatch):
    monkeypatch.setattr("socket.create_connection", lambda *a: (_ for _ in ()).throw(OSError("no route")))

    def work(comm):
        watch = Supervision(comm, 0.2, lambda finding: pytest.fail("nobody is seen"), grace=0.1)
        with watch.check("first"):
            time.sleep(1.2 if comm.rank == 1 else 0.0)
        watch.close()
        return watch.missed()

    (found,) = run_threads(2, work)[0]
    agree(found, WARNING, "rank 0 on", "rank 1 on", "firewall")
    assert any(isinstance(call, str) and "'first' did not end within 0.2 s" in call for call in ended)
