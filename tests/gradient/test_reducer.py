"""Every way of reduction gives the same training, on any number of ranks and hosts."""

import itertools
import math

import numpy as np
import pytest
from flat import flat_trainer
from grids import NIGHTLY, combinations
from hypothesis import given
from hypothesis import strategies as st
from reductions import TIGHT, outlives
from toy_training import STEPS, alone, data, train, trainer

from distbp import (
    Checkpoints,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    ThreadCommunicator,
    UserError,
    run_threads,
)
from distbp.gradient.choose import REDUCTIONS, choose_reduction, gradient_reducer, shares_units
from distbp.gradient.data_parallel import DataParallel
from distbp.gradient.shards import shards, unit_edges
from distbp.gradient.unit_parallel import UnitParallel
from distbp.optim.rules import OPTIMIZERS, make_optimizer

HOSTS = [(1, None), (2, None), (3, None), (4, 2), (5, 2), (5, 3), (3, 1), (40, 7)]
"""Ranks, and ranks to a host; 40 ranks are more than a batch has rows."""


@pytest.mark.parametrize(
    ("reduction", "place"),
    [(r, p) for r, p in itertools.product(REDUCTIONS, HOSTS) if NIGHTLY or p[0] < 40 or r == "shared"],
)
def test_the_parameters_are_those_of_one_process(reduction, place):
    size, per_host = place
    thetas = run_threads(size, lambda comm: train(comm, reduction=reduction), ranks_per_host=per_host)
    for theta in thetas:
        np.testing.assert_allclose(theta, alone(), **TIGHT)
        assert np.array_equal(theta, thetas[0])


@pytest.mark.parametrize("per_host", [None, 2])
@pytest.mark.parametrize("options", [{}, {"micro_batch": 4}])
def test_a_host_shares_gradients(per_host, options, monkeypatch):
    monkeypatch.setattr("distbp.gradient.choose._UNITS_BELOW", 0.0)
    shares(4, per_host, DataParallel, options, alone(**options))


UNITS = [{}, {"micro_batch": 4}, {"activation": "gelu"}, {"hidden": ()}]


@pytest.mark.parametrize(
    ("place", "options"), [(p, o) for p, o in itertools.product(HOSTS[1:], UNITS) if NIGHTLY or p[0] < 40 or not o]
)
def test_a_host_shares_units(place, options, monkeypatch):
    monkeypatch.setattr("distbp.gradient.choose._UNITS_BELOW", math.inf)
    options = options | {"dropout": 0.0}
    shares(*place, UnitParallel, options, alone(**options))


def shares(size, per_host, plan, options, wanted):
    def run(comm):
        t = trainer(comm, reduction="shared", **options)
        assert isinstance(t.reducer.plan, plan)
        assert comm.size == 1 or "ranks of a host share " + t.reducer.plan.describe() in t.reducer.describe()
        t.fit(steps=STEPS)
        return t.network.theta.copy()

    for theta in run_threads(size, run, ranks_per_host=per_host):
        np.testing.assert_allclose(theta, wanted, **TIGHT)


def test_units_are_shared_where_a_batch_is_small_beside_the_network(monkeypatch):
    network, thin = Network([100, 200, 100, 10]), Network([100, 200, 100, 10], dropout=0.1)
    assert shares_units(network, 2) and not shares_units(network, 40) and not shares_units(thin, 2)

    def plan(comm):
        return type(gradient_reducer(comm, Network([100, 200, 100, 10]), "shared", batch_size=4).plan)

    assert run_threads(2, plan) == [UnitParallel] * 2
    monkeypatch.setattr(ThreadCommunicator, "crowded", True)
    assert run_threads(2, plan) == [DataParallel] * 2


@pytest.mark.parametrize(
    ("reduction", "place", "options"),
    combinations(
        REDUCTIONS,
        [(3, None), (5, 2)],
        [{"micro_batch": 3}, {"bucket_bytes": 200}, {"micro_batch": 1, "bucket_bytes": 96}],
    ),
)
def test_in_parts_and_in_pieces(reduction, place, options):
    size, per_host = place
    for theta in run_threads(size, lambda comm: train(comm, reduction=reduction, **options), ranks_per_host=per_host):
        np.testing.assert_allclose(theta, alone(), **TIGHT)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("size", [2, 3])
def test_every_optimizer_looks_after_its_stretch(name, size):
    """Also those that ask for the norms of layers which several ranks share."""

    def run(comm, reduction):
        network = Network([7, 16, 12, 4], "tanh", dtype=np.float64, seed=3)
        optimizer = make_optimizer(name, 0.01, weight_decay=1e-2)
        t = flat_trainer(
            network, SoftmaxCrossEntropy(), optimizer, data(), comm=comm, batch_size=37, reduction=reduction,
            on_step=lambda t: None,
        )  # fmt: skip
        t.fit(steps=30)
        own = t.reducer.shard
        assert all(array.shape == (own.stop - own.start,) for array in optimizer.state.values())
        return network.theta.copy(), own.stop - own.start

    alone, n = run(SerialCommunicator(), "allreduce")
    results = run_threads(size, lambda comm: run(comm, "shared"))
    assert sum(length for _, length in results) == n
    assert max(length for _, length in results) < 0.6 * n
    for theta, _ in results:
        np.testing.assert_allclose(theta, alone, **TIGHT)


@pytest.mark.parametrize("compress", ["bf16"])
@pytest.mark.parametrize(
    ("reduction", "size", "per_host"), [("allreduce", 3, None), ("overlap", 2, 1), ("shared", 4, 2)]
)
def test_compressed_training_stays_close_and_replicas_equal(compress, reduction, size, per_host):
    """The gradient is off by 2^-9 (bf16) of its size at most; parameters move by 50 steps of 0.1 times it."""

    def run(comm, **options):
        network = Network([7, 16, 4], "tanh", seed=3)
        rows = data()
        rows._ready = tuple(part.astype(np.float32) if part.dtype == np.float64 else part for part in rows._ready)
        t = flat_trainer(
            network, SoftmaxCrossEntropy(), make_optimizer("sgd", 0.1), rows, comm=comm, batch_size=37, **options
        )
        t.fit(steps=50)
        return network.theta.copy()

    exact = run(SerialCommunicator())
    start = Network([7, 16, 4], "tanh", seed=3).theta
    thetas = run_threads(size, lambda comm: run(comm, reduction=reduction, compress=compress), ranks_per_host=per_host)
    moved = np.abs(exact - start).max()
    for theta in thetas:
        assert np.array_equal(theta, thetas[0]) and not np.array_equal(theta, exact)
        assert np.abs(theta - exact).max() < 0.02 * moved


def test_a_run_goes_on_under_another_reduction_and_number_of_ranks(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def part(steps, **options):
        def work(comm):
            t = trainer(comm, checkpoints=checkpoints, **options)
            t.resume()
            t.fit(steps=steps)
            return t.network.theta.copy()

        return work

    run_threads(4, part(13, reduction="shared"))
    run_threads(3, part(21, reduction="allreduce"))
    run_threads(4, part(37, reduction="shared"), ranks_per_host=2)
    for theta in run_threads(2, part(STEPS, reduction="overlap")):
        np.testing.assert_allclose(theta, alone(), **TIGHT)


@pytest.mark.parametrize("reduction", ["allreduce", "shared"])
def test_early_stopping_restores_the_best_of_all_shards(reduction):
    def run(comm):
        t = trainer(comm, reduction=reduction, validation=data(seed=6), eval_every=5, patience=3)
        t.peak = 0.3
        outcome = t.fit(steps=500)
        loss = t.evaluate(t.validation)["loss"]
        return outcome, t.judge.state.best, loss

    for outcome, best, loss in run_threads(3, run):
        assert outcome == "early" and loss == pytest.approx(best, rel=1e-12)


def test_a_network_outlives_what_was_shared():
    run_threads(3, outlives)


@pytest.mark.parametrize("options", [{"reduction": "shared"}, {"reduction": "overlap"}])
def test_a_step_that_is_not_finite_is_skipped_by_all(options):
    def bad():
        rows = data()
        row = trainer(SerialCommunicator(), rows).sampler.batch(3).rows(1, 3)[0]
        rows._ready[0][row] = np.nan
        return rows

    def run(comm):
        t = trainer(comm, rows=bad(), on_nonfinite="skip", **options)
        thetas = []
        t.observer.on_step = lambda t: thetas.append(t.network.theta.copy())
        t.fit(steps=6)
        return [np.array_equal(a, b) for a, b in zip(thetas, thetas[1:], strict=False)]

    assert run_threads(3, run) == [[False, False, True, False, False]] * 3


def test_an_evaluation_leaves_a_step_alone():
    """It has its own buffers, also between steps and with more rows than a batch."""

    def run(comm):
        t = trainer(comm, reduction="shared")
        t.observer.on_step = lambda t: t.evaluate(t.train)
        t.fit(steps=STEPS)
        return t.network.theta.copy()

    for theta in run_threads(3, run):
        np.testing.assert_allclose(theta, alone(), **TIGHT)


def test_what_auto_chooses():
    small, large = Network([4, 3]), Network([784, 256, 10])

    def choose(comm):
        return choose_reduction(comm, small, 1000), choose_reduction(comm, large, 10**6)

    assert choose(SerialCommunicator()) == ("allreduce", "allreduce")
    assert run_threads(3, choose) == [("shared", "shared")] * 3
    assert run_threads(4, choose, ranks_per_host=2) == [("shared", "shared")] * 4
    assert run_threads(3, choose, ranks_per_host=2) == [("allreduce", "overlap")] * 3  # a host with one rank
    assert run_threads(2, choose, ranks_per_host=1) == [("allreduce", "overlap")] * 2


def test_a_host_without_room_to_share(monkeypatch):
    """A container has 64 MB of shared memory; writing beyond is a signal that nobody survives."""
    network = Network([784, 256, 10])
    monkeypatch.setattr(ThreadCommunicator, "shared_free", lambda comm: 10**7 - 9 * 10**6 * (comm.rank == 2))
    assert run_threads(3, lambda comm: choose_reduction(comm, network, 4 * network.n_parameters)) == ["overlap"] * 3
    said = "/dev/shm of .* has 1 MB free, 2 MB are needed: make it larger .docker run --shm-size., or --reduction"
    with pytest.raises(UserError, match=said):
        run_threads(3, lambda comm: gradient_reducer(comm, network, "shared", batch_size=96))


@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.integers(1, 60))
def test_stretches_cover_the_parameters_between_units(sizes, parts):
    network = Network(sizes)
    found = shards(unit_edges(network), parts)
    assert len(found) == parts and found[0].start == 0 and found[-1].stop == network.n_parameters
    assert all(a.stop == b.start and a.start <= a.stop for a, b in zip(found, found[1:], strict=False))
    for cut in {s.start for s in found}:
        layer = next((x for x in network.layers if x.weights.start <= cut < x.weights.stop), None)
        assert layer is None or (cut - layer.weights.start) % layer.fan_in == 0


def test_stretches_are_about_equal():
    network = Network([784, 1024, 1024, 10])
    for parts in (2, 3, 8):
        lengths = [s.stop - s.start for s in shards(unit_edges(network), parts)]
        assert max(lengths) < 1.01 * network.n_parameters / parts


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown reduction 'ring': one of auto, allreduce, overlap, shared"):
        trainer(SerialCommunicator(), reduction="ring")
