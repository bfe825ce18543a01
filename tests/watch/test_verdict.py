"""Who keeps the others waiting follows from the reports alone."""

import ast
import sys
from pathlib import Path

import pytest

import distbp
from distbp.comm.recorder import ASLEEP
from distbp.watch.verdict import _DOING, Report, doing, judge, out_of_reach


def report(
    step=8, inside="allreduce", doing="in wait (mpi.py:1)", idle=10.0, last=((7, "allreduce", 80),), host="node1",
    place=(),
):  # fmt: skip
    return Report(host, step, inside, idle, doing, [list(x) for x in last], place)


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
    # who came to a collective a moment ago is not busy: it waits
    ({0: report(idle=0.5), 1: READING}, {}, [1], "rank 1 on node7 did not reach the end of step 8: reading rows"),
    # ranks without a core of their own wait for nobody
    ({0: report(), 1: READING, 2: report(inside=ASLEEP), 3: report(inside=ASLEEP)}, {}, [1], "rank 1 on node7"),
    ({0: report(), 1: report(), 2: report(inside=ASLEEP, last=[(1, "bcast", 8)])}, {}, [], "all ranks wait in collec"),
    ({0: report(), 1: report()}, {}, [], "all ranks wait in collective 7, allreduce of 80 bytes"),
    ({0: report(last=()), 1: report(last=())}, {}, [], "all ranks wait in collective 0"),
    # where all make the same calls the number of calls tells, and a call within a longer way first
    ({0: report(place=(3, 9)), 1: report(place=(3, 8)), 2: report(inside="", place=(3, 9))}, {}, [1], "rank 1 on node"),
    ({0: report(place=(3, 9)), 1: report(place=(2, 9)), 2: report(place=(3, 8))}, {}, [1], "rank 1 on node1"),
    ({0: report(place=(3, 9)), 1: report(inside="", place=(3, 9))}, {}, [1], "rank 1 on node1"),
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
    assert out_of_reach(list(silent), silent, {0: report(), 1: report()}, accused) == stays


def test_what_a_thread_does():
    assert doing(None) == "not running"
    assert doing(sys._getframe()).startswith("in test_what_a_thread_does (test_verdict.py:")


def test_reading_rows_is_called_so():
    from test_losses_of_ranks import TRAIN

    acts = []
    TRAIN.__class__.take(TRAIN, Rows(lambda: acts.append(doing(sys._getframe()))))
    assert acts[0].startswith("reading rows (test_verdict.py:")


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


@pytest.mark.parametrize(("file", "function"), _DOING)
def test_what_there_are_words_for_exists(file, function):
    """Who renames a function, or moves it, takes its words along."""
    tree = ast.parse((Path(distbp.__file__).parent / file).read_text())
    assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
