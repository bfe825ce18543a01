"""An ensemble from the command line: members, one model, stops, and what goes wrong."""

import json
import os
import signal
import threading
import time

import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import Model
from distbp.run.ensemble import EnsembleJob

SHORT = ("--recipe", "plain", "--hidden", "8", "--epochs", "2", "--run-dir", "run", "--exact", "--leaves", "2")
ENSEMBLE = (*TRAIN, *SHORT, "--ensemble", "3")


@pytest.fixture
def trained(here, tmp_path):
    done = here(*ENSEMBLE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_model_is_the_mean_of_its_members(trained, here, tmp_path):
    assert "member 3 of 3" in trained and "a member alone: accuracy" in trained
    X = np.random.default_rng(0).integers(0, 16, (20, 64))
    members = [Model.load(tmp_path / "run" / "members" / str(k)).predict_outputs(X) for k in range(3)]
    assert not np.array_equal(members[0], members[1])
    np.testing.assert_allclose(
        Model.load(tmp_path / "run").predict_outputs(X), np.mean(members, axis=0), rtol=1e-4, atol=1e-7
    )
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    alone = [
        json.loads((tmp_path / "run" / "members" / str(k) / "results.json").read_text())["accuracy/test"]
        for k in range(3)
    ]
    assert results["a member alone"]["accuracy/test"] == pytest.approx([np.mean(alone), np.std(alone)])
    done = here(*PREDICT, "run", "digits")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1798 and "accuracy" in done.stderr


def test_what_is_done_is_not_done_again(trained, here, tmp_path):
    model = tmp_path / "run" / "model.safetensors"
    before = model.read_bytes()
    again = here(*ENSEMBLE)
    assert again.returncode == 1 and "holds a run already" in again.stderr
    records = [(tmp_path / "run" / "members" / str(k) / "metrics.jsonl").stat().st_mtime_ns for k in range(3)]
    for name in ("model.safetensors", "results.json"):
        (tmp_path / "run" / name).unlink()
    done = here(*ENSEMBLE, "--resume", "auto")
    assert done.returncode == 0 and model.read_bytes() == before, done.stderr
    steps = [json.loads(line)["step"] for line in (tmp_path / "run/members/1/metrics.jsonl").read_text().splitlines()]
    assert steps == [41, 82] and records


def test_a_member_that_is_told_to_stop_stops_all_and_it_goes_on(here, tmp_path):
    more = ("--epochs", "100")
    assert here(*ENSEMBLE, "--run-dir", "whole", *more).returncode == 0

    def stop_soon():
        for _ in range(5000):
            if (tmp_path / "run" / "members" / "1" / "metrics.jsonl").exists():
                break
            time.sleep(0.002)
        (tmp_path / "run" / "stop").touch()

    other = threading.Thread(target=stop_soon)
    other.start()
    done = here(*ENSEMBLE, *more)
    other.join()
    assert done.returncode == 75 and "continue with: " in done.stdout
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert here(*ENSEMBLE, *more, "--resume", "auto").returncode == 0
    one, other = (tmp_path / path / "model.safetensors" for path in ("whole", "run"))
    assert one.read_bytes() == other.read_bytes()


def test_a_dry_run_trains_nothing(here, tmp_path):
    done = here(*ENSEMBLE, "--dry-run")
    assert done.returncode == 0 and "ensemble = 3" in done.stdout and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [(["--ensemble", "0"], 2, "--ensemble 0: at least 1"), (["--elastic"], 2, "an ensemble does not go on")],
)
def test_what_cannot_be(here, options, code, text):
    done = here(*ENSEMBLE, *options)
    assert done.returncode == code and text in done.stderr


@pytest.mark.parametrize("members_done", [1, 3])
def test_a_signal_between_two_members_stops_the_ensemble_and_one_after_the_last_does_not(
    here, tmp_path, monkeypatch, members_done
):
    def say(job, k, results):
        if k + 1 == members_done:
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(EnsembleJob, "_say", say)
    done = here(*ENSEMBLE)
    assert done.returncode == (75 if members_done < 3 else 0), done.stderr
    assert signal.getsignal(signal.SIGUSR1) == before
    assert (tmp_path / "run/members/1").exists() == (members_done == 3)
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    done = here(*ENSEMBLE, "--resume", "auto")
    assert done.returncode == 0 and "member 3 of 3" in done.stdout, done.stderr
