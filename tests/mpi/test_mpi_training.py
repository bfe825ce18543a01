"""The theorem of the project on the ranks of an MPI launch: their number changes nothing but the time."""

import numpy as np
import pytest
from toy_training import STEPS, N, alone, train, trainer

from distbp import Checkpoints, SerialCommunicator


def test_mpi_gives_the_serial_parameters(comm):
    np.testing.assert_allclose(train(comm), alone(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"micro_batch": 5},
        {"reduction": "allreduce"},
        {"reduction": "shared"},
        {"reduction": "shared", "micro_batch": 4},
        {"reduction": "overlap", "bucket_bytes": 500},
        {"reduction": "overlap", "micro_batch": 3, "bucket_bytes": 96},
    ],
)
def test_micro_batches_and_buckets_give_the_same_gradient(comm, options):
    np.testing.assert_allclose(train(comm, **options), alone(), rtol=1e-10, atol=1e-12)


def test_replicas_are_equal_to_the_bit(comm):
    theta = train(comm)
    least, greatest = theta.copy(), theta.copy()
    comm.allreduce(least, "min")
    comm.allreduce(greatest, "max")
    assert np.array_equal(least, greatest)


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


def test_evaluation_gives_the_same_bits_on_any_number_of_ranks(comm):
    one = trainer(SerialCommunicator())
    many = trainer(comm)
    many.network.theta[:] = one.network.theta
    assert one.evaluate(one.train) == many.evaluate(many.train)


def test_a_stop_on_one_rank_stops_all_and_a_resume_continues(comm, shared_dir):
    records = []
    checkpoints = Checkpoints(shared_dir / "checkpoints")
    first = trainer(comm, checkpoints=checkpoints, log_every=1, on_record=records.append)

    def stop_once(t):
        if t.position.step == 20 and comm.rank == comm.size - 1:
            t.request_stop()

    first.observer.on_step = stop_once
    assert first.fit(steps=STEPS) == "stopped"
    assert first.position.step == 21
    second = trainer(comm, checkpoints=checkpoints, log_every=1, on_record=records.append)
    name, warnings = second.resume()
    assert name.endswith("step-000000021.safetensors") and not warnings
    assert second.fit(steps=STEPS) == "done"
    np.testing.assert_allclose(second.network.theta, alone(), rtol=1e-10, atol=1e-12)
    assert [r["step"] for r in records] == list(range(1, STEPS + 1))
    assert records[-1]["examples"] == first.sampler.batch(0).size * 27 + 4 + 37 * 22
