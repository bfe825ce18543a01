"""The theorem of the project: the number of ranks changes nothing but the time."""

import numpy as np
import pytest
from conftest import prepared

from distbp import (
    Adam,
    Checkpoints,
    Network,
    Schedule,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    SquaredError,
    Trainer,
    run_threads,
)  # fmt: skip

N, B, STEPS = 1003, 37, 50


def data(kind="classes"):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N, 7))
    y = rng.integers(0, 4, N) if kind == "classes" else np.sin(X[:, :2])
    return prepared(X, y, weights=rng.uniform(0.2, 3.0, N))


def trainer(comm, rows=None, **options):
    """Dropout, sample weights, L2, clipping: all that could depend on the shard."""
    rows = rows or data()
    network = Network([7, 16, 12, 4], "tanh", dropout=0.3, dtype=np.float64, seed=3)
    optimizer = Adam(1e-2, weight_decay=1e-3)
    return Trainer(
        network, SoftmaxCrossEntropy(0.1), optimizer, rows, comm=comm, batch_size=B, clip_norm=0.5,
        schedule=Schedule("cosine", warmup=5, total=STEPS), seed=11, **options,
    )  # fmt: skip


def train(comm, steps=STEPS, **options):
    t = trainer(comm, **options)
    t.fit(steps=steps)
    return t.network.theta.copy()


@pytest.fixture(scope="module")
def serial():
    return train(SerialCommunicator())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 40])
def test_threads_give_the_serial_parameters(size, serial):
    """Also with more ranks than rows in a batch: 40 > 37."""
    for theta in run_threads(size, train):
        np.testing.assert_allclose(theta, serial, rtol=1e-10, atol=1e-12)


@pytest.mark.ranks
def test_mpi_gives_the_serial_parameters(comm):
    np.testing.assert_allclose(train(comm), train(SerialCommunicator()), rtol=1e-10, atol=1e-12)


@pytest.mark.ranks
@pytest.mark.parametrize(
    "options", [{"micro_batch": 5}, {"bucket_bytes": 500.0}, {"micro_batch": 3, "bucket_bytes": 1.0}]
)
def test_micro_batches_and_buckets_give_the_same_gradient(comm, options):
    np.testing.assert_allclose(train(comm, **options), train(SerialCommunicator()), rtol=1e-10, atol=1e-12)


@pytest.mark.ranks
def test_replicas_are_equal_to_the_bit(comm):
    theta = train(comm)
    least, greatest = theta.copy(), theta.copy()
    comm.allreduce(least, "min")
    comm.allreduce(greatest, "max")
    assert np.array_equal(least, greatest)


@pytest.mark.ranks
def test_the_same_rows_are_in_the_same_batches(comm):
    t = trainer(comm)
    for step in range(2 * t.sampler.steps_per_epoch):
        batch = t.sampler.batch(step)
        mine = np.zeros(N, np.int64)
        np.add.at(mine, batch.rows(comm.rank, comm.size), 1)
        comm.allreduce(mine)
        whole = np.zeros(N, np.int64)
        np.add.at(whole, batch.rows(), 1)
        assert np.array_equal(mine, whole) and whole.sum() == batch.size


@pytest.mark.ranks
def test_evaluation_gives_the_same_bits_on_any_number_of_ranks(comm):
    one = trainer(SerialCommunicator())
    many = trainer(comm)
    many.network.theta[:] = one.network.theta
    assert one.evaluate(one.train) == many.evaluate(many.train)


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_evaluation_equals_one_over_all_rows_at_once(kind):
    rows = data(kind)
    network = Network([7, 5, 4 if kind == "classes" else 2], dtype=np.float64)
    loss = SoftmaxCrossEntropy() if kind == "classes" else SquaredError()
    t = Trainer(network, loss, Adam(), rows, batch_size=B)
    X, y, w = rows.take(np.arange(N))
    z = network.forward(X).copy()
    figures = t.evaluate(rows)
    np.testing.assert_allclose(figures["loss"], np.average(loss.value(z, y), weights=w), rtol=1e-12)
    if kind == "classes":
        assert figures["accuracy"] == np.mean(z.argmax(axis=1) == y)
    else:
        np.testing.assert_allclose(figures["rmse"], np.sqrt(((z - y) ** 2).mean(axis=0)).mean(), rtol=1e-12)


@pytest.mark.ranks
def test_a_stop_on_one_rank_stops_all_and_a_resume_continues(comm, shared_dir):
    uninterrupted = train(SerialCommunicator())
    records = []
    checkpoints = Checkpoints(shared_dir / "checkpoints")
    first = trainer(comm, checkpoints=checkpoints, log_every=1, on_record=records.append)

    def stop_once(t):
        if t.state.step == 20 and comm.rank == comm.size - 1:
            t.request_stop()

    first.on_step = stop_once
    assert first.fit(steps=STEPS) == "stopped"
    assert first.state.step == 21
    second = trainer(comm, checkpoints=checkpoints, log_every=1, on_record=records.append)
    name, warnings = second.resume()
    assert name.endswith("step-000000021.safetensors") and not warnings
    assert second.fit(steps=STEPS) == "done"
    np.testing.assert_allclose(second.network.theta, uninterrupted, rtol=1e-10, atol=1e-12)
    assert [r["step"] for r in records] == list(range(1, STEPS + 1))
    assert records[-1]["examples"] == first.sampler.batch(0).size * 27 + 4 + 37 * 22


@pytest.mark.parametrize(("before", "after"), [(4, 3), (1, 5), (3, 1), (2, 4)])
def test_stopped_on_some_ranks_resumed_on_others(before, after, serial, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def start(comm):
        t = trainer(comm, checkpoints=checkpoints, on_step=lambda t: t.state.step == 33 and t.request_stop())
        return t.fit(steps=STEPS)

    def go_on(comm):
        t = trainer(comm, checkpoints=checkpoints)
        t.resume()
        t.fit(steps=STEPS)
        return t.network.theta

    assert run_threads(before, start) == ["stopped"] * before
    for theta in run_threads(after, go_on):
        np.testing.assert_allclose(theta, serial, rtol=1e-10, atol=1e-12)
