"""Who hangs is named, and a run that hangs ends; see also scripts/torture.py."""

import json
import sys
import threading
import time

import pytest

from distbp import SerialCommunicator, run_threads
from distbp.comm.recorder import Recorder
from distbp.watch.watchdog import Watchdog, doing, judge


def report(
    step=8, inside="allreduce", doing="in wait (mpi.py:1)", idle=10.0, last=((7, "allreduce", 80),), host="node1"
):
    return {"host": host, "step": step, "inside": inside, "doing": doing, "idle": idle, "last": [list(x) for x in last]}


READING = report(inside="", doing="reading rows (a.py:88)", host="node7")
CASES = [
    ({0: report(), 1: READING}, {}, [1], "rank 1 on node7 did not reach the end of step 8: reading rows (a.py:88)"),
    ({0: READING, 1: READING, 2: report()}, {}, [0, 1], "rank 0: reading rows (a.py:88); rank 1: reading rows"),
    ({0: report()}, {1: ("node2", "its process is stopped")}, [1], "rank 1 on node2 did not reach the end of step 8"),
    # what is known for sure comes before what looks like it
    ({0: READING}, {1: ("node2", "its process is stopped")}, [1], "its process is stopped"),
    ({0: report()}, {2: ("node3", "")}, [2], "rank 2 on node3 did not reach the end of step 8: no answer"),
    ({0: READING}, {2: ("node3", "")}, [0], "reading rows"),
    ({0: report(), 1: report(), 2: report(last=[(7, "bcast", 8)])}, {}, [2],
     "rank 2 on node1 waits in collective 7, bcast of 8 bytes, the others in collective 7, allreduce of 80 bytes"),
    ({0: report(), 1: report(last=[(8, "barrier", 0)])}, {}, [], "the ranks are in different collectives of step 8"),
    ({0: report(), 1: report()}, {}, [], "all ranks wait in collective 7, allreduce of 80 bytes"),
    ({0: report(last=()), 1: report(last=())}, {}, [], "all ranks wait in collective 0"),
]  # fmt: skip


@pytest.mark.parametrize(("reports", "silent", "guilty", "line"), CASES, ids=[case[3][:40] for case in CASES])
def test_who_keeps_the_others_waiting(reports, silent, guilty, line):
    verdict = judge(reports, silent, 10.0)
    assert verdict.guilty == guilty and line in verdict.line and verdict.for_good


def test_a_rank_that_goes_on_is_only_named():
    slow = report(inside="", doing="evaluating (metrics.py:170)", idle=0.5)
    verdict = judge({0: report(), 1: slow}, {}, 10.0)
    assert verdict.guilty == [1] and not verdict.for_good and "goes on: evaluating" in verdict.line


@pytest.mark.parametrize(
    ("silent", "accused", "stays"),
    [
        ({}, set(), False),
        ({2: ("node1", "its process is stopped")}, set(), False),  # a neighbour ends it
        ({2: ("node1", "its process is stopped")}, {2}, True),  # which did not help
        ({2: ("node9", "")}, set(), True),  # nobody is there
        ({2: ("node1", "its process is gone")}, set(), True),  # MPI would know by now
    ],
)
def test_a_rank_that_nobody_can_end_ends_the_job(silent, accused, stays):
    watchdog = Watchdog.__new__(Watchdog)
    watchdog._accused = accused
    assert watchdog._stays(list(silent), {0: report(), 1: report()}, silent) == stays


def test_what_a_thread_does():
    assert doing(None) == "not running"
    assert doing(sys._getframe()).startswith("in test_what_a_thread_does (test_watchdog.py:")


def test_reading_rows_is_called_so():
    from test_losses_of_ranks import TRAIN

    said = []
    TRAIN.__class__.take(TRAIN, Rows(lambda: said.append(doing(sys._getframe()))))
    assert said[0].startswith("reading rows (test_watchdog.py:")


class Rows(list):
    """Positions that tell when they are used."""

    def __init__(self, tell):
        super().__init__([0])
        self.tell = tell

    def __len__(self):
        self.tell()
        return 1

    def __array__(self, dtype=None, copy=None):
        import numpy as np

        self.tell()
        return np.array([0])


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


def test_a_rank_that_goes_on_goes_on(tmp_path, capfd):
    """The watchdogs of ranks that wait hear from the slow one that it is slow."""

    def work(comm):
        watchdog = Watchdog(comm, tmp_path / "hang", 1.0, lambda: 3)
        if comm.rank == 0:
            comm.recorder.wait("allreduce")
            time.sleep(2.5)
        else:
            for _ in range(25):
                time.sleep(0.1)
                comm.recorder.tick()
        watchdog.stop()

    run_threads(2, work)
    assert "the others wait for rank 1 on" in capfd.readouterr().err


def test_reports_are_of_this_run(tmp_path):
    """What an earlier run left does not accuse anybody."""
    folder = tmp_path / "hang"
    folder.mkdir()
    (folder / "rank-00000.json").write_text(json.dumps(READING | {"pid": 1}))
    watchdog = Watchdog(SerialCommunicator(), folder, 60.0, lambda: 1)
    assert not folder.exists() and threading.active_count() > 1
    watchdog.stop()
