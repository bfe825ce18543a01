"""The front doors as a user meets them: commands, exit codes, one clear line for bad input.

In this process; tests/launch/test_launched_training.py has what needs processes and ranks.
"""

import gzip
import json
import os

import numpy as np
import pytest
from front_doors import PREDICT, QUICK, TRAIN, lines, our_lines


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


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(a) for a, _, _ in BAD])
def test_bad_input_gets_one_line_and_an_exit_code(here, arguments, code, message):
    done = here(*TRAIN, *(QUICK if "--run-dir" not in arguments else ()), *arguments)
    ours = our_lines(done.stderr)
    assert done.returncode == code
    assert len(ours) == 1 and message in ours[0], done.stderr
    assert "Traceback" not in done.stderr


def test_regression_of_a_table_and_prediction_without_a_target(here, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2))
    colour = rng.choice(["red", "blue"], 400)
    y = X[:, 0] - 2 * X[:, 1] + (colour == "red")
    table = [f"{a},{c},{b},{t}" for (a, b), c, t in zip(X, colour, y, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["a,colour,b,y", *table]))
    (tmp_path / "new.csv").write_text("b,a,colour\n0,0,red\n0,0,blue\n1,0,green\n")
    done = here(*TRAIN, "--data", "t.csv", "--hidden", "none", "--optimizer", "sgd", "--epochs", "40", "--run-dir", "r")
    assert done.returncode == 0, done.stderr
    assert "regression of 'y'" in done.stdout
    assert json.loads((tmp_path / "r" / "results.json").read_text())["rmse/test"] < 1e-3
    done = here(*PREDICT, "r", "new.csv")
    header, red, blue, _ = done.stdout.split()
    assert header == "y"
    np.testing.assert_allclose([float(red), float(blue)], [1.0, 0.0], atol=1e-2)
    assert here(*PREDICT, "r", "t.csv", "--out", "p.npy").returncode == 0
    np.testing.assert_allclose(np.load(tmp_path / "p.npy")[:, 0], y, atol=1e-2)


def test_a_run_directory_is_neither_overwritten_nor_mixed(here, tmp_path):
    assert here(*TRAIN, *QUICK).returncode == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    again = here(*TRAIN, *QUICK)
    assert again.returncode == 1 and "continue it with --resume auto" in again.stderr
    other = here(*TRAIN, *QUICK, "--resume", "auto", "--activation", "tanh")
    assert other.returncode == 1 and "activation was 'relu' and is 'tanh'" in other.stderr
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    done = here(*TRAIN, *QUICK, "--resume", "auto", "--epochs", "3")
    assert done.returncode == 0 and [r["step"] for r in lines(tmp_path / "run")] == [40, 80, 120]


def test_a_new_length_takes_the_place_of_the_old_one(here, tmp_path):
    assert here(*TRAIN, "--recipe", "plain", "--hidden", "8", "--steps", "10", "--run-dir", "run").returncode == 0
    done = here(*TRAIN, "--run-dir", "run", "--resume", "auto", "--epochs", "2")
    assert done.returncode == 0, done.stderr
    assert lines(tmp_path / "run")[-1]["step"] == 80


def test_a_stored_configuration_continues_its_own_run(here, tmp_path):
    for _ in range(2):
        assert here(*TRAIN, "--recipe", "plain", "--hidden", "8", "--epochs", "1").returncode == 0
    stored = tmp_path / "runs" / "digits-1" / "config.toml"
    text = stored.read_text()
    assert "batch-size = 32\n" in text
    stored.write_text(text.replace("batch-size = 32\n", 'batch-size = "32"\n'))  # as earlier versions wrote it
    done = here(*TRAIN, "--config", "runs/digits-1/config.toml", "--resume", "auto", "--epochs", "2")
    assert "resumed from runs/digits-1" in done.stdout, done.stderr


def test_default_run_directories_count_up_and_resume_takes_the_newest(here, tmp_path):
    for _ in range(2):
        assert here(*TRAIN, "--hidden", "8", "--epochs", "1").returncode == 0
    assert sorted(os.listdir(tmp_path / "runs")) == ["digits-1", "digits-2"]
    done = here(*TRAIN, "--hidden", "8", "--epochs", "2", "--resume", "auto")
    assert "resumed from runs/digits-2" in done.stdout


def test_early_stopping_restores_the_best_and_a_target_ends_the_run(here, tmp_path):
    arguments = ("--recipe", "plain", "--optimizer", "adam", "--lr", "0.05", "--epochs", "200", "--early-stopping", "3")
    assert here(*TRAIN, *arguments, "--run-dir", "early").returncode == 0
    results = json.loads((tmp_path / "early" / "results.json").read_text())
    losses = [r["loss/val"] for r in lines(tmp_path / "early")]
    assert results["outcome"] == "early"
    assert results["loss/val"] == results["best loss/val"] == min(losses) != losses[-1]
    best = tmp_path / "early" / "checkpoints" / f"step-{results['best step']:09d}.safetensors"
    assert best.exists()
    again = here(*TRAIN, *arguments, "--run-dir", "early", "--resume", "auto")
    assert again.returncode == 0
    assert json.loads((tmp_path / "early" / "results.json").read_text())["loss/val"] == min(losses)
    assert here(*TRAIN, "--target-metric", "accuracy/val>=0.8", "--run-dir", "target").returncode == 0
    results = json.loads((tmp_path / "target" / "results.json").read_text())
    assert results["outcome"] == "target" and results["accuracy/val"] >= 0.8


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"], ["--version"]])
def test_the_command_distbp(here, arguments):
    done = here("-m", "distbp", *arguments)
    assert done.returncode == 0 and "distbp" in done.stdout


def test_an_unknown_command(here):
    done = here("-m", "distbp", "trian")
    assert done.returncode == 2 and done.stderr == "distbp: no command 'trian'; did you mean train?\n"


def test_a_target_changed_on_resume_counts(here, tmp_path):
    command = (*TRAIN, *QUICK, "--epochs", "6", "--resume", "auto", "--target-metric")
    assert "reached at step" in here(*command, "accuracy/val>=0.5").stdout
    done = here(*command, "accuracy/val>=0.9999")
    assert done.returncode == 0 and "not reached at step 240" in done.stdout
    assert here(*command, "accuracy/val>=0.9999").returncode == 0


def test_a_failed_start_is_not_resumed(here, tmp_path):
    assert here(*TRAIN, "--hidden", "8", "--epochs", "1").returncode == 0
    assert here(*TRAIN, "--hidden", "8", "--batch-size", "9999").returncode == 1
    assert os.listdir(tmp_path / "runs") == ["digits-1"]
    (tmp_path / "runs" / "digits-2").mkdir()
    done = here(*TRAIN, "--hidden", "8", "--epochs", "2", "--resume", "auto")
    assert "resumed from runs/digits-1" in done.stdout


def test_options_that_do_nothing_are_said(here, tmp_path):
    done = here(
        *TRAIN, *QUICK, "--momentum", "0.5", "--bucket-mb", "7", "--monitor", "accuracy/val", "--no-scale-target"
    )
    assert done.returncode == 0
    for option in ("--momentum does nothing with --optimizer adam", "--bucket-mb", "--monitor", "--scale-target"):
        assert f"warning: {option}" in done.stdout


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
