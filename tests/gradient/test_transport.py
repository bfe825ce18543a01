"""Transport: pieces of a vector are summed while other things happen, in 32 or in 16 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp import run_threads
from distbp.gradient.transport import Transport, from_bf16, to_bf16

PRECISION = {"none": 2.0**-23, "bf16": 2.0**-8, "fp16": 2.0**-11}
each_kind = pytest.mark.parametrize("kind", PRECISION)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_subnormal=False), min_size=1))
def test_bf16_rounds_to_the_nearest(values):
    x = np.array(values, np.float32)
    back = from_bf16(to_bf16(x))
    small = np.abs(x) < 3.38e38  # beyond, the nearest is infinity
    assert np.all(np.abs(back[small] - x[small]) <= 2.0**-8 * np.abs(x[small]))
    assert np.array_equal(from_bf16(to_bf16(back)), back)


def test_bf16_keeps_what_is_not_finite():
    x = np.array([np.inf, -np.inf, np.nan, -np.nan, 0.0, -0.0, 1.5, -3.0], np.float32)
    np.testing.assert_array_equal(from_bf16(to_bf16(x)), x)


def vectors(comm, n, scale=1e-2):
    """What each rank contributes, and the sum."""
    parts = [np.random.default_rng(rank).normal(0, scale, n).astype(np.float32) for rank in range(comm.size)]
    return parts[comm.rank].copy(), np.sum(parts, axis=0, dtype=np.float64)


def send(comm, kind, n, cuts=()):
    """The transported sum of `vectors`, sent in pieces from the end."""
    transport = Transport(comm, kind)
    vector, total = vectors(comm, n)
    ends = [0, *cuts, n]
    for lo, hi in reversed(list(zip(ends, ends[1:], strict=False))):
        transport.start([vector], lo, hi)
    transport.wait()
    transport.close()
    return vector, total


def check(comm, kind, n, cuts=()):
    vector, total = send(comm, kind, n, cuts)
    # each rank rounds once, and so does who adds up
    bound = (comm.size + 1) * PRECISION[kind] * max(1e-12, np.abs(total).max() + 0.05)
    assert np.abs(vector - total).max(initial=0.0) <= bound
    assert len({tuple(v) for v in comm.allgather_obj(vector.view(np.uint32).tolist())}) == 1


@each_kind
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_threads_get_the_sum(kind, size, n):
    run_threads(size, lambda comm: check(comm, kind, n))


@each_kind
def test_pieces_are_independent(kind):
    run_threads(3, lambda comm: check(comm, kind, 1000, (1, 2, 500, 501, 999)))


@pytest.mark.ranks
@each_kind
@pytest.mark.parametrize("cuts", [(), (10_000, 20_001, 60_000, 60_001, 250_000)])
def test_ranks_get_the_sum_while_a_thread_looks_after_it(kind, cuts, comm):
    for _ in range(3):
        check(comm, kind, 300_000, cuts)


@pytest.mark.ranks
def test_pieces_are_used_again_and_again(comm):
    transport = Transport(comm)
    for step in range(30):
        vector = np.full(5000, float(step), np.float64)
        for lo in range(4000, -1, -1000):
            transport.start([vector], lo, lo + 1000)
        transport.wait()
        assert np.all(vector == step * comm.size)
    transport.close()


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_what_rounding_loses_comes_later(kind):
    """The mean of many transported sums of the same gradients is far nearer than one of them."""

    def errors(comm):
        transport = Transport(comm, kind)
        found = []
        for _ in range(200):
            vector, total = vectors(comm, 300)
            transport.start([vector], 0, 300)
            transport.wait()
            found.append(vector - total)
        return np.abs(found[0]).max(), np.abs(np.mean(found, axis=0)).max()

    for once, many in run_threads(3, errors):
        assert many < once / 20


def test_what_was_kept_back_can_be_forgotten():
    def twice(comm, forget):
        transport = Transport(comm, "bf16")
        out = []
        for _ in range(2):
            vector, _ = vectors(comm, 100)
            transport.start([vector], 0, 100)
            transport.wait()
            out.append(vector)
            if forget:
                transport.forget()
        return np.array_equal(*out)

    assert run_threads(2, lambda comm: twice(comm, True)) == [True, True]
    assert run_threads(2, lambda comm: twice(comm, False)) == [False, False]


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_what_is_not_finite_arrives_and_is_forgotten(kind):
    def poisoned(comm):
        transport = Transport(comm, kind)
        vector = np.full(10, np.nan if comm.rank == 1 else 1.0, np.float32)
        transport.start([vector], 0, 10)
        with np.errstate(invalid="ignore"):
            transport.wait()
        assert np.isnan(vector).all()
        transport.forget()
        vector[:] = 1.0
        transport.start([vector], 0, 10)
        transport.wait()
        assert np.all(vector == comm.size)

    run_threads(3, poisoned)


def test_what_cannot_be_compressed_or_is_unknown():
    def double(comm):
        with pytest.raises(ValueError, match="compression is for float32, not float64"):
            Transport(comm, "bf16").start([np.zeros(4)], 0, 4)

    run_threads(2, double)
    with pytest.raises(ValueError, match="unknown compression 'zip': one of none, bf16, fp16"):
        run_threads(1, lambda comm: Transport(comm, "zip"))
