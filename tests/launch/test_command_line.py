"""The front doors as a user meets them: commands, exit codes, one clear line for bad input."""

import gzip
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

TRAIN = ("-m", "distbp.train")
QUICK = ("--hidden", "16", "--epochs", "2", "--run-dir", "run")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def files(tmp_path):
    """Good and bad input in the working folder."""
    rows = "1,2,0\n" * 20 + "3,4,1\n" * 20
    (tmp_path / "good.csv").write_text("a,b,y\n" + rows)
    (tmp_path / "ragged.csv").write_text("a,b,y\n" + rows + "5,6\n" + rows)
    (tmp_path / "text.csv").write_text("a,b,y\n" + rows + "5,oops,1\n" + rows)
    (tmp_path / "hole.csv").write_text("a,b,y\n" + "1,2,0.5\n3,4,1.5\n" * 20 + "5,6,nan\n")
    (tmp_path / "one.csv").write_text("a,b,y\n" + "1,2,cat\n" * 20)
    idx = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (30, 2, 2)) + bytes(120)
    labels = bytes([0, 0, 8, 1]) + (30).to_bytes(4, "big") + bytes(i % 3 for i in range(30))
    for name in ("short", "cut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-labels-idx1-ubyte").write_bytes(labels)
    (tmp_path / "short" / "train-images-idx3-ubyte").write_bytes(idx[:-7])
    (tmp_path / "cut" / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx)[:-9])
    (tmp_path / "cut" / "train-labels-idx1-ubyte").rename(tmp_path / "cut" / "train-labels-idx1-ubyte.gz")
    np.savez(tmp_path / "whole.npz", X=np.ones((50, 3)), y=np.arange(50) % 2)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:700])
    (tmp_path / "bad.toml").write_text("hiden = 3\n")
    (tmp_path / "grows.toml").write_text("batch-size = 'auto'\n")
    return tmp_path


BAD = [
    (["--hiden", "3"], 2, "did you mean --hidden?"),
    (["--config", "bad.toml"], 2, "unknown key 'hiden'"),
    (["--data", "nosuch.csv"], 1, "no such data: nosuch.csv"),
    (["--data", "short"], 1, "truncated or damaged: 113 bytes of data, 120 expected"),
    (["--data", "cut"], 1, "damaged or truncated"),
    (["--data", "cut.npz"], 1, "not a whole .npz file"),
    (["--data", "ragged.csv"], 1, "line 42: 2 fields where the header has 3: '5,6'"),
    (["--data", "text.csv"], 1, "line 42: column 'b' is numeric: '5,oops,1'"),
    (["--data", "hole.csv"], 1, "line 42: the target 'y' is missing: '5,6,nan'"),
    (["--data", "good.csv", "--target", "z"], 1, "no column 'z'; it has a, b, y"),
    (["--data", "one.csv"], 1, "one class only (cat)"),
    (["--batch-size", "0"], 2, "--batch-size 0: at least 1 row"),
    (["--batch-size", "9999"], 1, "above the 1258 training rows"),
    (["--batch-size", "32-4096"], 2, "--batch-size: a batch has one size now: a number of rows, not '32-4096'"),
    (["--config", "grows.toml"], 2, "grows.toml: batch-size: a batch has one size now: a number of rows, not 'auto'"),
    (["--schedule", "adascale"], 2, "--schedule: invalid choice: 'adascale'"),
    (["--lr-scaling", "adascale"], 2, "--lr-scaling: invalid choice: 'adascale'"),
    (["--validation-fraction", "0.9", "--test-fraction", "0.5"], 2, "no row is left"),
    (["--loss", "squared-eror"], 2, "invalid choice"),
    (["--data", "hole.csv", "--loss", "softmax-cross-entropy", "--bad-rows", "skip"], 1, "does not suit"),
    (["--lr", "1e30", "--optimizer", "sgd"], 1, "is not finite"),
    (["--target-metric", "accuracy"], 2, "write e.g."),
    (["--target-metric", "acuracy/val>=0.5"], 2, "which this run never has: it has loss/val, accuracy/val"),
    (["--early-stopping", "3", "--validation-fraction", "0"], 2, "early stopping watches 'loss/val'"),
    (["--sample-weight", "w"], 1, "--sample-weight means nothing for digits"),
    (["--run-dir", "one.csv"], 1, "is a file"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
@pytest.mark.parametrize("ranks", [0, 3])
def test_bad_input_gets_one_line_and_an_exit_code(launch, files, ranks, arguments, code, message):
    done = launch(*TRAIN, *(QUICK if "--run-dir" not in arguments else ()), *arguments, ranks=ranks, timeout=10)
    ours = [line for line in done.stderr.splitlines() if line.startswith("distbp:")]
    assert done.returncode == code
    assert len(ours) == 1 and message in ours[0], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ranks", [0, 2, 4])
def test_train_then_predict(launch, tmp_path, ranks):
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

    done = launch("-m", "distbp.predict", "run", "digits", "--out", "out.csv", ranks=ranks)
    assert done.returncode == 0 and "accuracy 0." in done.stderr
    table = (tmp_path / "out.csv").read_text().splitlines()
    assert len(table) == 1798 and table[0].startswith("digit,p(0),p(1)")


def test_the_same_model_on_any_number_of_ranks(launch, tmp_path):
    from distbp import Model

    for ranks in (0, 2, 3):
        done = launch(*TRAIN, *QUICK[:-1], f"run{ranks}", "--dtype", "float64", ranks=ranks)
        assert done.returncode == 0, done.stderr
    first, *others = (Model.load(tmp_path / f"run{r}" / "model.safetensors").network.theta for r in (0, 2, 3))
    for theta in others:
        np.testing.assert_allclose(theta, first, rtol=1e-10, atol=1e-12)


def test_regression_of_a_table_and_prediction_without_a_target(launch, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2))
    colour = rng.choice(["red", "blue"], 400)
    y = X[:, 0] - 2 * X[:, 1] + (colour == "red")
    table = [f"{a},{c},{b},{t}" for (a, b), c, t in zip(X, colour, y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,colour,b,y", *table]))
    (tmp_path / "new.csv").write_text("b,a,colour\n0,0,red\n0,0,blue\n1,0,green\n")
    done = launch(
        *TRAIN, "--data", "t.csv", "--hidden", "none", "--optimizer", "sgd", "--epochs", "40", "--run-dir", "r"
    )
    assert done.returncode == 0, done.stderr
    assert "regression of 'y'" in done.stdout
    assert json.loads((tmp_path / "r" / "results.json").read_text())["rmse/test"] < 1e-3
    done = launch("-m", "distbp.predict", "r", "new.csv")
    header, red, blue, _ = done.stdout.split()
    assert header == "y"
    np.testing.assert_allclose([float(red), float(blue)], [1.0, 0.0], atol=1e-2)
    assert launch("-m", "distbp.predict", "r", "t.csv", "--out", "p.npy").returncode == 0
    np.testing.assert_allclose(np.load(tmp_path / "p.npy")[:, 0], y, atol=1e-2)


def test_a_run_directory_is_neither_overwritten_nor_mixed(launch, tmp_path):
    assert launch(*TRAIN, *QUICK).returncode == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    again = launch(*TRAIN, *QUICK)
    assert again.returncode == 1 and "continue it with --resume auto" in again.stderr
    other = launch(*TRAIN, *QUICK, "--resume", "auto", "--activation", "tanh")
    assert other.returncode == 1 and "activation was 'relu' and is 'tanh'" in other.stderr
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    done = launch(*TRAIN, *QUICK, "--resume", "auto", "--epochs", "3")
    assert done.returncode == 0 and [r["step"] for r in lines(tmp_path / "run")] == [40, 80, 120]


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(launch, tmp_path):
    assert launch(*TRAIN, *QUICK).returncode == 0
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
    done = launch(*TRAIN, *QUICK, "--resume", "auto", ranks=2)
    assert done.returncode == 1 and "every checkpoint is damaged" in done.stderr


def test_a_full_disk_ends_all_ranks_and_keeps_the_checkpoint_before(launch, tmp_path):
    if os.geteuid():
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", small], check=True)
    try:
        done = launch(*TRAIN, "--epochs", "3", "--run-dir", "small/run", ranks=3, timeout=10)
        left = os.listdir(small / "run" / "checkpoints")
    finally:
        subprocess.run(["umount", small], check=True)
    assert done.returncode == 1
    assert "cannot write the checkpoint of step 80" in done.stderr and "No space left" in done.stderr
    assert left == ["step-000000040.safetensors"]


ONE_RANK_FAILS = """
import sys
from distbp import SGD, Network, Observer, SoftmaxCrossEntropy, Trainer, communicator, load
from distbp.run.entry_point import run

def main(comm):
    data = load("digits", comm=comm)
    def fail(trainer):
        if comm.rank == comm.size - 1 and trainer.position.step == 5:
            raise ZeroDivisionError("no such luck")
    trainer = Trainer(
        Network([64, 10]), SoftmaxCrossEntropy(), SGD(), data.train, comm=comm, observer=Observer(on_step=fail)
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


SLOW = ("--hidden", "16", "--steps", "5000", "--batch-size", "37", "--dtype", "float64", "--log-every", "1",
        "--dropout", "0.2", "--eval-every", "0", "--checkpoint-every", "0")  # fmt: skip


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


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_to_one_rank_stops_all_and_another_number_resumes(launch, tmp_path, name):
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
    whole = launch(*TRAIN, *SLOW, "--steps", steps, "--run-dir", "whole")
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


def test_a_stored_configuration_continues_its_own_run(launch, tmp_path):
    assert launch(*TRAIN, "--hidden", "8", "--epochs", "1").returncode == 0
    assert launch(*TRAIN, "--hidden", "8", "--epochs", "1").returncode == 0
    stored = tmp_path / "runs" / "digits-1" / "config.toml"
    text = stored.read_text()
    assert "batch-size = 32\n" in text
    stored.write_text(text.replace("batch-size = 32\n", 'batch-size = "32"\n'))  # as earlier versions wrote it
    done = launch(*TRAIN, "--config", "runs/digits-1/config.toml", "--resume", "auto", "--epochs", "2")
    assert "resumed from runs/digits-1" in done.stdout, done.stderr


def test_dry_run_prints_and_touches_nothing(launch, tmp_path):
    done = launch(*TRAIN, "--dry-run", "--run-dir", "run", ranks=2)
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


def test_default_run_directories_count_up_and_resume_takes_the_newest(launch, tmp_path):
    for _ in range(2):
        assert launch(*TRAIN, "--hidden", "8", "--epochs", "1").returncode == 0
    assert sorted(os.listdir(tmp_path / "runs")) == ["digits-1", "digits-2"]
    done = launch(*TRAIN, "--hidden", "8", "--epochs", "2", "--resume", "auto")
    assert "resumed from runs/digits-2" in done.stdout


def test_early_stopping_restores_the_best_and_a_target_ends_the_run(launch, tmp_path):
    arguments = ("--optimizer", "adam", "--lr", "0.05", "--epochs", "200", "--early-stopping", "3")
    assert launch(*TRAIN, *arguments, "--run-dir", "early").returncode == 0
    results = json.loads((tmp_path / "early" / "results.json").read_text())
    losses = [r["loss/val"] for r in lines(tmp_path / "early")]
    assert results["outcome"] == "early"
    assert results["loss/val"] == results["best loss/val"] == min(losses) != losses[-1]
    best = tmp_path / "early" / "checkpoints" / f"step-{results['best step']:09d}.safetensors"
    assert best.exists()
    again = launch(*TRAIN, *arguments, "--run-dir", "early", "--resume", "auto")
    assert again.returncode == 0
    assert json.loads((tmp_path / "early" / "results.json").read_text())["loss/val"] == min(losses)
    assert launch(*TRAIN, "--target-metric", "accuracy/val>=0.8", "--run-dir", "target").returncode == 0
    results = json.loads((tmp_path / "target" / "results.json").read_text())
    assert results["outcome"] == "target" and results["accuracy/val"] >= 0.8


def test_a_launcher_of_another_mpi_is_refused(launch):
    pytest.importorskip("mpi4py")
    done = launch(*TRAIN, *QUICK, PMI_SIZE="4")
    assert done.returncode == 1 and "another MPI" in done.stderr and "4 processes" in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"], ["--version"]])
def test_the_command_distbp(launch, arguments):
    done = launch("-m", "distbp", *arguments)
    assert done.returncode == 0 and "distbp" in done.stdout


def test_an_unknown_command(launch):
    done = launch("-m", "distbp", "trian")
    assert done.returncode == 2 and "usage: distbp COMMAND" in done.stderr


def test_a_target_changed_on_resume_counts(launch, tmp_path):
    command = (*TRAIN, "--epochs", "6", "--run-dir", "run", "--resume", "auto", "--target-metric")
    assert "reached at step" in launch(*command, "accuracy/val>=0.5").stdout
    done = launch(*command, "accuracy/val>=0.9999")
    assert done.returncode == 0 and "not reached at step 240" in done.stdout
    assert launch(*command, "accuracy/val>=0.9999").returncode == 0


def test_a_failed_start_is_not_resumed(launch, tmp_path):
    assert launch(*TRAIN, "--hidden", "8", "--epochs", "1").returncode == 0
    assert launch(*TRAIN, "--hidden", "8", "--batch-size", "9999").returncode == 1
    assert os.listdir(tmp_path / "runs") == ["digits-1"]
    (tmp_path / "runs" / "digits-2").mkdir()
    done = launch(*TRAIN, "--hidden", "8", "--epochs", "2", "--resume", "auto")
    assert "resumed from runs/digits-1" in done.stdout


def test_an_interrupted_continuation_leaves_no_old_model(launch, tmp_path):
    assert launch(*TRAIN, *QUICK).returncode == 0
    process = start(tmp_path, 0, *TRAIN[2:], *QUICK, "--resume", "auto", "--epochs", "100000", "--log-every", "1")
    wait_for_step(tmp_path / "run" / "metrics.jsonl", 100)
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 75
    assert not {"model.safetensors", "results.json"} & set(os.listdir(tmp_path / "run"))
    done = launch("-m", "distbp.predict", "run", "digits")
    assert done.returncode == 1 and "no model" in done.stderr


def test_options_that_do_nothing_are_said(launch, tmp_path):
    done = launch(
        *TRAIN, *QUICK, "--momentum", "0.5", "--bucket-mb", "7", "--monitor", "accuracy/val", "--no-scale-target"
    )
    assert done.returncode == 0
    for option in ("--momentum does nothing with --optimizer adam", "--bucket-mb", "--monitor", "--scale-target"):
        assert f"warning: {option}" in done.stdout


@pytest.mark.parametrize("ranks", [None, 2])
def test_a_profile_says_where_the_time_goes(launch, tmp_path, ranks):
    done = launch(*TRAIN, *QUICK[:-1], "run", "--profile", ranks=ranks)
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


def test_what_the_reduction_is_is_said(launch):
    done = launch(*TRAIN, *QUICK, "--reduction", "overlap", "--compress", "bf16", ranks=2)
    assert "each step a sum over 2 ranks of 0.00 MiB as bf16 in pieces of 0.25 MiB" in done.stdout, done.stdout
    done = launch(*TRAIN, *QUICK, "--compress", "bf16", "--dtype", "float64", ranks=2)
    assert done.returncode == 2 and "--compress bf16 needs --dtype float32" in done.stderr


def test_overlapped_reduction_gives_the_same_losses(launch, tmp_path):
    for name in ("allreduce", "overlap"):
        options = (*QUICK[:-1], name, "--dtype", "float64", "--reduction", name, "--bucket-mb", "0.001")
        assert launch(*TRAIN, *options, ranks=3).returncode == 0
    a, b = ([r["loss/train"] for r in lines(tmp_path / name)] for name in ("allreduce", "overlap"))
    np.testing.assert_allclose(a, b, rtol=1e-10)


def test_exact_mode_gives_one_model_file(launch, tmp_path):
    """Also in two pieces, on different numbers of ranks; the metrics are equal but for times."""
    options = "--hidden 48,24 --exact --leaves 5 --dropout 0.1 --clip-norm 1 --log-every 3 --checkpoint-every 0".split()
    runs = {"alone": [(1, 30)], "three": [(3, 30)], "pieces": [(4, 11), (2, 30)]}
    found = []
    for name, parts in runs.items():
        for ranks, steps in parts:
            more = ("--steps", str(steps), "--run-dir", name, "--resume", "auto")
            done = launch(*TRAIN, *options, *more, ranks=ranks if ranks > 1 else 0)
            assert done.returncode == 0, done.stderr
            assert ranks == 1 or "exact over 5 leaves" in done.stdout
        records = [{k: v for k, v in r.items() if "second" not in k} for r in lines(tmp_path / name)]
        records = [r for r in records if r["step"] % 3 == 0]  # but for that of the end of the first piece
        found.append(((tmp_path / name / "model.safetensors").read_bytes(), records))
    assert all(one == found[0] for one in found)


def test_exact_mode_does_not_compress(tmp_path, monkeypatch, capsys):
    from distbp import train

    monkeypatch.chdir(tmp_path)
    assert train.main([*QUICK, "--exact", "--compress", "bf16"]) == 2
    assert "--compress bf16: what it rounds depends on the ranks" in capsys.readouterr().err


def test_prediction_leaves_standard_output_open(tmp_path, capsys, monkeypatch):
    from distbp import predict, train

    monkeypatch.chdir(tmp_path)
    assert train.main([*QUICK, "--epochs", "1"]) == 0
    for out in ([], ["--out", "p.csv"], ["--out", "p.npy"]):
        assert predict.main(["run", "digits", *out]) == 0
    assert predict.main(["run", "digits", "--out", "p.txt"]) == 2
    print("still open")
    assert "still open" in capsys.readouterr().out
    assert len((tmp_path / "p.csv").read_text().splitlines()) == len(np.load(tmp_path / "p.npy")) + 1
