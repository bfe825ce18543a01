"""Cross-validation from the command line: each training row is judged by a member that had not seen it."""

import csv
import json

import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import Model
from distbp.data.splitting import left_out

SHORT = ("--recipe", "plain", "--hidden", "8", "--epochs", "2", "--run-dir", "run", "--exact", "--leaves", "2")
FOLDS = (*TRAIN, *SHORT, "--folds", "3")


def table(tmp_path, n=150, bad=()):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3))
    y = x @ [2.0, -1.0, 0.5] + 0.1 * rng.normal(size=n)
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{v:.4f}" for (a, b, c), v in zip(x, y, strict=True)]
    for i in bad:
        lines[i] += ",1"
    (tmp_path / "t.csv").write_text("a,b,c,y\n" + "\n".join(lines) + "\n")
    return x, y


def rows_of(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("labels", [np.zeros(103, int), np.repeat([0, 1, 2], [80, 20, 3])])
def test_folds_hold_every_row_once_and_their_share_of_every_class(labels):
    folds = left_out(labels, 4, 0.25, seed=1)
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(len(labels)))
    counts = np.array([np.bincount(labels[rows], minlength=3) for rows in folds])
    assert (np.ptp(counts, axis=0) <= 1).all() and np.ptp(counts.sum(axis=1)) <= 1
    assert any(not np.array_equal(a, b) for a, b in zip(folds, left_out(labels, 4, 0.25, seed=2), strict=True))


def test_parts_on_the_circle_meet_no_row_twice_before_all_were_met_once():
    labels = np.repeat([0, 1], [70, 33])
    parts = left_out(labels, 8, 0.2, seed=1)
    assert len(np.unique(np.concatenate(parts[:5]))) == 103 and {len(rows) for rows in parts} == {20, 21}
    assert all(6 <= labels[rows].sum() <= 8 for rows in parts)
    seen = np.bincount(np.concatenate(parts), minlength=103)
    assert set(seen.tolist()) == {1, 2}


def test_no_row_is_lost_and_each_is_predicted_by_the_member_that_left_it_out(here, tmp_path):
    x, y = table(tmp_path, bad=(3, 70))
    more = ("--data", "t.csv", "--target", "y", "--test-fraction", "0", "--bad-rows", "skip", "--calibrate")
    done = here(*FOLDS, *more)
    assert done.returncode == 0, done.stderr
    assert (
        "3 folds, each judged by 50 rows that it leaves out, trained one after another" in done.stdout
        and "fold 3 of 3: " in done.stdout
    )
    assert "out of fold: " in done.stdout and "a fold alone: rmse" in done.stdout and "±" in done.stdout
    rows = rows_of(tmp_path / "run/out-of-fold.csv")
    assert [int(row["row"]) for row in rows] == [i + 1 for i in range(150) if i not in (3, 70)]
    members = [Model.load(tmp_path / "run/members" / str(k)) for k in range(3)]
    for row in rows[::7]:
        i = int(row["row"]) - 1
        assert float(row["true y"]) == pytest.approx(y[i], abs=1e-4)
        own = members[int(row["fold"]) - 1].predict_outputs(np.round(x[[i]], 4))[0, 0]
        assert float(row["y"]) == pytest.approx(own, rel=1e-5, abs=1e-5)
    results = json.loads((tmp_path / "run/results.json").read_text())
    error = np.array([float(row["y"]) - float(row["true y"]) for row in rows])
    assert results["rmse/val"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    of_folds = [json.loads((tmp_path / f"run/members/{k}/results.json").read_text())["rmse/val"] for k in range(3)]
    assert results["a fold alone"]["rmse/val"] == pytest.approx([np.mean(of_folds), np.std(of_folds)])
    model = Model.load(tmp_path / "run")
    assert len(model.errors[0]) == 148 and max(model.errors[0]) == pytest.approx(np.abs(error).max(), rel=1e-3)
    mean = np.mean([member.predict_outputs(x[:5]) for member in members], axis=0)
    np.testing.assert_allclose(model.predict_outputs(x[:5]), mean, rtol=1e-5)
    assert here(*PREDICT, "run", "t.csv", "--interval", "0.9", "--bad-rows", "skip").returncode == 0


def test_probabilities_of_folds_are_calibrated_on_what_was_left_out(here, tmp_path):
    results = []
    for more in ((), ("--calibrate",)):
        done = here(*FOLDS, *more, "--label-smoothing", "0.2", "--run-dir", f"run{len(more)}")
        assert done.returncode == 0, done.stderr
        results.append(json.loads((tmp_path / f"run{len(more)}" / "results.json").read_text()))
    assert results[1]["log_loss/val"] < results[0]["log_loss/val"]
    rows = rows_of(tmp_path / "run1/out-of-fold.csv")
    assert len(rows) == 1438 and all(0.999 < sum(float(row[f"p({c})"]) for c in range(10)) < 1.001 for row in rows)
    right = np.mean([row["digit"] == row["true digit"] for row in rows])
    assert right == pytest.approx(results[1]["accuracy/val"])


def test_members_of_an_ensemble_leave_out_rows_of_their_own(here, tmp_path):
    x, y = table(tmp_path)
    more = ("--data", "t.csv", "--target", "y", "--test-fraction", "0", "--ensemble", "3", "--calibrate")
    done = here(*FOLDS[:-2], *more)
    assert done.returncode == 0, done.stderr
    assert (
        "an ensemble of 3, each judged by 15 rows that it leaves out" in done.stdout and "out of fold: " in done.stdout
    )
    rows = rows_of(tmp_path / "run/out-of-fold.csv")
    assert len(rows) == 45 and [row["member"] for row in rows].count("2") == 15
    members = [Model.load(tmp_path / "run/members" / str(k)) for k in range(3)]
    for row in rows[::5]:
        i = int(row["row"]) - 1
        own = members[int(row["member"]) - 1].predict_outputs(np.round(x[[i]], 4))[0, 0]
        assert float(row["y"]) == pytest.approx(own, rel=1e-5, abs=1e-5)
        assert float(row["true y"]) == pytest.approx(y[i], abs=1e-4)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["rows out of fold"] == 45 and len(Model.load(tmp_path / "run").errors[0]) == 45
    steps = [
        json.loads(line)["examples"] for line in (tmp_path / "run/members/1/metrics.jsonl").read_text().splitlines()
    ]
    assert steps[-1] == 2 * 135


def test_members_share_validation_rows_that_the_data_have(here, tmp_path):
    table(tmp_path)
    more = ("--data", "t.csv", "--target", "y", "--validation-data", "t.csv")
    assert here(*FOLDS[:-2], *more, "--run-dir", "alone").returncode == 0
    done = here(*FOLDS[:-2], *more, "--ensemble", "2")
    assert done.returncode == 0 and "out of fold" not in done.stdout, done.stderr
    one, other = (tmp_path / path / "model.safetensors" for path in ("alone", "run/members/0"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("fraction", ["0.001", "0.999"])
def test_a_share_that_leaves_no_rows_is_refused(here, tmp_path, fraction):
    table(tmp_path, 20)
    more = ("--data", "t.csv", "--target", "y", "--test-fraction", "0", "--validation-fraction", fraction)
    done = here(*FOLDS[:-2], *more, "--ensemble", "2")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "of 20 rows leaves none" in done.stderr


@pytest.mark.parametrize("what", ["--ensemble 3", "--validation-data t.csv", "--folds 1", "--folds 9999"])
def test_folds_that_do_not_go_are_refused(here, tmp_path, what):
    table(tmp_path)
    done = here(*FOLDS, "--data", "t.csv", "--target", "y", *what.split())
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1 and "--folds" in done.stderr


@pytest.mark.parametrize("n", [7, 40])
def test_few_rows_are_dealt_too(here, tmp_path, n):
    table(tmp_path, n)
    done = here(*TRAIN, "--data", "t.csv", "--target", "y", "--folds", "5", "--epochs", "2", "--report", "none",
                "--run-dir", "run", "--test-fraction", "0")  # fmt: skip
    assert done.returncode == 0 and len(rows_of(tmp_path / "run/out-of-fold.csv")) == n, done.stderr
    done = here(*PREDICT, "run", "t.csv")
    assert len(done.stdout.splitlines()) == n + 1


def test_networks_that_left_rows_out_may_be_worse_than_their_mean(here, tmp_path):
    done = here(*FOLDS, "--class-weight", "balanced", "--epochs", "1", "--hidden", "2", "--lr", "0.0003")
    assert done.returncode == 0 and "by more than chance" not in done.stdout
