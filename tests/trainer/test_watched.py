"""What a run watches may be a metric of probabilities, or a function of the user's."""

import json

import numpy as np
import pytest
from front_doors import TRAIN, lines
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from distbp import Model, load

TWO = ("--data", "synthetic:blobs,rows=400,columns=3,classes=2,noise=2,seed=3")
SHORT = ("--recipe", "plain", "--hidden", "8", "--epochs", "6", "--run-dir", "run", "--keep-model", "best")
SCORES = {"auc": roc_auc_score, "average_precision": average_precision_score, "log_loss": log_loss,
          "brier": brier_score_loss}  # fmt: skip


@pytest.mark.parametrize("name", SCORES)
def test_it_is_what_scikit_learn_says_and_tells_which_model_is_best(here, tmp_path, name):
    done = here(*TRAIN, *SHORT, *TWO, "--monitor", f"{name}/val", "--lr", "0.03")
    assert done.returncode == 0, done.stderr
    seen = [record[f"{name}/val"] for record in lines(tmp_path / "run")]
    best = max(seen) if name in ("auc", "average_precision") else min(seen)
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results[f"best {name}/val"] == best
    data = load("synthetic:blobs,rows=400,columns=3,classes=2,noise=2,seed=3")
    X, y, _ = data.validation.take(np.arange(data.validation.n_rows))
    model = Model.load(tmp_path / "run")
    p = model.loss.link(model.network.predict(X))[:, 1]
    assert SCORES[name](y, p) == pytest.approx(best, rel=1e-4)


OWN = """
import numpy as np
def profit(y, p):
    assert p.shape == (len(y), 2) and np.allclose(p.sum(axis=1), 1.0)
    return 10.0 * ((p[:, 1] > 0.3) & (y == 1)).sum() - ((p[:, 1] > 0.3) & (y == 0)).sum()
def off(y, p):
    return np.abs(y - p).max()
off.lower_is_better = True
def broken(y, p):
    return 1 / 0
def nan(y, p):
    return np.nan
"""


def test_a_function_of_the_users_is_watched(here, tmp_path):
    (tmp_path / "mine_watched.py").write_text(OWN)
    rng = np.random.default_rng(0)
    rows = "\n".join(f"{a:.4f},{b:.4f},{100 * a + b:.4f}" for a, b in rng.normal(size=(200, 2)))
    (tmp_path / "t.csv").write_text(f"a,b,y\n{rows}\n")
    for function, more, best in (("profit", TWO, max), ("off", ("--data", "t.csv"), min)):
        name = f"mine_watched:{function}"
        done = here(*TRAIN, *SHORT, *more, "--monitor", name, "--early-stopping", "3", "--run-dir", function)
        assert done.returncode == 0, done.stderr
        seen = [record[f"{name}/val"] for record in lines(tmp_path / function)]
        results = json.loads((tmp_path / function / "results.json").read_text())
        assert results[f"best {name}/val"] == best(seen) and name in done.stdout
    assert best(seen) > 1.0  # in the units of the target, not in deviations


def test_a_target_may_be_of_them_too(here, tmp_path):
    done = here(*TRAIN, *SHORT, *TWO, "--target-metric", "auc/val>=0.6", "--epochs", "50")
    assert done.returncode == 0 and "reached" in done.stdout and len(lines(tmp_path / "run")) < 50


@pytest.mark.parametrize(("what", "says"), [
    (("--monitor", "auc/val"), "of two classes"), (("--monitor", "aucc/val"), "never has"),
    (("--monitor", "mine_watched:gone"), "has no 'gone'"), (("--monitor", "mine_watched:broken"), "ZeroDivisionError"),
    (("--monitor", "mine_watched:nan"), "a finite number is needed"),
    (("--monitor", "brier/val", "--task", "regression"), "of probabilities"),
])  # fmt: skip
def test_what_cannot_be_watched_is_one_line(here, tmp_path, what, says):
    (tmp_path / "mine_watched.py").write_text(OWN)
    done = here(*TRAIN, *SHORT, *what)
    assert done.returncode in (1, 2) and len(done.stderr.splitlines()) == 1 and says in done.stderr
