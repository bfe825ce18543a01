"""A rank whose process ends, however it ends, ends the others; one that leaves as it should does not."""

import socket
import time

import pytest

from distbp import run_threads
from distbp.errors import FAILED
from distbp.watch.lifeline import Lifeline


@pytest.fixture
def ended(monkeypatch):
    """What would end this process, and what it says."""
    calls = []
    monkeypatch.setattr("distbp.watch.lifeline._GRACE", 0.2)
    monkeypatch.setattr("os._exit", lambda code: calls.append(code))
    monkeypatch.setattr("os.write", lambda to, text: calls.append(text.decode()))
    return calls


def break_off(lifeline):
    """As the system does at the end of a process."""
    for line in lifeline._neighbours:
        line.shutdown(socket.SHUT_RDWR)


def test_the_news_goes_round_and_one_rank_tells_it(ended):
    def work(comm):
        lifeline = Lifeline(comm)
        comm.barrier()
        if comm.rank == 2:
            break_off(lifeline)
        lifeline._thread.join(5)
        assert not lifeline._thread.is_alive()
        comm.barrier()
        lifeline.close()

    run_threads(5, work)
    told = [call for call in ended if call != FAILED and not call.startswith("distbp: rank 2")]
    assert len(told) == 1 and "distbp: rank 1 on" in told[0] and "error: the process of rank 2 on" in told[0]
    assert ended.count(FAILED) == 5


def test_goodbyes_end_nobody(ended):
    def work(comm):
        lifeline = Lifeline(comm)
        assert len(lifeline._neighbours) == (2 if comm.size > 1 else 0)
        for rank in range(comm.size):
            comm.barrier()
            if rank == comm.rank:
                lifeline.close()
        time.sleep(0.3)

    for ranks in (1, 2, 3):
        run_threads(ranks, work)
    assert ended == []


def test_a_rank_that_ends_by_itself_in_time_is_silent(ended):
    def work(comm):
        lifeline = Lifeline(comm)
        comm.barrier()
        if comm.rank == 0:
            break_off(lifeline)
        time.sleep(0.05)
        lifeline.close()

    run_threads(3, work)
    assert ended == []


def test_strangers_and_firewalls_are_no_error(monkeypatch, ended):
    monkeypatch.setattr("distbp.watch.lifeline._PATIENCE", 0.2)
    monkeypatch.setattr("socket.create_connection", lambda *where: (_ for _ in ()).throw(OSError("no route")))

    def work(comm):
        lifeline = Lifeline(comm)
        assert lifeline._neighbours == {}
        lifeline.close()

    run_threads(3, work)
    assert ended == []
