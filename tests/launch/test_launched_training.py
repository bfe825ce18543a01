"""Training from the command line on launched ranks: the same model, one line for what is wrong, stops and kills."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import clean_environment, mpirun
from front_doors import PREDICT, QUICK, TRAIN, lines, our_lines
from grids import NIGHTLY

BAD = [
    (["--hiden", "3"], 2, "did you mean --hidden?"),
    (["--data", "ragged.csv"], 1, "line 4: 2 fields where the header has 3: '5,6'"),
    (["--lr", "1e30", "--optimizer", "sgd"], 1, "is not finite"),
    (["--run-dir", "ragged.csv"], 1, "is a file"),
]
"""What no rank, all ranks at once, all of them later, and rank 0 alone finds; test_command_line.py has the rest."""


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_bad_input_on_ranks_gets_one_line_and_an_exit_code(launch, tmp_path, arguments, code, message):
    (tmp_path / "ragged.csv").write_text("a,b,y\n1,2,0\n3,4,1\n5,6\n")
    done = launch(*TRAIN, *(QUICK if "--run-dir" not in arguments else ()), *arguments, ranks=3, timeout=20)
    ours = our_lines(done.stderr)
    assert done.returncode == code
    assert len(ours) == 1 and message in ours[0], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ranks", [0, 2, 4] if NIGHTLY else [3])
def test_train_then_predict(launch, here, tmp_path, ranks):
    done = launch(*TRAIN, *QUICK, ranks=ranks)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert {"config.toml", "manifest.json", "metrics.jsonl", "model.safetensors", "results.json"} <= set(
        os.listdir(run)
    )
    results = json.loads((run / "results.json").read_text())
    assert results["outcome"] == "done" and np.array(results["confusion/test"]).sum() == 359
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["size"] == max(1, ranks) == len(manifest["ranks"])
    assert [r["step"] for r in lines(run)] == [40, 80]
    assert {"step", "epoch", "examples", "seconds", "loss/train", "accuracy/train", "loss/val"} <= set(lines(run)[0])

    done = launch(*PREDICT, "run", "digits", "--out", "out.csv", ranks=ranks)
    assert done.returncode == 0 and "accuracy 0." in done.stderr
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert len(table) == 1798 and table[0].startswith("digit,p(0),p(1)")
    assert here(*PREDICT, "run", "digits", "--out", "alone.csv").returncode == 0
    found, alone = (np.loadtxt(tmp_path / name, delimiter=",", skiprows=1) for name in ("out.csv", "alone.csv"))
    np.testing.assert_allclose(found, alone, atol=1e-5)  # each row by one of the ranks


def test_the_same_model_on_any_number_of_ranks(launch, here, tmp_path):
    from distbp import Model

    for ranks in (0, 2, 3):
        command = (*TRAIN, *QUICK[:-1], f"run{ranks}", "--dtype", "float64")
        done = launch(*command, "--oversubscribe", ranks=ranks) if ranks else here(*command)
        assert done.returncode == 0, done.stderr
    first, *others = (Model.load(tmp_path / f"run{r}" / "model.safetensors").network.theta for r in (0, 2, 3))
    for theta in others:
        np.testing.assert_allclose(theta, first, rtol=1e-10, atol=1e-12)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(launch, here, tmp_path):
    assert here(*TRAIN, *QUICK).returncode == 0
    newest = tmp_path / "run" / "checkpoints" / "step-000000080.safetensors"
    content = bytearray(newest.read_bytes())
    content[2000] ^= 1
    newest.write_bytes(content)
    done = launch(*TRAIN, *QUICK, "--resume", "auto", ranks=2)
    assert done.returncode == 0
    assert "step-000000080.safetensors: damaged" in done.stdout
    assert "resumed from run/checkpoints/step-000000040.safetensors" in done.stdout
    assert [r["step"] for r in lines(tmp_path / "run")] == [40, 80]
    for path in newest.parent.iterdir():
        path.write_bytes(b"no")
    done = here(*TRAIN, *QUICK, "--resume", "auto")
    assert done.returncode == 1 and "every checkpoint is damaged" in done.stderr


def test_a_full_disk_ends_all_ranks_and_keeps_the_checkpoint_before(launch, tmp_path):
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", small], check=True)
    try:
        done = launch(*TRAIN, "--recipe", "plain", "--epochs", "3", "--run-dir", "small/run", ranks=3, timeout=10)
        left = os.listdir(small / "run" / "checkpoints")
    finally:
        subprocess.run(["umount", small], check=True)
    assert done.returncode == 1
    assert "cannot write the checkpoint of step 80" in done.stderr and "No space left" in done.stderr
    assert left == ["step-000000040.safetensors"]


ONE_RANK_FAILS = """
import sys
from distbp import SGD, Gradient, Network, Observer, SoftmaxCrossEntropy, Trainer, communicator, load
from distbp.run.entry_point import run

def main(comm):
    data = load("digits", comm=comm)
    def fail(trainer):
        if comm.rank == comm.size - 1 and trainer.position.step == 5:
            raise ZeroDivisionError("no such luck")
    trainer = Trainer(
        Network([64, 10]), SoftmaxCrossEntropy(), SGD(), data.train, comm=comm, observer=Observer(on_step=fail),
        gradient=Gradient(oversubscribe=True),
    )
    trainer.fit(epochs=9999)
    return 0

sys.exit(run(main, communicator))
"""


def test_an_exception_on_one_rank_ends_all(launch, tmp_path):
    (tmp_path / "program.py").write_text(ONE_RANK_FAILS)
    done = launch("program.py", ranks=3, timeout=10)
    ours = re.findall("distbp: .*", done.stderr)  # the launcher may put another rank's words before it
    assert done.returncode != 0
    assert len(ours) == 1, done.stderr
    assert "rank 2 on" in ours[0] and "ZeroDivisionError: no such luck" in ours[0]
    assert "Traceback" not in done.stderr
    assert "no such luck" in (tmp_path / "distbp-error-rank2.txt").read_text()


SLOW = (
    "--recipe", "plain", "--hidden", "16", "--steps", "5000", "--batch-size", "37", "--dtype", "float64", "--log-every",
    "1", "--dropout", "0.2", "--eval-every", "0", "--checkpoint-every", "0",
)  # fmt: skip


def start(tmp_path, ranks, *arguments):
    command = [*(mpirun(ranks) if ranks else []), sys.executable, *TRAIN, *arguments]
    return subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_step(path: Path, step: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if path.exists() and len(path.read_text().splitlines()) >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached in 30 s")


def ranks_of(folder: Path) -> list[int]:
    return [rank["pid"] for rank in json.loads((folder / "manifest.json").read_text())["ranks"]]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"] if NIGHTLY else ["SIGTERM"])
def test_a_signal_to_one_rank_stops_all_and_another_number_resumes(launch, here, tmp_path, name):
    """P = 4, one rank gets a signal at some step; resumed with P = 3; compared with an undisturbed run."""
    from distbp import Model

    steps = "600"
    process = start(tmp_path, 4, *SLOW, "--run-dir", "run")
    wait_for_step(tmp_path / "run" / "metrics.jsonl", 40)
    os.kill(ranks_of(tmp_path / "run")[2], getattr(signal, name))
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 75, output
    stopped = lines(tmp_path / "run")[-1]["step"]
    assert f"stopped at step {stopped} with a checkpoint" in output and stopped < 600
    resumed = launch(*TRAIN, *SLOW, "--steps", steps, "--run-dir", "run", "--resume", "auto", ranks=3)
    assert resumed.returncode == 0, resumed.stderr
    whole = here(*TRAIN, *SLOW, "--steps", steps, "--run-dir", "whole")
    assert whole.returncode == 0, whole.stderr
    assert [r["step"] for r in lines(tmp_path / "run")] == list(range(1, 601))
    theta = [Model.load(tmp_path / r / "model.safetensors").network.theta for r in ("run", "whole")]
    np.testing.assert_allclose(theta[0], theta[1], rtol=1e-10, atol=1e-12)
    a, b = ([r["loss/train"] for r in lines(tmp_path / r)] for r in ("run", "whole"))
    np.testing.assert_allclose(a, b, rtol=1e-10)


def test_a_killed_run_resumes_without_gap_or_double(launch, tmp_path):
    more = ("--checkpoint-every", "30", "--run-dir", "run")
    process = start(tmp_path, 2, *SLOW, *more)
    wait_for_step(tmp_path / "run" / "metrics.jsonl", 100)
    for pid in ranks_of(tmp_path / "run"):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=20)
    done = launch(*TRAIN, *SLOW, *more, "--steps", "600", "--resume", "auto", ranks=3)
    assert done.returncode == 0, done.stderr
    assert [r["step"] for r in lines(tmp_path / "run")] == list(range(1, 601))


def test_two_runs_in_one_directory_at_once(launch, tmp_path):
    process = start(tmp_path, 0, *SLOW, "--steps", "1000000", "--run-dir", "run")
    try:
        wait_for_step(tmp_path / "run" / "metrics.jsonl", 1)
        done = launch(*TRAIN, *SLOW, "--run-dir", "run", "--resume", "auto", ranks=2, timeout=10)
        assert done.returncode == 1 and "is in use by another run" in done.stderr
    finally:
        process.terminate()
        process.communicate(timeout=20)
    assert process.returncode == 75


def test_dry_run_prints_and_touches_nothing(launch, tmp_path):
    done = launch(*TRAIN, "--recipe", "plain", "--dry-run", "--run-dir", "run", ranks=2)
    assert done.returncode == 0, done.stderr
    for text in (
        'optimizer = "adam"',
        "memory per rank",
        "reduction: shared, 2 ranks",
        "50,826 parameters",
        "on 2 ranks",
    ):
        assert text in done.stdout
    assert not (tmp_path / "run").exists()


def test_a_launcher_of_another_mpi_is_refused(launch):
    pytest.importorskip("mpi4py")
    done = launch(*TRAIN, *QUICK, PMI_SIZE="4")
    assert done.returncode == 1 and "another MPI" in done.stderr and "4 processes" in done.stderr


def test_an_interrupted_continuation_leaves_no_old_model(here, tmp_path):
    assert here(*TRAIN, *QUICK).returncode == 0
    process = start(tmp_path, 0, *TRAIN[2:], *QUICK, "--resume", "auto", "--epochs", "100000", "--log-every", "1")
    wait_for_step(tmp_path / "run" / "metrics.jsonl", 100)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 75
    assert not {"model.safetensors", "results.json"} & set(os.listdir(tmp_path / "run"))
    done = here(*PREDICT, "run", "digits")
    assert done.returncode == 1 and "no model" in done.stderr


@pytest.mark.parametrize("ranks", [None, 2])
def test_a_profile_says_where_the_time_goes(launch, here, tmp_path, ranks):
    command = (*TRAIN, *QUICK[:-1], "run", "--profile")
    done = launch(*command, ranks=ranks) if ranks else here(*command)
    assert done.returncode == 0, done.stderr
    names = "gather forward loss backward wait norm optimizer log".split()
    for name in names:
        assert re.search(rf"^{name} +[0-9.]+ +[0-9.]+ +[0-9.]+ +[0-9.]+%$", done.stdout, re.M), done.stdout
    events = json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["name"] for event in spans} == {*names, "other"}
    assert {event["tid"] for event in spans} == set(range(ranks or 1))
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in spans)
    # one of these in each of the steps
    steps = int(re.search(r"(\d+) steps in", done.stdout)[1])
    assert sum(event["name"] == "forward" and event["tid"] == 0 for event in spans) >= steps


def test_what_the_reduction_is_is_said(launch, here):
    done = launch(*TRAIN, *QUICK, "--reduction", "overlap", "--compress", "bf16", ranks=2)
    assert "each step a sum over 2 ranks of 0.00 MiB as bf16 in buckets of 0.12 MiB" in done.stdout, done.stdout
    low = ("--hidden", "64", "--run-dir", "low", "--reduction", "overlap", "--compress", "low-rank")
    done = launch(*TRAIN, *QUICK, *low, "--compress-rank", "3", ranks=2)
    assert "each step a sum over 2 ranks of 0.00 MiB as matrices of rank 3" in done.stdout, done.stdout
    done = here(*TRAIN, *QUICK, "--compress", "bf16", "--dtype", "float64")
    assert done.returncode == 2 and "--compress bf16 needs --dtype float32" in done.stderr


@pytest.mark.parametrize("recipe", ["plain", "image", "table"])
def test_exact_mode_gives_one_model_file(launch, here, tmp_path, recipe):
    """Also in two pieces, on different numbers of ranks; the metrics are equal but for times."""
    options = "--hidden 48,24 --exact --leaves 5 --dropout 0.1 --clip-norm 1 --log-every 3 --checkpoint-every 0".split()
    options += ["--recipe", recipe]
    if recipe == "table":
        rng = np.random.default_rng(0)
        x = rng.random((700, 3))
        rows = (f"{a:.4f},{'' if b < 0.1 else f'{b:.4f}'},{'pqrs'[int(4 * c)]},{a > b}" for a, b, c in x)
        (tmp_path / "t.csv").write_text("\n".join(["a,b,c,y", *rows]))
        options += ["--data", "t.csv"]
    runs = {"alone": [(1, 30)], "three": [(3, 30)], "pieces": [(4, 11), (2, 30)]}
    if recipe != "plain":  # another number of steps is another cosine
        runs = {"alone": [(1, 30)], "two": [(2, 30)], "four": [(4, 30)]}
    found = []
    for name, parts in runs.items():
        for ranks, steps in parts:
            command = (*TRAIN, *options, "--steps", str(steps), "--run-dir", name, "--resume", "auto")
            done = launch(*command, ranks=ranks) if ranks > 1 else here(*command)
            assert done.returncode == 0, done.stderr
            assert ranks == 1 or "exact over 5 leaves" in done.stdout
        records = [{k: v for k, v in r.items() if "second" not in k} for r in lines(tmp_path / name)]
        records = [r for r in records if r["step"] % 3 == 0]  # but for that of the end of the first piece
        found.append(((tmp_path / name / "model.safetensors").read_bytes(), records))
    assert all(one == found[0] for one in found)


def test_the_command_distbp(launch):
    done = launch("-m", "distbp", "--version")
    assert done.returncode == 0 and done.stdout.startswith("distbp ")


def test_a_rank_that_ends_before_mpi_starts_ends_all(tmp_path):
    """A failed import, or Ctrl-C in the first second: MPICH's launcher does not mind, and the others would wait."""
    half = tmp_path / "half.sh"
    half.write_text(
        '#!/bin/sh\n[ "$PMI_RANK$OMPI_COMM_WORLD_RANK" = 1 ] && exit 1\n'
        f"exec {sys.executable} -m distbp.train --steps 3 --run-dir run\n"
    )
    half.chmod(0o755)
    began = time.monotonic()
    done = subprocess.run(
        [*mpirun(3), half], cwd=tmp_path, env=clean_environment(), timeout=60, capture_output=True, text=True
    )
    assert done.returncode != 0 and time.monotonic() - began < 20
    assert not (tmp_path / "run" / "results.json").exists()
