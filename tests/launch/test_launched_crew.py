"""More ranks than cores, from the command line: who sleeps changes nothing, stops the others, and is missed."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import clean_environment, done_by, mpirun
from front_doors import QUICK, TRAIN
from test_launched_training import SLOW, lines, ranks_of, wait_for_step

QUICK = QUICK[:-1]
SAYS = "2 of {} ranks compute, one for each core"


def command(ranks, *arguments):
    """On two cores, whatever this machine has."""
    if not shutil.which("taskset") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("wants two cores, and taskset to have no more")
    two = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    return ["taskset", "-c", two, *mpirun(ranks), sys.executable, *TRAIN, *arguments]


def run(tmp_path, ranks, *arguments):
    environment = clean_environment() | {"PRTE_MCA_hwloc_default_binding_policy": "none"}
    done = done_by(command(ranks, *arguments), cwd=tmp_path, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("options", [(), ("--exact",)], ids=["plain", "exact"])
def test_four_ranks_on_two_cores_give_the_model_of_two(tmp_path, options):
    said = run(tmp_path, 4, *QUICK, "four", *options)
    assert SAYS.format(4) in said
    assert "ranks compute" not in run(tmp_path, 2, *QUICK, "two", *options)
    two, four = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("two", "four"))
    assert two == four
    if options:
        assert "ranks compute" not in run(tmp_path, 3, *QUICK, "all", *options, "--oversubscribe")
        assert (tmp_path / "all" / "model.safetensors").read_bytes() == two
    assert [record["step"] for record in lines(tmp_path / "four")] == [40, 80]
    results = json.loads((tmp_path / "four" / "results.json").read_text())
    assert results["ranks"] == 4 and "accuracy/test" in results


def test_a_rank_that_sleeps_stops_all_and_a_run_of_other_ranks_resumes(tmp_path):
    process = subprocess.Popen(
        command(4, *SLOW, "--exact", "--run-dir", "run"), cwd=tmp_path, env=clean_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for_step(tmp_path / "run" / "metrics.jsonl", 40)
    os.kill(ranks_of(tmp_path / "run")[3], signal.SIGUSR1)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 75, output
    for ranks in (3, 2):
        more = ("--steps", "1000", "--resume", "auto", "--run-dir", "run") if ranks == 3 else ("--steps", "1000")
        run(tmp_path, ranks, *SLOW, "--exact", *more, *(() if ranks == 3 else ("--run-dir", "whole")))
    models = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "whole")}
    assert len(models) == 1 and [r["step"] for r in lines(tmp_path / "run")] == list(range(1, 1001))


@pytest.mark.parametrize("rank", [1, 3], ids=["computes", "sleeps"])
def test_a_rank_that_is_killed_is_noticed_and_a_resume_goes_on(tmp_path, rank):
    more = ("--checkpoint-every", "30", "--run-dir", "run")
    process = subprocess.Popen(
        command(4, *SLOW, *more), cwd=tmp_path, env=clean_environment(), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_step(tmp_path / "run" / "metrics.jsonl", 100)
    os.kill(ranks_of(tmp_path / "run")[rank], signal.SIGKILL)
    assert process.wait(timeout=20) != 0
    assert "resumed from" in run(tmp_path, 4, *SLOW, *more, "--steps", "1000", "--resume", "auto")
    assert [record["step"] for record in lines(tmp_path / "run")] == list(range(1, 1001))


def test_what_happens_to_those_that_compute_is_told_by_one_line(tmp_path):
    done = subprocess.run(
        command(4, *QUICK, "run", "--lr", "1e30", "--optimizer", "sgd"), cwd=tmp_path, env=clean_environment(),
        capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if line.startswith("distbp:")]
    assert done.returncode == 1 and len(ours) == 1 and "is not finite" in ours[0], done.stderr
