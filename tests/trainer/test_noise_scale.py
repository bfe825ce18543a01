"""The gradient noise scale: its estimates against the definition, gradient by gradient."""

from fractions import Fraction
from functools import partial
from itertools import combinations

import numpy as np
import pytest
from flat import flat_trainer
from function_twins import twin
from hypothesis import given
from hypothesis import strategies as st
from noise_by_rows import WAYS, all_logged, assert_is, by_definition, data, expected, logged, one_by_one

from distbp import (
    SGD,
    Checkpoints,
    FunctionModel,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    run_threads,
)  # fmt: skip
from distbp.blocks import block_bounds
from distbp.trainer.noise_scale import averaged, estimate, figures


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_give_the_definition(size, options):
    """Sample weights, uneven shards, units shared or not."""
    for record in run_threads(size, partial(logged, **options)):
        assert_is(record, expected())


def test_dropout_and_activations_that_keep_z(rng):
    for activation in "relu", "gelu":
        net = Network([7, 16, 12, 4], activation, dtype=np.float64, seed=3)
        rows = data()
        sampler = flat_trainer(net, SoftmaxCrossEntropy(), SGD(0.0), rows, batch_size=20, seed=11).sampler
        wanted = by_definition(one_by_one(net, SoftmaxCrossEntropy(), rows, sampler.batch(0).rows(0, 1)))
        assert_is(logged(SerialCommunicator(), net, batch=20), wanted)


def groups_of(gradients, sizes):
    """sum n |g|^2 over groups in a row, and the figures that follow."""
    cuts = np.cumsum([0, *sizes])
    means = [gradients[lo:hi].mean(axis=0) for lo, hi in zip(cuts, cuts[1:], strict=False)]
    squares = sum(n * (g @ g) for n, g in zip(sizes, means, strict=True))
    mean = gradients.mean(axis=0)
    return estimate(squares, len(sizes), len(gradients), mean @ mean)


@pytest.mark.parametrize(
    ("options", "size", "groups"),
    [
        ({}, 3, 3),
        ({"reduction": "allreduce"}, 2, 2),
        ({"leaves": 5}, 1, 5),
        ({"leaves": 5}, 3, 5),
        ({"micro_batch": 10}, 1, 4),
    ],
)
def test_shards_leaves_and_micro_batches_of_function_models(options, size, groups):
    """A network of the user's has no deltas of layers: groups of rows it is."""
    rows, loss = data(), SoftmaxCrossEntropy()
    sampler = flat_trainer(twin()[1], loss, SGD(0.0), rows, batch_size=37, seed=11).sampler
    bounds = [block_bounds(37, k, groups) for k in range(groups)]
    of = [10, 10, 10, 7] if "micro_batch" in options else [hi - lo for lo, hi in bounds]
    gradients = one_by_one(twin()[1], loss, rows, sampler.batch(0).rows(0, 1))
    wanted = groups_of(gradients, of)

    def run(comm):
        return logged(comm, twin()[1], **options)

    for record in run_threads(size, run):
        assert_is(record, wanted)


def test_one_group_tells_nothing():
    assert "noise_trace" not in logged(SerialCommunicator(), twin()[1])
    assert isinstance(twin()[1], FunctionModel)


@given(st.lists(st.integers(-5, 5), min_size=5, max_size=6), st.integers(2, 4))
def test_the_mean_over_all_batches_is_exact(numbers, batch):
    """Every batch without replacement of a tiny set, in rational arithmetic."""
    g = [Fraction(n) for n in numbers]
    mean = sum(g) / len(g)
    scatter = sum((x - mean) ** 2 for x in g) / (len(g) - 1)
    found = []
    for chosen in combinations(g, batch):
        inner = sum(chosen) / batch
        trace = (sum(x * x for x in chosen) - batch * inner**2) / (batch - 1)
        found.append((trace, inner**2 - trace / batch))
    assert sum(t for t, _ in found) / len(found) == scatter
    assert sum(s for _, s in found) / len(found) == mean**2 - scatter / len(g)


def test_a_quadratic_with_known_covariance(rng):
    """Gradients with mean G and covariance Sigma: the scale is found within two per cent."""
    G, deviations = rng.standard_normal(12), rng.uniform(0.5, 2.0, 12)
    sums = [0.0, 0.0, 0.0]
    total = np.zeros(3)
    for _ in range(4000):
        g = G + deviations * rng.standard_normal((16, 12))
        mean = g.mean(axis=0)
        trace, square = estimate(np.sum(g * g), 16, 16, mean @ mean)
        sums = averaged(sums, trace, square)
        total += (trace, square, 1.0)
    truth = np.sum(deviations**2) / (G @ G)
    assert total[0] / total[1] == pytest.approx(truth, rel=0.02)
    assert figures(sums)["noise_scale"] == pytest.approx(truth, rel=0.3)  # of about the last twenty


def test_figures_where_there_is_nothing_to_divide_by():
    assert figures([0.0, 0.0, 0.0]) == {}
    assert "noise_scale" not in figures(averaged([0.0] * 3, 2.0, -1.0))


def test_exact_mode_logs_the_same_numbers_on_any_number_of_ranks():
    records = [run_threads(size, partial(logged, leaves=6, steps=5))[0] for size in (1, 2, 3)]
    values = [[r[k] for k in ("noise_trace", "noise_square")] for r in records]
    assert values[0] == values[1] == values[2]


def numbers_of(record):
    return [record.get(name) for name in ("noise_trace", "noise_square")]


def test_micro_batches_of_shared_units_are_counted_before_they_are_overwritten():
    """The ranks of a host share a tape: who is ahead waits, or what is squared belongs to the rows that come next."""

    def estimated(comm):
        model = Network([7, 160, 130, 4], "tanh", dtype=np.float64, seed=3)
        record = logged(comm, model, batch=60, steps=20, leaves=4, micro_batch=8, reduction="shared")
        return record["noise_trace"], record["noise_square"]

    alone = estimated(SerialCommunicator())
    for _ in range(3):
        assert run_threads(3, estimated) == [alone] * 3


def test_estimates_in_some_steps_only():
    """None before the first, and then that of the last one."""
    traces = [r.get("noise_trace") for r in all_logged(SerialCommunicator(), noise_every=4, steps=8)]
    assert traces[:3] == [None] * 3 and None is not traces[3] == traces[4] == traces[6] != traces[7]
    assert not any("noise_trace" in r for r in all_logged(SerialCommunicator(), noise_every=0, steps=8))


def test_a_step_that_is_skipped_leaves_no_estimate():
    rows = data()
    sampler = flat_trainer(Network([7, 4]), SoftmaxCrossEntropy(), SGD(0.0), rows, batch_size=37, seed=11).sampler
    rows._ready[0][sampler.batch(3).rows()[0]] = np.nan
    records = all_logged(SerialCommunicator(), rows=rows, steps=4, on_nonfinite="skip")
    before, after = [numbers_of(r) for r in records if "skipped" not in r and r["step"] in (3, 4)]
    assert before == after and None not in before


def test_estimates_go_on_through_stops_on_any_number_of_ranks(tmp_path):
    whole = all_logged(SerialCommunicator(), leaves=6, steps=9)
    for size, steps in (3, 2), (1, 5), (2, 9):
        part = partial(all_logged, leaves=6, steps=steps)
        records = run_threads(size, lambda comm, part=part: part(comm, checkpoints=Checkpoints(tmp_path)))[0]
        assert [numbers_of(r) for r in records] == [
            numbers_of(r) for r in whole if r["step"] in {r["step"] for r in records}
        ]
