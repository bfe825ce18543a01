"""The examples train as they say."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from flat import flat_trainer

from distbp import ArrayDataset, Prepared, Subset, fit_preprocessor
from distbp.autodiff import check_grads
from distbp.comm.serial import SerialCommunicator

ROOT = Path(__file__).parents[1]


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"examples.{name}")


def test_gradients_of_the_convolutional_network(example, rng):
    convolution = example("convolution")
    parameters = convolution.init(rng, 16 * 16, 3)
    X = rng.standard_normal((2, 256))
    check_grads(lambda p: np.tanh(convolution.predict(p, X)), parameters, order=1, tol=1e-6)


def test_gradients_of_the_transformer(example, rng, monkeypatch):
    transformer = example("transformer")
    for name, value in {"LENGTH": 6, "WIDTH": 8, "LAYERS": 1}.items():
        monkeypatch.setattr(transformer, name, value)
    parameters = transformer.init(rng)
    X, y = rng.integers(0, 90, (2, 3, 6))
    check_grads(lambda p: transformer.loss(transformer.predict(p, X.astype(float)), y), parameters, order=1)


def test_the_transformer_does_not_look_ahead(example, rng):
    transformer = example("transformer")
    parameters = transformer.init(rng)
    X = rng.integers(0, 90, (1, transformer.LENGTH)).astype(float)
    changed = X.copy()
    changed[0, 40:] = 7.0
    before, after = (transformer.predict(parameters, x)[0] for x in (X, changed))
    np.testing.assert_allclose(before[:40], after[:40], rtol=1e-12)
    assert not np.allclose(before[40:], after[40:])


def test_gradients_of_the_mixture(example, rng):
    loss = example("mixture_density").loss
    y = rng.random((5, 1))
    check_grads(lambda z: loss(z, y), rng.standard_normal((5, 9)))


def test_gradients_of_the_bayesian_models(example, rng):
    bayes = example("bayes")
    X = rng.standard_normal((4, 2))
    for name, y in (("logistic", np.array([0, 1, 1, 0])), ("process", rng.standard_normal((4, 1)))):
        init, predict = getattr(bayes, name)
        loss = getattr(bayes, f"{name}_loss")
        check_grads(lambda p, f=predict, loss=loss, y=y: loss(f(p, X), y), init(rng, 2, 1), order=1)


def test_a_gaussian_process_at_all_its_points_is_the_exact_one(example, rng):
    """The bound of Hensman, Fusi & Lawrence reaches the log evidence of a process whose points are the rows."""
    from scipy.stats import multivariate_normal

    bayes = example("bayes")
    x, y = np.linspace(-1.5, 1.5, bayes.POINTS)[:, None], rng.standard_normal(bayes.POINTS)
    p = bayes.process_init(rng, 1, 1) | {"points": x}
    noise, n = np.exp(2 * p["log noise"]), bayes.POINTS
    K = bayes.kernel(p, x, x) + 1e-6 * np.eye(n)
    L = np.linalg.cholesky(K)
    posterior = np.linalg.inv(np.eye(n) + L.T @ L / noise)
    p |= {"mean": posterior @ L.T @ y / noise, "root": np.linalg.cholesky(posterior)}
    z = bayes.process_predict(p, x)
    z[:, 3] *= bayes.TRAINED / n
    evidence = multivariate_normal.logpdf(y, cov=K + noise * np.eye(n))
    assert -bayes.process_loss(z, y).sum() == pytest.approx(evidence, abs=1e-3)


def test_convolution_learns_digits(example):
    """In one process, on the embedded digits blown up to the size of MNIST's."""
    from distbp import Adam, FunctionModel, SoftmaxCrossEntropy, load

    data = load("digits")
    small = data.train.take(np.arange(320))
    X = np.kron(small[0].reshape(-1, 8, 8), np.ones((2, 2))).reshape(len(small[0]), -1)
    target = data.target
    rows = Subset(ArrayDataset(X, small[1], target, class_values=np.arange(10)))
    rows = Prepared(rows, fit_preprocessor(rows, SerialCommunicator(), scaling="none"), np.float32)
    convolution = example("convolution")
    model = FunctionModel(*convolution.model, 256, 10)
    trainer = flat_trainer(model, SoftmaxCrossEntropy(), Adam(3e-3), rows, batch_size=32, leaves=2)
    trainer.fit(epochs=4)
    assert trainer.evaluate(rows)["accuracy"] > 0.8
