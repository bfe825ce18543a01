"""Random numbers, permutations and batches: functions of what they are for, and of nothing else.

Some tests hold golden values. A run must be the same with every release of NumPy and on every machine, so these
values never change; a change here is a change of every run there was.
"""

import math
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from grids import examples
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from distbp import BatchSampler, Epochs, Permutation
from distbp.blocks import block_bounds
from distbp.randomness import bits, key, normal, uniform

repeatable = examples(100, derandomize=True, database=None)
seeds = st.integers()
HUGE = 10**15
GOLDEN_BITS = [0, 16294208416658607535, 17827707151282050795]
GOLDEN_UNIFORM = [0.7645444158857556, 0.029786226201744426, 0.008157780382681445]
GOLDEN_NORMAL = [0.3278532519503937, -0.5723853989346732, 0.031721073777903015]


@st.composite
def samplers(draw, drop_last=None):
    n = draw(st.integers(1, 600))
    batch_size = draw(st.integers(1, n))
    return BatchSampler(
        n, batch_size, seed=draw(seeds), drop_last=draw(st.booleans()) if drop_last is None else drop_last
    )


def epoch_of(sampler, epoch=0):
    first = epoch * sampler.steps_per_epoch
    return np.concatenate([sampler.batch(first + i).rows() for i in range(sampler.steps_per_epoch)])


# --- random bits and numbers -------------------------------------------------------------------------


def test_bits_are_those_of_splitmix64():
    """The first outputs for seed 1234567, as published with the reference implementation."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert bits(1234567, np.arange(1, 6)).tolist() == published


def test_golden_bits_keys_and_numbers():
    assert bits(0, np.array([0, 1, 2**63 - 1])).tolist() == GOLDEN_BITS
    assert key(0, "epoch", 0) == 10652232389519956490
    assert key(1, "dropout", 2, 3) == 16944338484574570858
    assert uniform(key(0, "uniform"), np.arange(3)).tolist() == GOLDEN_UNIFORM
    np.testing.assert_allclose(normal(key(0, "normal"), np.arange(3)), GOLDEN_NORMAL, rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("function", [bits, uniform, normal])
def test_numbers_depend_on_key_and_counter_only_and_counters_are_untouched(function, dtype):
    counters = np.arange(100, dtype=dtype)
    whole = function(5, counters)
    order = np.random.default_rng(0).permutation(100)[:37]
    assert np.array_equal(function(5, counters[order]), whole[order])
    assert np.array_equal(counters, np.arange(100))
    assert not np.any(function(6, counters) == whole)
    assert function(5, counters[:0]).shape == (0,)


def test_keys_differ_by_seed_purpose_and_numbers():
    keys = [key(seed, "epoch") for seed in (0, 1, -1, 10, 10**30)]
    keys += [key(0, "epoch", *numbers) for numbers in ((0,), (1,), (12,), (1, 2), (2, 1))]
    keys += [key(0, "dropout"), key(0, "dropout", 1, 2), key(1, "0", 1)]
    assert len(set(keys)) == len(keys)
    assert all(0 <= k < 2**64 for k in keys)


def test_each_bit_is_set_half_of_the_time_and_changes_with_half_of_the_counters():
    n = 20000
    x = bits(key(3, "bits"), np.arange(n + 1))
    as_bits = np.unpackbits(x.view(np.uint8).reshape(-1, 8), axis=1)
    bound = 5 * 0.5 / math.sqrt(n)
    assert np.abs(as_bits.mean(axis=0) - 0.5).max() < bound
    assert np.abs((as_bits[1:] != as_bits[:-1]).mean(axis=0) - 0.5).max() < bound


@pytest.mark.parametrize("seed", range(3))
def test_uniform_numbers_are_uniform_and_uncorrelated(seed):
    u = uniform(key(seed, "u"), np.arange(100_000))
    assert 0.0 <= u.min() and u.max() < 1.0
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert abs(u.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / len(u))
    assert abs(u.var() * 12 - 1) < 4 * math.sqrt(0.8 / len(u))
    for lag in 1, 2, 7:
        assert abs(np.corrcoef(u[lag:], u[:-lag])[0, 1]) < 4 / math.sqrt(len(u))


@pytest.mark.parametrize("seed", range(3))
def test_normal_numbers_are_normal_and_uncorrelated(seed):
    z = normal(key(seed, "z"), np.arange(100_000))
    n = len(z)
    assert np.isfinite(z).all() and stats.kstest(z, "norm").pvalue > 1e-3
    for power, moment, variance in (1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96):
        assert abs(np.mean(z**power) - moment) < 4 * math.sqrt(variance / n)
    assert abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 4 / math.sqrt(n)


# --- permutations ------------------------------------------------------------------------------------


@repeatable
@given(n=st.integers(0, 3000), seed=seeds)
def test_a_permutation_is_a_bijection_and_its_inverse_inverts(n, seed):
    p, everything = Permutation(n, seed), np.arange(n)
    image = p(everything)
    assert image.dtype == np.int64 and np.array_equal(np.sort(image), everything)
    assert np.array_equal(p.inverse(image), everything)
    assert np.array_equal(p(p.inverse(everything)), everything)


@pytest.mark.parametrize("n", [*range(20), 63, 64, 65, 255, 256, 257, 1023, 1024, 1025])
def test_a_permutation_of_a_size_near_a_power_of_two(n):
    p = Permutation(n, seed=n)
    assert sorted(p(np.arange(n)).tolist()) == list(range(n))


@repeatable
@given(n=st.integers(1, 10**15), seed=seeds, data=st.data())
def test_a_piece_of_a_permutation_is_computed_alone(n, seed, data):
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), unique=True, max_size=20)), np.int64)
    p, before = Permutation(n, seed), places.copy()
    image = p(places)
    assert len(set(image.tolist())) == len(places) and all(0 <= row < n for row in image)
    assert np.array_equal(p.inverse(image), places) and np.array_equal(places, before)
    assert all(p(places[i : i + 1])[0] == image[i] for i in range(len(places)))


@pytest.mark.parametrize(
    ("n", "seed", "places", "golden"),
    [
        (10, 0, range(10), [6, 7, 2, 9, 0, 1, 4, 8, 5, 3]),
        (10, 1, range(10), [9, 1, 8, 7, 4, 6, 3, 5, 0, 2]),
        (10, -1, range(10), [4, 6, 9, 5, 2, 8, 1, 3, 7, 0]),
        (1000, 7, [0, 1, 2, 500, 998, 999], [493, 905, 429, 166, 225, 787]),
        (HUGE, 3, [0, 1, 10**14, HUGE - 1], [134947600464794, 556836313564873, 283069136621003, 683857553639467]),
    ],
)
def test_golden_permutations(n, seed, places, golden):
    assert Permutation(n, seed)(np.array(places)).tolist() == golden


@pytest.mark.parametrize(("n", "count"), [(2, 500), (3, 600), (4, 960), (5, 2400)])
def test_every_order_of_a_few_elements_is_as_frequent(n, count):
    number = {order: i for i, order in enumerate(permutations(range(n)))}
    found = [number[tuple(Permutation(n, seed)(np.arange(n)).tolist())] for seed in range(count)]
    assert stats.chisquare(np.bincount(found, minlength=len(number))).pvalue > 1e-3


def test_every_element_is_as_often_at_every_position_and_beside_every_other():
    n, count = 100, 1000
    images = np.array([Permutation(n, seed)(np.arange(n)) for seed in range(count)])
    table = np.zeros((n, n))
    np.add.at(table, (np.arange(n), images), 1)
    expected = count / n
    statistic = ((table - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, (n - 1) ** 2) > 1e-3 and stats.chi2.cdf(statistic, (n - 1) ** 2) > 1e-3
    gaps = np.bincount((np.diff(images, axis=1) % n).ravel(), minlength=n)
    assert gaps[0] == 0 and stats.chisquare(gaps[1:]).pvalue > 1e-3


def test_a_huge_permutation_spreads_over_the_whole_range():
    image = Permutation(HUGE, seed=2)(np.arange(20000))
    assert stats.kstest(image / HUGE, "uniform").pvalue > 1e-3
    assert len(np.unique(image)) == 20000
    assert abs(np.corrcoef(image[1:], image[:-1])[0, 1]) < 4 / math.sqrt(20000)


@pytest.mark.parametrize("n", [HUGE, 2**61 + 1, 2**62])
def test_huge_permutations_are_inverted(n):
    p, places = Permutation(n, seed=1), np.array([0, 1, n // 3, n - 1])
    image = p(places)
    assert image.min() >= 0 and image.max() < n and np.array_equal(p.inverse(image), places)


def test_a_negative_number_of_elements_is_refused():
    with pytest.raises(ValueError, match="-1 elements"):
        Permutation(-1, 0)


# --- blocks ------------------------------------------------------------------------------------------


@repeatable
@given(n=st.integers(0, 10**6), parts=st.integers(1, 300))
def test_blocks_cover_everything_and_differ_by_at_most_one(n, parts):
    bounds = [block_bounds(n, part, parts) for part in range(parts)]
    assert bounds[0][0] == 0 and bounds[-1][1] == n
    assert all(a[1] == b[0] for a, b in zip(bounds, bounds[1:], strict=False))
    sizes = [hi - lo for lo, hi in bounds]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


# --- batches -----------------------------------------------------------------------------------------


@repeatable
@given(sampler=samplers(drop_last=False), epoch=st.integers(0, 10**6))
def test_in_an_epoch_each_row_comes_once(sampler, epoch):
    assert np.array_equal(np.sort(epoch_of(sampler, epoch)), np.arange(sampler.n))
    assert sampler.rows_per_epoch == sampler.n
    sizes = [sampler.batch(i).size for i in range(sampler.steps_per_epoch)]
    assert all(size == sampler.batch_size for size in sizes[:-1]) and 1 <= sizes[-1] <= sampler.batch_size


@repeatable
@given(sampler=samplers(drop_last=True), epoch=st.integers(0, 10**6))
def test_with_drop_last_all_batches_are_whole_and_no_row_comes_twice(sampler, epoch):
    rows = epoch_of(sampler, epoch)
    whole = sampler.n // sampler.batch_size * sampler.batch_size
    assert len(rows) == whole == sampler.rows_per_epoch == len(set(rows.tolist()))
    assert 0 <= rows.min() and rows.max() < sampler.n
    assert all(sampler.batch(i).size == sampler.batch_size for i in range(sampler.steps_per_epoch))


@repeatable
@given(sampler=samplers(), ranks=st.integers(1, 50), data=st.data())
def test_any_number_of_ranks_takes_the_same_rows_in_the_same_order(sampler, ranks, data):
    step = data.draw(st.integers(0, 3 * sampler.steps_per_epoch))
    batch = sampler.batch(step)
    blocks = [batch.rows(rank, ranks) for rank in range(ranks)]
    assert np.array_equal(np.concatenate(blocks), batch.rows())
    sizes = [len(block) for block in blocks]
    assert sum(sizes) == batch.size and max(sizes) - min(sizes) <= 1
    assert batch.size >= ranks or sizes == [1] * batch.size + [0] * (ranks - batch.size)


@repeatable
@given(sampler=samplers(), data=st.data())
def test_a_batch_does_not_depend_on_what_was_asked_before(sampler, data):
    """Batches in any order, by any ranks: the window of rows computed ahead never shows."""
    for _ in range(8):
        step = data.draw(st.integers(0, 3 * sampler.steps_per_epoch - 1))
        size = data.draw(st.integers(1, 4))
        rank = data.draw(st.integers(0, size - 1))
        batch = sampler.batch(step)
        lo, hi = block_bounds(batch.size, rank, size)
        p = Permutation(sampler.n, key(sampler.seed, "epoch", step // sampler.steps_per_epoch))
        start = step % sampler.steps_per_epoch * sampler.batch_size
        assert np.array_equal(batch.rows(rank, size), p(np.arange(start + lo, start + hi)))


@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_long_epoch_passes_many_windows(size):
    sampler = BatchSampler(20_011, 7, seed=4)
    rows = [sampler.batch(i).rows(rank, size) for rank in range(size) for i in range(sampler.steps_per_epoch)]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(20_011))


def test_with_more_ranks_than_rows_the_others_take_none():
    batch = BatchSampler(10, 3).batch(0)
    assert [len(batch.rows(rank, 5)) for rank in range(5)] == [1, 1, 1, 0, 0]
    assert batch.rows(4, 5).dtype == np.int64


def test_epochs_and_seeds_differ():
    sampler = BatchSampler(200, 32, seed=1)
    orders = [epoch_of(sampler, epoch) for epoch in range(5)] + [epoch_of(BatchSampler(200, 32, seed=2))]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert np.mean(a == b) < 0.05
            assert set(a[:32]) != set(b[:32])


def test_steps_are_numbered_over_all_epochs():
    sampler = BatchSampler(10, 4)
    batches = [sampler.batch(step) for step in range(7)]
    assert [(b.step, b.epoch, b.index, b.start, b.size) for b in batches] == [
        (0, 0, 0, 0, 4), (1, 0, 1, 4, 4), (2, 0, 2, 8, 2), (3, 1, 0, 0, 4), (4, 1, 1, 4, 4), (5, 1, 2, 8, 2),
        (6, 2, 0, 0, 4),
    ]  # fmt: skip


def test_how_long_a_run_is():
    """Ten rows in batches of 4: three steps an epoch."""
    sampler = BatchSampler(10, 4)
    assert [sampler.total_steps(2, None), sampler.total_steps(None, 5), sampler.total_steps(2, 5)] == [6, 5, 5]
    assert sampler.total_steps(2, 50) == 6 and BatchSampler(10, 4, drop_last=True).total_steps(2, None) == 4
    assert (sampler.epochs(6), sampler.epochs(4)) == (2.0, 4 / 3)
    with pytest.raises(ValueError, match="say how long to train"):
        sampler.total_steps(None, None)


def test_what_is_due_after_so_many_steps_or_epochs():
    """Ten rows in batches of 5: two steps an epoch."""
    sampler = BatchSampler(10, 5)
    assert [step for step in range(1, 11) if sampler.due(Epochs(2), step)] == [4, 8]
    assert [step for step in range(1, 11) if sampler.due(Epochs(1), step)] == [2, 4, 6, 8, 10]
    assert [step for step in range(1, 21) if sampler.due(7, step)] == [7, 14]
    assert not any(sampler.due(0, step) for step in range(1, 21))
    with pytest.raises(ValueError, match="an interval has at least 1 epoch"):
        Epochs(0)


def test_golden_batches():
    sampler = BatchSampler(10, 4, seed=0)
    golden = [[4, 8, 7, 3], [9, 2, 0, 6], [1, 5], [4, 3, 7, 6], [9, 5, 1, 8], [2, 0]]
    assert [sampler.batch(step).rows().tolist() for step in range(6)] == golden
    last = [sampler.batch(1).rows(rank, 3).tolist() for rank in range(3)]
    assert last == [[9, 2], [0], [6]]


def test_huge_data_needs_no_more_memory_than_small_data():
    def peak(n):
        sampler = BatchSampler(n, 64, seed=1)
        tracemalloc.start()
        rows = [
            sampler.batch(step).rows(1, 2) for step in (0, sampler.steps_per_epoch // 2, sampler.steps_per_epoch - 1)
        ]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        rows = np.concatenate(rows)
        assert len(set(rows.tolist())) == len(rows) and 0 <= rows.min() and rows.max() < n
        return most

    peak(10**6)  # what is imported or cached once
    assert peak(HUGE) < 1.1 * peak(10**6) < 2e6


@pytest.mark.parametrize("batch_size", [0, -1, 11])
def test_bad_batch_sizes_are_refused(batch_size):
    with pytest.raises(ValueError, match=f"batch size {batch_size} with 10 training rows"):
        BatchSampler(10, batch_size)
