"""Numbers in quantile bins: the equation of the paper, edges over ranks, holes, and what a model keeps of it."""

import json

import numpy as np
import pytest
from fits import SERIAL, mixed

from distbp import ArrayDataset, Column, Prepared, Preprocessor, Subset, Target, fit_preprocessor, run_threads
from distbp.data import encoding
from distbp.data.encoding import Bins, edges_of, quantiles


def component(x, edges, t):
    """e_t(x) of Gorishniy et al. 2022, equation 1, closed at both ends and brought to [-1, 1]."""
    if x < edges[t]:
        return -1.0
    if x >= edges[t + 1]:
        return 1.0
    return 2.0 * (x - edges[t]) / (edges[t + 1] - edges[t]) - 1.0


def test_components_are_those_of_the_equation():
    rng = np.random.default_rng(0)
    edges = [[0.0, 1.0, 4.0], [], [-2.0, -1.5, 0.0, 7.0]]
    numbers = np.concatenate([rng.uniform(-9, 9, (50, 3)), [[0.0, 3.0, -2.0], [4.0, 3.0, 7.0], [1.0, 3.0, -1.5]]])
    out = np.empty((len(numbers), 5))
    Bins(edges).encode(numbers, out)
    wanted = [[component(row[k], e, t) for k, e in enumerate(edges) for t in range(len(e) - 1)] for row in numbers]
    np.testing.assert_allclose(out, wanted, rtol=1e-12, atol=1e-12)


def test_a_sum_of_components_is_any_piecewise_linear_function():
    edges = [0.0, 1.0, 2.0, 5.0]
    x = np.linspace(0.0, 5.0, 41)
    e = np.empty((41, 3))
    Bins([edges]).encode(x[:, None], e)
    values = np.array([1.0, -2.0, 0.5, 3.0])  # at the edges
    np.testing.assert_allclose((e + 1.0) / 2.0 @ np.diff(values) + values[0], np.interp(x, edges, values), atol=1e-12)


def test_large_numbers_far_from_zero_lose_nothing_in_float32():
    """Seconds since 1970, whose float32 neighbours are two minutes apart."""
    edges = [1.7e9, 1.7e9 + 60, 1.7e9 + 120]
    out = np.empty((1, 2), np.float32)
    Bins([edges]).encode(np.array([[1.7e9 + 75.0]]), out)
    assert out.tolist() == [[1.0, -0.5]]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_quantiles_are_the_same_on_any_number_of_ranks(n):
    data = mixed(700)
    numeric, levels = [0, 2, 3, 5], np.linspace(0, 1, 9)
    alone = quantiles(Subset(data), numeric, levels, SERIAL)
    for found in run_threads(n, lambda comm: quantiles(Subset(data), numeric, levels, comm)):
        assert np.array_equal(found, alone)
    X = data.take(np.arange(700))[0]
    np.testing.assert_allclose(alone[1], np.nanquantile(X[:, 2], levels))


def test_of_many_rows_a_part_in_equal_distances_is_looked_at(monkeypatch):
    monkeypatch.setattr(encoding, "_SAMPLE", 10)
    data = ArrayDataset(np.arange(1000.0)[:, None], np.zeros(1000), Target("values", ("y",)))
    assert quantiles(Subset(data), [0], np.array([0.0, 1.0]), SERIAL).tolist() == [[0.0, 900.0]]


def test_edges_are_different_and_a_constant_has_none():
    assert edges_of(np.array([1.0, 1.0, 2.0, 2.0, 3.0])) == [1.0, 2.0, 3.0]
    assert edges_of(np.zeros(5)) == []


def test_inputs_stand_beside_those_without_bins():
    data = mixed(400)
    plain, fitted = (fit_preprocessor(Subset(data), SERIAL, bins=bins) for bins in (0, 6))
    X = data.take(np.arange(400))[0]
    a, b = (p.transform(X, data.columns, np.float64) for p in (plain, fitted))
    n = sum(len(edges) - 1 for edges in fitted.edges)
    assert fitted.n_inputs == plain.n_inputs + n == b.shape[1] and n == 24
    first = 4 + len(plain.blank) - 2  # numbers, and holes of numbers; two columns of categories have theirs behind
    assert np.array_equal(np.delete(b, np.s_[first : first + n], axis=1), a)
    assert np.abs(b[:, first : first + n]).max() == 1.0
    hole = np.isnan(X[:, 0])
    assert len(np.unique(b[hole, first : first + 6], axis=0)) == 1  # as what fills it


def test_what_was_fitted_is_kept_and_is_not_named_without_bins():
    data = mixed(100)
    fitted = fit_preprocessor(Subset(data), SERIAL, bins=4)
    again = Preprocessor(**json.loads(json.dumps(fitted.as_dict())))
    X = data.take(np.arange(100))[0]
    assert np.array_equal(*(p.transform(X, data.columns, np.float32) for p in (fitted, again)))
    assert "edges" not in fit_preprocessor(Subset(data), SERIAL).as_dict()


def test_bytes_can_have_bins():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 255, (64, 3), dtype=np.uint8)
    data = ArrayDataset(X, rng.normal(size=64), Target("values", ("y",)), columns=tuple(map(Column, "abc")))
    fitted = fit_preprocessor(Subset(data), SERIAL, bins=4)
    rows = Prepared(Subset(data), fitted, np.float32)
    taken = rows.take(np.arange(64))[0]
    assert taken.shape == (64, 15) and np.array_equal(taken, fitted.transform(X, data.columns, np.float32))


def test_rows_are_the_same_prepared_at_once_or_as_they_are_taken(monkeypatch):
    data = mixed(300)
    fitted = fit_preprocessor(Subset(data), SERIAL, bins=6)
    at_once = Prepared(Subset(data), fitted, np.float32)
    monkeypatch.setattr("distbp.data.prepared._IN_BINS", 1000)
    singly = Prepared(Subset(data), fitted, np.float32)
    assert at_once._ready is not None and singly._ready is None
    rows = np.array([7, 0, 299, 7])
    out = np.empty((4, fitted.n_inputs), np.float32)
    assert np.array_equal(at_once.take(rows)[0], singly.take(rows, out=out)[0])
    assert np.array_equal(at_once.take_target(rows), singly.take_target(rows))
