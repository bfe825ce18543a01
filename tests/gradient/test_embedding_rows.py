"""Embeddings on ranks: the training of one process, to the last bit in exact mode, and all that is remembered."""

import numpy as np
import pytest
from coded_training import STEPS, parameters, rows, train, trainer

from distbp import (
    SGD,
    Checkpoints,
    Momentum,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    Trainer,
    UserError,
    run_threads,
)

pytestmark = pytest.mark.usefixtures("one_thread")
PLACES = [(2, None), (3, None), (4, 2), (5, 2), (3, 1)]
WAYS = [
    {"reduction": "allreduce"},
    {"reduction": "overlap", "bucket_bytes": 400},
    {"reduction": "shared"},
    {"reduction": "shared", "micro_batch": 5},
]


@pytest.fixture(scope="module")
def alone():
    return train(SerialCommunicator())


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("size", "per_host"), PLACES)
def test_ranks_train_what_one_process_does(way, size, per_host, alone):
    for found in run_threads(size, lambda comm: train(comm, **way), ranks_per_host=per_host):
        assert np.allclose(found, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("hosts", [(0, 1, 1), (0, 1, 1, 1, 2, 2), (0, 1, 0, 1, 1)])
@pytest.mark.parametrize("leaves", [None, 4])
def test_hosts_may_have_other_numbers_of_ranks(hosts, leaves, alone):
    wanted = train(SerialCommunicator(), leaves=4) if leaves else alone
    for found in run_threads(len(hosts), lambda comm: train(comm, reduction="shared", leaves=leaves), hosts=hosts):
        assert np.array_equal(found, wanted) if leaves else np.allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("optimizer", [SGD, Momentum])
def test_so_does_another_optimizer(optimizer):
    how = {"optimizer": optimizer, "dtype": np.float32, "dropout": 0.0}
    wanted = train(SerialCommunicator(), **how)
    for found in run_threads(2, lambda comm: train(comm, reduction="shared", **how)):
        assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [(16, 12), ()])
def test_exact_mode_has_the_same_bits_everywhere(dtype, hidden):
    how = {"leaves": 4, "dtype": dtype, "hidden": hidden, "steps": 25}
    wanted = train(SerialCommunicator(), **how)
    assert not np.array_equal(wanted, train(SerialCommunicator(), **{**how, "leaves": 3}))
    for size, per_host in PLACES:
        for reduction in ("allreduce", "overlap", "shared"):
            for found in run_threads(
                size, lambda comm, reduction=reduction: train(comm, reduction=reduction, **how), ranks_per_host=per_host
            ):
                assert np.array_equal(found, wanted), (size, per_host, reduction)


def test_exact_micro_batches_have_their_bits_everywhere():
    how = {"leaves": 4, "micro_batch": 3, "steps": 25}
    wanted = train(SerialCommunicator(), **how)
    for found in run_threads(3, lambda comm: train(comm, reduction="shared", **how)):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 2)])
@pytest.mark.parametrize("background", [False, True])
def test_a_run_goes_on_as_if_nothing_had_happened(tmp_path, before, after, background):
    how = {"leaves": 4, "reduction": "shared"}
    wanted = train(SerialCommunicator(), leaves=4)

    def part(comm, until):
        t = trainer(comm, checkpoints=Checkpoints(tmp_path), checkpoint_async=background, **how)
        t.resume()
        t.fit(steps=until)
        comm.barrier()
        found = parameters(t.network).copy()
        t.close()
        return found

    run_threads(before, lambda comm: part(comm, STEPS // 2))
    for found in run_threads(after, lambda comm: part(comm, STEPS)):
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("size", [1, 3])
def test_early_stopping_brings_the_best_tables_back(size, tmp_path):
    """Also where the run was interrupted after the best step."""

    def run(comm):
        scores, seen = iter([1.0, 0.5, 0.7, 0.9]), []

        def go_on(until):
            t = trainer(
                comm, leaves=4, reduction="shared", checkpoints=Checkpoints(tmp_path), judged=True, patience=2,
                eval_every=5,
            )  # fmt: skip
            original = t.judge.see

            def see(record, step):
                seen.append(parameters(t.network).copy())
                return original({**record, "loss/val": next(scores)}, step)

            t.judge.see = see
            t.resume()
            outcome = t.fit(steps=until)
            comm.barrier()
            found = parameters(t.network).copy()
            t.close()
            return outcome, found

        go_on(15)
        return *go_on(40), seen

    for outcome, found, seen in run_threads(size, run):
        assert outcome == "early" and len(seen) == 4
        assert np.array_equal(found, seen[1]) and not np.array_equal(found, seen[2])


def test_the_audit_finds_a_flipped_bit_in_a_table():
    def run(comm):
        t = trainer(comm, reduction="allreduce", audit_every=5)
        t.fit(steps=5)
        if comm.rank == 1:
            t.network.embeddings[1][7, 3] += 1.0
        with pytest.raises(Exception, match=r"rank 1 .* differ .* embeddings\.1"):
            t.fit(steps=5)

    run_threads(3, run)


def test_no_row_that_a_batch_has_not_moves():
    t = trainer(SerialCommunicator(), dropout=0.0)
    t.fit(steps=3)
    before = [table.copy() for table in t.network.embeddings]
    batch = t.sampler.batch(3)
    X, _, _ = t.train.take(batch.between(0, batch.size))
    t.fit(steps=1)
    for j, (old, new) in enumerate(zip(before, t.network.embeddings, strict=True)):
        moved = np.flatnonzero((old != new).any(axis=1))
        assert np.array_equal(moved, np.unique(X[:, t.network.plain + j]))


def test_a_network_of_other_tables_is_refused():
    data = rows()
    network = Network([data.preprocessor.n_inputs, 3], dtype=np.float64)
    with pytest.raises(ValueError, match=r"embeddings=\(401, 296\)"):
        Trainer(network, SoftmaxCrossEntropy(), SGD(0.1), data)


def test_what_is_remembered_of_tables_outlives_the_memory_that_ranks_shared():
    def run(comm):
        t = trainer(comm, leaves=4, reduction="shared")
        t.fit(steps=20)
        comm.barrier()
        t.close()
        return {name: array.copy() for name, array in t.optimizer.table_state.items()}

    wanted, *others = run_threads(1, run) + run_threads(3, run)
    assert len(wanted) == 4 and all(array.any() for array in wanted.values())
    for found in others:
        assert all(np.array_equal(found[name], array) for name, array in wanted.items())


def test_a_checkpoint_of_other_tables_is_refused(tmp_path):
    saver = {"checkpoints": Checkpoints(tmp_path), "checkpoint_every": 5}
    t = trainer(SerialCommunicator(), **saver)
    t.fit(steps=5)
    t.network.embeddings[0] = np.zeros((500, t.network.embeddings[0].shape[1]))
    with pytest.raises(UserError, match="embedding/0 was of 401 values and is of 500"):
        t.resume()
