"""Every derivative of `distbp.autodiff`: against differences, in both precisions, and what it does at kinks."""

import contextlib
import functools
import inspect
import warnings

import autograd.numpy as anp
import autograd.scipy.special as asp
import numpy as np
import pytest
import scipy.special as special
from autodiff_cases import CASES, Draw
from autograd import make_vjp
from hypothesis import given, settings
from hypothesis import strategies as st

from distbp.autodiff import check_grads, grad, jacobian, vjp
from distbp.autodiff.tables import COMPOSITIONS, METHODS, RULES
from distbp.autodiff.tracing import Traced, value_of
from distbp.trees import leaves_of, like

SEEDS = range(12)  # for the tests in which every case has to be run, again and again

each_case = pytest.mark.parametrize("name", CASES)


def is_variable(x):
    return isinstance(x, (np.ndarray, np.floating)) and np.asarray(x).dtype.kind == "f"


def call_of(name, d):
    """A function of the variables alone, the variables, and the call in plain NumPy."""
    of = CASES[name]
    args, kwargs = of.make(d)
    args = tuple(args)
    leaves = [x for _, x in leaves_of(args)]
    variables = [x for x in leaves if is_variable(x)]

    def f(*inner):
        given = iter(inner)
        return of.function(*like(args, (next(given) if is_variable(x) else x for x in leaves)), **kwargs)

    return f, variables, args, kwargs


def fixed(f, variables, k):
    """The same with all but variable k as constants, that is, as plain arrays."""
    return lambda x: f(*variables[:k], x, *variables[k + 1 :])


def assert_same(traced, plain, tolerance=1e-12):
    """Values, shapes, precisions and containers."""
    if isinstance(plain, (tuple, list)):
        assert type(traced) is type(plain) and len(traced) == len(plain)
        for a, b in zip(traced, plain, strict=True):
            assert_same(a, b, tolerance)
        return
    traced = value_of(traced)
    assert np.shape(traced) == np.shape(plain)
    assert np.asarray(traced).dtype == np.asarray(plain).dtype
    np.testing.assert_allclose(traced, plain, rtol=tolerance, atol=tolerance)


@contextlib.contextmanager
def quiet():
    """NumPy's warnings, of empty means and the like, are NumPy's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


# --- values, and derivatives against differences -----------------------------------------------------------


@each_case
def test_values_are_those_of_numpy_and_derivatives_those_of_differences(name):
    @settings(max_examples=CASES[name].examples, derandomize=True, deadline=None, database=None)
    @given(st.data())
    def run(data):
        f, variables, args, kwargs = call_of(name, Draw(data))
        with quiet():
            assert_same(vjp(f, *variables)[0], CASES[name].function(*args, **kwargs))
            check_grads(f, *variables)
            if len(variables) > 1:
                for k in range(len(variables)):
                    check_grads(fixed(f, variables, k), variables[k], order=1)

    run()


@each_case
def test_float32_stays_float32(name):
    """The value as far as in NumPy, and what comes out of every rule."""
    with watched() as seen:
        for seed in range(min(CASES[name].examples, 4)):
            f, variables, _, _ = call_of(name, Draw(seed=seed))
            single = [np.float32(x) for x in variables]
            with quiet():
                value, pull = vjp(f, *single)
                assert_same(value, f(*single), 2e-5)
                grads = pull(like(value, (np.ones_like(x)[()] for _, x in leaves_of(value))))
            assert {g.dtype for g in grads} <= {np.dtype(np.float32)}
    wide = {where for where, g, part in seen if g in ("f", "F") and part in ("d", "D")}
    assert not wide, f"float64 comes out of the rules of {wide}"


def is_of_numpy(function):
    return (getattr(function, "__module__", "") or "").startswith("numpy")


def by_keyword(function, args, kwargs):
    """The arguments of a call, by keyword where they may be; None where there are no names."""
    try:
        parameters = inspect.signature(function).parameters
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except ValueError:
        return None
    if any(parameters[k].kind is inspect.Parameter.VAR_POSITIONAL for k in bound):
        return None
    positional = [x for k, x in bound.items() if parameters[k].kind is inspect.Parameter.POSITIONAL_ONLY]
    keywords = {k: x for k, x in bound.items() if parameters[k].kind is not inspect.Parameter.POSITIONAL_ONLY}
    return positional, keywords | keywords.pop("kwargs", {})


@pytest.mark.parametrize("name", [k for k, of in CASES.items() if is_of_numpy(of.function)])
def test_arguments_have_the_names_that_numpy_gives_them(name):
    function = CASES[name].function
    for seed in range(min(CASES[name].examples, 4)):
        _, _, args, kwargs = call_of(name, Draw(seed=seed))
        call = by_keyword(function, args, kwargs)
        if call is None or name.startswith("np.unique_"):  # whose signatures hide that they take no names
            return
        with quiet():
            traced = like(call, (Traced(x) if is_variable(x) else x for _, x in leaves_of(call)))
            assert_same(function(*traced[0], **traced[1]), function(*args, **kwargs))


def test_other_precisions_are_those_of_numpy():
    x = np.arange(1.0, 10.0).reshape(3, 3)

    def f(x):
        return (
            np.sum(x, dtype=np.float32),
            np.mean(x, 1, np.float32),
            np.prod(x, dtype=np.float64),
            np.var(x, 0, np.float32),
            np.cumsum(x, 0, np.float32),
            np.cumulative_sum(x, axis=0, dtype=np.float32),
            np.trace(x, dtype=np.float32),
            np.stack([x, x], dtype=np.float32),
            np.concatenate([x, x], dtype=np.float32),
            np.linspace(x, 1.0, 3, dtype=np.float32),
            x.astype(np.float32),
            x.sum(dtype=np.float32),
        )

    assert_same(vjp(f, x)[0], f(x), 1e-6)
    for k in range(len(f(x))):
        slope = grad(lambda x, k=k: np.sum(f(x)[k]))(x)
        assert slope.dtype == np.float64 and np.isfinite(slope).all() and slope.any()


# --- is every rule there, and would a mistake be noticed ------------------------------------------------------


def label(function):
    return getattr(function, "__name__", repr(function))


@contextlib.contextmanager
def watched(scale=None):
    """Tables that note what is called: (function, argument), and the precisions before and after.

    With ``scale = (function, argument)`` what this rule gives is 0.1 % too large.
    """
    seen, tables = [], [(table, dict(table)) for table in (RULES, COMPOSITIONS, METHODS)]

    def of_rule(function, k, rule):
        if rule is None:
            return None

        def watching(g, ans, *args, **kwargs):
            part = rule(g, ans, *args, **kwargs)
            seen.append(((function, k), g.dtype.char, part.dtype.char))
            return part * 1.001 if scale == (function, k) else part

        return watching

    def of_every(function, rule):
        def watching(k, g, ans, *args, **kwargs):
            part = rule(k, g, ans, *args, **kwargs)
            seen.append(((function, None), g.dtype.char, part.dtype.char))
            return part * 1.001 if scale == (function, None) else part

        return watching

    def of_composition(key, composition):
        def watching(*args, **kwargs):
            seen.append((key, "", ""))
            return composition(*args, **kwargs)

        return watching if callable(composition) else composition

    for function, rules in tables[0][1].items():
        if type(rules) is tuple:
            RULES[function] = tuple(of_rule(function, k, rule) for k, rule in enumerate(rules))
        else:
            RULES[function] = of_every(function, rules)
    for function, composition in tables[1][1].items():
        COMPOSITIONS[function] = of_composition(function, composition)
    for key, function in tables[2][1].items():
        METHODS[key] = of_composition(key, function)
    try:
        yield seen
    finally:
        for table, before in tables:
            table.clear()
            table.update(before)


def entries():
    """Every rule, composition and method."""
    for function, rules in RULES.items():
        if type(rules) is tuple:
            yield from ((function, k) for k, rule in enumerate(rules) if rule is not None)
        else:
            yield function, None
    yield from COMPOSITIONS
    yield from METHODS


@functools.cache
def reached(seed):
    """What each entry of the tables is reached by: names of cases, drawn with that seed."""
    found = {}
    for name in CASES:
        f, variables, _, _ = call_of(name, Draw(seed=seed))
        with watched() as seen, quiet(), contextlib.suppress(AssertionError):
            check_grads(f, *variables)
        for key in {where for where, _, _ in seen}:
            found.setdefault(key, []).append(name)
    return found


def test_every_rule_and_composition_is_run_by_a_case():
    missing = list(entries())
    for seed in SEEDS:
        missing = [key for key in missing if key not in reached(seed)]
        if not missing:
            break
    assert not missing, missing


IS_ZERO = (np.copysign, 1)
RULES_ONE_BY_ONE = [entry for entry in entries() if type(entry) is tuple and entry not in METHODS and entry != IS_ZERO]


@pytest.mark.parametrize("rule", RULES_ONE_BY_ONE, ids=lambda rule: f"{label(rule[0])} by argument {rule[1]}")
def test_a_rule_wrong_by_a_thousandth_is_noticed(rule):
    for seed, name in ((s, name) for s in SEEDS for name in reached(s).get(rule, ())):
        f, variables, _, _ = call_of(name, Draw(seed=seed))
        with quiet():
            check_grads(f, *variables)
            with watched(scale=rule):
                try:
                    check_grads(f, *variables)
                except AssertionError:
                    return
    raise AssertionError("nobody notices")


# --- conventions, where there is no derivative -----------------------------------------------------------------

x3 = np.array([1.0, 3.0, 3.0])
zero = np.zeros(3)
CONVENTIONS = {
    "equal maxima share": (lambda x: np.max(x), x3, [0, 0.5, 0.5]),
    "equal minima share": (lambda x: np.min(x), -x3, [0, 0.5, 0.5]),
    "all of a whole array": (lambda x: np.max(x), zero, [1 / 3] * 3),
    "maximum(x, y) at x = y": (lambda x: np.sum(np.maximum(x, 3.0)), x3, [0, 0.5, 0.5]),
    "minimum(x, y) at x = y": (lambda x: np.sum(np.minimum(x, 3.0)), x3, [1, 0.5, 0.5]),
    "fmax(x, y) at x = y": (lambda x: np.sum(np.fmax(x, 3.0)), x3, [0, 0.5, 0.5]),
    "fmin(x, y) at x = y": (lambda x: np.sum(np.fmin(x, 3.0)), x3, [1, 0.5, 0.5]),
    "maximum(x, x)": (lambda x: np.sum(np.maximum(x, x)), x3, [1, 1, 1]),
    "relu at 0": (lambda x: np.sum(np.maximum(x, 0.0)), zero, [0.5, 0.5, 0.5]),
    "fmax passes over NaN": (lambda x: np.sum(np.fmax(x, np.nan)), x3, [1, 1, 1]),
    "fmin passes over NaN": (lambda x: np.sum(np.fmin(x, np.nan)), x3, [1, 1, 1]),
    "fmin of NaN": (lambda x: np.sum(np.fmin(x, 2.0)), np.array([np.nan, 1.0, 3.0]), [0, 1, 0]),
    "fmax of NaN": (lambda x: np.sum(np.fmax(x, 2.0)), np.array([np.nan, 1.0, 3.0]), [0, 0, 1]),
    "|x| at 0": (lambda x: np.sum(np.abs(x)), zero, zero),
    "fabs at 0": (lambda x: np.sum(np.fabs(x)), zero, zero),
    "norm at 0": (lambda x: np.linalg.norm(x), zero, zero),
    "norm of order 3 at 0": (lambda x: np.linalg.norm(x, 3), zero, zero),
    "norm of order 1 at 0": (lambda x: np.linalg.norm(x, 1), zero, zero),
    "Frobenius norm at 0": (lambda x: np.linalg.norm(x, "fro"), np.zeros((2, 2)), np.zeros((2, 2))),
    "hypot at 0": (lambda x: np.sum(np.hypot(x, 0.0)), zero, zero),
    "std of equal numbers": (lambda x: np.std(x), np.ones(3), zero),
    "clip at its bounds": (lambda x: np.sum(np.clip(x, 1.0, 3.0)), np.array([1.0, 3.0, 4.0]), [1, 1, 0]),
    "x**0": (lambda x: np.sum(x**0), zero, zero),
    "x**0 as an array": (lambda x: np.sum(x ** np.zeros(3)), zero, zero),
    "x**1 at 0": (lambda x: np.sum(x**1), zero, [1, 1, 1]),
    "x**2 at 0": (lambda x: np.sum(x**2), zero, zero),
    "0**y": (lambda y: np.sum(0.0**y), np.array([1.0, 2.0, 3.0]), zero),
    "0**y as an array": (lambda y: np.sum(zero**y), np.array([1.0, 2.0, 3.0]), zero),
    "logaddexp of -inf": (lambda x: np.sum(np.logaddexp(x, -np.inf)), np.array([-np.inf, 0.0, 1.0]), [0, 1, 1]),
    "a product with a zero": (lambda x: np.prod(x), np.array([2.0, 0.0, 3.0]), [0, 6, 0]),
    "a product with two": (lambda x: np.prod(x), np.array([2.0, 0.0, 0.0]), zero),
    "sort with equal numbers": (lambda x: np.sort(x)[1], x3, [0, 1, 0]),
    "median of equal numbers": (lambda x: np.median(x), x3, [0, 1, 0]),
    "median with NaN": (lambda x: np.nan_to_num(np.median(x)), np.array([1.0, np.nan, 2.0]), zero),
    "sinc at 0": (lambda x: np.sum(np.sinc(x)), zero, zero),
    "sign, floor, round": (lambda x: np.sum(np.sign(x) * x + np.floor(x) + np.round(x)), x3, [1, 1, 1]),
    "remainder": (lambda x: np.sum(x % 2.0), x3, [1, 1, 1]),
    "the chosen branch": (lambda x: np.sum(np.where(x > 2, x**2, 3 * x)), x3, [3, 6, 6]),
    "only what was chosen": (lambda x: np.sum(np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0)), zero, zero),
    "xlogy at 0": (lambda x: np.sum(special.xlogy(0.0, x)), zero, zero),
    "nan_to_num": (lambda x: np.sum(np.nan_to_num(x)), np.array([1.0, np.nan, np.inf]), [1, 0, 0]),
    "nansum": (lambda x: np.nansum(x), np.array([1.0, np.nan, 2.0]), [1, 0, 1]),
    "an empty sum": (lambda x: np.sum(x) + np.prod(x), np.zeros(0), []),
    "an empty array, in a list": (lambda x: np.sum(np.concatenate([x, x3])), np.zeros(0), []),
    "no row": (lambda x: np.sum(np.exp(x @ np.ones((2, 3)))), np.zeros((0, 2)), np.zeros((0, 2))),
    "no element picked": (lambda x: np.sum(x[x > 9]), x3, zero),
    "nothing that depends on x": (lambda x: np.float64(2.0), x3, zero),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions(name):
    f, at, expected = CONVENTIONS[name]
    with np.errstate(divide="ignore", invalid="ignore"):
        actual = grad(f)(np.asarray(at))
        single = grad(f)(np.asarray(at, np.float32))
    np.testing.assert_allclose(actual, expected, rtol=1e-14)
    np.testing.assert_allclose(single, expected, rtol=1e-6)
    assert actual.dtype == np.float64 and single.dtype == np.float32


def test_second_derivatives_at_kinks_are_numbers():
    for f in (np.linalg.norm, np.std, lambda x: np.sum(np.abs(x)), lambda x: np.sum(np.hypot(x, 0.0))):
        assert np.isfinite(jacobian(grad(f))(np.zeros(3))).all()


# --- HIPS autograd -------------------------------------------------------------------------------------------

PEERS = {"np": (np, anp), "np.linalg": (np.linalg, anp.linalg), "np.fft": (np.fft, anp.fft), "special": (special, asp)}
PEER_ERRS = {
    "np.where", "np.choose", "np.sum", "np.prod", "np.prod with zeros", "np.max with where", "np.min with where",
    "np.amax with where", "np.amin with where", "np.mean with where", "np.var with where", "np.std with where",
    "np.var, unbiased", "np.outer", "np.cross", "np.einsum 'ij,ij->i' [(2, 3), (2, 1)]",
    "np.einsum 'ij,ij,j->' [(2, 3), (1, 3), (3,)]", "np.linalg.solve", "np.linalg.norm of vectors",
    "np.linalg.norm of a vector", "np.linalg.norm of matrices", "np.linalg.norm of a matrix",
    "np.linalg.norm along first axes", "np.transpose", "np.dstack", "np.block", "np.diag",
    "np.fft.irfft of real numbers",
}  # fmt: skip
"""Where some form gives another gradient there, or one of another shape: where= forgotten, axes counted from the end,
lists in lists, odd lengths. Differences agree with ours: the test above."""


def peer_of(name):
    """The function of autograd that stands for that of a case, where it is one of NumPy's or SciPy's as it is."""
    space, _, function = name.split(" ")[0].rstrip(",").rpartition(".")
    plain, theirs = PEERS.get(space, (None, None))
    return getattr(theirs, function, None) if getattr(plain, function, None) is CASES[name].function else None


def test_gradients_agree_with_those_of_hips_autograd():
    compared = set()
    for name in CASES.keys() - PEER_ERRS:
        if (peer := peer_of(name)) is None:
            continue
        for seed in range(CASES[name].examples):
            f, variables, args, kwargs = call_of(name, Draw(seed=seed))
            with quiet():
                value, pull = vjp(f, *variables)
                if isinstance(value, (tuple, list)):
                    continue
                g = np.asarray(np.random.default_rng(seed).standard_normal(np.shape(value)))[()]
                try:
                    theirs = gradients_of_peer(peer, args, kwargs, variables, g)
                except Exception:  # a function or a form that it does not know
                    continue
            for a, b in zip(pull(g), theirs, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10, err_msg=f"{name} {args} {kwargs}")
            compared.add(name)
    assert len(compared) > 160, len(compared)


def gradients_of_peer(peer, args, kwargs, variables, g):
    leaves = [x for _, x in leaves_of(args)]

    def f(*inner):
        given = iter(inner)
        return peer(*like(args, (next(given) if is_variable(x) else x for x in leaves)), **kwargs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [make_vjp(f, k)(*variables)[0](g) for k in range(len(variables))]
