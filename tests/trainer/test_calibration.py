"""The sharpness of probabilities: the least log loss, on any number of ranks, and a model file that has it."""

import json

import numpy as np
import pytest
from conftest import prepared
from front_doors import PREDICT, TRAIN
from scipy.optimize import minimize_scalar

from distbp import (
    BinaryCrossEntropy,
    Model,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    SquaredError,
    evaluate,
    run_threads,
)
from distbp.trainer import calibration
from distbp.trainer.calibration import errors, sharpness, within
from distbp.trainer.quality import assess

SERIAL = SerialCommunicator()


def too_sure(outputs, seed=0, n=3000, factor=4.0):
    """A network that knows the odds, times a factor, and rows whose classes follow the odds."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 4))
    network = Network([4, outputs], dtype=np.float64, seed=seed)
    loss = SoftmaxCrossEntropy() if outputs > 1 else BinaryCrossEntropy()
    p = loss.link(network.forward(X))
    p = np.hstack([1.0 - p, p]) if outputs == 1 else p
    y = (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)
    network.layers[-1].W *= factor
    return network, loss, prepared(X, y)


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("factor", [0.3, 4.0])
def test_it_undoes_a_factor(outputs, factor):
    network, loss, rows = too_sure(outputs, factor=factor)
    beta = sharpness(network, loss, rows, SERIAL)
    assert beta * factor == pytest.approx(1.0, abs=0.15)
    X, y, _ = rows.take(np.arange(rows.n_rows))
    z = network.forward(X).copy()
    best = minimize_scalar(lambda b: loss.value(b * z, y).mean(), bounds=(0.01, 10), method="bounded").x
    assert beta == pytest.approx(best, rel=5e-3)


def test_label_smoothing_does_not_count():
    network, _, rows = too_sure(5)
    assert sharpness(network, SoftmaxCrossEntropy(0.1), rows, SERIAL) == sharpness(
        network, SoftmaxCrossEntropy(), rows, SERIAL
    )


def test_labels_have_it_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 4))
    network = Network([4, 3], dtype=np.float64)
    y = (BinaryCrossEntropy().link(network.forward(X)) > rng.random((2000, 3))).astype(float)
    network.layers[-1].W *= 5.0
    rows = prepared(X, y)
    rows.target = type(rows.target)("labels", ("a", "b", "c"))
    assert sharpness(network, BinaryCrossEntropy(), rows, SERIAL) == pytest.approx(0.2, abs=0.03)


def test_values_have_none():
    rows = prepared(np.ones((5, 4)), np.arange(5.0)[:, None])
    assert sharpness(Network([4, 1], dtype=np.float64), SquaredError(), rows, SERIAL) == 1.0


def test_rows_that_are_all_right_do_not_make_it_endless():
    X = np.concatenate([np.ones((20, 4)), -np.ones((20, 4))])
    network = Network([4, 2], dtype=np.float64)
    network.layers[0].W[:] = [[1.0, -1.0]] * 4
    beta = sharpness(network, SoftmaxCrossEntropy(), prepared(X, np.repeat([0, 1], 20)), SERIAL)
    p = SoftmaxCrossEntropy().link(beta * network.forward(X)).max(axis=1)
    assert p == pytest.approx(1.0 - 0.5 / 42, abs=1e-3) or beta == 1.0


def test_the_same_on_any_number_of_ranks():
    network, loss, rows = too_sure(5, n=1300)
    alone = sharpness(network, loss, rows, SERIAL)

    def run(comm):
        own, _, _ = too_sure(5, n=1300)
        return sharpness(own, loss, rows, comm)

    for ranks in (2, 3):
        assert run_threads(ranks, run) == [alone] * ranks


def test_the_log_loss_of_a_run_never_rises_and_no_prediction_changes(here, tmp_path):
    more = ("--hidden", "64", "--label-smoothing", "0.2", "--epochs", "5", "--recipe", "plain", "--exact")
    for name, option in (("with", "--calibrate"), ("without", "--no-calibrate")):
        done = here(*TRAIN, *more, option, "--run-dir", name)
        assert done.returncode == 0 and ("calibrated: outputs times" in done.stdout) == (name == "with"), done.stderr
    found, before = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("with", "without"))
    assert found["log_loss/val"] < before["log_loss/val"] and found["accuracy/test"] == before["accuracy/test"]
    assert found["calibration_error/test"] < before["calibration_error/test"]
    X = np.random.default_rng(0).integers(0, 16, (50, 64))
    one, other = (Model.load(tmp_path / name) for name in ("with", "without"))
    ratio = one.network.layers[-1].W / other.network.layers[-1].W
    assert ratio == pytest.approx(np.full(ratio.shape, ratio[0, 0]), rel=1e-4) and ratio[0, 0] > 1.0
    assert np.array_equal(one.predict(X), other.predict(X))
    again = here(*TRAIN, *more, "--calibrate", "--run-dir", "with", "--resume", "auto")
    assert again.returncode == 0 and json.loads((tmp_path / "with" / "results.json").read_text())[
        "log_loss/test"
    ] == pytest.approx(found["log_loss/test"])


def test_an_ensemble_is_calibrated_as_a_whole(here, tmp_path):
    more = ("--hidden", "16", "--label-smoothing", "0.2", "--epochs", "4", "--recipe", "plain", "--ensemble", "2")
    for name, option in (("with", "--calibrate"), ("without", "--no-calibrate")):
        assert here(*TRAIN, *more, option, "--run-dir", name).returncode == 0
    found, before = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("with", "without"))
    assert found["log_loss/val"] < before["log_loss/val"] and found["accuracy/test"] == before["accuracy/test"]
    mixture = Model.load(tmp_path / "with").network
    assert mixture.sharpness > 1.0 and Model.load(tmp_path / "without").network.sharpness == 1.0


def test_figures_of_a_calibrated_network_are_better_calibrated():
    network, loss, rows = too_sure(5)
    before = assess(network, loss, rows, rows, SERIAL).figures
    network.layers[-1].W *= sharpness(network, loss, rows, SERIAL)
    after = assess(network, loss, rows, rows, SERIAL).figures
    assert after["calibration_error"] < 0.3 * before["calibration_error"]
    assert (
        after["accuracy"] == before["accuracy"] and evaluate(network, loss, rows, SERIAL)["loss"] < before["log_loss"]
    )


def test_errors_are_those_of_the_rows_in_their_unit():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2500, 3))
    y = 10.0 + 5.0 * X[:, :2] + rng.standard_normal((2500, 2))
    rows = prepared(X, y, scale_target=True)
    network = Network([3, 4, 2], "tanh", dtype=np.float64)
    scale = np.array(rows.preprocessor.target_scale)
    off = np.sort(np.abs(network.forward(X) - rows.take(np.arange(2500))[1]) / scale, axis=0)
    found = np.array(errors(network, rows, SERIAL)).T
    assert found.shape == (1000, 2) and np.array_equal(found[-1], off[-1])
    for level in (0.5, 0.9, 0.95):
        for k in (0, 1):
            width = within(found[:, k].tolist(), level)
            assert level <= np.mean(off[:, k] <= width) <= level + 0.002


def test_few_errors_do_not_say_what_is_rare():
    assert within([1.0, 2.0, 3.0], 0.75) == 3.0 and within([1.0, 2.0, 3.0], 0.76) == np.inf


def test_an_interval_holds_new_values_as_often_as_it_says(here, tmp_path):
    """Whatever the network: here one that has learnt little, of errors that are far from normal."""
    rng = np.random.default_rng(1)
    X = rng.random((6000, 2))
    y = 100.0 * np.sin(6.0 * X[:, 0]) + rng.exponential(20.0, 6000)
    for name, some in (("train", slice(0, 2000)), ("new", slice(2000, 6000))):
        lines = (f"{a:.5f},{b:.5f},{v:.4f}" for (a, b), v in zip(X[some], y[some], strict=True))
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,y", *lines]))
    more = ("--data", "train.csv", "--epochs", "3", "--validation-fraction", "0.4", "--run-dir", "run")
    assert here(*TRAIN, *more).returncode == 0
    done = here(*PREDICT, "run", "new.csv", "--interval", "0.9", "--out", "p.csv")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "p.csv") as stream:
        assert stream.readline() == "y,low y,high y\n"
        value, low, high = np.loadtxt(stream, delimiter=",").T
    assert np.allclose(value - low, high - value, rtol=1e-3)
    assert 0.87 < np.mean((low <= y[2000:]) & (y[2000:] <= high)) < 0.93


@pytest.mark.parametrize(
    ("options", "interval", "code", "text"),
    [
        ((), "1.5", 2, "a probability between 0 and 1"),
        ((), "0.9999", 1, "180 validation rows do not say"),
        (("--no-calibrate",), "0.9", 1, "trained with --calibrate and validation rows"),
    ],
)
def test_intervals_that_nothing_is_known_of(here, tmp_path, options, interval, code, text):
    rng = np.random.default_rng(0)
    (tmp_path / "t.csv").write_text("\n".join(["a,y", *(f"{a:.5f},{2 * a:.5f}" for a in rng.random(1800))]))
    assert here(*TRAIN, "--data", "t.csv", "--epochs", "1", "--run-dir", "run", *options).returncode == 0
    done = here(*PREDICT, "run", "t.csv", "--interval", interval)
    assert done.returncode == code and text in done.stderr


def test_of_many_outputs_some_rows_are_enough(monkeypatch):
    network, loss, rows = too_sure(5, n=6000)
    whole = sharpness(network, loss, rows, SERIAL)
    monkeypatch.setattr(calibration, "_NUMBERS", 5 * 2000)
    some = sharpness(network, loss, rows, SERIAL)
    assert some != whole and abs(np.log(some / whole)) < 0.1
    assert run_threads(2, lambda comm: sharpness(network, loss, rows, comm)) == [some, some]
