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
