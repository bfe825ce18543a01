"""Figures of an evaluation against those of scikit-learn."""

import numpy as np
import pytest
from conftest import prepared
from sklearn import metrics as theirs

from distbp import (
    BinaryCrossEntropy,
    Huber,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    SquaredError,
    Target,
    evaluate,
    run_threads,
)
from distbp.trainer import evaluation
from distbp.trainer.early_stopping import is_better
from distbp.trainer.evaluation import hits

N, D = 1300, 5
SERIAL = SerialCommunicator()


def problem(y, n_outputs, seed=0, **options):
    """Rows of several evaluation blocks, a network that knows nothing, and its logits."""
    X = np.random.default_rng(seed).normal(size=(N, D))
    rows = prepared(X, y, **options)
    network = Network([D, n_outputs], dtype=np.float64, seed=seed)
    return rows, network, network.predict(rows.take(np.arange(N))[0])


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes(classes, rng):
    y = rng.integers(0, classes, N)
    rows, network, z = problem(y, classes)
    figures = evaluate(network, SoftmaxCrossEntropy(), rows, SERIAL)
    guess = z.argmax(axis=1)
    assert figures["accuracy"] == theirs.accuracy_score(y, guess)
    np.testing.assert_allclose(figures["macro_f1"], theirs.f1_score(y, guess, average="macro"), rtol=1e-12)
    assert figures["confusion"] == theirs.confusion_matrix(y, guess).tolist()
    p = SoftmaxCrossEntropy().link(z)
    np.testing.assert_allclose(figures["loss"], theirs.log_loss(y, p), rtol=1e-12)
    assert ("top3" in figures) == (classes > 3)


@pytest.mark.parametrize("k", [2, 3, 6])
def test_top_k(k, rng):
    y = rng.integers(0, 7, N)
    rows, network, z = problem(y, 7)
    figures = evaluate(network, SoftmaxCrossEntropy(), rows, SERIAL, top_k=k)
    assert figures[f"top{k}"] == theirs.top_k_accuracy_score(y, z, k=k)


def test_macro_f1_leaves_out_classes_that_are_nowhere():
    y = np.arange(N) % 2
    rows, network, _ = problem(np.where(np.arange(N) == 0, 2, y), 3)
    network.theta[:] = 0.0
    network.layers[0].b[:] = [1.0, 0.0, 0.0]
    figures = evaluate(network, SoftmaxCrossEntropy(), rows, SERIAL)
    truth = np.where(np.arange(N) == 0, 2, y)
    expected = theirs.f1_score(truth, np.zeros(N, int), average="macro", zero_division=0.0)
    np.testing.assert_allclose(figures["macro_f1"], expected, rtol=1e-12)


def test_two_classes_with_a_single_output(rng):
    y = rng.integers(0, 2, N)
    rows, network, z = problem(y, 1)
    figures = evaluate(network, BinaryCrossEntropy(), rows, SERIAL)
    guess = z[:, 0] > 0
    assert figures["accuracy"] == theirs.accuracy_score(y, guess)
    assert figures["confusion"] == theirs.confusion_matrix(y, guess).tolist()
    np.testing.assert_allclose(figures["macro_f1"], theirs.f1_score(y, guess, average="macro"), rtol=1e-12)
    np.testing.assert_allclose(figures["loss"], theirs.log_loss(y, 1 / (1 + np.exp(-z[:, 0]))), rtol=1e-12)


def test_labels(rng):
    y = rng.integers(0, 2, (N, 4))
    rows, network, z = problem(y, 4)
    figures = evaluate(network, BinaryCrossEntropy(), rows, SERIAL)
    guess = z > 0
    np.testing.assert_allclose(figures["accuracy"], 1.0 - theirs.hamming_loss(y, guess), rtol=1e-12)
    assert figures["exact_match"] == theirs.accuracy_score(y, guess)
    np.testing.assert_allclose(figures["macro_f1"], theirs.f1_score(y, guess, average="macro"), rtol=1e-12)


def test_a_label_that_is_nowhere_counts_zero():
    y = np.zeros((N, 2), int)
    y[:, 1] = np.arange(N) % 2
    rows, network, _ = problem(y, 2)
    network.theta[:] = 0.0
    network.layers[0].b[:] = [-1.0, 1.0]
    figures = evaluate(network, BinaryCrossEntropy(), rows, SERIAL)
    expected = theirs.f1_score(y, [[0, 1]] * N, average="macro", zero_division=0.0)
    np.testing.assert_allclose(figures["macro_f1"], expected, rtol=1e-12)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("k", [1, 3])
def test_values_in_the_units_of_the_target(k, scaled, rng):
    y = rng.normal([100.0, 2.0, -3.0][:k], [10.0, 0.1, 1.0][:k], (N, k))
    rows, network, z = problem(y[:, 0] if k == 1 else y, k, scale_target=scaled)
    if scaled:
        z = z / np.array(rows.preprocessor.target_scale) + np.array(rows.preprocessor.target_shift)
    figures = evaluate(network, SquaredError(), rows, SERIAL)
    np.testing.assert_allclose(figures["rmse"], theirs.root_mean_squared_error(y, z), rtol=1e-10)
    np.testing.assert_allclose(figures["mae"], theirs.mean_absolute_error(y, z), rtol=1e-10)
    np.testing.assert_allclose(figures["r2"], theirs.r2_score(y, z), rtol=1e-10)


@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_r2_of_values_far_from_zero(offset, rng):
    y = offset + rng.normal(size=N)
    rows, network, _ = problem(y, 1)
    network.theta[:] = 0.0
    network.layers[0].b[:] = y.mean() + 0.5
    r2 = evaluate(network, SquaredError(), rows, SERIAL)["r2"]
    np.testing.assert_allclose(r2, theirs.r2_score(y, np.full(N, y.mean() + 0.5)), rtol=1e-6)


LOSSES = [
    (SoftmaxCrossEntropy(0.1), "classes", 3), (BinaryCrossEntropy(), "labels", 3), (SquaredError(), "values", 3),
    (Huber(0.5), "values", 3), (SquaredError(), "classes", 3),
]  # fmt: skip


def targets(kind, rng):
    return {"classes": rng.integers(0, 3, N), "labels": rng.integers(0, 2, (N, 3)), "values": rng.normal(size=(N, 3))}[
        kind
    ]


@pytest.mark.parametrize(("loss", "kind", "k"), LOSSES)
def test_the_loss_is_the_weighted_mean(loss, kind, k, rng):
    rows, network, z = problem(targets(kind, rng), k, weights=rng.uniform(0.1, 5, N))
    _, y, w = rows.take(np.arange(N))
    expected = np.average(loss.value(z, y), weights=w)
    np.testing.assert_allclose(evaluate(network, loss, rows, SERIAL)["loss"], expected, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("loss", "kind", "k"), LOSSES)
def test_any_number_of_threads_gives_the_same_bits(loss, kind, k, size, rng):
    rows, network, _ = problem(targets(kind, rng), k, weights=rng.uniform(0.1, 5, N))

    def run(comm):
        own = Network(network.sizes, dtype=np.float64)
        own.theta[:] = network.theta
        return evaluate(own, loss, rows, comm)

    one = run(SERIAL)
    assert all(many == one for many in run_threads(size, run))


def test_hits():
    z, y = np.array([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0]]), np.array([0, 1, 1])
    assert hits(z, y, "classes") == 2 and hits(z[:, 1:] - 2.0, y, "classes") == 3
    assert hits(z, z, "values") == 0


@pytest.mark.parametrize(
    ("metric", "new", "old", "better"),
    [
        ("loss/val", 1.0, 2.0, True), ("loss/val", 2.0, 1.0, False), ("loss/val", 1.0, 1.0, False),
        ("rmse/val", 1.0, 2.0, True), ("mae/val", 2.0, 1.0, False), ("accuracy/val", 0.9, 0.8, True),
        ("accuracy/val", 0.8, 0.9, False), ("accuracy/val", 0.8, 0.8, False), ("r2/val", 0.5, -1.0, True),
        ("macro_f1/val", 0.5, 0.6, False), ("loss/val", 5.0, None, True), ("loss/val", float("nan"), None, False),
        ("loss/val", float("nan"), 1.0, False), ("loss/val", 5.0, float("nan"), True),
        ("accuracy/val", float("nan"), 0.5, False), ("loss/val", float("inf"), None, False),
    ],
)  # fmt: skip
def test_is_better(metric, new, old, better):
    assert is_better(metric, new, old) is better


@pytest.mark.parametrize(("offset", "r2"), [(0.0, 1.0), (0.5, 0.0)])
def test_r2_of_a_constant_target_is_that_of_scikit_learn(offset, r2):
    rows = prepared(np.zeros((10, 1)), np.full(10, 3.0), task="regression")
    network = Network([1, 1], dtype=np.float64)
    network.layers[0].b[:] = 3.0 + offset
    found = evaluate(network, SquaredError(), rows, SerialCommunicator())["r2"]
    assert found == r2 == theirs.r2_score(np.full(10, 3.0), np.full(10, 3.0 + offset))


@pytest.mark.parametrize("c", [3, 60])
def test_many_classes_have_the_figures_of_few(monkeypatch, c):
    """Without the matrix, which of 20,000 classes takes 3 GB."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(500, c)), rng.integers(0, c, 500)

    def figures():
        kept = evaluation._Classes(Target("classes", ("y",), tuple(map(str, range(c)))), [], 2)
        for lo in range(0, 500, 100):
            kept.add(z[lo : lo + 100], y[lo : lo + 100])
        return kept.result(np.zeros(0), 500), kept.counts.size

    few, size = figures()
    monkeypatch.setattr(evaluation, "_CONFUSION", c - 1)
    many, less = figures()
    assert size == c * c + 1 and less == 3 * c + 1
    confusion = np.array(few.pop("confusion"))
    assert many == few and many["accuracy"] == np.trace(confusion) / 500 and 0 < many["macro_f1"] < 1
