"""A rank whose process ends, however it ends, ends the others; one that leaves as it should does not."""

import socket
import sys
import threading
import time

import pytest

from distbp import run_threads
from distbp.errors import FAILED
from distbp.watch import connection
from distbp.watch.connection import Lifeline, connect
from distbp.watch.watcher import Watcher


def test_the_grace_is_two_seconds():
    (lifeline,) = run_threads(1, Lifeline)
    assert lifeline._grace == 2.0


@pytest.fixture
def ended(monkeypatch):
    """What would end this process, and what it says."""
    calls = []
    monkeypatch.setattr("os._exit", lambda code: (calls.append(code), sys.exit())[1])
    monkeypatch.setattr("os.write", lambda to, text: calls.append(text.decode()))
    return calls


ENDS = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
"""For tests in which threads end by SystemExit in place of their process."""


def end_process_of(lifeline):
    """As the system does at the end of a process."""
    for line in lifeline._neighbours:
        line.close()


@ENDS
def test_the_news_goes_round_and_one_rank_tells_it(ended):
    def work(comm):
        watcher, lifeline = Watcher(), Lifeline(comm, grace=0.1)
        comm.barrier()
        if comm.rank == 2:
            end_process_of(lifeline)
            return
        watcher.add(lifeline)
        watcher._thread.join(5)
        assert not watcher._thread.is_alive()
        end_process_of(lifeline)

    run_threads(5, work)
    told = [call for call in ended if call != FAILED]
    assert len(told) == 1 and "distbp: rank 1 on" in told[0] and "error: the process of rank 2 on" in told[0]
    assert ended.count(FAILED) == 4


@pytest.mark.parametrize(("following", "seconds"), [(True, 2.0), (False, 4.0)])
def test_the_rank_behind_gives_the_one_before_the_time_to_speak(ended, following, seconds):
    now = [100.0]

    def work(comm):
        lifeline = Lifeline(comm, clock=lambda: now[0])
        comm.barrier()
        line = next(line for line, rank in lifeline.lines.items() if (rank == (comm.rank + 1) % 3) == following)
        if comm.rank == 0:
            assert lifeline.look() == float("inf")
            lifeline.hear(line, None)
            assert lifeline.look() == seconds
            now[0] += seconds - 0.1
            assert lifeline.look() == pytest.approx(0.1) and ended == []
            now[0] += 0.2
            with pytest.raises(SystemExit):
                lifeline.look()
        comm.barrier()
        lifeline.close()

    run_threads(3, work)
    assert f"the process of rank {1 if following else 2} on" in ended[0] and ended[1:] == [FAILED]


def test_goodbyes_end_nobody(ended):
    def work(comm):
        watcher, lifeline = Watcher(), Lifeline(comm, grace=0.05)
        watcher.add(lifeline)
        assert len(lifeline._neighbours) == (2 if comm.size > 1 else 0)
        for rank in range(comm.size):
            comm.barrier()
            if rank == comm.rank:
                watcher.remove(lifeline)
        time.sleep(0.2)

    for ranks in (1, 2, 3):
        run_threads(ranks, work)
    assert ended == []


def test_a_rank_that_ends_by_itself_in_time_is_silent(ended):
    def work(comm):
        watcher, lifeline = Watcher(), Lifeline(comm, grace=0.5)
        comm.barrier()
        if comm.rank == 0:
            end_process_of(lifeline)
            return
        watcher.add(lifeline)
        time.sleep(0.05)
        watcher.remove(lifeline)

    run_threads(3, work)
    assert ended == []


def refuse(*where):
    raise OSError("no route")


def test_strangers_and_firewalls_are_no_error(monkeypatch, ended):
    monkeypatch.setattr("socket.create_connection", refuse)

    def work(comm):
        watcher, lifeline = Watcher(), Lifeline(comm)
        watcher.add(lifeline)
        assert lifeline.lines == {}
        watcher.remove(lifeline)

    began = time.monotonic()
    run_threads(3, work)
    assert ended == [] and time.monotonic() - began < 2  # nobody waits for who cannot come


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\n\r\n", b'["no token", 1]\n', b"\xff\n", b""])
def test_ranks_are_connected_whoever_else_calls(monkeypatch, greeting):
    """A stranger is first; rank 2 does not get through."""
    here, serve, call = threading.local(), socket.create_server, connection._call

    def serve_strangers(*where, **more):
        server = serve(*where, **more)
        with socket.create_connection(("127.0.0.1", server.getsockname()[1])) as stranger:
            stranger.sendall(greeting)
        return server

    def work(comm):
        here.rank = comm.rank
        called, callers, hosts, unseen = connect(comm, 0)
        for line, rank in callers.items():
            line.send(["to", rank])
        assert hosts == [comm.host] * 3 and unseen == [2]
        assert sorted(callers.values()) == ([0, 1] if comm.rank == 0 else [])
        assert (called.read() if called else [None]) == ([["to", comm.rank]] if comm.rank < 2 else [None])
        comm.barrier()
        for line in [*callers, *([called] if called else [])]:
            line.close()

    monkeypatch.setattr("socket.create_server", serve_strangers)
    monkeypatch.setattr(connection, "_call", lambda *where: None if here.rank == 2 else call(*where))
    run_threads(3, work)


@pytest.mark.parametrize("act", [lambda guest: guest.close(), lambda guest: None], ids=["closes", "waits"])
def test_a_stranger_who_answers_is_nobody(monkeypatch, act):
    """Another host's address may be one of this host's, too: what ends there is no rank."""
    call, guests = socket.create_connection, []

    def accept(stranger):
        for _ in range(2):
            guests.append(stranger.accept()[0])
            act(guests[-1])

    with socket.create_server(("127.0.0.1", 0)) as stranger:
        thread = threading.Thread(target=accept, args=[stranger])
        thread.start()
        where = stranger.getsockname()
        monkeypatch.setattr("socket.create_connection", lambda _, *more: call(where, *more))
        found = run_threads(2, lambda comm: connect(comm, 0, patience=0.1))
        thread.join()
    assert [called for called, *_ in found] == [None, None] and found[0][1] == {} and found[0][3] == [0, 1]
    for guest in guests:
        guest.close()
