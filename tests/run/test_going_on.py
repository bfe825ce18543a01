"""Going on from a model: its weights on new rows, with other options, and with classes that it had not."""

import json

import numpy as np
import pytest
from front_doors import TRAIN, lines

from distbp import Model

SHORT = ("--recipe", "plain", "--hidden", "8", "--epochs", "3")


def table(path, classes, columns=("a", "b", "c"), n=200, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        k = i % len(classes)
        x = rng.normal(size=2) * 0.4 + [np.cos(2.1 * k), np.sin(2.1 * k)] + shift
        cells = {"a": f"{x[0]:.4f}", "b": f"{x[1]:.4f}", "c": "uvw"[i % 3], "d": f"{rng.normal():.3f}"}
        rows.append(",".join([*(cells[name] for name in columns), classes[k]]))
    path.write_text(",".join([*columns, "y"]) + "\n" + "\n".join(rows) + "\n")


@pytest.fixture
def first(here, tmp_path):
    table(tmp_path / "old.csv", ["p", "q"])
    done = here(*TRAIN, *SHORT, "--data", "old.csv", "--epochs", "20", "--run-dir", "first")
    assert done.returncode == 0, done.stderr
    return Model.load(tmp_path / "first")


GO_ON = (*TRAIN, "--recipe", "plain", "--init-from", "first", "--run-dir", "second")


def test_it_begins_where_the_model_ended(here, tmp_path, first):
    done = here(*GO_ON, "--data", "old.csv", "--epochs", "0", "--target", "y")
    assert done.returncode == 0, done.stderr
    second = Model.load(tmp_path / "second")
    assert all(np.array_equal(a, second.network.tensors()[name]) for name, a in first.network.tensors().items())
    assert second.network.sizes == first.network.sizes
    assert 'hidden = "8"' in (tmp_path / "second/config.toml").read_text()


def test_rows_mean_what_they_meant_whatever_the_new_ones_are_like(here, tmp_path, first):
    table(tmp_path / "new.csv", ["q", "p"], ("d", "c", "b", "a"), seed=1, shift=3.0)
    done = here(*GO_ON, "--data", "new.csv", "--epochs", "0")
    assert done.returncode == 0, done.stderr
    second = Model.load(tmp_path / "second")
    assert second.preprocessor.as_dict() == first.preprocessor.as_dict() and second.target == first.target
    X = np.array([[0.3, -0.2, 1.0], [3.1, 2.9, 2.0]])
    assert np.array_equal(second.predict_outputs(X), first.predict_outputs(X))


def test_classes_may_be_added(here, tmp_path, first):
    table(tmp_path / "new.csv", ["q", "a new one", "p"], seed=1)
    done = here(*GO_ON, "--data", "new.csv", "--epochs", "0")
    assert done.returncode == 0, done.stderr
    second, X = Model.load(tmp_path / "second"), np.array([[0.3, -0.2, 1.0], [1.0, 0.0, 2.0]])
    assert second.target.classes == ("p", "q", "a new one")
    p, before = second.predict_outputs(X), first.predict_outputs(X)
    np.testing.assert_allclose(p[:, :2] / p[:, :2].sum(axis=1, keepdims=True), before, rtol=1e-5)
    done = here(*GO_ON, "--data", "new.csv", "--epochs", "40", "--run-dir", "third")
    assert json.loads((tmp_path / "third/results.json").read_text())["accuracy/test"] > 0.75  # 2/3 without it


def test_it_learns_on_with_another_rate_and_schedule_and_can_be_resumed(here, tmp_path, first):
    table(tmp_path / "new.csv", ["p", "q"], seed=1)
    more = ("--data", "new.csv", "--lr", "0.0005", "--schedule", "cosine", "--optimizer", "momentum")
    assert here(*GO_ON, *more, "--epochs", "2").returncode == 0
    before = lines(tmp_path / "second")[0]["loss/train"]
    assert here(*TRAIN, *SHORT, "--data", "new.csv", "--epochs", "2", "--run-dir", "cold").returncode == 0
    assert before < 0.75 * lines(tmp_path / "cold")[0]["loss/train"]
    done = here(*GO_ON, *more, "--epochs", "4", "--resume", "auto")
    assert done.returncode == 0 and "resumed from" in done.stdout
    done = here(*GO_ON, *more, "--epochs", "4", "--resume", "auto", "--lr", "0.1")
    assert done.returncode == 1 and "lr was 0.0005 and is 0.1" in done.stderr and "--init-from" in done.stderr


def test_a_regression_keeps_its_unit(here, tmp_path):
    rng = np.random.default_rng(0)
    for name, scale in (("old", 100.0), ("new", 300.0)):
        x = rng.normal(size=150)
        rows = "\n".join(f"{v:.4f},{rng.normal():.3f},{scale * v + 7:.4f}" for v in x)
        (tmp_path / f"{name}.csv").write_text(f"a,b,y\n{rows}\n")
    assert here(*TRAIN, *SHORT, "--data", "old.csv", "--run-dir", "first").returncode == 0
    assert here(*GO_ON, "--data", "new.csv", "--epochs", "0").returncode == 0
    one, two = (Model.load(tmp_path / name) for name in ("first", "second"))
    assert np.array_equal(one.predict_outputs([[0.1, 0.2]]), two.predict_outputs([[0.1, 0.2]]))


@pytest.mark.parametrize(("what", "says"), [
    (("--init-from", "nothing"), "no model nothing"), (("--ensemble", "2"), "--ensemble do not go together"),
    (("--data", "other.csv"), "without c here"), (("--data", "values.csv"), "its target is a classification"),
    (("--init-from", "several"), "one of its members"),
])  # fmt: skip
def test_what_a_model_cannot_go_on_with_is_one_line(here, tmp_path, first, what, says):
    table(tmp_path / "other.csv", ["p", "q"], ("a", "b"))
    (tmp_path / "values.csv").write_text("a,b,c,y\n" + "\n".join(f"{i},{i % 7},u,{i * 0.37:.3f}" for i in range(99)))
    assert here(*TRAIN, *SHORT, "--data", "old.csv", "--ensemble", "2", "--run-dir", "several").returncode == 0
    done = here(*GO_ON, "--data", "old.csv", *what)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1 and says in done.stderr, done.stderr


def test_a_schedule_that_ends_at_another_time_is_told_of(here, tmp_path):
    run = (*TRAIN, *SHORT, "--schedule", "cosine", "--run-dir", "run", "--resume", "auto")
    assert here(*run).returncode == 0
    assert "the rate jumps" not in here(*run).stdout
    done = here(*run, "--epochs", "5")
    assert done.returncode == 0 and "was to end after 3 epochs and ends after 5 epochs now" in done.stdout
    assert "the rate jumps" not in here(*run, "--epochs", "5").stdout
