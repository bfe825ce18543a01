"""A network of ours beside the same one as a function of the user's, and a module of the user's."""

import numpy as np
from flat import flat_trainer
from toy_training import data

from distbp import (
    Adam,
    FunctionModel,
    Network,
    SoftmaxCrossEntropy,
)

MINE = """
import numpy as np

def softsign(z):
    return z / (1.0 + np.abs(z))

def cross_entropy(z, y):
    return np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y]

def init(rng, n_inputs, n_outputs):
    return {"hidden": [0.1 * rng.standard_normal((n_inputs, 16)), np.zeros(16)],
            "last": [0.1 * rng.standard_normal((16, n_outputs)), np.zeros(n_outputs)]}

def predict(parameters, X):
    (W, b), (V, c) = parameters["hidden"], parameters["last"]
    return softsign(X @ W + b) @ V + c

model = init, predict
text = "no function"

def flat(z):
    return z.sum()

def total(z, y):
    return np.sum(z)

def escapes(z, y):
    return np.array([float(x) for x in z[:, 0]])
"""


def twin(seed=3):
    """A relu network of ours, and the same one as a function model, which starts from the same parameters."""
    network = Network([7, 16, 12, 4], "relu", dtype=np.float64, seed=seed)

    def init():
        return [(layer.W.copy(), layer.b.copy()) for layer in network.layers]

    def predict(layers, X):
        a = X
        for W, b in layers[:-1]:
            a = np.maximum(a @ W + b, 0.0)
        W, b = layers[-1]
        return a @ W + b

    return network, FunctionModel(init, predict, 7, 4, dtype=np.float64)


def parameters(model):
    """As arrays W, b, W, b, ..., whatever the order in memory."""
    if isinstance(model, FunctionModel):
        return [x.copy() for layer in model.parameters for x in layer]
    return [x.copy() for layer in model.layers for x in (layer.W, layer.b)]


def train(comm, ours=False, steps=50, **options):
    model = twin()[0 if ours else 1]
    trainer = flat_trainer(
        model, SoftmaxCrossEntropy(0.1), Adam(1e-2, weight_decay=1e-3), data(), comm=comm, batch_size=37,
        clip_norm=0.5, seed=11, **options,
    )  # fmt: skip
    trainer.fit(steps=steps)
    trainer.close()
    return parameters(model)


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


WAYS = [
    {},
    {"reduction": "allreduce"},
    {"reduction": "overlap", "bucket_bytes": 500},
    {"reduction": "shared"},
    {"micro_batch": 5},
    {"leaves": 6},
    {"leaves": 6, "micro_batch": 4, "reduction": "overlap"},
]
