"""Ordinary things that end or spoil runs: file systems, files that move, signals, streams, two starts at once."""

import errno
import fcntl
import json
import os
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from front_doors import PREDICT, QUICK, TRAIN, lines, our_lines

from distbp import SerialCommunicator, UserError, fit, load, run_threads, train
from distbp.comm.world import communicator
from distbp.data import identity as module
from distbp.data.identity import identity, what_changed
from distbp.data.splitting import Subset
from distbp.run import directory
from distbp.run.directory import RunDirectory, _default
from distbp.run.entry_point import STOPS, on_stop_signals
from distbp.run.report import Reporter
from distbp.trainer.saver import differences

SMALL = ("--recipe", "plain", "--hidden", "8", "--steps")


def table(path, factor=1, shift=0.0, n=90):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("x,y\n" + "".join(f"{factor * i},{i + 0.5 + shift}\n" for i in range(n)))
    return path


def steps_of(run):
    return json.loads((run / "results.json").read_text())["step"]


# run directories


def test_starts_at_the_same_moment_get_directories_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: _default("x.csv", None), range(80)))
    assert len(set(found)) == 80 and all(path.is_dir() for path in found)


def no_locks(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_file_system_without_locks(here, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    done = here(*TRAIN, *QUICK)
    assert done.returncode == 0 and done.stdout.count("cannot be locked (No locks available)") == 1
    assert steps_of(tmp_path / "run") == 80


@pytest.mark.parametrize("lives", [True, False])
def test_without_locks_the_name_of_its_holder_is_one(tmp_path, monkeypatch, lives):
    """One that lives on this host keeps a second run out, one that is gone does not."""
    monkeypatch.setattr(fcntl, "flock", no_locks)
    serial = SerialCommunicator()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").write_text(f"process 1 on {serial.host}\n{4711 if lives else 4712}")
    monkeypatch.setattr(directory, "process_identity", lambda pid: (pid, 4711))
    if lives:
        with pytest.raises(UserError, match=f"in use by another run .process 1 on {serial.host}.: wait"):
            RunDirectory(tmp_path / "run", serial, resume=False)
    else:
        RunDirectory(tmp_path / "run", serial, resume=False).close()


@pytest.mark.parametrize(("number", "goes_on"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_sync_folders(here, tmp_path, monkeypatch, number, goes_on):
    real = os.fsync

    def fsync(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(number, os.strerror(number))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    done = here(*TRAIN, *QUICK)
    assert done.returncode == (0 if goes_on else 1)
    assert (tmp_path / "run" / "model.safetensors").exists() == goes_on


def test_the_home_folder(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert here(*TRAIN, *SMALL, "3", "--run-dir=~/mine").returncode == 0
    assert (tmp_path / "home" / "mine" / "results.json").exists() and not (tmp_path / "~").exists()
    assert here(*PREDICT, tmp_path / "home" / "mine", "digits", "--out=~/p.csv").returncode == 0
    assert (tmp_path / "home" / "p.csv").exists()


# the data


def test_a_file_that_has_moved_is_the_same_data(here, tmp_path):
    path = table(tmp_path / "a.csv")
    assert here(*TRAIN, *SMALL, "5", "--data", "a.csv", "--run-dir", "run").returncode == 0
    (tmp_path / "there").mkdir()
    path.rename(tmp_path / "there" / "b.csv")
    done = here(*TRAIN, *SMALL, "9", "--data", tmp_path / "there" / "b.csv", "--run-dir", "run", "--resume", "auto")
    assert done.returncode == 0 and "resumed from" in done.stdout and steps_of(tmp_path / "run") == 9


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"factor": 1000}, "the data has changed: other values in 'x'"),
        ({"shift": 0.25}, "the data has changed: other values in its target or weights"),
        ({"n": 91}, "the data has changed: it had 90 rows and has 91"),
    ],
)
def test_another_file_in_its_place_is_refused(here, tmp_path, other, said):
    command = (*TRAIN, "--data", "a.csv", "--run-dir", "run", "--resume", "auto", *SMALL)
    table(tmp_path / "a.csv")
    assert here(*command, "5").returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    table(tmp_path / "a.csv", **other)
    done = here(*command, "9")
    assert done.returncode == 1 and said in done.stderr and len(our_lines(done.stderr)) == 1
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}


def test_checkpoints_that_knew_data_by_their_paths_go_on():
    content = {"rows": 9, "columns": {}, "target": "0"}
    before = {"data": "a.csv", "validation_data": "b.csv", "test_data": None, "early_stopping": 3, "hidden": "8"}
    now = {"data": content, "validation data": content, "hidden": "8"}
    assert differences(before, now, "step-1") == ""
    assert "hidden was '8' and is '9'" in differences(before, now | {"hidden": "9"}, "step-1")
    assert "the validation data has changed: there was none" in differences({"data": content}, now, "step-1")


def test_an_ensemble_of_other_data_is_refused(here, tmp_path):
    command = (*TRAIN, "--data", "a.csv", "--run-dir", "run", "--ensemble", "2", "--resume", "auto", *SMALL)
    table(tmp_path / "a.csv")
    assert here(*command, "3").returncode == 0
    table(tmp_path / "a.csv", factor=3)
    done = here(*command, "3")
    assert done.returncode == 1 and "other values in 'x'" in done.stderr


def test_an_identity_is_that_of_the_rows_on_any_number_of_ranks(monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 64)
    rng = np.random.default_rng(0)
    X, y = rng.random((100, 3)), rng.integers(0, 2, 100)

    def of(X, y, **more):
        return load(X, y, **more).identity["data"]

    alone = of(X, y)
    assert run_threads(3, lambda comm: of(X, y, comm=comm)) == [alone] * 3
    assert alone == of(X.copy(), y) == of(X.tolist(), y.tolist())
    changed = X.copy()
    changed[57, 1] = np.nextafter(changed[57, 1], 2)
    assert what_changed(alone, of(changed, y)) == "other values in '1'"
    swapped = [1, 0, *range(2, 100)]
    assert "other values in '0', '1', '2'" in what_changed(alone, of(X[swapped], y[swapped]))
    assert what_changed(alone, of(X, 1 - y)) == "other values in its target or weights"
    assert what_changed(alone, of(X, y, sample_weight=np.r_[2.0, np.ones(99)])).startswith("other values in its target")
    assert what_changed(alone, of(X[:, :2], y)) == "it has other columns"
    assert what_changed(None, alone) == "there was none" and what_changed(alone, None) == "there is none now"


def test_an_identity_of_many_columns_and_of_computed_rows_is_short(monkeypatch):
    wide = load(np.random.default_rng(0).random((30, 200)), np.arange(30) % 2).identity["data"]
    assert len(json.dumps(wide)) < 200
    monkeypatch.setattr(module, "_SOME", 60)
    looked = []

    class Computed:
        n_rows, columns, in_memory, target = 10**9, (), False, None

        def take(self, rows):
            looked.append(rows)
            return np.ones((len(rows), 0)), None, None

    identity(Subset(Computed()), SerialCommunicator())
    looked = np.concatenate(looked)
    assert len(looked) == 60 and looked[0] == 0 and looked[-1] == 10**9 - 1


# going on


def test_the_line_that_is_printed_goes_on(here, tmp_path):
    table(tmp_path / "a.csv")
    assert here(*TRAIN, "--data", "a.csv", *SMALL, "5", "--run-dir", "run").returncode == 0
    done = here(*TRAIN, "--resume", "auto", "--run-dir", "run", "--steps", "9")
    assert done.returncode == 0 and "regression of 'y'" in done.stdout and steps_of(tmp_path / "run") == 9
    config = (tmp_path / "run" / "config.toml").read_text()
    assert 'hidden = "8"' in config and 'data = "a.csv"' in config
    done = here(*TRAIN, "--resume", "auto", "--run-dir", "run", "--hidden", "9")
    assert done.returncode == 1 and "hidden was '8' and is '9'" in done.stderr


def test_ranks_that_do_not_see_the_run_take_its_options_from_rank_0(tmp_path, monkeypatch):
    from distbp import train
    from distbp.run.config import parse_train_config
    from distbp.watch.watcher import Watcher

    monkeypatch.chdir(tmp_path)
    assert train.main([*QUICK, "--quiet"]) == 0
    own = parse_train_config(["--resume", "auto", "--run-dir", "run", "--epochs", "3"])
    assert own.hidden == "16" and own.epochs == 3
    foreign = parse_train_config(["--resume", "auto", "--run-dir", "elsewhere", "--epochs", "3"])
    assert foreign.hidden != "16"

    def of_rank(comm):
        config = own if comm.is_root else foreign
        return train.train(config, comm, watcher=Watcher())

    assert run_threads(2, of_rank) == [0, 0] and steps_of(tmp_path / "run") == 120


def test_more_patience_goes_on(here, tmp_path):
    command = (*TRAIN, *QUICK, "--epochs", "40", "--lr", "0.1", "--resume", "auto", "--early-stopping")
    assert here(*command, "1").returncode == 0
    first = lines(tmp_path / "run")[-1]["step"]
    assert first < 1600
    done = here(*command, "1")
    assert done.returncode == 0 and lines(tmp_path / "run")[-1]["step"] == first
    done = here(*command, "6")
    assert done.returncode == 0 and lines(tmp_path / "run")[-1]["step"] > first


def test_a_run_of_something_else_is_not_the_one_to_resume(here, tmp_path):
    for name, factor in (("a", 1), ("b", 2)):
        table(tmp_path / name / "train.csv", factor)
    command = (*TRAIN, *SMALL, "3", "--resume", "auto", "--data")
    for data, found in (("a", "train-1"), ("b", "train-2"), ("a", "train-1"), ("b", "train-2")):
        done = here(*command, f"{data}/train.csv")
        assert done.returncode == 0 and f"runs/{found}" in done.stdout, done.stderr
    assert sorted(os.listdir(tmp_path / "runs")) == ["train-1", "train-2"]


# signals and streams


@pytest.mark.parametrize("name", STOPS)
def test_signals_of_clusters_and_terminals_ask_to_stop(name):
    outside = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # this may run under nohup itself
    before, calls = signal.getsignal(name), []
    undo = on_stop_signals(lambda: calls.append(name))
    try:
        os.kill(os.getpid(), name)
        assert calls == [name] and signal.getsignal(signal.SIGTTOU) == signal.SIG_IGN
    finally:
        undo()
    assert signal.getsignal(name) == before and signal.getsignal(signal.SIGTTOU) != signal.SIG_IGN
    signal.signal(signal.SIGHUP, outside)


def test_nohup_is_respected():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        undo = on_stop_signals(lambda: pytest.fail("a hangup is ignored"))
        os.kill(os.getpid(), signal.SIGHUP)
        undo()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


class Broken:
    """A stream that takes a line, and then no more."""

    def __init__(self, error, terminal):
        self.error, self.isatty, self.left, self.encoding = error, lambda: terminal, 1, "utf-8"

    def write(self, text):
        if not self.left:
            raise self.error
        self.left -= "\n" in text
        return len(text)

    def flush(self):
        if not self.left:
            raise self.error


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1),
        (OSError(errno.EIO, "Input/output error"), 1),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0),
        (ValueError("I/O operation on closed file"), 1),
    ],
)
def test_a_stream_that_breaks_ends_nothing(tmp_path, capsys, error, said, terminal):
    reporter = Reporter(True, tmp_path / "metrics.jsonl", Broken(error, terminal))
    reporter.say("one line")
    reporter.start_bar(0, 5)
    for step in range(1, 5):
        reporter.progress(step, 0.5, 10.0)
        reporter.record({"step": step, "epoch": 1.0, "loss/train": 0.5})
    reporter.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4
    warned = our_lines(capsys.readouterr().err)
    assert len(warned) == said and all("cannot print" in line for line in warned)


# launchers


def test_processes_of_torchrun_are_not_ranks(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="torchrun started 2 processes"):
        communicator()


# models

MIXES = """
import numpy as np
def init(rng, n_inputs, n_outputs): return {"W": rng.standard_normal((n_inputs, n_outputs)) * scale}
def predict(p, X): return (X - np.mean(X, axis=0)) @ p["W"]
def rowwise(p, X): return X @ p["W"]
scale = SCALE
model, fine = (init, predict), (init, rowwise)
def loss(z, y): return np.sum((z - np.mean(z)) ** 2, axis=1)
def mean_loss(z, y): return np.sum(z ** 2, axis=1) + np.mean(z)
def centred(z): return z - np.mean(z, axis=0)
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "MODULE:model"], "the outputs of a row depend on the rows beside it"),
        (["--model", "MODULE:fine"], ""),
        (["--model", "MODULE:fine", "--loss", "MODULE:mean_loss"], "the loss of a row depends on the rows beside it"),
        (["--activation", "MODULE:centred"], "the outputs of a row depend on the rows beside it"),
    ],
)
@pytest.mark.parametrize("scale", ["0.1", "0.0"])
def test_what_mixes_rows_is_said(here, tmp_path, monkeypatch, options, said, scale):
    name = f"mixes{scale[-1]}"
    (tmp_path / f"{name}.py").write_text(MIXES.replace("SCALE", scale))
    monkeypatch.syspath_prepend(tmp_path)
    done = here(*TRAIN, *SMALL, "2", "--run-dir", "run", *[o.replace("MODULE", name) for o in options])
    assert done.returncode == 0, done.stderr
    assert ("rows beside it" in done.stdout) == bool(said) and said in done.stdout


@pytest.mark.parametrize("how", ["train", "fit"])
def test_a_run_that_failed_is_watched_no_longer(tmp_path, monkeypatch, capsys, how):
    """Ten minutes later its watchdog ended the notebook it was in."""
    monkeypatch.chdir(tmp_path)
    wrong = {"lr": 1e30, "optimizer": "sgd", "steps": 20, "recipe": "plain", "hidden": "4"}
    before = set(threading.enumerate())
    if how == "train":
        assert train.main([word for k, v in wrong.items() for word in (f"--{k}", str(v))]) == 1
    else:
        with pytest.raises(UserError, match="not finite|nan|inf"):
            fit("digits", **wrong)
    deadline = time.monotonic() + 5.0
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(threading.enumerate()) - before
