# ruff: noqa: E501
"""What becomes of runs: the list, the proof that one repeats, records for other programs."""

import fcntl
import json
import sys
import types

import pytest
from tensorboard.backend.event_processing import event_file_loader as loader

from distbp.__main__ import main
from distbp.run.trackers import TRACKERS, figures_of
from distbp.runs.listing import listed

COMMON = ("--epochs", "2", "--hidden", "16", "--report", "none")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Train in a folder of its own; return the name of the run, and what is printed by another command."""
    monkeypatch.chdir(tmp_path)

    def train(*options, data="digits", code=0):
        assert main(["train", "--data", data, *COMMON, *options]) == code
        capsys.readouterr()

    def say(*arguments, code=0):
        assert main(list(arguments)) == code
        printed = capsys.readouterr()
        return printed.out + printed.err

    return train, say


def test_runs_are_listed_compared_and_removed(run, tmp_path):
    train, say = run
    assert "no runs here" in say("runs")
    train("--exact")
    train("--seed", "3", "--ensemble", "2")
    (tmp_path / "runs" / "half").mkdir()
    (tmp_path / "runs" / "half" / "config.toml").write_text('[data]\ndata = "x.csv"\n')
    head, first, second, third = say("runs").splitlines()
    assert head.split()[:4] == ["run", "data", "recipe", "state"]
    assert first.split()[:4] == ["runs/digits-1", "digits", "image", "done"] and "accuracy/test" in first
    assert (
        "runs/digits-2" in second
        and "members" not in second
        and third.split()[:4] == ["runs/half", "x.csv", "?", "failed"]
    )
    found = [json.loads(line) for line in say("runs", "--json").splitlines()]
    assert [one["state"] for one in found] == ["done", "done", "failed"] and found[0]["ranks"] == 1
    with open(tmp_path / "runs" / "half" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert listed(tmp_path / "runs" / "half")[0].state == "running"
        assert "stop it first" in say("runs", "--rm", "runs/digits-1", "runs/half", code=1)
    assert (tmp_path / "runs" / "digits-1").exists()
    assert "removed runs/half" in say("runs", "--rm", "runs/half")
    assert "no run directory" in say("runs", "--rm", ".", code=1) and "name the runs" in say("runs", "--rm", code=1)


def test_an_exact_run_is_reproduced_to_the_byte_or_what_differs_is_named(run, tmp_path):
    train, say = run
    table = ["x,z,y", *(f"{i % 13},{i % 7},{(i % 13) + (i % 7)}.5" for i in range(200))]
    (tmp_path / "t.csv").write_text("\n".join(table))
    train("--exact", data="t.csv")
    assert "reproduced to the byte" in say("verify", "runs/t-1")
    (tmp_path / "t.csv").write_text("\n".join([*table[:-1], "4,3,99.5"]))
    found = say("verify", "runs/t-1", code=1)
    assert "not reproduced" in found and "the data has changed" in found and "rmse/test" in found
    (tmp_path / "old.csv").write_text("\n".join(table))
    assert "reproduced to the byte" in say("verify", "runs/t-1", "--data", "old.csv")
    manifest = tmp_path / "runs" / "t-1" / "manifest.json"
    about = json.loads(manifest.read_text())
    about["bits depend on"] |= {"BLAS": "openblas 0.1 Cray"}
    manifest.write_text(json.dumps(about | {"distbp": "0.1"}))
    found = say("verify", "runs/t-1", code=1)
    assert "BLAS was 'openblas 0.1 Cray', here it is" in found and "distbp was 0.1" in found
    assert "no finished run nowhere" in say("verify", "nowhere", code=1)


def test_a_plain_run_is_reproduced_and_an_ensemble(run):
    train, say = run
    train("--ensemble", "2")
    assert "reproduced" in say("verify", "runs/digits-1")


def test_records_go_to_tensorboard_live_and_again(run, tmp_path):
    train, say = run
    train("--track", "tensorboard")

    def scalars():
        files = sorted((tmp_path / "runs" / "digits-1" / "tensorboard").iterdir())
        events = [event for event in loader.EventFileLoader(str(files[-1])).Load() if event.step]
        return {(v.tag, event.step) for event in events for v in event.summary.value}

    live = scalars()
    assert ("loss/val", 40) in live and ("accuracy/train", 20) in live
    assert "2 records of runs/digits-1 are in tensorboard now" in say("replay", "runs/digits-1", "--to", "tensorboard")
    assert scalars() == live
    assert "no records" in say("replay", ".", "--to", "tensorboard", code=1)


class Heard(types.ModuleType):
    """A library that notes what it is told."""

    def __init__(self, name):
        super().__init__(name)
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def note(*arguments, **named):
            self.calls.append((name, arguments, named))
            return self

        return note


@pytest.mark.parametrize("kind", ["mlflow", "wandb", "trackio"])
def test_records_go_to_other_programs(run, kind, monkeypatch):
    train, say = run
    train()
    monkeypatch.setitem(sys.modules, kind, library := Heard(kind))
    assert f"2 records of runs/digits-1 are in {kind} now" in say("replay", "runs/digits-1", "--to", kind)
    told = [call for call in library.calls if call[0] in ("log", "log_metrics")]
    assert [call[2]["step"] for call in told] == [20, 40] and "loss/val" in told[0][1][0]
    assert library.calls[-1][0] in ("finish", "end_run")


def test_a_library_that_is_missing_is_named(run, monkeypatch):
    train, say = run
    train()
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install wandb" in say("replay", "runs/digits-1", "--to", "wandb", code=1)
    assert set(TRACKERS) == {"tensorboard", "mlflow", "wandb", "trackio"}
    assert figures_of({"step": 3, "loss/val": 1, "skipped": "a word", "lr": 0.5}) == {"loss/val": 1.0, "lr": 0.5}
