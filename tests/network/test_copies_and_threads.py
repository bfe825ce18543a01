"""A network that is copied is one of its own, and threads that use one network do not get in each other's way."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from distbp import FunctionModel, Network, SoftmaxCrossEntropy
from distbp.network.mixture import Mixture

rng = np.random.default_rng(0)
PLAIN = rng.standard_normal((300, 4))
CODED = np.column_stack([PLAIN[:, :3], rng.integers(0, 6, 300)])


def start(rng, n_inputs, n_outputs):
    return {"W": rng.standard_normal((n_inputs, n_outputs)), "b": np.zeros(n_outputs)}


def outputs(parameters, X):
    return np.tanh(X) @ parameters["W"] + parameters["b"]


def dense(**options):
    return Network([4, 9, 3], "gelu", dtype=np.float64, **options)


MODELS = {
    "dense": (dense, PLAIN),
    "dropout": (lambda: dense(dropout=0.3), PLAIN),
    "embeddings": (lambda: dense(embeddings=[6]), CODED),
    "functions": (lambda: FunctionModel(start, outputs, 4, 3, dtype=np.float64), PLAIN),
    "mixture": (lambda: Mixture([dense(seed=k) for k in range(2)], SoftmaxCrossEntropy()), PLAIN),
}
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.fixture(params=MODELS)
def named(request):
    make, X = MODELS[request.param]
    return make(), X


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_is_a_network_of_its_own(named, way):
    network, X = named
    before = network.forward(X).copy()
    other = WAYS[way](network)
    assert np.array_equal(other.forward(X), before)
    for tensor in other.tensors().values():
        tensor[...] = 0.5
    assert not np.array_equal(other.forward(X), before) and np.array_equal(network.forward(X), before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["dense", "embeddings", "functions"])
def test_the_vectors_of_a_copy_are_those_of_its_layers(name, way):
    make, X = MODELS[name]
    network = make()
    other = WAYS[way](network)
    delta = rng.standard_normal((len(X), 3))
    for one in (network, other):
        one.forward(X, one.own_pass(X))
        one.backward(delta)
    assert other.grad.any() and np.array_equal(other.grad, network.grad)
    other.theta -= 0.1 * other.grad  # as an optimiser does
    network.theta -= 0.1 * network.grad
    assert np.array_equal(other.forward(X), network.forward(X))


def test_a_shallow_copy_shares_the_parameters():
    network = dense()
    other = copy.copy(network)
    network.theta[:] = 0.0
    assert not other.forward(PLAIN).any()


def test_what_a_thread_has_computed_another_does_not_overwrite(named):
    network, X = named
    z = network.forward(X[:100])
    mine = z.copy()
    with ThreadPoolExecutor(1) as other:
        other.submit(network.forward, X[100:200]).result()
    assert np.array_equal(z, mine)


def test_threads_predict_with_one_network(named):
    network, X = named
    expected = network.predict(X, 10)
    with ThreadPoolExecutor(4) as threads:
        parts = threads.map(lambda k: network.predict(X[k : k + 100], 10), [0, 50, 100, 150, 200] * 20)
    for k, part in zip([0, 50, 100, 150, 200] * 20, parts, strict=True):
        assert np.allclose(part, expected[k : k + 100], rtol=0, atol=1e-12)
