"""Who hangs is named, and a run that hangs ends; see also scripts/torture.py."""

import json
import math
import os
import socket
import sys
import time
from functools import partial

import pytest
from mortal_threads import run_mortal_threads

from distbp import SerialCommunicator, run_threads
from distbp.comm.recorder import Recorder
from distbp.watch import watcher
from distbp.watch.connection import Line
from distbp.watch.verdict import Report
from distbp.watch.watcher import Watchdog, Watcher


def test_the_recorder_knows_collectives_and_waiting():
    recorder = Recorder()
    recorder.enter("allreduce", 80)
    assert (recorder.count, recorder.inside, recorder.last[-1]) == (1, "allreduce", (1, "allreduce", 80))
    time.sleep(0.01)
    recorder.leave()
    recorder.tick()
    recorder.wait("sum")
    assert (recorder.count, recorder.inside) == (1, "sum") and recorder.waited >= 0.01
    assert recorder.progress == 4


class Clock:
    """Time that passes only here."""

    def __init__(self):
        self.now, self.due = 1000.0, {}

    def __call__(self):
        return self.now

    def sleep(self, seconds, watches, act=lambda watch: None):
        """Let each of `watches` look when it wants to; `act` is what its rank does meanwhile."""
        end = self.now + seconds
        while (watch := min(watches, key=self.when)) and self.when(watch) <= end:
            self.now = max(self.now, self.when(watch))
            act(watch)
            try:
                self.due[watch] = self.now + watch.look()
            except SystemExit:
                self.due[watch] = math.inf
        self.now = end

    def when(self, watch):
        return self.due.get(watch, self.now)


@pytest.fixture
def ended(monkeypatch):
    """What would end this process or another one, and what it says."""
    calls = []
    monkeypatch.setattr("os._exit", lambda code: (calls.append(code), sys.exit())[1])
    monkeypatch.setattr("os.write", lambda to, text: calls.append(text.decode()))
    monkeypatch.setattr(watcher, "end_process", lambda *process: calls.append(process[0]) or True)
    return calls


def watchdogs(ranks, folder, limit=1.0, run=run_threads):
    """A clock, and a watchdog for each rank."""
    clock = Clock()
    return clock, *run(ranks, lambda comm: Watchdog(comm, folder, limit, lambda: 3, clock=clock))


def test_a_rank_that_goes_on_goes_on(tmp_path, ended):
    """The watchdogs of ranks that wait hear from the slow one that it is slow."""
    clock, waiting, slow = watchdogs(2, tmp_path / "hang")
    waiting._comm.recorder.wait("allreduce")
    clock.sleep(2.5, [waiting, slow], lambda watch: watch is slow and slow._comm.recorder.tick())
    assert len(ended) == 1 and "the others wait for rank 1 on" in ended[0] and not slow.ending
    assert list((tmp_path / "hang").iterdir()) == []


def test_all_end_with_the_rank_that_hangs(tmp_path, ended):
    clock, *dogs = watchdogs(3, tmp_path / "hang", limit=60.0)
    for dog in dogs[:2]:
        dog._comm.recorder.enter("allreduce", 80)
    clock.sleep(59.0, dogs)
    assert ended == []
    clock.sleep(10.0, dogs)
    assert "rank 2 on" in ended[0] and "did not reach the end of step 3: not running, for 60 s" in ended[0]
    assert ended[1:] == [1, 1, 1] and all(dog.ending for dog in dogs)


def test_a_rank_that_does_not_report_is_named_when_it_is_time(tmp_path, ended):
    clock, *dogs = watchdogs(3, tmp_path / "hang")
    for dog in dogs:
        dog._comm.recorder.enter("allreduce", 80)
    clock.sleep(4.0, dogs[:2])
    assert ended == []
    clock.sleep(1.0, dogs[:2])
    assert "rank 2 on" in ended[0] and "did not reach the end of step 3: no answer, for 1 s" in ended[0]
    assert ended[1:] == [os.getpid(), 1, os.getpid(), 1]


def test_elastic_ranks_end_who_hangs_and_go_on(tmp_path, ended):
    clock, *dogs = watchdogs(3, tmp_path / "hang", run=partial(run_mortal_threads, deaths=[]))
    for dog in dogs[1:]:
        dog._comm.recorder.enter("allreduce", 80)
    dogs[0]._comm.abort = lambda code: ended.append("rank 0")
    clock.sleep(1.6, dogs)
    assert "rank 0 on" in ended[0] and ended[1:] == ["rank 0"] and not any(dog.ending for dog in dogs)


def test_nobody_is_late_because_the_whole_machine_was_asleep(tmp_path, ended):
    clock, dog = watchdogs(1, tmp_path / "hang", limit=10.0)
    for _ in range(7):
        clock.sleep(1.0, [dog])
        clock.now += 3600.0
    assert ended == []
    clock.sleep(4.0, [dog])
    assert "for 10 s (--hang-timeout 10)" in ended[0]


def test_who_stops_watching_answers_before(tmp_path, ended, monkeypatch):
    clock, waiting, slow = watchdogs(2, tmp_path / "hang")
    monkeypatch.setattr("time.sleep", lambda seconds: clock.sleep(seconds, [waiting]))
    waiting._comm.recorder.wait("allreduce")
    while not slow._alarmed:
        clock.sleep(0.1, [waiting, slow], lambda watch: watch is slow and slow._comm.recorder.tick())
    assert waiting._alarmed and ended == []
    Watcher().remove(slow)
    assert not slow._alarmed and "the others wait for rank 1 on" in ended[0] and len(ended) == 1


class Counting:
    """A watch that counts what is done with it."""

    def __init__(self, wait):
        self.lines, self.wait, self.looks, self.closed, self.heard = {}, wait, 0, False, []

    def look(self):
        self.looks += 1
        return self.wait

    def hear(self, line, message):
        self.heard.append(message)
        if message is None:
            del self.lines[line]
            line.close()

    def close(self):
        self.closed = True


def until(condition):
    deadline = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_one_thread_watches_all_and_ends_with_the_last():
    one, other, over, watching = Counting(0.001), Counting(1000.0), Counting(math.inf), Watcher()
    for watch in (one, over):
        watching.add(watch)
    thread = watching._thread
    watching.add(other)
    until(lambda: one.looks > 9 and other.looks and over.looks)
    assert watching._thread is thread and other.looks == over.looks == 1
    watching.remove(one)
    looks = one.looks
    assert one.closed and not other.closed
    watching.remove(other)
    thread.join(5)
    assert not thread.is_alive() and one.looks == looks and watching._thread is None
    watching.add(one)
    until(lambda: one.looks > looks)
    watching.remove(one)


def test_messages_are_heard_at_once_and_in_order():
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = Line(socket.create_connection(server.getsockname()), 1.0)
        here = Line(server.accept()[0], 1.0)
    watch, watching = Counting(1000.0), Watcher()
    watch.lines = {here: 1}
    watching.add(watch)
    until(lambda: watch.looks)
    there.send("one")
    there.send(["two", 3])
    there.close()
    until(lambda: watch.heard[-1:] == [None])
    assert watch.heard == ["one", ["two", 3], None] and watch.looks > 1
    watching.remove(watch)


def test_reports_are_of_this_run(tmp_path):
    """What an earlier run left does not accuse anybody."""
    folder = tmp_path / "hang"
    folder.mkdir()
    (folder / "rank-00000.json").write_text(json.dumps({"rank": 0, "pid": 1, **Report("a", 8, "", 9.0)._asdict()}))
    watchdog = Watchdog(SerialCommunicator(), folder, 60.0, lambda: 1)
    assert not folder.exists()
    folder.mkdir()
    (folder / "rank-00000.json").write_text(json.dumps({"rank": 0, "pid": 1, **Report("a", 8, "", 9.0)._asdict()}))
    assert watchdog._reports.read([0]) == {}
    (folder / "rank-00000.json").write_text("half")
    assert watchdog._reports.read([0]) == {}
    watchdog._reports.write(0, Report("a", 8, "", 9.0))
    assert list(watchdog._reports.read([0, 1])) == [0]
