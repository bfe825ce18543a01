"""A small training with dropout, sample weights, L2 and clipping: all that could depend on the shard."""

import numpy as np
from conftest import prepared
from flat import flat_trainer

from distbp import Adam, Network, Schedule, SerialCommunicator, SoftmaxCrossEntropy

N, B, STEPS = 1003, 37, 50


def data(kind="classes", seed=5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, 7))
    y = rng.integers(0, 4, N) if kind == "classes" else np.sin(X[:, :2])
    return prepared(X, y, weights=rng.uniform(0.2, 3.0, N))


def trainer(comm, rows=None, *, hidden=(16, 12), dropout=0.3, activation="tanh", **options):
    rows = rows or data()
    network = Network([7, *hidden, 4], activation, dropout=dropout, dtype=np.float64, seed=3)
    optimizer = Adam(1e-2, weight_decay=1e-3)
    return flat_trainer(
        network, SoftmaxCrossEntropy(0.1), optimizer, rows, comm=comm, batch_size=B, clip_norm=0.5,
        schedule=Schedule("cosine", warmup=5, total=STEPS), seed=11, **options,
    )  # fmt: skip


def train(comm, steps=STEPS, **options):
    t = trainer(comm, **options)
    t.fit(steps=steps)
    theta = t.network.theta.copy()
    t.close()
    return theta


def remembered(function):
    """Do what `function` does for some keywords once, and return the same result from then on."""
    results = {}

    def of(**options):
        key = repr(sorted(options.items()))
        if key not in results:
            results[key] = function(**options)
        return results[key]

    return of


@remembered
def alone(**options):
    """The parameters that one process gets."""
    return train(SerialCommunicator(), **options)
