"""Several networks as one: the mean of predictions, and what a file keeps of them."""

import numpy as np
import pytest
from conftest import prepared

from distbp import (
    BinaryCrossEntropy,
    FunctionModel,
    Huber,
    Model,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    SquaredError,
    evaluate,
)
from distbp.network.mixture import Mixture

rng = np.random.default_rng(0)
X = rng.standard_normal((40, 5))


def members(outputs, n=3, dtype=np.float64, **options):
    return [Network([5, 8, outputs], "tanh", seed=k, dtype=dtype, **options) for k in range(n)]


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        (SoftmaxCrossEntropy(0.1), 4), (BinaryCrossEntropy(), 1), (BinaryCrossEntropy(), 3), (SquaredError(), 2),
        (Huber(), 1),
    ],
)  # fmt: skip
def test_the_prediction_is_the_mean_of_the_members(loss, outputs):
    networks = members(outputs)
    mixture = Mixture(networks, loss)
    mean = np.mean([loss.link(network.forward(X)) for network in networks], axis=0)
    np.testing.assert_allclose(loss.link(mixture.forward(X)), mean, rtol=1e-12)
    np.testing.assert_allclose(mixture.predict(X, block=7), mixture.forward(X), rtol=1e-12)
    assert mixture.n_parameters == 3 * networks[0].n_parameters


@pytest.mark.parametrize("loss", [SoftmaxCrossEntropy(), BinaryCrossEntropy()])
def test_probabilities_of_zero_stay_finite(loss):
    networks = members(2, dtype=np.float32)
    for network in networks:
        network.layers[-1].b[:] = [-2000.0, 2000.0]
    z = Mixture(networks, loss).forward(X.astype(np.float32))
    assert np.isfinite(z).all() and np.allclose(loss.link(z)[:, 0], 0.0)


def test_its_error_is_at_most_the_mean_of_theirs():
    """By Jensen's inequality, for squared errors and log losses."""
    y = rng.integers(0, 4, 40)
    rows, networks = prepared(X, y), members(4)
    loss = SoftmaxCrossEntropy()
    of_each = [evaluate(network, loss, rows, SerialCommunicator())["loss"] for network in networks]
    found = evaluate(Mixture(networks, loss), loss, rows, SerialCommunicator())
    assert found["loss"] < np.mean(of_each) and 0.0 <= found["accuracy"] <= 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_keeps_all_members(tmp_path, dtype):
    y = rng.integers(0, 4, 40)
    rows, loss = prepared(X, y, dtype=dtype), SoftmaxCrossEntropy()
    mixture = Mixture(members(4, dtype=dtype), loss)
    Model(mixture, loss, rows.target, rows.preprocessor).save(tmp_path / "m.safetensors")
    again = Model.load(tmp_path / "m.safetensors")
    assert again.network.tensors().keys() == mixture.tensors().keys() >= {"members.2.0.weight", "members.0.2.bias"}
    assert np.array_equal(again.predict(X), Model(mixture, loss, rows.target, rows.preprocessor).predict(X))


def test_models_of_functions_can_be_averaged():
    def init(generator, n_inputs, n_outputs):
        return {"W": np.ones((n_inputs, n_outputs))}

    def build(factor):
        return FunctionModel(
            lambda rng, n_inputs, n_outputs: init(rng, n_inputs, n_outputs),
            lambda p, X: factor * (X @ p["W"]), 5, 2, dtype=np.float64,
        )  # fmt: skip

    mixture = Mixture([build(1.0), build(3.0)], SquaredError())
    np.testing.assert_allclose(mixture.forward(X), 2.0 * X.sum(axis=1)[:, None] * np.ones(2), rtol=1e-12)


def test_members_are_alike():
    with pytest.raises(ValueError, match="same inputs and outputs"):
        Mixture([*members(2), *members(3)], SquaredError())
