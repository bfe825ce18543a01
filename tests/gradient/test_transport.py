"""Transport: pieces of a vector are summed while other things happen, in 32 or in 16 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transport_contract import check, each_kind, vectors

from distbp import run_threads
from distbp.gradient.bf16 import from_bf16, to_bf16
from distbp.gradient.transport import Transport


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


@each_kind
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_threads_get_the_sum(kind, size, n):
    run_threads(size, lambda comm: check(comm, kind, n))


@each_kind
def test_pieces_are_independent(kind):
    run_threads(3, lambda comm: check(comm, kind, 1000, (1, 2, 500, 501, 999)))


@pytest.mark.parametrize("kind", ["bf16"])
def test_what_rounding_loses_comes_later(kind):
    """The mean of many transported sums of the same gradients is far nearer than one of them."""

    def errors(comm):
        transport = Transport(comm, bf16=kind == "bf16")
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
        transport = Transport(comm, bf16=True)
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


@pytest.mark.parametrize("kind", ["bf16"])
def test_what_is_not_finite_arrives_and_is_forgotten(kind):
    def poisoned(comm):
        transport = Transport(comm, bf16=kind == "bf16")
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


def test_what_cannot_be_compressed():
    def double(comm):
        with pytest.raises(ValueError, match="compression is for float32, not float64"):
            Transport(comm, bf16=True).start([np.zeros(4)], 0, 4)

    run_threads(2, double)
