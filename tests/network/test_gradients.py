"""The gradient: against central differences, against automatic differentiation, and by hand."""

import math
from dataclasses import replace

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad as autograd_of

from distbp import (
    ACTIVATIONS,
    SGD,
    BinaryCrossEntropy,
    Huber,
    Network,
    SoftmaxCrossEntropy,
    SquaredError,
)
from distbp.network.initialisation import INITIALISATIONS
from distbp.network.losses import make_loss

SIZES, N = (4, 5, 3, 3), 6
LOSSES = {
    "squared-error": SquaredError(),
    "huber": Huber(0.75),
    "binary-cross-entropy": BinaryCrossEntropy(),
    "softmax": SoftmaxCrossEntropy(),
    "smoothed-softmax": SoftmaxCrossEntropy(0.2),
}
KINKED = ("relu", "leaky_relu", "elu")  # elu has a kink in g'

each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
each_loss = pytest.mark.parametrize("loss", LOSSES)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


# --- the reference: plain formulas, nothing of distbp ------------------------------------------------


def one_hot(y, k):
    return np.eye(k)[y]


REFERENCE_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: anp.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: anp.where(z > 0, z, 0.01 * z),
    "elu": lambda z: anp.where(z > 0, z, anp.exp(z) - 1),
    "gelu": lambda z: z / 2 * (1 + anp.tanh(anp.sqrt(2 / anp.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + anp.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + anp.exp(-z)),
    "tanh": lambda z: (anp.exp(z) - anp.exp(-z)) / (anp.exp(z) + anp.exp(-z)),
    "softplus": lambda z: anp.log(1 + anp.exp(z)),
}


def cross_entropy(z, target):
    return -anp.sum(target * anp.log(anp.exp(z) / anp.sum(anp.exp(z), axis=1, keepdims=True)))


def bernoulli(z, y):
    p = 1 / (1 + anp.exp(-z))
    return -anp.sum(y * anp.log(p) + (1 - y) * anp.log(1 - p))


def huber(z, y):
    r = anp.abs(z - y)
    return anp.sum(anp.where(r < 0.75, r**2 / 2, 0.75 * (r - 0.75 / 2)))


REFERENCE_LOSSES = {
    "squared-error": lambda z, y: anp.sum((z - y) ** 2) / 2,
    "huber": huber,
    "binary-cross-entropy": bernoulli,
    "softmax": lambda z, y: cross_entropy(z, one_hot(y, 3)),
    "smoothed-softmax": lambda z, y: cross_entropy(z, 0.8 * one_hot(y, 3) + 0.2 / 3),
}


def reference_cost(theta, activation, loss, X, y):
    a, start = X, 0
    for i, (fan_in, fan_out) in enumerate(zip(SIZES, SIZES[1:], strict=False)):
        W = anp.reshape(theta[start : start + fan_in * fan_out], (fan_out, fan_in)).T
        start += fan_in * fan_out
        z = anp.dot(a, W) + theta[start : start + fan_out]
        start += fan_out
        a = REFERENCE_ACTIVATIONS[activation](z) if i < len(SIZES) - 2 else z
    return REFERENCE_LOSSES[loss](a, y) / len(X)


# --- the cases ---------------------------------------------------------------------------------------


def case(activation, loss, *, dropout=0.0):
    """A network with random weights and biases, and a batch away from every kink."""
    rng = np.random.default_rng(4)
    net = Network(SIZES, activation, dtype=np.float64, dropout=dropout)
    net.theta[:] = 0.7 * rng.standard_normal(net.n_parameters)
    X = rng.standard_normal((N, SIZES[0]))
    y = {
        "squared-error": rng.standard_normal((N, 3)),
        "huber": rng.standard_normal((N, 3)),
        "binary-cross-entropy": rng.uniform(size=(N, 3)),
    }.get(loss, rng.integers(0, 3, N))
    return net, X, y


def cost(net, loss, X, y, **training):
    return loss.value(net.forward(X, net.own_pass(X, **training)), y).sum() / len(X)


def gradient(net, loss, X, y, **training):
    z = net.forward(X, net.own_pass(X, **training))
    delta = np.empty_like(z)
    loss.value(z, y, delta)
    net.backward(delta / len(X))
    return net.grad.copy()


def central_differences(net, loss, X, y, h=1e-5, **training):
    out = np.empty_like(net.theta)
    for i, value in enumerate(net.theta.copy()):
        net.theta[i] = value + h
        above = cost(net, loss, X, y, **training)
        net.theta[i] = value - h
        out[i] = (above - cost(net, loss, X, y, **training)) / (2 * h)
        net.theta[i] = value
    return out


def assert_agree(actual, reference, tolerance):
    assert actual.shape == reference.shape
    scale = np.abs(reference).max()
    error = np.abs(actual - reference).max() / scale
    assert scale > 1e-3 and error < tolerance, error


@each_activation
@each_loss
def test_cases_are_away_from_kinks_and_on_both_sides_of_them(activation, loss):
    net, X, y = case(activation, loss)
    a = X
    for layer in net.layers[:-1]:
        z = a @ layer.W + layer.b
        if activation in KINKED:
            assert np.abs(z).min() > 1e-3 and (z > 0).any() and (z < 0).any()
        a = np.empty_like(z)
        net.activation.value(z.copy(), a)
    if loss == "huber":
        r = np.abs(net.forward(X) - y)
        assert np.abs(r - 0.75).min() > 1e-3 and (r < 0.75).any() and (r > 0.75).any()


@each_activation
@each_loss
def test_gradient_agrees_with_central_differences(activation, loss):
    net, X, y = case(activation, loss)
    reference = central_differences(net, LOSSES[loss], X, y)
    assert_agree(gradient(net, LOSSES[loss], X, y), reference, 1e-7)


@each_activation
@each_loss
def test_gradient_agrees_with_automatic_differentiation(activation, loss):
    net, X, y = case(activation, loss)
    np.testing.assert_allclose(
        cost(net, LOSSES[loss], X, y), reference_cost(net.theta, activation, loss, X, y), rtol=1e-13
    )
    reference = autograd_of(reference_cost)(net.theta, activation, loss, X, y)
    assert_agree(gradient(net, LOSSES[loss], X, y), reference, 1e-12)


# --- the test of the test ----------------------------------------------------------------------------


@each_activation
def test_a_derivative_wrong_by_a_thousandth_is_noticed(activation):
    net, X, y = case(activation, "squared-error")

    def wrong(delta, kept):
        right.times_derivative(delta, kept)
        delta *= 1.001

    right = net.activation
    net.activation = replace(right, times_derivative=wrong)
    mistaken = gradient(net, LOSSES["squared-error"], X, y)
    with pytest.raises(AssertionError):
        assert_agree(mistaken, central_differences(net, LOSSES["squared-error"], X, y), 1e-7)
    with pytest.raises(AssertionError):
        assert_agree(mistaken, autograd_of(reference_cost)(net.theta, activation, "squared-error", X, y), 1e-12)


@each_loss
def test_a_delta_wrong_by_a_thousandth_is_noticed(loss):
    class Wrong:
        def value(self, z, y, delta=None):
            rows = LOSSES[loss].value(z, y, delta)
            if delta is not None:
                delta *= 1.001
            return rows

    net, X, y = case("tanh", loss)
    mistaken = gradient(net, Wrong(), X, y)
    with pytest.raises(AssertionError):
        assert_agree(mistaken, central_differences(net, Wrong(), X, y), 1e-7)
    with pytest.raises(AssertionError):
        assert_agree(mistaken, autograd_of(reference_cost)(net.theta, "tanh", loss, X, y), 1e-12)


# --- the backward pass -------------------------------------------------------------------------------


def test_one_step_worked_by_hand():
    net = Network([2, 2, 1], "sigmoid", dtype=np.float64)
    hidden, output = net.layers
    hidden.W[:] = [[0.5, 1.0], [-0.5, -0.5]]
    hidden.b[:] = [0.5, math.log(3)]
    output.W[:] = [[2.0], [-4.0]]
    output.b[:] = 3.0
    X, y = np.array([[1.0, 2.0]]), np.array([[0.5]])

    # z_1 = (1 * 0.5 - 2 * 0.5 + 0.5, 1 * 1 - 2 * 0.5 + ln 3) = (0, ln 3)
    # a_1 = (1 / (1 + 1), 1 / (1 + 1/3)) = (0.5, 0.75)
    # z_2 = 0.5 * 2 - 0.75 * 4 + 3 = 1
    z = net.forward(X)
    np.testing.assert_allclose(z, [[1.0]], rtol=1e-14)

    # C = (1 - 0.5)^2 / 2 = 0.125, delta_2 = 1 - 0.5 = 0.5
    delta = np.empty_like(z)
    np.testing.assert_allclose(SquaredError().value(z, y, delta), [0.125], rtol=1e-14)
    np.testing.assert_allclose(delta, [[0.5]], rtol=1e-14)
    net.backward(delta)

    # dW_2 = a_1 delta_2 = (0.5 * 0.5, 0.75 * 0.5), db_2 = delta_2
    np.testing.assert_allclose(output.dW, [[0.25], [0.375]], rtol=1e-14)
    np.testing.assert_allclose(output.db, [0.5], rtol=1e-14)
    # g'(z_1) = a (1 - a) = (0.25, 0.1875)
    # delta_1 = (0.5 * 2 * 0.25, 0.5 * -4 * 0.1875) = (0.25, -0.375)
    # dW_1 = x delta_1: the row of input 1, and twice it for input 2; db_1 = delta_1
    np.testing.assert_allclose(hidden.dW, [[0.25, -0.375], [0.5, -0.75]], rtol=1e-14)
    np.testing.assert_allclose(hidden.db, [0.25, -0.375], rtol=1e-14)

    # theta - 0.1 grad: W_1, b_1, W_2, b_2
    SGD(0.1).step(net.theta, net.grad)
    np.testing.assert_allclose(hidden.W, [[0.475, 1.0375], [-0.55, -0.425]], rtol=1e-14)
    np.testing.assert_allclose(hidden.b, [0.475, math.log(3) + 0.0375], rtol=1e-14)
    np.testing.assert_allclose(output.W, [[1.975], [-4.0375]], rtol=1e-14)
    np.testing.assert_allclose(output.b, [2.95], rtol=1e-14)


@each_activation
@each_loss
def test_examples_one_at_a_time_sum_to_the_batch(activation, loss):
    net, X, y = case(activation, loss)
    batch = gradient(net, LOSSES[loss], X, y)
    singles = [gradient(net, LOSSES[loss], X[i : i + 1], y[i : i + 1]) for i in range(N)]
    assert_agree(np.sum(singles, axis=0) / N, batch, 1e-14)


def test_layers_are_done_from_the_last_to_the_first():
    net, X, y = case("tanh", "squared-error")
    done = []
    net.backward(net.forward(X) - y, ready=lambda i, part: done.append((i, part.tape.deltas[i].copy())))
    assert [i for i, _ in done] == [2, 1, 0]
    assert [delta.shape for _, delta in done] == [(N, layer.fan_out) for layer in net.layers[::-1]]
    assert all(np.array_equal(delta, net.part.tape.deltas[i]) for i, delta in done)


@each_loss
def test_an_empty_batch_has_zero_gradient(loss):
    """A rank without rows adds nothing."""
    net, X, y = case("gelu", loss)
    z = net.forward(X[:0])
    delta = np.empty_like(z)
    assert LOSSES[loss].value(z, y[:0], delta).shape == (0,)
    net.grad[:] = np.nan
    net.backward(delta)
    assert not net.grad.any()


def test_parameters_and_gradient_are_views():
    net = Network([3, 4, 2], dtype=np.float64)
    net.theta[:] = np.arange(net.n_parameters)
    first, last = net.layers
    assert np.array_equal(first.W, np.arange(12).reshape(4, 3).T) and np.array_equal(first.b, [12, 13, 14, 15])
    assert np.array_equal(last.W, np.arange(16, 24).reshape(2, 4).T) and np.array_equal(last.b, [24, 25])
    last.b[1] = -1.0
    assert net.theta[-1] == -1.0
    assert net.weight_slices == [slice(0, 12), slice(16, 24)]
    message = np.zeros(net.n_parameters + 5)
    net.bind_gradient(message[: net.n_parameters])
    net.backward(net.forward(np.ones((2, 3))) - 1.0)
    assert np.shares_memory(first.dW, message) and message[: net.n_parameters].any()


@each_activation
def test_predict_in_blocks_equals_forward(activation):
    net, _, _ = case(activation, "squared-error", dropout=0.5)
    X = np.random.default_rng(1).standard_normal((23, SIZES[0]))
    whole = net.forward(X).copy()
    np.testing.assert_allclose(net.predict(X, block=5), whole, rtol=1e-13, atol=1e-15)
    assert net.predict(X[:0]).shape == (0, 3)


# --- dropout -----------------------------------------------------------------------------------------


def masks(net, step, rows):
    X = np.zeros((len(rows), net.sizes[0]), net.dtype)
    net.forward(X, net.own_pass(X, step=step, masked=np.asarray(rows)))
    return [mask.copy() for mask in net.part.tape.mask]


@each_dtype
def test_masks_depend_on_seed_step_and_row_only(dtype):
    net = Network([2, 33, 18, 1], dropout=0.3, dtype=dtype, seed=5)
    rows = np.arange(100, 160)
    whole = masks(net, 7, rows)
    order = np.random.default_rng(0).permutation(60)[:41]
    other = Network([2, 33, 18, 1], "tanh", dropout=0.3, dtype=dtype, seed=5)  # no memory, another function
    for mask, part, again in zip(whole, masks(net, 7, rows[order]), masks(other, 7, rows), strict=True):
        assert np.array_equal(part, mask[order])
        assert np.array_equal(again, mask)
        assert mask.dtype == dtype
    different = [
        masks(net, 8, rows),
        masks(net, 7, rows + 60),
        masks(Network([2, 33, 18, 1], dropout=0.3, dtype=dtype, seed=6), 7, rows),
    ]
    for others in different:
        for mask, another in zip(whole, others, strict=True):
            assert 0.3 < np.mean(mask != another) < 0.54  # 2 p (1 - p) = 0.42
    assert not np.array_equal(whole[0][:, :18], whole[1])


def test_golden_masks():
    """The same on every machine and with every NumPy: a change here changes every run with dropout."""
    (mask,) = masks(Network([1, 6, 1], dropout=0.5, seed=0), 1, [0, 1, 10**12])
    assert mask.tolist() == [[2, 0, 0, 0, 0, 2], [2, 0, 2, 2, 0, 2], [0, 0, 0, 0, 0, 2]]


@pytest.mark.parametrize("dropout", [0.01, 0.3, 0.5, 0.9])
def test_masks_drop_the_fraction_and_are_unbiased(dropout):
    net = Network([1, 50, 1], dropout=dropout, dtype=np.float64)
    (mask,) = masks(net, 3, np.arange(8000))
    kept, n = mask > 0, mask.size
    keep = round((1 - dropout) * 65536) / 65536
    assert set(np.unique(mask)) == {0.0, 1 / keep}
    deviation = math.sqrt(keep * (1 - keep) / n)
    assert abs(kept.mean() - keep) < 4 * deviation
    assert abs(mask.mean() - 1.0) < 4 * deviation / keep
    # no row and no unit is favoured
    assert np.abs(kept.mean(axis=0) - keep).max() < 5 * math.sqrt(keep * (1 - keep) / 8000)
    variance = keep * (1 - keep)  # the number kept in a row is binomial
    excess = (1 - 6 * variance) / (50 * variance)
    assert abs(kept.sum(axis=1).var() / (50 * variance) - 1.0) < 5 * math.sqrt((2 + excess) / 8000)


def test_units_are_dropped_independently():
    net = Network([1, 8, 1], dropout=0.5, dtype=np.float64)
    (mask,) = masks(net, 0, np.arange(20000))
    correlation = np.corrcoef(mask.T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / math.sqrt(20000)


@each_activation
def test_gradient_with_dropout_agrees_with_central_differences(activation):
    net, X, y = case(activation, "squared-error", dropout=0.4)
    training = {"step": 2, "masked": np.arange(N) + 10}
    reference = central_differences(net, SquaredError(), X, y, **training)
    assert_agree(gradient(net, SquaredError(), X, y, **training), reference, 1e-7)
    assert all((mask == 0).any() and (mask > 0).any() for mask in net.part.tape.mask)


def test_nothing_is_dropped_outside_training():
    net, X, _ = case("gelu", "squared-error", dropout=0.5)
    plain, _, _ = case("gelu", "squared-error")
    net.forward(X, net.own_pass(X, step=0, masked=np.arange(N)))
    assert np.array_equal(net.forward(X), plain.forward(X))


# --- losses ------------------------------------------------------------------------------------------


def targets(loss, n, k):
    rng = np.random.default_rng(2)
    return rng.integers(0, k, n) if "softmax" in loss else rng.integers(0, 2, (n, k)).astype(np.float64)


@each_dtype
@each_loss
@pytest.mark.parametrize("size", [1e3, 1e4])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_extreme_logits_stay_finite(loss, size, label, dtype):
    z = size * np.array([[1, -1, 0], [-1, -1, -1], [1, 1, 1], [0, 0, -1], [-1, 1, 1]], dtype)
    y = np.full(5, label)
    delta = np.empty_like(z)
    rows = LOSSES[loss].value(z, y, delta)
    assert rows.shape == (5,) and np.isfinite(rows).all() and (rows >= 0).all()
    assert np.isfinite(delta).all() and np.isfinite(LOSSES[loss].link(z)).all()


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_extreme_logits_give_the_exact_loss_and_delta(size):
    z, delta = np.array([[size, -size]]), np.empty((1, 2))
    assert SoftmaxCrossEntropy().value(z, np.array([0]), delta) == 0.0 and (delta == 0.0).all()
    assert SoftmaxCrossEntropy().value(z, np.array([1]), delta) == 2 * size and delta.tolist() == [[1.0, -1.0]]
    assert BinaryCrossEntropy().value(z, np.array([[1.0, 0.0]]), delta) == 0.0 and (delta == 0.0).all()
    assert BinaryCrossEntropy().value(z, np.array([[0.0, 1.0]]), delta) == 2 * size and delta.tolist() == [[1.0, -1.0]]
    assert Huber(0.5).value(z, np.zeros((1, 2)), delta) == size - 0.25 and delta.tolist() == [[0.5, -0.5]]


@each_loss
def test_the_loss_is_the_same_with_and_without_delta_and_the_logits_are_untouched(loss):
    z = np.random.default_rng(3).standard_normal((7, 4))
    before, y = z.copy(), targets(loss, 7, 4)
    value = LOSSES[loss].value
    assert np.array_equal(value(z, y), value(z, y, np.empty_like(z)))
    LOSSES[loss].link(z)
    assert np.array_equal(z, before)


@each_dtype
@pytest.mark.parametrize("size", [1.0, 1e3, 1e4])
def test_softmax_rows_sum_to_one(size, dtype):
    z = (size * np.random.default_rng(0).standard_normal((50, 10))).astype(dtype)
    p = SoftmaxCrossEntropy().link(z)
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("loss", ["softmax", "smoothed-softmax"])
@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_a_row_far_from_another_is_as_exact(loss, offset):
    z = np.array([[0.5, 1.5, -2.0], [0.5, 1.5, -2.0]])
    z[1] += offset
    y, delta = np.array([0, 0]), np.empty_like(z)
    rows = LOSSES[loss].value(z, y, delta)
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-11)
    np.testing.assert_allclose(delta[1], delta[0], rtol=1e-11)
    np.testing.assert_allclose(*LOSSES[loss].link(z), rtol=1e-11)


@pytest.mark.parametrize("loss", ["squared-error", "huber", "binary-cross-entropy"])
@pytest.mark.parametrize("k", [1, 4])
def test_classes_equal_one_hot_targets(loss, k):
    rng = np.random.default_rng(1)
    z, y = 2 * rng.standard_normal((9, k)), rng.integers(0, max(2, k), 9)
    dense = one_hot(y, k) if k > 1 else y[:, None].astype(np.float64)
    of_classes, of_dense = np.empty_like(z), np.empty_like(z)
    rows = LOSSES[loss].value(z, y, of_classes)
    assert np.array_equal(rows, LOSSES[loss].value(z, dense, of_dense))
    assert np.array_equal(of_classes, of_dense)


def test_two_class_softmax_equals_binary_cross_entropy():
    rng = np.random.default_rng(1)
    z, y = 3 * rng.standard_normal((20, 1)), rng.integers(0, 2, 20)
    both = np.hstack([np.zeros_like(z), z])
    np.testing.assert_allclose(SoftmaxCrossEntropy().value(both, y), BinaryCrossEntropy().value(z, y), rtol=1e-12)
    np.testing.assert_allclose(SoftmaxCrossEntropy().link(both)[:, 1:], BinaryCrossEntropy().link(z), rtol=1e-12)


@pytest.mark.parametrize("s", [0.1, 0.5, 0.9])
def test_label_smoothing_mixes_the_label_with_all_classes(s):
    rng = np.random.default_rng(1)
    z, y = rng.standard_normal((8, 5)), rng.integers(0, 5, 8)
    plain = SoftmaxCrossEntropy()
    every = np.mean([plain.value(z, np.full(8, c)) for c in range(5)], axis=0)
    delta = np.empty_like(z)
    rows = SoftmaxCrossEntropy(s).value(z, y, delta)
    np.testing.assert_allclose(rows, (1 - s) * plain.value(z, y) + s * every, rtol=1e-12)
    np.testing.assert_allclose(delta, plain.link(z) - (1 - s) * one_hot(y, 5) - s / 5, rtol=0, atol=1e-15)
    np.testing.assert_allclose(delta.sum(axis=1), 0.0, atol=1e-15)
    assert np.array_equal(SoftmaxCrossEntropy(s).link(z), plain.link(z))


def test_a_huge_threshold_makes_huber_the_squared_error():
    rng = np.random.default_rng(1)
    z, y = rng.standard_normal((2, 8, 3))
    np.testing.assert_allclose(Huber(1e6).value(z, y), SquaredError().value(z, y), rtol=1e-14)
    np.testing.assert_allclose(Huber(0.5).value(np.array([[3.0]]), np.array([[1.0]])), [0.5 * 2 - 0.5**2 / 2])


@each_loss
def test_make_loss_builds_each(loss):
    built = LOSSES[loss]
    again = make_loss(built.name, **vars(built))
    assert type(again) is type(built) and vars(again) == vars(built)


# --- dtypes ------------------------------------------------------------------------------------------


@each_activation
@each_loss
def test_float32_stays_float32(activation, loss):
    rng = np.random.default_rng(0)
    net = Network([3, 4, 2], activation, dropout=0.1, dtype=np.float32)
    X = rng.standard_normal((5, 3), np.float32)
    z = net.forward(X, net.own_pass(X, step=0, masked=np.arange(5)))
    y, delta = targets(loss, 5, 2), np.empty_like(z)
    rows = LOSSES[loss].value(z, y if y.ndim == 1 else y.astype(np.float32), delta)
    net.backward(delta)
    for array in z, rows, delta, net.grad, net.theta, LOSSES[loss].link(z), net.predict(np.ones((2, 3))):
        assert array.dtype == np.float32


@each_activation
@pytest.mark.parametrize("z", [1e-3, 3.0, 1e3, 1e4])
def test_activations_are_finite_and_as_exact_as_float32_allows(activation, z):
    g, reference = ACTIVATIONS[activation], REFERENCE_ACTIVATIONS[activation]
    for sign in 1, -1:
        x = np.array([[sign * z]], np.float32)
        a, delta = np.empty_like(x), np.ones_like(x)
        g.value(kept := x.copy(), a)
        g.times_derivative(delta, kept if g.from_z else a)
        assert a.dtype == delta.dtype == np.float32 and np.isfinite(a).all() and np.isfinite(delta).all()
        if z < 10:
            x = x.astype(np.float64)
            np.testing.assert_allclose(a, reference(x), rtol=1e-6, atol=1e-7)
            slope = autograd_of(lambda x: reference(x)[0, 0])(x)
            np.testing.assert_allclose(delta, slope, rtol=1e-6, atol=2e-7)


# --- initial weights ---------------------------------------------------------------------------------

GAIN = {"he": lambda i, o: 2 / i, "glorot": lambda i, o: 2 / (i + o), "lecun": lambda i, o: 1 / i}


@pytest.mark.parametrize("init", [name for name in INITIALISATIONS if name != "auto"])
def test_initial_weights_have_the_variance_of_the_rule(init):
    kind, law = init.split("_")
    net = Network([400, 250, 100], init=init, dtype=np.float64, seed=1)
    for layer in net.layers:
        variance = GAIN[kind](layer.fan_in, layer.fan_out)
        kurtosis = 3.0 if law == "normal" else 1.8
        n = layer.W.size
        assert abs(layer.W.var() / variance - 1) < 4 * math.sqrt((kurtosis - 1) / n)
        assert abs(layer.W.mean()) < 4 * math.sqrt(variance / n)
        assert abs(np.mean(layer.W**4) / variance**2 / kurtosis - 1) < 0.1
        if law == "uniform":
            assert math.sqrt(3 * variance) * 0.999 < np.abs(layer.W).max() <= math.sqrt(3 * variance)
        assert not layer.b.any()


@each_activation
def test_auto_suits_the_activation_and_the_last_layer_is_glorot(activation):
    net = Network([40, 25, 10], activation, seed=2)
    hidden = Network([40, 25, 10], activation, init=ACTIVATIONS[activation].init, seed=2)
    last = Network([40, 25, 10], activation, init="glorot_uniform", seed=2)
    assert np.array_equal(net.layers[0].W, hidden.layers[0].W)
    assert np.array_equal(net.layers[1].W, last.layers[1].W)
    expected = "glorot_uniform" if activation in ("identity", "sigmoid", "tanh") else "he_normal"
    assert ACTIVATIONS[activation].init == expected


def test_initial_weights_depend_on_seed_and_layer_only():
    first = Network([20, 20, 20], "tanh", dtype=np.float64, seed=1)
    again = Network([20, 20, 20], "sigmoid", dropout=0.5, dtype=np.float64, seed=1)
    assert np.array_equal(first.theta, again.theta)
    assert np.array_equal(first.theta.astype(np.float32), Network([20, 20, 20], "tanh", seed=1).theta)
    assert abs(np.corrcoef(first.layers[0].W.ravel(), first.layers[1].W.ravel())[0, 1]) < 0.2
    other = Network([20, 20, 20], "tanh", dtype=np.float64, seed=2)
    assert abs(np.corrcoef(first.layers[0].W.ravel(), other.layers[0].W.ravel())[0, 1]) < 0.2


# --- bad arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Network([3]), "inputs and outputs"),
        (lambda: Network([]), "inputs and outputs"),
        (lambda: Network([3, 0, 1]), "at least 1"),
        (lambda: Network([3, 1], "rely"), "unknown activation 'rely'.*relu"),
        (lambda: Network([3, 1], dropout=1.0), "dropout"),
        (lambda: Network([3, 1], dropout=-0.1), "dropout"),
        (lambda: Network([3, 1], dropout=math.nan), "dropout"),
        (lambda: Network([3, 1], init="xavier"), "unknown initialisation 'xavier'.*glorot_normal"),
        (lambda: Huber(0.0), "threshold"),
        (lambda: Huber(-1.0), "threshold"),
        (lambda: Huber(math.nan), "threshold"),
        (lambda: SoftmaxCrossEntropy(1.0), "smoothing"),
        (lambda: SoftmaxCrossEntropy(-0.1), "smoothing"),
        (lambda: SoftmaxCrossEntropy(math.nan), "smoothing"),
        (lambda: make_loss("hinge"), "unknown loss 'hinge'.*huber"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
