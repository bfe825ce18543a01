"""Exact mode: equal to the last bit on any number of ranks, hosts, and by any reduction."""

from dataclasses import replace

import numpy as np
import pytest
from exact_training import KINDS, LEAVES, STEPS, alone, exact_sums, run  # noqa: F401
from flat import flat_trainer
from grids import combinations, examples
from hypothesis import assume, given
from hypothesis import strategies as st
from toy_training import B, data, trainer

from distbp import SGD, Checkpoints, Network, SerialCommunicator, SoftmaxCrossEntropy, run_threads
from distbp.gradient.choose import gradient_reducer
from distbp.gradient.data_parallel import DataParallel
from distbp.gradient.pace import row_numbers
from distbp.gradient.tree import add_up, additions, children, nodes
from distbp.gradient.unit_parallel import UnitParallel
from distbp.network.activations import ACTIVATIONS
from distbp.network.losses import LOSSES, make_loss
from distbp.optim.rules import OPTIMIZERS, make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")
PLACES = [(2, None), (3, None), (4, 2), (5, 2), (7, 3), (8, None), (4, 1), (12, 5)]
"""Ranks, and ranks to a host; 12 ranks are more than there are leaves."""
# --- the tree -----------------------------------------------------------------------------------------


@given(st.integers(2, 70))
def test_the_left_child_has_a_power_of_two_of_the_leaves(n):
    (lo, middle), right = children((5, 5 + n))
    assert lo == 5 and right == (middle, 5 + n)
    assert (middle - 5).bit_count() == 1 and n / 2 <= middle - 5 < n


@given(st.integers(1, 40), st.integers(1, 12))
def test_whoever_has_which_leaves_the_sum_is_the_same(leaves, parts):
    rng = np.random.default_rng(leaves)
    values = {(leaf, leaf + 1): rng.standard_normal(3) * 10.0 ** rng.integers(-8, 8) for leaf in range(leaves)}
    wanted = add_up(values, (0, leaves))
    bounds = [leaves * part // parts for part in range(parts + 1)]
    known = {}
    for share in zip(bounds, bounds[1:], strict=False):
        for node in nodes(share, (0, leaves)):
            known[node] = add_up(values, node)
    assert sum(hi - lo for lo, hi in known) == leaves
    assert np.array_equal(add_up(known, (0, leaves)), wanted)


def test_other_orders_give_other_bits():
    """Else the tests below would show nothing."""
    values = np.random.default_rng(0).standard_normal((8, 100))
    tree = add_up({(i, i + 1): values[i] for i in range(8)}, (0, 8))
    assert np.count_nonzero(tree != np.add.accumulate(values)[-1]) > 50


@given(st.integers(2, 40), st.integers(1, 12))
def test_operations_add_up_in_the_order_of_the_tree(leaves, parts):
    """Also where the sum goes to the place of one that is given."""
    rng = np.random.default_rng(leaves)
    values = {(leaf, leaf + 1): rng.standard_normal(3) * 10.0 ** rng.integers(-8, 8) for leaf in range(leaves)}
    wanted = add_up(values, (0, leaves))
    out = values[min(parts, leaves - 1), min(parts, leaves - 1) + 1]
    scratch = [(np.empty(5), np.empty(5)) for _ in range(leaves.bit_length())]
    for function, arguments in additions(values, (0, leaves), out, scratch):
        function(*arguments)
    assert np.array_equal(out, wanted)


def test_nobody_writes_what_is_given():
    values = {(leaf, leaf + 1): np.ones(2) for leaf in range(6)}
    out = values[0, 1]
    assert add_up(values, (0, 6), out) is out and out.tolist() == [6, 6]
    assert all((values[leaf, leaf + 1] == 1).all() for leaf in range(1, 6))


# --- training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "leaves", "whole_batch"),
    [
        (8, 8, True), (14, 7, True), (16, 8, False), (15, 5, True), (15, 4, False), (15, 1, True), (16, 1, False),
    ],
)  # fmt: skip
def test_what_comes_together_is_what_is_less(batch_size, leaves, whole_batch):
    """1270 parameters and 120 activations and deltas a row: up to 15 rows, in leaves of equal length."""

    def kind(comm, apart=False):
        network = Network([10, 20, 20, 30], "relu")
        assert (network.n_parameters, row_numbers(network)) == (1270, 120)
        return type(gradient_reducer(comm, network, batch_size=batch_size, leaves=leaves, apart=apart).plan)

    wanted = UnitParallel if whole_batch else DataParallel
    assert {kind(SerialCommunicator()), *run_threads(3, kind)} == {wanted}
    assert kind(SerialCommunicator(), apart=True) == DataParallel


OPTIONS = [{}, {"micro_batch": 2, "bucket_bytes": 96}, {"leaves": 5, "activation": "gelu"}, {"leaves": 1}]


@pytest.mark.parametrize(
    ("sums", "place", "reduction", "options"),
    combinations(KINDS, PLACES, ["shared", "overlap", "allreduce"], OPTIONS),
    indirect=["sums"],
)
def test_the_bits_are_those_of_one_process(sums, place, reduction, options):
    size, per_host = place
    wanted = alone(sums=sums, **options)
    for result in run_threads(size, lambda comm: run(comm, reduction=reduction, **options), ranks_per_host=per_host):
        assert result == wanted


@pytest.mark.parametrize(
    ("sums", "hosts", "leaves"),
    combinations(KINDS, [[0, 1, 0, 1], [0, 1, 1, 0], [0, 1, 0, 2, 1, 0, 0], [2, 1, 0]], [5, 6, 8]),
    indirect=["sums"],
)
def test_ranks_in_any_order_on_hosts_of_any_size(sums, hosts, leaves):
    wanted = alone(sums=sums, leaves=leaves, bucket_bytes=96)
    results = run_threads(
        len(hosts), lambda comm: run(comm, leaves=leaves, reduction="shared", bucket_bytes=96), hosts=hosts
    )
    assert all(result == wanted for result in results)


@pytest.mark.usefixtures("sums")
@pytest.mark.parametrize(
    ("sums", "name", "dtype", "place"),
    combinations(KINDS, OPTIMIZERS, [np.float32, np.float64], [(2, None), (3, None), (5, 2)]),
    indirect=["sums"],
)
def test_every_optimizer(name, dtype, place):
    """Networks whose layers are many tiles, cut at other places by other numbers of ranks."""
    size, per_host = place
    rows = data()
    rows.dtype = np.dtype(dtype)
    rows._ready = tuple(x if x.dtype.kind == "i" else x.astype(dtype) for x in rows._ready)

    def train(comm):
        network = Network([7, 64, 32, 4], "relu", dtype=dtype, seed=3)
        t = flat_trainer(
            network, SoftmaxCrossEntropy(), make_optimizer(name, 0.01, weight_decay=1e-2), rows, comm=comm,
            batch_size=B, leaves=4, clip_norm=0.5,
        )  # fmt: skip
        t.fit(steps=8)
        return network.theta.tobytes()

    alone = train(SerialCommunicator())
    assert set(run_threads(size, train, ranks_per_host=per_host)) == {alone}


@examples(150)
@given(
    st.lists(st.sampled_from([1, 2, 3, 5, 8, 17, 64]), max_size=2),
    st.sampled_from(LOSSES),
    st.sampled_from(list(ACTIVATIONS)), st.sampled_from([np.float32, np.float64]), st.sampled_from([0.0, 0.2]),
    st.integers(1, 6), st.integers(0, 60), st.booleans(),
)  # fmt: skip
def test_any_network_and_loss_on_any_ranks(hidden, loss, activation, dtype, dropout, v, more, whole_batch):
    """Where leaves have products of their own, they have the same bits at once and apart."""
    assume((2 * v + more) // v not in hidden)  # or some leaves apart would be stored otherwise
    classes = loss == "softmax-cross-entropy"
    rows = data("classes" if classes else "values")
    rows.dtype = np.dtype(dtype)
    X, y, w = rows._ready
    y = y if classes else (y[:, : 1 + v % 2] > 0).astype(dtype)  # one output, or two
    rows._ready = X.astype(dtype), y, w.astype(dtype)
    if not classes:
        rows.target = replace(rows.target, names=rows.target.names[: y.shape[1]])

    def train(comm):
        network = Network([7, *hidden, 4 if classes else y.shape[1]], activation, dropout=dropout, dtype=dtype)
        t = flat_trainer(
            network, make_loss(loss), SGD(0.1), rows, comm=comm, batch_size=2 * v + more, leaves=v, noise_every=1
        )
        t.fit(steps=3)
        return getattr(t.reducer.plan, "_apart", False), (network.theta.tobytes(), t.log.state.sums, t.noise.state.sums)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distbp.gradient.choose.shares_units", lambda *_: whole_batch)
        patch.setattr("distbp.gradient.unit_parallel._CELL_UNITS", 4)
        patch.setattr("distbp.gradient.unit_parallel._LEAF_ROWS", [2, 16][more % 2])
        (together, alone), of_ranks = train(SerialCommunicator()), run_threads(3, train)
        if whole_batch:
            of_ranks += run_threads(3, train, ranks_per_host=2)
        else:
            patch.setattr("distbp.trainer.options.LOSSES", ())
            of_ranks.append(train(SerialCommunicator()))
            assert of_ranks[-1][0]
    assert not together
    assert [of_rank for _, of_rank in of_ranks] == [alone] * len(of_ranks)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("outputs", [2, 20, 100])
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_row_does_not_depend_on_the_rows_beside_it(name, outputs, dtype):
    """Where an array is large, NumPy takes its memory for the next one, with the order of what lies in it."""
    rng, loss = np.random.default_rng(0), make_loss(name)
    z = np.asfortranarray(rng.standard_normal((2000, outputs)), dtype)
    classes = name == "softmax-cross-entropy"
    y = rng.integers(0, outputs, 2000) if classes else rng.integers(0, 2, (2000, outputs)).astype(dtype)

    def both(rows):
        delta = z[rows].copy(order="F")
        return loss.value(delta, y[rows], delta=delta), delta

    whole, parts = both(slice(None)), [both(slice(lo, lo + 125)) for lo in range(0, 2000, 125)]
    for all_rows, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        assert all_rows.tobytes() == np.concatenate(of_parts).tobytes()


@pytest.fixture
def narrow_tiles(monkeypatch):
    monkeypatch.setattr("distbp.gradient.data_parallel._BLOCK_BYTES", 256)
    monkeypatch.setattr("distbp.gradient.data_parallel._PRODUCT_BYTES", 1024)
    monkeypatch.setattr("distbp.gradient.unit_parallel._SECTION_BYTES", 256)
    monkeypatch.setattr("distbp.gradient.unit_parallel._CELL_UNITS", 4)


@pytest.mark.usefixtures("narrow_tiles", "sums")
def test_many_tiles():
    wanted = run(SerialCommunicator())
    for size, per_host in PLACES:
        assert run_threads(size, run, ranks_per_host=per_host)[0] == wanted


@pytest.mark.usefixtures("sums")
def test_a_norm_whose_square_float32_does_not_hold():
    rows = data()
    rows.dtype = np.dtype(np.float32)
    X, y, w = rows._ready
    rows._ready = ((X * 1e22).astype(np.float32), y, w.astype(np.float32))

    def norm(comm, **options):
        network = Network([7, 64, 4], "relu", seed=3)
        t = flat_trainer(network, SoftmaxCrossEntropy(), SGD(1e-30), rows, comm=comm, batch_size=B, **options)
        t.fit(steps=1)
        return t.latest.grad_norm

    alone = norm(SerialCommunicator(), leaves=4)
    assert alone == pytest.approx(norm(SerialCommunicator()), rel=1e-5) and alone > 1e20
    for reduction in "shared", "overlap":
        assert set(run_threads(3, lambda comm, r=reduction: norm(comm, leaves=4, reduction=r))) == {alone}


@pytest.mark.parametrize("reduction", ["shared", "overlap", "allreduce"])
def test_gradients_begin_where_dot_products_have_the_same_bits(reduction):
    """On processors without AVX those of float64 depend on whether an address is a multiple of 16."""

    def address(comm):
        reducer = gradient_reducer(comm, Network([2, 3, 3], dtype=np.float64), reduction, batch_size=60, leaves=4)
        assert reducer.network.n_parameters % 2
        return reducer.network.grad.ctypes.data % 16

    assert {address(SerialCommunicator()), *run_threads(3, address)} == {0}


@pytest.mark.usefixtures("sums")
def test_the_mathematics_is_that_of_every_other_mode():
    exact = np.frombuffer(run(SerialCommunicator())[0])
    t = trainer(SerialCommunicator())
    t.fit(steps=STEPS)
    np.testing.assert_allclose(exact, t.network.theta, rtol=1e-10, atol=1e-12)
    assert exact.tobytes() != t.network.theta.tobytes()


@pytest.mark.usefixtures("sums")
def test_a_run_that_goes_on_elsewhere_has_the_same_bits(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    def part(comm, steps):
        t = trainer(comm, leaves=LEAVES, checkpoints=checkpoints, checkpoint_every=0)
        t.resume()
        t.fit(steps=steps)
        return t.network.theta.tobytes()

    whole = run(SerialCommunicator(), steps=30)[0]
    for size, steps in (3, 7), (1, 13), (8, 29):
        run_threads(size, lambda comm, steps=steps: part(comm, steps))
    assert part(SerialCommunicator(), 30) == whole


def test_the_pace_of_a_rank_is_judged_by_its_cells():
    """Four cells a layer, of which the first of three ranks has two; of one cell the last has too little."""

    def work(comm, leaves):
        return gradient_reducer(comm, Network([16, 512, 512, 8]), batch_size=8, leaves=leaves).plan.work(8)

    first, *others = run_threads(3, lambda comm: work(comm, 4))
    assert first + sum(others) == pytest.approx(8) and all(1.5 < other < first for other in others)
    assert run_threads(3, lambda comm: work(comm, 1))[-1] == 0
    assert work(SerialCommunicator(), 4) == 8


def test_compression_is_refused():
    with pytest.raises(ValueError, match="not in exact mode"):
        trainer(SerialCommunicator(), leaves=2, compress="bf16")


def test_a_batch_has_leaves():
    with pytest.raises(ValueError, match="at least 1 leaf"):
        gradient_reducer(SerialCommunicator(), Network([2, 1]), batch_size=4, leaves=0)
