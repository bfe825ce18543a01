"""An ensemble on ranks: the same model whoever trained which member, and a death costs no member that was done."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import clean_environment, mpirun
from front_doors import TRAIN
from test_launched_training import ranks_of

OPTIONS = ("--recipe", "plain", "--hidden", "8", "--exact", "--leaves", "4", "--ensemble", "3", "--resume", "auto")


@pytest.mark.parametrize(("what", "ranks"), [("--ensemble", 2), ("--ensemble", 4), ("--folds", 3)])
def test_nothing_depends_on_who_trains_which_member(launch, tmp_path, what, ranks):
    for n, folder in ((0, "alone"), (ranks, "ranks")):
        done = launch(*TRAIN, *OPTIONS[:-4], what, "3", "--epochs", "2", "--calibrate", "--run-dir", folder, ranks=n)
        assert done.returncode == 0, done.stderr
    assert f"by {min(ranks, 3)} groups" in done.stdout
    one = what.removeprefix("--").replace("ensemble", "member").rstrip("s")
    assert all(f"{one} {k} of 3" in done.stdout for k in (1, 2, 3))
    for name in ("model.safetensors", "out-of-fold.csv"):
        alone, other = ((tmp_path / folder / name).read_bytes() for folder in ("alone", "ranks"))
        assert alone == other
    alone, other = (json.loads((tmp_path / folder / "results.json").read_text()) for folder in ("alone", "ranks"))
    for results in (alone, other):
        del results["seconds"], results["ranks"]
    assert alone == other


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_what_ends_one_rank_ends_all_and_costs_no_member_that_was_done(launch, tmp_path, how):
    more = ("--epochs", "50", "--checkpoint-every", "40")
    assert launch(*TRAIN, *OPTIONS, *more, "--run-dir", "whole").returncode == 0
    process = subprocess.Popen(
        [*mpirun(2), sys.executable, *TRAIN, *OPTIONS, *more, "--run-dir", "run"], cwd=tmp_path,
        env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    third = tmp_path / "run" / "members" / "2" / "metrics.jsonl"
    deadline = time.monotonic() + 30
    while not third.exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    done = tmp_path / "run" / "members" / "0" / "metrics.jsonl"
    before = done.stat().st_size
    os.kill(ranks_of(tmp_path / "run")[0], signal.SIGKILL if how == "killed" else signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 75 if how == "stopped" else process.returncode != 0, output
    again = launch(*TRAIN, *OPTIONS, *more, "--run-dir", "run", ranks=3)
    assert again.returncode == 0, again.stderr
    assert done.stat().st_size == before
    models = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "run")}
    assert len(models) == 1
