"""Matrices of low rank in place of the gradient: against the algorithm as its paper has it, and its bounds."""

import numpy as np
import pytest
from flat import flat_trainer
from toy_training import data

from distbp import Network, SerialCommunicator, SoftmaxCrossEntropy, UserError, run_threads
from distbp.gradient.choose import gradient_reducer
from distbp.gradient.low_rank import LowRank
from distbp.gradient.transport import Transport
from distbp.optim.rules import make_optimizer

SHAPES = [(40, 30), (40,), (24, 50), (3, 4)]
"""Two matrices that become small, a bias, and a matrix that would not."""


def of_rank(rank, step, shapes=SHAPES):
    rng = np.random.default_rng([rank, step])
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def send(comm, steps, rank=2, gradients=of_rank):
    """What the pieces are after each step, and the sender."""
    pieces = [np.zeros(shape, np.float32) for shape in SHAPES]
    sender, found = LowRank(Transport(comm), pieces, rank), []
    start = [factors.Q.copy() for factors in sender._factors]
    for step in range(steps):
        for piece, gradient in zip(pieces, gradients(comm.rank, step), strict=True):
            piece[...] = gradient
        sender.wait()
        found.append([piece.copy() for piece in pieces])
    return found, start, sender


def powersgd(size, steps, Q, k):
    """Algorithm 2 of the paper for matrix number k, in float64; sums where it has means. Yield what is decompressed."""
    errors = [np.zeros(SHAPES[k]) for _ in range(size)]
    Q = Q.astype(np.float64)
    for step in range(steps):
        deltas = [of_rank(rank, step)[k] + errors[rank] for rank in range(size)]
        P = sum(delta @ Q for delta in deltas)
        P, _ = np.linalg.qr(P)
        Q = sum(delta.T @ P for delta in deltas)
        whole = P @ Q.T
        errors = [delta - whole / size for delta in deltas]
        yield whole


@pytest.mark.parametrize("size", [2, 3, 4])
def test_it_is_the_algorithm_of_the_paper(size):
    results = run_threads(size, lambda comm: send(comm, 6)[:2])
    for found, start in results:
        for number, k in enumerate((0, 2)):
            for step, whole in enumerate(powersgd(size, 6, start[number], k)):
                np.testing.assert_allclose(found[step][k], whole, rtol=1e-3, atol=1e-3)
        for ours, others in zip(found[-1], results[0][0][-1], strict=True):
            assert np.array_equal(ours, others)


def test_what_is_small_travels_as_it_is():
    for found, _ in run_threads(3, lambda comm: send(comm, 2)[:2]):
        for k in (1, 3):
            np.testing.assert_allclose(found[1][k], sum(of_rank(rank, 1)[k] for rank in range(3)), rtol=1e-5)


def test_a_sum_of_that_rank_is_whole():
    """The columns of P span those of the sum, whatever Q."""

    def two_columns(rank, step):
        return [np.outer(a, b) if len(shape) == 2 else a for shape, (a, b) in zip(SHAPES, vectors(rank), strict=True)]

    def vectors(rank):
        rng = np.random.default_rng(rank)
        return [[rng.standard_normal(n).astype(np.float32) for n in (*shape, 1)[:2]] for shape in SHAPES]

    for found, *_ in run_threads(2, lambda comm: send(comm, 1, 2, two_columns)[:2]):
        for piece, a, b in zip(found[0], two_columns(0, 0), two_columns(1, 0), strict=True):
            np.testing.assert_allclose(piece, a + b, atol=1e-5)


def test_what_is_left_out_comes_later():
    """The mean of many sums of the same gradients is far nearer than one of them."""

    def errors(comm):
        found, *_ = send(comm, 200, 2, lambda rank, step: of_rank(rank, 0))
        total = sum(of_rank(rank, 0)[0] for rank in range(3))
        return np.abs(found[0][0] - total).max(), np.abs(np.mean([f[0] for f in found], axis=0) - total).max()

    for once, many in run_threads(3, errors):
        assert many < once / 10


def test_what_was_left_out_can_be_forgotten():
    def twice(comm, forget):
        first, _, sender = send(comm, 1)
        if forget:
            sender.forget()
        for factors, gradient in zip(sender._factors, (of_rank(comm.rank, 0)[k] for k in (0, 2)), strict=True):
            factors.gradient[...] = gradient
        sender.wait()
        return np.array_equal(sender._factors[0].gradient, first[0][0])

    assert run_threads(2, lambda comm: twice(comm, True)) == [True, True]
    assert run_threads(2, lambda comm: twice(comm, False)) == [False, False]


def test_what_is_not_finite_arrives_and_is_forgotten():
    def poisoned(comm):
        gradients = of_rank(comm.rank, 0)
        if comm.rank == 1:
            gradients[0][0, 0] = np.nan
        found, _, sender = send(comm, 1, 2, lambda rank, step: gradients)
        sender.forget()
        sender._factors[0].gradient[...] = of_rank(comm.rank, 0)[0]
        sender.wait()
        return np.isfinite(found[0][0]).all(), np.isfinite(sender._factors[0].gradient).all()

    with np.errstate(invalid="ignore"):
        assert run_threads(2, poisoned) == [(False, True)] * 2


def test_hosts_whose_products_differ_are_refused(monkeypatch):
    def refused(comm):
        pieces = [np.zeros((40, 30), np.float32)]
        monkeypatch.setattr(LowRank, "_try_out", lambda self: f"bits of {self.transport.comm.rank}")
        with pytest.raises(UserError, match="last bits"):
            LowRank(Transport(comm), pieces, 2)

    run_threads(2, refused)


def test_what_does_not_go_is_refused():
    def reducer(comm, **options):
        return gradient_reducer(comm, Network([7, 16, 4]), batch_size=8, **options)

    serial = SerialCommunicator()
    with pytest.raises(ValueError, match="unknown compression 'zip': one of none, bf16, low-rank"):
        reducer(serial, compress="zip")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        reducer(serial, compress="low-rank", compress_rank=0)
    with pytest.raises(ValueError, match="not in exact mode"):
        reducer(serial, compress="low-rank", leaves=2)

    def double(comm):
        with pytest.raises(ValueError, match="for float32"):
            LowRank(Transport(comm), [np.zeros((40, 30))], 2)

    run_threads(2, double)


@pytest.mark.parametrize(
    ("reduction", "size", "per_host"),
    [("allreduce", 3, None), ("overlap", 2, 1), ("shared", 4, 2), ("shared", 3, 2)],
)
def test_replicas_stay_equal_and_learn(reduction, size, per_host):
    """All that is sent is of rank 2: the loss still falls as far as without, and the parameters are the same."""

    def run(comm, **options):
        network = Network([7, 64, 64, 4], "tanh", seed=3)
        rows = data()
        rows._ready = tuple(part.astype(np.float32) if part.dtype == np.float64 else part for part in rows._ready)
        t = flat_trainer(
            network, SoftmaxCrossEntropy(), make_optimizer("sgd", 0.1), rows, comm=comm, batch_size=37,
            **options,
        )  # fmt: skip
        before = t.evaluate(rows)["loss"]
        t.fit(steps=100)
        text = t.reducer.describe() if comm.is_root else ""
        return network.theta.copy(), before, t.evaluate(rows)["loss"], text

    options = {"reduction": reduction, "compress": "low-rank", "compress_rank": 2}
    _, before, without, _ = run(SerialCommunicator())
    results = run_threads(size, lambda comm: run(comm, **options), ranks_per_host=per_host)
    for theta, _, after, _ in results:
        assert np.array_equal(theta, results[0][0])
        assert after - without < 0.1 * (before - without)
    assert "as matrices of rank 2" in results[0][3]
