"""A run directory that is removed, moved, or used by another run while its run goes on; files of a run that is over."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import SerialCommunicator, UserError
from distbp.data.table.database import NotReadable, connection
from distbp.run.directory import RunDirectory
from distbp.run.manifest import describe

MORE = ["digits", "--recipe", "plain", "--hidden", "8", "--epochs", "2", "--run-dir", "run", "--report", "none"]


@pytest.fixture
def directory(tmp_path):
    one = RunDirectory(tmp_path / "run", SerialCommunicator(), resume=False)
    one.write("config.toml", "mine")
    yield one
    one.close()


def test_what_is_there_is_left_alone(directory):
    directory.check()
    directory.write("a", "b")
    assert (directory.path / "a").read_text() == "b"


def test_one_that_has_gone_is_made_anew_with_what_is_known_of_it(directory, capsys):
    told = []
    directory.on_anew = lambda: told.append(1)
    shutil.rmtree(directory.path)
    directory.write("results.json", "{}")
    assert sorted(path.name for path in directory.path.iterdir()) == ["config.toml", "lock", "results.json"]
    assert "has gone" in capsys.readouterr().err and told == [1]
    with pytest.raises(UserError, match="in use by another run"):  # it is locked as before
        RunDirectory(directory.path, SerialCommunicator(), resume=True)


@pytest.mark.parametrize("lock", ["process 1 on elsewhere\n2", "", None], ids=["runs", "done", "begins"])
def test_one_that_is_another_runs_is_not_written(directory, lock):
    shutil.rmtree(directory.path)
    directory.path.mkdir()
    (directory.path / "config.toml").write_text("another's")
    if lock is not None:
        (directory.path / "lock").write_text(lock)
    with pytest.raises(UserError, match="another run's now"):
        directory.write("model.safetensors", "mine")
    assert not (directory.path / "model.safetensors").exists()


def test_a_lock_alone_may_go(directory):
    (directory.path / "lock").unlink()
    directory.write("a", "b")
    assert (directory.path / "lock").exists() and (directory.path / "a").exists()


def test_a_finished_run_whose_checkpoints_have_gone_is_not_begun_anew(here, tmp_path):
    assert here(*TRAIN, *MORE).returncode == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("run/*") if path.is_file()}
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    done = here(*TRAIN, *MORE, "--resume", "auto", "--seed", "9")
    assert done.returncode == 1 and "a finished run whose checkpoints have gone" in done.stderr
    after = {path.name: path.read_bytes() for path in tmp_path.glob("run/*") if path.is_file()}
    assert after | {"lock": b""} == before | {"lock": b""}


def test_the_manifest_names_who_started_it(monkeypatch):
    monkeypatch.setenv("DISTBP_JOB", "mine")
    assert describe(SerialCommunicator())["started by"] == "mine"


def test_predictions_take_the_place_of_old_ones_as_a_whole(here, tmp_path, monkeypatch):
    assert here(*TRAIN, *MORE).returncode == 0
    np.save(tmp_path / "new.npy", np.ones((50, 64)))
    for name in ("p.csv", "p.npy"):
        assert here(*PREDICT, "run", "new.npy", "--target", "", "--out", name).returncode == 0
        before = (tmp_path / name).read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            done = here(*PREDICT, "run", "new.npy", "--target", "", "--out", name)
        assert done.returncode == 1 and f"cannot write {name}: No space left on device" in done.stderr
        assert (tmp_path / name).read_bytes() == before and not list(tmp_path.glob(".p.*"))
    assert here(*PREDICT, "run", "new.npy", "--target", "", "--out", "p.csv").returncode == 0


def full(*_):
    raise OSError(28, "No space left on device")


CLOSED = """
import os, sys
from distbp.run.entry_point import open_streams

sys.stdout, sys.stdin = None, None
for number in (0, 1, 2):
    os.close(number)
open_streams()
print("nothing")
lock = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(2, b"a warning")
os._exit(lock)
"""


def test_files_do_not_take_the_places_of_closed_streams(tmp_path):
    done = subprocess.run([sys.executable, "-c", CLOSED, tmp_path / "lock"], timeout=60)
    assert done.returncode > 2 and (tmp_path / "lock").read_bytes() == b""


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_training_with_closed_streams_is_one(tmp_path, closed):
    command = " ".join([sys.executable, "-m", "distbp.train", *MORE, closed])
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, timeout=100).returncode == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_pipe_is_no_file_of_data(here, tmp_path):
    os.mkfifo(tmp_path / "f.csv")
    done = here(*TRAIN, "--data", "f.csv")
    assert done.returncode == 1 and "f.csv is no file" in done.stderr


@pytest.mark.parametrize("error", [OSError(30, "Read-only file system"), OSError(28, "No space left on device")])
def test_a_cache_that_cannot_be_made_is_none(here, tmp_path, monkeypatch, error):
    (tmp_path / "t.csv").write_text("\n".join(["a,y", *(f"{k},{2 * k}" for k in range(200))]))
    made = Path.mkdir

    def mkdir(path, *arguments, **more):
        if path.name == "cache":
            raise error
        made(path, *arguments, **more)

    monkeypatch.setenv("DISTBP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "mkdir", mkdir)
    done = here(*TRAIN, "--data", "t.csv", "--epochs", "1", "--run-dir", "run", "--report", "none")
    assert done.returncode == 0 and "converted for this run alone" in done.stdout


@pytest.mark.parametrize("error", [RuntimeError("Query interrupted"), duckdb.InterruptException("Interrupted!")])
def test_an_interrupt_of_the_reader_is_one(error):
    with pytest.raises(KeyboardInterrupt), connection():
        try:
            raise error
        except duckdb.Error as within:
            raise NotReadable("the table") from within
