"""Going on when ranks die: what refuses to, and who takes over.

The recovery itself is in test_losses_of_ranks.py; scripts/torture.py does it with real processes.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from distbp import RankLost, SerialCommunicator, UserError, communicator
from distbp.comm.elastic import ElasticCommunicator, why_not_elastic
from distbp.comm.recorder import Recorder
from distbp.errors import FAILED
from distbp.run import entry_point
from distbp.run.directory import RunDirectory
from distbp.run.report import Reporter, read_records

FT = {"OMPI_MCA_mpi_ft_enable": "1"}


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (FT, ""),
        (FT | {"OMPI_MCA_coll": "^han,adapt"}, ""),
        (FT | {"OMPI_MCA_coll": "basic,tuned,libnbc"}, ""),
        ({}, "mpirun --with-ft ulfm"),
        ({"OMPI_MCA_mpi_ft_enable": "0"}, "mpirun --with-ft ulfm"),
        (FT | {"OMPI_MCA_coll": "^adapt"}, "coll/han"),
        (FT | {"OMPI_MCA_coll": "han,basic"}, "coll/han"),
        (FT | {"OMPI_MCA_coll": "^han"}, "coll/adapt"),
    ],
)
def test_what_hangs_or_adds_up_wrongly_is_refused(environment, says):
    said = why_not_elastic(environment)
    assert says in said and bool(says) == bool(said)


@pytest.mark.parametrize(
    ("environment", "elastic"),
    [({}, True), (FT | {"OMPI_MCA_coll": "^adapt"}, None), (FT | {"OMPI_MCA_coll": "han"}, True)],
)
def test_a_launch_that_cannot_is_an_error_not_a_silence(monkeypatch, environment, elastic):
    for name, value in ({"OMPI_COMM_WORLD_SIZE": "2"} | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="^--elastic .*; or --no-elastic$"):
        communicator("mpi", elastic=elastic)


def survivors(names, before, hosts, here):
    """An `ElasticCommunicator` after a shrink, without MPI."""
    comm = ElasticCommunicator.__new__(ElasticCommunicator)
    comm.host, comm.name, comm.recorder = here, names[0], Recorder()
    comm._processes = [(host, 2**30 + i, 1) for i, host in enumerate(hosts)]  # none of them is there
    answers = iter([names])
    comm.allgather_obj = lambda value: next(answers, [value])
    return comm._take_stock(before)


@pytest.mark.parametrize(
    ("names", "before", "hosts", "goes_on"),
    [
        ([0, 1, 2], [0, 1, 2, 3], "aaaa", True),
        ([3], [0, 1, 2, 3], "aaaa", True),  # the others are dead for sure
        ([0, 1, 2], [0, 1, 2, 3], "aaab", True),  # three of four, one may be alive
        ([0, 1], [0, 1, 2, 3], "aabb", False),  # two of four: the other two may go on as well
        ([0], [0, 1, 2], "aab", False),  # one of two that may be alive
        ([0, 1], [0, 1, 2, 3], "aaab", True),  # two of three
    ],
)
def test_a_part_that_was_cut_off_does_not_go_on(names, before, hosts, goes_on):
    left, problem = survivors(names, before, list(hosts), "a")
    assert left == names and bool(problem) != goes_on
    assert goes_on or problem.startswith("lost touch with rank")


def test_mpi_errors_are_losses():
    class Error(Exception):
        pass

    def fail(*arguments):
        raise Error("MPI_ERR_PROC_FAILED:\n  process failed")

    comm = ElasticCommunicator.__new__(ElasticCommunicator)
    comm._mpi = SimpleNamespace(Exception=Error)
    with pytest.raises(RankLost, match="^MPI_ERR_PROC_FAILED: process failed$"):
        comm._test(SimpleNamespace(Test=fail))


def test_losses_before_all_have_met_end_the_rank_by_a_signal(monkeypatch, capsys):
    ended = []
    monkeypatch.setattr(os, "kill", lambda pid, number: ended.append((pid, number)) or sys.exit())

    def make():
        raise RankLost

    with pytest.raises(SystemExit):
        entry_point.run(lambda comm: 0, make)
    assert ended == [(os.getpid(), signal.SIGKILL)] and "a rank died before all had met" in capsys.readouterr().err


def test_an_error_of_all_ranks_ends_all_though_one_dies_meanwhile(monkeypatch, capsys):
    class Lost(SerialCommunicator):
        def leave(self, code):
            raise RankLost

    ended = []
    monkeypatch.setattr(os, "_exit", lambda code: ended.append(code) or sys.exit())

    def fail(comm):
        raise UserError("no such data")

    with pytest.raises(SystemExit):
        entry_point.run(fail, Lost)
    assert ended == [FAILED] and capsys.readouterr().err == "distbp: error: no such data\n"


# roles of rank 0


def record(step, **more):
    return {"step": step, "epoch": 0.5, "seconds": 1.0, "loss/train": 0.5, **more}


def test_the_log_goes_on_without_a_gap_or_a_double(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first, second = Reporter(True, path, sys.stderr), Reporter(False, path, sys.stderr)
    for step in (10, 20):
        first.record(record(step))
        second.record(record(step, seconds=1.1))
    second.record(record(30))  # rank 0 died before it could
    path.write_text(path.read_text() + '{"step": 3')
    first.close()
    second.take_over()
    second.record(record(30))  # done again
    second.record(record(40))
    second.take_over()
    assert [r["step"] for r in read_records(path)] == [10, 20, 30, 40]
    second.close()


def test_what_the_lost_rank_has_written_is_not_written_again(tmp_path):
    """It had the last sum, and the others had not."""
    path = tmp_path / "metrics.jsonl"
    first, second = Reporter(True, path, sys.stderr), Reporter(False, path, sys.stderr)
    for step in range(10, 300, 10):
        first.record(record(step))
        if step < 290:
            second.record(record(step))
    first.close()
    second.take_over()
    second.record(record(290))
    second.record(record(300))
    second.close()
    assert [r["step"] for r in read_records(path)] == list(range(10, 310, 10))


def test_a_log_that_cannot_be_written_is_said_and_does_not_end_the_run(tmp_path, capsys):
    reporter = Reporter(True, Path("/dev/full"), sys.stdout)
    reporter.record(record(10))
    reporter.close()
    assert "warning: cannot write /dev/full" in capsys.readouterr().err
    directory = RunDirectory(tmp_path / "run", SerialCommunicator(), resume=False)
    (tmp_path / "run" / "events.jsonl").mkdir()
    directory.event("lost", ranks=[1])
    assert "events.jsonl" in capsys.readouterr().err
    directory.close()


def test_the_lock_passes_on_when_its_holder_is_dead(tmp_path, monkeypatch):
    monkeypatch.setattr("distbp.run.directory._PATIENCE", 0.2)
    holder = RunDirectory(tmp_path / "run", SerialCommunicator(), resume=False)
    heir = RunDirectory.__new__(RunDirectory)
    heir.path, heir._comm, heir._lock = holder.path, SerialCommunicator(), None
    with pytest.raises(UserError, match="in use by another run"):
        heir.take_over()
    heir.close()
    holder.close()
    heir.take_over()
    heir.event("lost", ranks=[3])
    (line,) = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["ranks"] == [3]
    heir.close()


# scripts/train-until-done

# the real thing, a little of it: the figures are in docs/fault-tolerance.md
