"""Embeddings are one-hot rows times a matrix, in both passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distbp import Network
from distbp.network.embedding import WIDTH, by_value, sums

VALUES = 30, 7


def example(n, seed=0, heavy=0):
    rng = np.random.default_rng(seed)
    X, codes = rng.standard_normal((n, 5)), np.column_stack([rng.integers(0, v, n) for v in VALUES])
    codes[:heavy, 0] = 3
    hot = [np.eye(v)[codes[:, j]] for j, v in enumerate(VALUES)]
    return np.hstack([X, codes]), X, hot, rng


@pytest.mark.parametrize("sizes", [[16, 8, 3], [3], [16, 2]])
@pytest.mark.parametrize(("n", "heavy"), [(40, 0), (40, 20), (1, 0)])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_it_is_the_network_of_one_hot_rows(sizes, n, heavy, dropout):
    coded, X, hot, rng = example(n, heavy=heavy)
    ours = Network([7, *sizes], "tanh", dtype=np.float64, embeddings=VALUES, dropout=dropout)
    dense = Network([5 + 2 * WIDTH, *sizes], "tanh", dtype=np.float64, dropout=dropout)
    dense.theta[:] = ours.theta[:] = rng.standard_normal(ours.theta.shape)
    for table in ours.embeddings:
        table[:] = rng.standard_normal(table.shape)
    a = np.hstack([X, *(one @ table for one, table in zip(hot, ours.embeddings, strict=True))])
    step = {"step": 3, "masked": np.arange(n)}
    z = ours.forward(coded, ours.own_pass(coded, **step))
    assert np.allclose(z, dense.forward(a, dense.own_pass(a, **step)), rtol=0, atol=1e-12)
    delta = rng.standard_normal(z.shape)
    ours.backward(delta)
    dense.backward(delta)
    assert np.allclose(ours.grad, dense.grad, rtol=1e-12, atol=1e-12)
    delta_0 = dense.part.tape.deltas[0] @ dense.layers[0].W.T
    for j, (values, gradient) in enumerate(ours.dembeddings):
        whole = np.zeros((VALUES[j], WIDTH))
        whole[values] = gradient
        wanted = hot[j].T @ delta_0[:, 5 + WIDTH * j : 5 + WIDTH * (j + 1)]
        assert np.allclose(whole, wanted, rtol=1e-12, atol=1e-12) and len(set(values)) == len(values)


def test_differences_agree():
    coded, _, _, rng = example(9)
    network = Network([7, 6, 2], "tanh", dtype=np.float64, embeddings=VALUES)
    for table in network.embeddings:
        table[:] = rng.standard_normal(table.shape)
    weights = rng.standard_normal((9, 2))
    network.forward(coded)
    network.backward(weights)
    found = [(values.copy(), gradient.copy()) for values, gradient in network.dembeddings]
    for table, (values, gradient) in zip(network.embeddings, found, strict=True):
        for v, g in zip(values, gradient, strict=True):
            for k in range(WIDTH):
                costs = []
                for step in (1e-6, -2e-6):
                    table[v, k] += step
                    costs.append(float((network.forward(coded) * weights).sum()))
                table[v, k] += 1e-6
                assert abs((costs[0] - costs[1]) / 2e-6 - g[k]) < 1e-7


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.data())
def test_whoever_adds_up_which_values_the_sums_are_the_same(codes, data):
    codes = np.array(codes, np.float32)
    delta = np.random.default_rng(0).standard_normal((len(codes), WIDTH)).astype(np.float32)
    of = by_value(codes)
    whole = sums(of, delta, 0, len(of.values))
    cut = data.draw(st.integers(0, len(of.values)))
    parts = np.concatenate([sums(of, delta, 0, cut), sums(of, delta, cut, len(of.values))])
    assert np.array_equal(whole, parts) and of.values.tolist() == sorted(set(codes.tolist()))
    for v, total in zip(of.values, whole, strict=True):
        assert np.allclose(total, delta[codes == v].sum(axis=0), atol=1e-5)


def test_squares_of_single_rows():
    coded, _, _, rng = example(6, heavy=2)
    network = Network([7, 6, 2], "tanh", dtype=np.float64, embeddings=VALUES)
    for table in network.embeddings:
        table[:] = rng.standard_normal(table.shape)
    delta = rng.standard_normal((6, 2))
    network.forward(coded)
    network.backward(delta)
    together, n = network.group_squares(network.part)
    alone = 0.0
    for i in range(6):
        network.forward(coded[i : i + 1])
        network.backward(delta[i : i + 1])
        alone += network.grad @ network.grad + sum((gradient**2).sum() for _, gradient in network.dembeddings)
    assert n == 6 and np.isclose(together.sum(), alone, rtol=1e-12)


@pytest.mark.parametrize("embeddings", [(3,) * 8, (3, 0)])
def test_codes_have_inputs_and_values(embeddings):
    with pytest.raises(ValueError, match="codes of so many values"):
        Network([7, 2], embeddings=embeddings)
