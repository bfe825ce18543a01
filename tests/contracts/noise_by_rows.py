"""The gradient noise scale by its definition, gradient by gradient."""

import numpy as np
import pytest
from conftest import prepared
from flat import flat_trainer

from distbp import SGD, Network, SoftmaxCrossEntropy

N = 60


def data(seed=5):
    rng = np.random.default_rng(seed)
    return prepared(rng.standard_normal((N, 7)), rng.integers(0, 4, N), weights=rng.uniform(0.2, 3.0, N))


def one_by_one(model, loss, rows, which):
    """The gradient of each row by itself, (n, n_parameters): the definition."""
    gradients = []
    for row in which:
        X, y, w = rows.take(np.array([row]))
        z = model.forward(X, model.own_pass(X))
        delta = np.empty_like(z)
        loss.value(z, y, delta)
        model.backward(delta * w[:, None])
        gradients.append(model.grad.copy())
    return np.array(gradients)


def by_definition(gradients):
    """tr of the sample covariance, and what is left of the squared mean."""
    mean = gradients.mean(axis=0)
    trace = ((gradients - mean) ** 2).sum() / (len(gradients) - 1)
    return trace, mean @ mean - trace / len(gradients)


def logged(comm, model=None, *, batch=37, steps=1, **options):
    """The last record of a training of some steps with a rate of 0."""
    return all_logged(comm, model, batch=batch, steps=steps, **options)[-1]


def all_logged(comm, model=None, *, batch=37, steps=1, noise_every=1, rows=None, **options):
    """The record of each of its steps."""
    model = model or Network([7, 16, 12, 4], "tanh", dtype=np.float64, seed=3)
    records = []
    trainer = flat_trainer(
        model, SoftmaxCrossEntropy(), SGD(0.0), rows or data(), comm=comm, batch_size=batch, seed=11,
        noise_every=noise_every,
        log_every=1, on_record=records.append, **options,
    )  # fmt: skip
    trainer.resume() if trainer.saver else None
    trainer.fit(steps=steps)
    trainer.close()
    return records


def expected(batch=37):
    model = Network([7, 16, 12, 4], "tanh", dtype=np.float64, seed=3)
    rows = data()
    trainer = flat_trainer(model, SoftmaxCrossEntropy(), SGD(0.0), rows, batch_size=batch, seed=11)
    which = trainer.sampler.batch(0).rows(0, 1)
    return by_definition(one_by_one(model, SoftmaxCrossEntropy(), rows, which))


WAYS = [
    {},
    {"reduction": "shared"},
    {"reduction": "allreduce"},
    {"reduction": "overlap"},
    {"leaves": 5},
    {"micro_batch": 4},
]


def assert_is(record, wanted):
    trace, square = wanted
    np.testing.assert_allclose([record["noise_trace"], record["noise_square"]], wanted, rtol=1e-10)
    assert square <= 0 or record["noise_scale"] == pytest.approx(trace / square, rel=1e-10)
