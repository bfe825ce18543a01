"""Classes of unequal numbers: what is chosen weighs them, probabilities stay those of the data."""

import json

import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import Model, Network, SerialCommunicator, SoftmaxCrossEntropy, load, run_threads
from distbp.network.losses import BinaryCrossEntropy
from distbp.trainer.calibration import threshold, unweighted
from distbp.trainer.evaluation import decided

SHORT = ("--recipe", "plain", "--hidden", "8", "--epochs", "25", "--data", "t.csv", "--run-dir", "run")


@pytest.fixture
def rare(tmp_path):
    """2,000 rows, 8 % of them positive, about as likely as the sum of two columns says."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 2))
    y = rng.random(2000) < 1.0 / (1.0 + np.exp(4.0 - 1.5 * x.sum(axis=1)))
    lines = [f"{a:.4f},{b:.4f},{'yes' if is_one else 'no'}" for (a, b), is_one in zip(x, y, strict=True)]
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(lines) + "\n")
    return x, y


@pytest.mark.parametrize("more", [(), ("--loss", "binary-cross-entropy"), ("--ensemble", "2"), ("--folds", "2")])
def test_balanced_weights_change_what_is_chosen_and_not_what_is_probable(here, tmp_path, rare, more):
    x, y = rare
    found = {}
    for name, weights in (("plain", ()), ("balanced", ("--class-weight", "balanced"))):
        done = here(*TRAIN, *SHORT, *more, *weights, "--calibrate", "--run-dir", name)
        assert done.returncode == 0, done.stderr
        model = Model.load(tmp_path / name)
        p = model.predict_outputs(x)
        found[name] = p[:, 1], model.decide(p), json.loads((tmp_path / name / "results.json").read_text())
    (p, chosen, plain), (q, more_chosen, balanced) = found.values()
    sure = 2.0 * np.sqrt(y.mean() * (1.0 - y.mean()) / 200)  # two standard errors of the share in the validation rows
    assert abs(q.mean() - y.mean()) < sure and abs(p.mean() - y.mean()) < sure
    assert balanced["log_loss/test"] < 1.15 * plain["log_loss/test"]
    assert chosen.mean() < y.mean() < 0.12 < more_chosen.mean() < 0.35
    recall = [results["classes"]["test"]["yes"]["recall"] for results in (plain, balanced)]
    assert recall[1] > recall[0] + 0.2
    done = here(*PREDICT, "balanced", "t.csv", "--target", "")
    said = np.array([line.split(",")[0] == "yes" for line in done.stdout.splitlines()[1:]])
    assert np.array_equal(said, more_chosen.astype(bool))


@pytest.mark.parametrize("by", ["accuracy", "f1", "balanced"])
def test_a_threshold_is_the_best_on_the_validation_rows_and_is_kept(here, tmp_path, rare, by):
    x, y = rare
    done = here(*TRAIN, *SHORT, "--threshold", by, "--calibrate", "--validation-fraction", "0.3")
    assert done.returncode == 0, done.stderr
    results, model = json.loads((tmp_path / "run/results.json").read_text()), Model.load(tmp_path / "run")
    p = model.predict_outputs(x)
    at = results["threshold"]
    assert np.array_equal(model.decide(p), (p[:, 1] >= at).astype(int)) and 0.0 < at < 1.0
    confusion = np.array(results["confusion/val"])
    assert results["accuracy/val"] == pytest.approx(np.trace(confusion) / confusion.sum())
    assert at < 0.4 or by == "accuracy"
    done = here(*PREDICT, "run", "t.csv")
    assert done.stdout.count("\nyes,") == (p[:, 1] >= at).sum()
    assert f"accuracy {np.mean((p[:, 1] >= at) == y):.4f}" in done.stderr


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), BinaryCrossEntropy()])
@pytest.mark.parametrize("by", ["accuracy", "f1", "balanced"])
@pytest.mark.parametrize("levels", [1000, 4])
def test_no_other_threshold_is_better(loss, by, levels):
    rng = np.random.default_rng(levels)
    n = 300
    p = rng.integers(1, levels, n) / levels if levels > 4 else rng.choice([0.1, 0.3, 0.8], n)
    y = (rng.random(n) < p**2).astype(int)
    z = np.log(p / (1 - p))[:, None]
    z = z if isinstance(loss, BinaryCrossEntropy) else np.hstack([np.zeros((n, 1)), z])

    class Rows:
        n_rows, target = n, type("Target", (), {"kind": "classes", "n_outputs": 2})
        preprocessor = None

        @staticmethod
        def take(positions):
            return z[positions], y[positions], None

    network = type("Network", (), {"output_shape": z.shape[1:], "forward": staticmethod(lambda X: X)})
    found = run_threads(2, lambda comm: threshold(network, loss, Rows, comm, by))
    assert found[0] == found[1] == threshold(network, loss, Rows, SerialCommunicator(), by)

    def good(at):
        said = p >= at
        hits, true, n_said = (said & (y == 1)).sum(), (y == 1).sum(), said.sum()
        of_no = (~said & (y == 0)).sum() / (y == 0).sum()
        figures = {"accuracy": (said == y).mean(), "f1": 2 * hits / max(n_said + true, 1)}
        return (figures | {"balanced": 0.5 * (hits / true + of_no)})[by]

    tried = [good(at) for at in np.linspace(0.0, 1.0, 2001)]
    assert good(found[0]) == pytest.approx(max(tried))


def test_an_offset_takes_the_weights_back(rng):
    p = rng.dirichlet([1.0, 2.0, 3.0], 50)
    w = np.array([3.0, 0.5, 1.0])
    q = p * w / (p * w).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(SoftmaxCrossEntropy().link(np.log(q) + unweighted(w.tolist(), 3)), p)
    two = p[:, :2] / p[:, :2].sum(axis=1, keepdims=True)
    q = two * w[:2] / (two * w[:2]).sum(axis=1, keepdims=True)
    z = np.log(q[:, 1:] / q[:, :1]) + unweighted(w[:2].tolist(), 1)
    np.testing.assert_allclose(BinaryCrossEntropy().link(z), two[:, 1:])
    network = Network([2, 2], "relu")
    network.decision = np.log(w[:2])
    assert np.array_equal(decided(z, network)[:, 0] > 0, q[:, 1] > 0.5)


@pytest.mark.parametrize("what", [
    ("--data", "digits"), ("--task", "regression", "--target", "a"), ("--threshold", "best"),
])  # fmt: skip
def test_what_has_no_second_of_two_classes_has_no_threshold(here, tmp_path, rare, what):
    done = here(*TRAIN, *SHORT, "--threshold", "f1", *what)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--threshold" in done.stderr


@pytest.mark.parametrize("weights", [(), ("--class-weight", "balanced")])
def test_no_other_sharpness_of_an_ensemble_has_less_log_loss_on_the_validation_rows(here, tmp_path, rare, weights):
    done = here(*TRAIN, *SHORT, "--ensemble", "2", "--calibrate", "--validation-data", "t.csv", *weights)
    assert done.returncode == 0, done.stderr
    model, rows = Model.load(tmp_path / "run"), load(tmp_path / "t.csv", validation_data=tmp_path / "t.csv").validation
    X, y, _ = rows.take(np.arange(rows.n_rows))
    best = model.network.sharpness
    results = json.loads((tmp_path / "run/results.json").read_text())

    def log_loss(factor):
        model.network.sharpness = factor * best
        return -np.log(model.linked(model.network.predict(X))[np.arange(len(y)), y]).mean()

    assert log_loss(1.0) == pytest.approx(results["log_loss/val"], rel=1e-5)
    assert log_loss(1.0) < min(log_loss(0.9), log_loss(1.1))
