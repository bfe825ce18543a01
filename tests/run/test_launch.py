"""Whatever goes wrong, on one rank or on all: one line, one exit code, and nobody waits for ever."""

import os
import signal

import pytest

from distbp import SerialCommunicator, UserError
from distbp.errors import FAILED, USAGE, UsageError
from distbp.run.entry_point import on_stop_signals, run


class Ranks(SerialCommunicator):
    """Rank 2 of 3, whose fellows fail as well or go on."""

    rank = name = 2
    size = 3
    elastic = True  # nobody is there to hold on to

    def __init__(self, all_fail):
        super().__init__()
        self.host, self.all_fail, self.aborted = "node7", all_fail, None

    def all_failed(self, patience):
        return self.all_fail

    def abort(self, code):
        self.aborted = code


def raiser(error):
    def main(comm):
        raise error

    return main


FAILURES = [
    (UserError("no such\ndata"), FAILED, "error: no such data"),
    (UsageError("no such flag"), USAGE, "error: no such flag"),
    (FileNotFoundError(2, "No such file", "x.npz"), FAILED, "error: x.npz: No such file"),
    (OSError("disk on fire"), FAILED, "error: disk on fire"),
    (MemoryError("8 TiB"), FAILED, "error: out of memory: 8 TiB"),
    (SystemExit(3), FAILED, "error: sys.exit(3) was called"),
    (KeyboardInterrupt(), FAILED, "error: interrupted"),
]


@pytest.mark.parametrize(("error", "code", "line"), FAILURES, ids=lambda x: type(x).__name__)
def test_one_line_and_a_code(error, code, line, capsys):
    assert run(raiser(error), SerialCommunicator) == code
    assert capsys.readouterr().err == f"distbp: {line}\n"


@pytest.mark.parametrize(("error", "code", "line"), FAILURES, ids=lambda x: type(x).__name__)
def test_a_rank_that_fails_alone_says_its_name_and_ends_the_others(error, code, line, capsys):
    comm = Ranks(all_fail=False)
    assert run(raiser(error), lambda: comm) == code == comm.aborted
    assert capsys.readouterr().err == f"distbp: rank 2 on node7: {line}\n"


def test_where_all_fail_only_rank_0_speaks(capsys):
    comm = Ranks(all_fail=True)
    assert run(raiser(UserError("no")), lambda: comm) == FAILED
    assert capsys.readouterr().err == "" and comm.aborted is None


def test_a_defect_leaves_its_traceback_in_a_file(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(raiser(ZeroDivisionError("oh")), SerialCommunicator) == FAILED
    path = tmp_path / "distbp-error-rank0.txt"
    line = capsys.readouterr().err
    assert line.startswith("distbp: error: ZeroDivisionError: oh (test_launch.py:") and str(path) in line
    assert "Traceback" in path.read_text()


def test_a_defect_where_nothing_can_be_written(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distbp-error-rank0.txt").mkdir()
    assert run(raiser(ZeroDivisionError("oh")), SerialCommunicator) == FAILED
    assert capsys.readouterr().err.count("\n") == 1


def test_a_reader_that_has_gone_is_no_error_to_talk_about(capsys, monkeypatch):
    monkeypatch.setattr(os, "dup2", lambda *files: None)
    assert run(raiser(BrokenPipeError(32, "Broken pipe")), SerialCommunicator) == FAILED
    assert capsys.readouterr().err == ""


def test_interrupted_while_mpi_starts(capsys):
    assert run(lambda comm: 0, lambda: raiser(KeyboardInterrupt())(None)) == FAILED
    assert capsys.readouterr().err == "distbp: error: interrupted before the start\n"


def test_no_communicator(capsys):
    assert run(lambda comm: 0, lambda: raiser(UserError("no MPI"))(None)) == FAILED
    assert capsys.readouterr().err == "distbp: error: no MPI\n"


def test_the_code_of_the_work_is_the_code():
    assert run(lambda comm: 75, SerialCommunicator) == 75


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_ask_to_stop_and_a_second_ctrl_c_interrupts(name):
    before, calls = signal.getsignal(name), []
    undo = on_stop_signals(lambda: calls.append(name))
    try:
        os.kill(os.getpid(), name)
        assert calls == [name]
        if name == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), name)
    finally:
        undo()
    assert signal.getsignal(name) == before
