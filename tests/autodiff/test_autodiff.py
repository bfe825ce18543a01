"""`distbp.autodiff`, the engine: what it gives, of which arguments, and what it refuses."""

import math
from collections import namedtuple

import numpy as np
import pytest
from scipy import integrate, linalg, ndimage, signal, special, stats

from distbp import autodiff
from distbp.autodiff import (
    NotDifferentiable,
    check_grads,
    checkpoint,
    defvjp,
    grad,
    hessian,
    hessian_vector_product,
    jacobian,
    jvp,
    primitive,
    value_and_grad,
    value_of,
    vjp,
)
from distbp.autodiff.tables import KEEPS, RULES
from distbp.autodiff.tracing import Traced

x3 = np.array([0.5, -1.0, 2.0])


# --- the lecture's examples ------------------------------------------------------------------------------


def logistic(z):
    return 1.0 / (1.0 + np.exp(-z))


def logistic2(z):
    return np.reciprocal(np.add(1, np.exp(np.negative(z))))


@pytest.mark.parametrize("f", [logistic, logistic2, special.expit])
def test_logistic(f):
    a = logistic(1.5)
    slope = grad(f)(1.5)
    assert slope == pytest.approx(a * (1 - a), rel=1e-14) and isinstance(slope, np.float64)
    assert grad(grad(f))(1.5) == pytest.approx(a * (1 - a) * (1 - 2 * a), rel=1e-13)
    np.testing.assert_allclose(np.diag(jacobian(f)(x3)), logistic(x3) * (1 - logistic(x3)), rtol=1e-13)


def test_the_lectures_product_graph():
    def graph(w):
        for _ in range(5):
            w = w * w
        return w

    assert grad(graph)(1.1) == pytest.approx(32 * 1.1**31, rel=1e-14)


def test_higher_derivatives():
    f = np.sin
    for k in range(8):
        assert f(0.7) == pytest.approx(math.sin(0.7 + k * math.pi / 2), rel=1e-13)
        f = grad(f)


# --- derivatives in derivatives ----------------------------------------------------------------------------


def test_derivatives_do_not_mix():
    """Perturbation confusion (Siskind & Pearlmutter 2005): d/dx x d/dy (x + y) = 1, not 2."""
    assert grad(lambda x: x * grad(lambda y: x + y)(2.0))(1.0) == 1.0
    assert grad(lambda x: x * grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert grad(lambda x: grad(lambda y: x * y * y)(x))(3.0) == 12.0  # 2 x^2
    assert grad(lambda x: grad(lambda x: x * x)(x) * x)(3.0) == 12.0
    assert grad(lambda x: grad(lambda y: 3.0 * y)(2.0) * x)(1.0) == 3.0
    assert grad(lambda x: grad(lambda y: x * y * y)(2.0))(5.0) == 4.0
    assert grad(lambda x: grad(lambda y: np.sum(np.sin(y) * x * y))(x3)[0])(1.0) == grad(lambda y: np.sin(y) * y)(0.5)
    assert grad(lambda x: grad(lambda y: grad(lambda z: x * y * z)(1.0) * y)(2.0))(5.0) == 4.0  # 2 y


def test_values_inside_keep_their_derivative():
    def f(x):
        value, slope = value_and_grad(lambda y: np.sin(y) * x)(x)
        return value * slope

    # sin(x) x * cos(x) x
    expected = 2 * 0.7 * math.sin(0.7) * math.cos(0.7) + 0.49 * math.cos(1.4)
    assert grad(f)(0.7) == pytest.approx(expected, rel=1e-13)


def test_gradient_descent_can_be_differentiated():
    def trained(rate):
        w = np.array([1.0, 2.0])
        for _ in range(3):
            w = w - rate * grad(lambda w: np.sum(w**4) / 4)(w)
        return np.sum(w)

    check_grads(trained, 0.05)


def test_hessian_vector_product_is_the_product():
    def f(x):
        return np.prod(x) + np.sum(np.exp(x))

    v = np.array([1.0, -2.0, 0.5])
    hessian = jacobian(grad(f))(x3)
    np.testing.assert_allclose(hessian_vector_product(f)(x3, v), hessian @ v, rtol=1e-13)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-13)
    product = hessian_vector_product(lambda p, c: c * p["a"] * p["b"] ** 2)(
        {"a": 2.0, "b": 3.0}, 5.0, {"a": 1.0, "b": 1.0}
    )
    assert product == {"a": 5 * 6.0, "b": 5 * (6.0 + 4.0)}


def test_jacobian():
    np.testing.assert_array_equal(jacobian(lambda x: 2 * x)(x3), 2 * np.eye(3))
    assert jacobian(lambda x: np.outer(x, x))(x3).shape == (3, 3, 3)
    assert jacobian(lambda x: x[:0])(x3).shape == (0, 3)
    assert jacobian(np.sin)(0.0).shape == ()
    assert jacobian(lambda a, b: a * b, -1)(2.0, 3.0) == 2.0 == grad(lambda a, b: a * b, -1)(2.0, 3.0)
    for f, at in ((lambda p: p["x"], {"x": x3}), (lambda x: (x, x), x3)):
        with pytest.raises(NotDifferentiable, match="one array whose value is one array"):
            jacobian(f)(at)
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(jacobian(lambda a, x: a @ x, 1)(a, x3), a)


# --- arguments and results ------------------------------------------------------------------------------------

Layer = namedtuple("Layer", "W b")


def test_trees():
    parameters = {"layers": [Layer(np.ones((3, 2)), np.zeros(2)), Layer(np.ones((2, 1)), np.zeros(1))], "scale": (2.0,)}

    def f(p, x):
        for W, b in p["layers"]:
            x = np.tanh(x @ W + b)
        return np.sum(p["scale"][0] * x)

    slopes = grad(f)(parameters, x3)
    assert slopes.keys() == parameters.keys() and type(slopes["layers"][0]) is Layer and type(slopes["scale"]) is tuple
    assert slopes["layers"][0].W.shape == (3, 2) and slopes["layers"][1].b.shape == (1,)
    check_grads(f, parameters, x3)
    value, pull = vjp(lambda p: {"sum": p["a"] + p["b"], "both": (p["a"], [p["b"]])}, {"a": x3, "b": x3})
    assert value["both"][0] is not None and list(value) == ["sum", "both"]
    (slopes,) = pull({"sum": x3, "both": (x3, [2 * x3])})
    np.testing.assert_array_equal(slopes["a"], 2 * x3)
    np.testing.assert_array_equal(slopes["b"], 3 * x3)


def test_several_arguments():
    def f(x, y, *, c=1.0):
        return c * np.sum(x * y)

    y3 = np.array([3.0, 4.0, 5.0])
    np.testing.assert_array_equal(grad(f)(x3, y3), y3)
    np.testing.assert_array_equal(grad(f, 1)(x3, y3, c=2.0), 2 * x3)
    a, b = grad(f, (1, 0))(x3, y3)
    np.testing.assert_array_equal(a, x3)
    np.testing.assert_array_equal(b, y3)
    value, slope = value_and_grad(f)(x3, y3)
    assert value == f(x3, y3) and isinstance(value, np.float64)


def test_numbers():
    assert grad(lambda x: x**2)(3) == 6.0
    assert type(grad(lambda x: x**2)(3.0)) is np.float64
    assert type(grad(lambda x: x**2)(np.float32(3))) is np.float32
    assert grad(lambda x: x**2)(np.array(3.0)).shape == ()
    assert value_and_grad(lambda x: 2.0)(1.0) == (2.0, 0.0)


def test_gradients_belong_to_the_caller():
    """They can be written into, and nobody else sees it."""
    a, b = grad(lambda x, y: np.sum(x + y), (0, 1))(x3, x3)
    a += 1
    assert b.tolist() == [1, 1, 1]
    g = np.ones(3)
    _, pull = vjp(lambda x: x + 0.0, x3)
    pull(g)[0][:] = 7
    assert g.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(pull(g)[0], g)
    for f in (np.sum, lambda x: np.sum(np.broadcast_to(x, (2, 3))), lambda x: np.sum(x.T), lambda x: np.sum(x[::-1])):
        assert grad(f)(x3).flags.writeable and grad(f)(x3).flags.owndata


def test_arguments_are_not_written_into():
    x, y = x3.copy(), x3.copy()
    grad(lambda x, y: np.sum(x[0] * y + x[1:] @ y[1:] + np.sort(x)[0] * np.prod(y)), (0, 1))(x, y)
    np.testing.assert_array_equal([x, y], [x3, x3])


def test_a_pull_can_be_repeated():
    _, pull = vjp(lambda x: np.exp(x) * x[0], x3)
    first = pull(x3)[0]
    pull(np.ones(3))
    np.testing.assert_array_equal(pull(x3)[0], first)


def test_the_same_argument_twice():
    np.testing.assert_array_equal(grad(lambda x: np.sum(x * x))(x3), 2 * x3)
    np.testing.assert_array_equal(grad(lambda x: (lambda y: np.sum(y * y + y * x))(x))(x3), 4 * x3)


def test_what_is_computed_for_nothing_costs_nothing():
    calls = []

    @primitive
    def counted(x):
        return 2 * x

    defvjp(counted, lambda g, ans, x: calls.append(1) or 2 * g)
    grad(lambda x: (counted(x), np.sum(x))[1])(x3)
    assert not calls
    grad(lambda x: np.sum(counted(x) + counted(x3)))(x3)
    assert len(calls) == 1
    del RULES[counted]


# --- size ------------------------------------------------------------------------------------------------------


def test_a_long_chain():
    def chain(x):
        for _ in range(100_000):
            x = x + 1e-5 * x
        return x

    assert grad(chain)(1.0) == pytest.approx((1 + 1e-5) ** 100_000, rel=1e-10)


def test_many_paths_are_walked_once():
    def doubled(x):
        for _ in range(200):
            x = x + x
        return x

    assert grad(doubled)(1.0) == 2.0**200


def test_a_wide_sum():
    assert grad(lambda x: sum(x * k for k in range(10_000)))(1.0) == sum(range(10_000))


# --- what is allowed ----------------------------------------------------------------------------------------------


def test_branches_and_loops_see_values():
    def f(x):
        while x < 10:
            x = x * x if x > 1.5 else 2 * x
        return x

    assert grad(f)(1.0) == 64.0  # of (2x)^4
    assert grad(lambda x: x * int(x) + x * len(str(x)) * 0)(2.5) == 2.0
    assert grad(lambda x: x3[int(x)] * x)(2.5) == 2.0
    assert grad(lambda x: max(x, 2.0) + min(x, 9.0))(3.0) == 2.0
    assert f"{Traced(np.float64(1.5)):.2f} {Traced(x3)!r}".startswith("1.50 Traced(array")


def test_value_of():
    assert grad(lambda x: x * value_of(x))(3.0) == 3.0
    assert value_of({"a": [Traced(x3), 1]})["a"][0] is x3
    assert grad(lambda x: x * float(value_of(x)))(3.0) == 3.0


def test_functions_of_ones_own():
    @primitive
    def cube(x, scale=1.0):
        return scale * x**3

    with pytest.raises(NotDifferentiable, match="cube has no rules"):
        grad(cube)(2.0)
    assert cube(2.0) == 8.0
    defvjp(cube, lambda g, ans, x, scale=1.0: g * scale * 3 * x * x)
    assert grad(cube)(2.0) == 12.0 and grad(grad(lambda x: cube(x, scale=2.0)))(2.0) == 24.0
    check_grads(lambda x: np.sum(cube(x)), x3)
    defvjp(cube, lambda g, ans, x: g * 3.003 * x * x)
    with pytest.raises(AssertionError, match=r"a derivative of cube is .* most at"):
        check_grads(cube, np.array([1.0, 2.0]))
    del RULES[cube]


def test_other_rules_for_functions_of_numpy(monkeypatch):
    monkeypatch.setitem(KEEPS, np.exp, KEEPS[np.exp])
    monkeypatch.setitem(RULES, np.exp, RULES[np.exp])
    defvjp(np.exp, lambda g, ans, x: g * np.clip(np.exp(x), 0.0, 2.0))  # of the argument, where there was the result
    np.testing.assert_array_equal(grad(lambda x: np.sum(np.exp(x)))(np.array([0.0, 1.0])), [1.0, 2.0])


def test_check_grads_names_the_place():
    @primitive
    def wrong(x):
        return np.exp(x)

    defvjp(wrong, lambda g, ans, x: g * ans * np.array([1.0, 1.01, 1.0]))
    with pytest.raises(AssertionError, match=r"a derivative of .* most at argument .*\[1\]"):
        check_grads(lambda p: wrong(p["w"]), {"w": x3, "b": 1.0})
    defvjp(wrong, lambda g, ans, x: g * value_of(ans))  # right, but its derivative is lost
    check_grads(wrong, x3, order=1)
    with pytest.raises(AssertionError, match="derivative of the derivative of wrong"):
        check_grads(wrong, x3)
    del RULES[wrong]


# --- what is refused ---------------------------------------------------------------------------------------------

REFUSED = {
    "float": (lambda x: float(x[0]), "float.x. of a traced number .* leave it out"),
    "math.exp": (lambda x: math.exp(x[0]), "np.exp.x. in place of math.exp"),
    "complex": (lambda x: complex(x[0]), "would lose the derivative"),
    "np.array": (lambda x: np.array([x[0], x[1]]), r"autodiff.array\(\[...\]\) in place of np.array"),
    "np.array of one": (lambda x: np.array(x), "autodiff.array"),
    "np.asarray": (lambda x: np.asarray(x), "makes a plain array of a traced one"),
    "np.float64": (lambda x: np.float64(x[0]), "makes a plain array|would lose the derivative"),
    "np.sum of a list": (lambda x: np.sum([x[0], x[1]]), "autodiff.array"),
    "array.dot": (lambda x: np.ones(3).dot(x), "makes a plain array of a traced one"),
    "x[0] = 1": (lambda x: x.__setitem__(0, 1.0), "cannot be written into: make a new one"),
    "writing into an array": (lambda x: np.zeros(3).__setitem__(slice(None), x), "plain array"),
    "a += x": (lambda x: np.zeros(3).__iadd__(x), r"a = a \+ b"),
    "np.add with out": (lambda x: np.add(x, 1.0, out=np.zeros(3)), "out=, or a"),
    "np.sum with out": (lambda x: np.sum(x, out=np.zeros(())), "out= writes"),
    "np.cumsum with out": (lambda x: np.cumsum(x, out=np.zeros(3)), "out= writes"),
    "np.stack with out": (lambda x: np.stack([x, x], out=np.zeros((2, 3))), "out= writes"),
    "np.exp with where": (lambda x: np.exp(x, where=x3 > 0), r"np.where\(condition"),
    "np.exp with dtype": (lambda x: np.exp(x, dtype=np.float32), "without dtype="),
    "np.add.at": (lambda x: np.add.at(x, [0], 1.0), "np.add.at of a traced array"),
    "np.copyto": (lambda x: np.copyto(np.zeros(3), x), "writes into an array"),
    "np.linalg.eigvals": (lambda x: np.linalg.eigvals(np.diag(x)), "np.linalg.eigh is known"),
    "np.polyfit": (lambda x: np.polyfit(x3, x, 1), "np.polyval"),
    "np.pad by a function": (lambda x: np.pad(x, 1, "mean"), "mode 'mean' is not known"),
    "np.quantile, nearest": (lambda x: np.quantile(x, 0.5, method="nearest"), "method='linear' only"),
    "np.quantile, weighted": (
        lambda x: np.quantile(x, 0.5, method="inverted_cdf", weights=np.ones(3)),
        "without weights",
    ),
    "np.unique with options": (lambda x: np.unique(x, return_counts=True)[0], "without options"),
    "np.insert at places": (lambda x: np.insert(x, [0, 1], 5.0), "at one place"),
    "np.interp with a period": (lambda x: np.interp(x, x3, x3, period=2.0), "without period"),
    "np.gradient, edges": (lambda x: np.gradient(x, edge_order=2), "edge_order=1"),
    "np.cov with weights": (lambda x: np.cov(x, aweights=np.ones(3)), "without aweights"),
    "np.choose, wrapped": (lambda x: np.choose([5], [x, x], mode="wrap"), "mode='raise'"),
    "np.cross of 2": (lambda x: np.cross(x[:2], x[:2]), "vectors of 3"),
    "np.reshape in the order of memory": (lambda x: np.sum(np.reshape(x, (3, 1), order="A")), "C or F"),
    "np.linalg.svd, full": (lambda x: np.linalg.svd(x[:, None])[1][0], "full_matrices=False"),
    "np.linalg.pinv of less than full rank": (lambda x: np.sum(np.linalg.pinv(np.outer(x, x))), "full rank"),
    "np.vectorize": (lambda x: np.vectorize(lambda t: 2 * t)(x), "makes a plain array"),
    "autodiff.r_ by a word": (lambda x: autodiff.r_["-1", x], "np.concatenate"),
    "scipy.stats, unknown": (
        lambda x: stats.gumbel_r.logpdf(x),
        "scipy.stats.gumbel_r.logpdf .* no rule .* but of bern",
    ),
    "scipy.stats, of no distribution": (lambda x: stats.zscore(x), "scipy.stats.zscore of a traced array: no rule"),
    "scipy.ndimage": (lambda x: ndimage.gaussian_filter(x, 1.0), "scipy.ndimage.gaussian_filter of a traced array"),
    "scipy.integrate.quad": (lambda x: integrate.quad(lambda t: t * x[0], 0, 1)[0], "scipy.integrate.quad of a traced"),
    "solve_ivp": (
        lambda x: integrate.solve_ivp(lambda t, y: -y, (0, 1), x).y,
        r"odeint\(fun, y0, t, args=\(...\), tfirst",
    ),
    "odeint of what it closes over": (
        lambda x: integrate.odeint(lambda y, t: -y * x[0], x, np.arange(2.0)),
        "not among args=",
    ),
    "odeint, in full": (
        lambda x: integrate.odeint(lambda y, t: -y, x, np.arange(2.0), full_output=True)[0],
        "without full_output",
    ),
    "scipy.linalg.qr": (lambda x: linalg.qr(np.outer(x, x))[1], "scipy.linalg.qr of a traced array: no rule"),
    "scipy.linalg.eigh, some": (
        lambda x: linalg.eigh(np.outer(x, x), eigvals_only=True, subset_by_index=(0, 1)),
        "all eigenvalues",
    ),
    "scipy.linalg.sqrtm, complex": (lambda x: linalg.sqrtm(-np.diag(x)), "the result is complex"),
    "scipy.linalg.solve, banded": (
        lambda x: linalg.solve(np.diag(x), x, assume_a="banded"),
        "is not known; leave it out",
    ),
    "scipy.linalg.pinv, rank": (lambda x: linalg.pinv(x[:, None], return_rank=True)[0], "without options"),
    "scipy.signal.convolve2d, around": (
        lambda x: signal.convolve2d(x[None], x[None], boundary="wrap"),
        "boundary='fill'",
    ),
    "scipy.signal.fftconvolve, some axes": (lambda x: signal.fftconvolve(x[None], x[None], axes=1), "over all axes"),
    "quantiles of counts": (lambda x: stats.poisson.ppf(0.5, x), "of a traced array: .* no rule is known"),
    "a distribution function by a shape": (
        lambda x: stats.gamma.cdf(2.0, x),
        "gammainc: no derivative is known by argument 0",
    ),
    "an unknown function": (lambda x: special.struve(1.0, x[0]), "struve of a traced array: no rule is known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_lose_the_derivative_is_refused(name):
    f, message = REFUSED[name]
    with pytest.raises(NotDifferentiable, match=message):
        grad(lambda x: np.sum(f(x)))(x3)


def test_a_number_written_into_an_array():
    """NumPy has an error of its own there; ours is its cause."""
    with pytest.raises(ValueError) as refusal:
        grad(lambda x: np.zeros(3).__setitem__(0, x))(1.0)
    assert type(refusal.value.__cause__) is NotDifferentiable


def test_what_numpy_refuses_is_refused():
    with pytest.raises(ValueError, match="size 1"):
        grad(lambda x: x.item())(x3)
    with pytest.raises(ValueError, match="broadcast"):
        grad(lambda x: np.sum(x + np.ones(2)))(x3)
    with pytest.raises(IndexError):
        grad(lambda x: x[3])(x3)
    with pytest.raises(AttributeError):
        grad(lambda x: x.sort())(x3)
    with pytest.raises(ValueError, match="equal division"):
        grad(lambda x: np.split(x, 2)[0])(x3)
    with pytest.raises(np.linalg.LinAlgError):
        grad(lambda x: np.sum(np.linalg.inv(np.outer(x, np.zeros(3)))))(x3)


@pytest.mark.parametrize(
    "f, args, message",
    [
        (np.exp, (1j,), "complex numbers; give real and imaginary part"),
        (np.exp, (np.ones(2, complex),), "complex numbers"),
        (np.sum, (np.arange(3),), r"this is int64 \(x.astype"),
        (np.sum, (np.ones(3, bool),), "this is bool"),
        (lambda p: p["n"] * 1.0, ({"n": np.arange(1)[0]},), "argument n: .* int64"),
        (np.exp, (x3,), r"wants a function whose value is one number, and this is an array of shape \(3,\)"),
        (lambda x: (x, x), (1.0,), "this is several arrays"),
        (lambda: 1.0, (), "no argument|index"),
        (lambda x: 1.0, ([],), "no argument to take a derivative by"),
    ],
)
def test_arguments_and_values_without_derivatives(f, args, message):
    with pytest.raises((NotDifferentiable, IndexError), match=message):
        grad(f)(*args)


def test_gradients_of_another_shape_are_refused():
    _, pull = vjp(lambda x: 2 * x, x3)
    with pytest.raises(ValueError, match=r"shape \(2,\) for a value of shape \(3,\)"):
        pull(np.ones(2))
    with pytest.raises(ValueError, match="2 parts, the value 1"):
        pull((x3, x3))


def test_a_traced_keyword_without_a_place():
    """By a starting value there would be a derivative, and none is known; numbers are no condition, as in NumPy."""
    with pytest.raises(NotDifferentiable, match="max with a traced initial="):
        grad(lambda t: np.max(t * np.ones(3), initial=t))(3.0)
    with pytest.raises(TypeError, match="Cannot cast"):
        grad(lambda t: np.mean(np.ones(3), where=t) * np.sum(t))(np.ones(3))


# --- traps, and more than gradients ------------------------------------------------------------------------

TRAPS = {
    "a root on the branch not taken": (lambda x: np.where(x >= 0, x, np.sqrt(-x)), [-1.0, 0.0, 2.0], [-0.5, 1.0, 1.0]),
    "a logarithm": (lambda x: np.where(x > 0, np.log(x), 0.0), [-1.0, 0.0, 2.0], [0.0, 0.0, 0.5]),
    "a quotient": (lambda x: np.where(x == 0, 1.0, np.sin(x) / x), [0.0, np.pi], [0.0, -1 / np.pi]),
    "a power": (lambda x: np.where(x > 0, x**0.5, 0.0), [0.0, 4.0], [0.0, 0.25]),
}


@pytest.mark.parametrize("name", TRAPS)
def test_what_has_no_influence_has_no_gradient(name):
    f, x, slopes = TRAPS[name]
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(grad(lambda x: np.sum(f(x)))(np.array(x)), slopes, atol=1e-15)
        second = grad(lambda x: np.sum(grad(lambda x: np.sum(f(x)))(x) * x))(np.array(x))
    assert np.isfinite(second).all()


def test_what_is_infinite_or_no_number_stays_so():
    with np.errstate(all="ignore"):
        assert grad(np.arccos)(1.0) == -np.inf and grad(np.sqrt)(0.0) == np.inf
        assert np.isnan(grad(np.sqrt)(-1.0)) and np.isnan(grad(lambda x: x * np.nan)(1.0))


def test_what_is_zero_for_once_has_a_slope():
    """What a selection left out is left out, and not what happens to be 0: a tangent, or the factor of a root."""
    x = np.array([0.0, 1.0, 4.0])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(jvp(np.sqrt, (x,), (np.ones(3),))[1], [np.inf, 0.5, 0.25])
        slopes = jvp(lambda x: np.where(x > 0, x * np.log(x), 0.0), (x,), (np.ones(3),))[1]
        np.testing.assert_allclose(slopes, [0.0, 1.0, 1.0 + np.log(4.0)])
        second = hessian(lambda x: np.sum((x - 1.0) ** 2 * np.where(x > 5, np.sqrt(x - 5.0), 1.0)))(x)
        np.testing.assert_allclose(second, 2.0 * np.eye(3))
        assert np.isnan(grad(lambda x: np.sqrt(x) ** 2)(0.0))  # 0 would be wrong: it is 1
        inner = grad(lambda y: grad(lambda x: np.sum(np.where(x > 0, x * np.log(x), 0.0) * y))(x)[1])
        assert inner(0.0) == pytest.approx(1.0)


def test_what_is_computed_again_uses_its_arguments_alone():
    with pytest.raises(NotDifferentiable, match="no positional argument"):
        grad(lambda w: checkpoint(lambda x: w * x**2)(w))(3.0)


def test_what_joins_is_no_sequence():
    """Who iterated over it filled the memory."""
    for joined in (autodiff.r_, autodiff.c_):
        with pytest.raises(TypeError, match="not iterable"):
            iter(joined)


def test_directional_derivatives_of_constants():
    assert jvp(lambda x: 3.0, (1.0,), (1.0,)) == (3.0, 0.0)
    assert jvp(lambda x: np.floor(x), (1.5,), (1.0,))[1] == 0.0


def test_determinants_of_singular_matrices():
    a = np.array([[1.0, 2.0], [2.0, 4.0]])
    np.testing.assert_allclose(grad(np.linalg.det)(a), [[4, -2], [-2, 1]], atol=1e-14)
    np.testing.assert_allclose(grad(np.linalg.det)(np.diag([2.0, 3.0, 0.0])), np.diag([0.0, 0.0, 6.0]), atol=1e-14)
    assert not grad(np.linalg.det)(np.zeros((3, 3))).any()


def test_steps_are_constants():
    slope = grad(lambda x: x * int(x) + x * math.floor(x) + x * math.ceil(x) + x * math.trunc(x))(2.5)
    assert slope == 2 + 2 + 3 + 2


def test_an_array_of_one_number_is_a_number():
    assert grad(lambda x: np.sum(x**2, keepdims=True))(np.array([3.0])) == [6.0]
    assert grad(lambda x: np.reshape(x, (1, 1)) ** 2)(3.0) == 6.0


def test_products_with_the_jacobian():
    rng = np.random.default_rng(0)
    A, x, v = rng.standard_normal((4, 3)), rng.standard_normal(3), rng.standard_normal(3)
    value, slope = jvp(lambda x: {"y": np.tanh(A @ x), "n": np.sum(x)}, (x,), (v,))
    np.testing.assert_allclose(value["y"], np.tanh(A @ x))
    np.testing.assert_allclose(slope["y"], (1 - np.tanh(A @ x) ** 2) * (A @ v))
    assert slope["n"] == pytest.approx(v.sum())
    assert grad(lambda x: jvp(np.sin, (x,), (2.0,))[1])(0.5) == pytest.approx(-2 * math.sin(0.5))


def test_tall_and_wide_jacobians_are_the_same():
    rng = np.random.default_rng(0)
    for shape in ((2, 40), (40, 2), (0, 3)):
        A = rng.standard_normal(shape)
        np.testing.assert_allclose(jacobian(lambda x, A=A: A @ x)(rng.standard_normal(shape[1])), A)


def test_hessians():
    x = np.array([0.3, -0.7])
    np.testing.assert_allclose(hessian(lambda x: np.sum(x) ** 3)(x), np.full((2, 2), 6 * x.sum()))


def test_what_is_computed_again_keeps_less_and_gives_the_same():
    rng = np.random.default_rng(0)
    W, x = rng.standard_normal((3, 3)), rng.standard_normal(3)
    calls = []

    def piece(W, x):
        calls.append(1)
        for _ in range(5):
            x = np.tanh(W @ x)
        return x

    def cost(piece):
        return lambda W: np.sum(piece(W, piece(W, x)) ** 2)

    np.testing.assert_allclose(grad(cost(checkpoint(piece)))(W), grad(cost(piece))(W))
    assert len(calls) == 6
    out, _ = vjp(lambda W: checkpoint(piece)(W, x), W)
    np.testing.assert_array_equal(out, piece(W, x))
    np.testing.assert_array_equal(checkpoint(piece)(W, x), piece(W, x))
