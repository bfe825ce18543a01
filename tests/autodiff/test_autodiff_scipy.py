"""How functions of SciPy see traced arrays: as they were imported, by every thread, and nobody else is changed."""

import inspect
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
from scipy import integrate, linalg, signal, special, stats
from scipy.linalg import cholesky
from scipy.special import logsumexp
from scipy.stats import norm

from distbp.autodiff import NotDifferentiable, grad, vjp
from distbp.autodiff.scipy import FRONTS

x3 = np.array([0.5, 1.0, 2.0])


def test_names_that_were_imported_before_are_differentiated():
    vjp(np.sum, x3)
    assert logsumexp in FRONTS and cholesky in FRONTS and type(norm).logpdf in FRONTS
    np.testing.assert_allclose(grad(lambda x: logsumexp(x))(x3), special.softmax(x3))
    np.testing.assert_allclose(grad(lambda x: np.sum(norm.logpdf(x)))(x3), -x3)


def test_nothing_else_is_changed():
    """Signatures, names, documentation, pickles, results of plain arrays, errors."""
    vjp(np.sum, x3)
    for function in FRONTS:
        assert inspect.signature(function).parameters and function.__name__
    assert list(inspect.signature(logsumexp).parameters) == ["a", "axis", "b", "keepdims", "return_sign"]
    assert pickle.loads(pickle.dumps(logsumexp)) is logsumexp
    code = (
        "import numpy as np; from scipy import linalg, signal, special, stats; x = np.array([0.5, 1.0, 2.0]);"
        "a = np.outer(x, x) + np.eye(3);"
        "print([special.logsumexp(x, b=x), stats.norm.logpdf(x, 1, scale=2), stats.gamma.cdf(x, 2.0), linalg.expm(a),"
        "linalg.cholesky(a, lower=True), linalg.solve(a, x), signal.convolve(x, x, 'same'),"
        "stats.multivariate_normal(x, a).logpdf(x), linalg.eigh(a)])"
    )
    first = "from distbp.autodiff import vjp; import numpy as np, scipy.signal, scipy.stats; vjp(np.sum, np.ones(2));"
    outputs = [
        subprocess.run([sys.executable, "-c", before + code], capture_output=True, text=True, check=True).stdout
        for before in ("", first)
    ]
    assert outputs[0] == outputs[1]
    with pytest.raises(linalg.LinAlgError):
        cholesky(-np.eye(2))
    with pytest.raises(TypeError):
        logsumexp()
    with pytest.raises(TypeError):
        logsumexp(x3, nothing=1)


def test_threads_that_begin_together_all_see_fronts():
    code = """
import threading
import numpy as np
import scipy.special, scipy.stats, scipy.linalg
from distbp.autodiff import grad

found, start = [], threading.Barrier(8)

def work():
    start.wait()
    found.append(grad(lambda x: np.sum(scipy.stats.norm.logpdf(x)) + scipy.special.logsumexp(x))(np.ones(2))[0])

threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads], [t.join() for t in threads]
assert found == [-0.5] * 8, found
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_scipy_is_not_imported_for_it():
    code = "import sys, numpy as np; from distbp.autodiff import grad; grad(np.sum)(1.0); print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_threads_differentiate_at_once():
    def work(k):
        for _ in range(20):
            slopes = grad(lambda x: np.sum(stats.t.logpdf(x, 3.0)) + linalg.det(np.diag(x)))(x3 + k)
            found[k].append(slopes)

    found = [[] for _ in range(4)]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for of_one in found:
        assert len(of_one) == 20 and all((slopes == of_one[0]).all() for slopes in of_one)


def test_parameters_that_cannot_be_give_nan_as_in_scipy():
    value, _ = vjp(lambda s: stats.norm.logpdf(x3, 0.0, s), np.array([1.0, -1.0, 2.0]))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])
    with pytest.raises(ValueError, match="add up to 1"):
        vjp(lambda a: stats.dirichlet.logpdf([0.5, 0.6], a), np.ones(2))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        vjp(lambda c: stats.multivariate_normal.logpdf(x3, cov=c), -np.eye(3))


def test_what_lies_outside_of_the_support_has_no_slope():
    value, pull = vjp(lambda x, s: stats.expon.logpdf(x, 0.0, s), np.array([-1.0, 1.0]), 2.0)
    assert value[0] == -np.inf
    np.testing.assert_allclose(pull(np.ones(2))[0], [0.0, -0.5])
    assert stats.gamma.logpdf(-1.0, 2.0) == vjp(lambda a: stats.gamma.logpdf(-1.0, a), 2.0)[0] == -np.inf
    assert stats.binom.logpmf(7, 5, 0.3) == vjp(lambda p: stats.binom.logpmf(7, 5, p), 0.3)[0] == -np.inf


def test_a_program_of_signals():
    """A filter that is fitted to what it gave."""
    rng = np.random.default_rng(0)
    x, wanted = rng.standard_normal(50), np.array([0.5, -0.3, 0.1])
    y = signal.convolve(x, wanted, "valid")
    kernel = np.zeros(3)
    for _ in range(200):
        kernel -= 0.2 * grad(lambda k: np.mean((signal.convolve(x, k, "valid") - y) ** 2))(kernel)
    np.testing.assert_allclose(kernel, wanted, atol=1e-6)


def _of_mpmath(name):
    """Functions of mpmath, and a function of SciPy, of one number."""
    mp = pytest.importorskip("mpmath", reason="mpmath is not installed: pip install torch")
    a, b = mp.mpf("2.5"), mp.mpf("1.25")
    return {
        "stdtr": (
            lambda x: special.stdtr(2.5, x),
            lambda x: mp.mpf(1) / 2 + x * mp.gamma((a + 1) / 2) / mp.sqrt(mp.pi * a) / mp.gamma(a / 2)
            * mp.hyp2f1(0.5, (a + 1) / 2, 1.5, -(x**2) / a),
        ),
        "gammaincinv": (
            lambda x: special.gammaincinv(2.5, x),
            lambda x: mp.findroot(lambda y: mp.gammainc(a, 0, y, regularized=True) - x, 2),
        ),
        "betaincinv": (
            lambda x: special.betaincinv(2.5, 1.25, x),
            lambda x: mp.findroot(lambda y: mp.betainc(a, b, 0, y, regularized=True) - x, 0.6),
        ),
        "ive": (lambda x: special.ive(2.5, x), lambda x: mp.besseli(a, x) * mp.exp(-x)),
        "kve": (lambda x: special.kve(2.5, x), lambda x: mp.besselk(a, x) * mp.exp(x)),
        "yn": (lambda x: special.yn(2, x), lambda x: mp.bessely(2, x)),
        "kn": (lambda x: special.kn(2, x), lambda x: mp.besselk(2, x)),
        "expn": (lambda x: special.expn(3, x), lambda x: mp.expint(3, x)),
        "ellipk": (special.ellipk, mp.ellipk),
        "ellipe": (special.ellipe, mp.ellipe),
        "hyp1f1": (lambda x: special.hyp1f1(2.5, 1.25, x), lambda x: mp.hyp1f1(a, b, x)),
        "hyp2f1": (lambda x: special.hyp2f1(2.5, 1.25, 2.0, x), lambda x: mp.hyp2f1(a, b, 2, x)),
        "binom": (lambda x: special.binom(4.5, x), lambda x: mp.binomial(4.5, x)),
        "poch": (lambda x: special.poch(x, 2.5), lambda x: mp.rf(x, a)),
        "polygamma": (lambda x: special.polygamma(3, x), lambda x: mp.polygamma(3, x)),
        "wrightomega": (special.wrightomega, lambda x: mp.lambertw(mp.exp(x))),
        "stats.gamma.sf": (
            lambda x: stats.gamma.sf(x, 2.5), lambda x: mp.gammainc(a, x, regularized=True),
        ),
        "stats.beta.cdf": (
            lambda x: stats.beta.cdf(x, 2.5, 1.25), lambda x: mp.betainc(a, b, 0, x, regularized=True),
        ),
        "stats.norm.logsf": (lambda x: stats.norm.logsf(x), lambda x: mp.log(mp.ncdf(-x))),
    }[name]  # fmt: skip


MPMATH = (
    "stdtr gammaincinv betaincinv ive kve yn kn expn ellipk ellipe hyp1f1 hyp2f1 binom poch polygamma wrightomega"
    " stats.gamma.sf stats.beta.cdf stats.norm.logsf"
).split()


@pytest.mark.parametrize("name", MPMATH)
def test_slopes_and_curvatures_are_those_of_mpmath(name):
    ours, theirs = _of_mpmath(name)
    import mpmath

    with mpmath.workdps(40):
        for x in (0.3, 0.7):
            first, second = (float(mpmath.re(mpmath.diff(theirs, mpmath.mpf(x), k))) for k in (1, 2))
            np.testing.assert_allclose(grad(ours)(x), first, rtol=1e-11)
            np.testing.assert_allclose(grad(grad(ours))(x), second, rtol=1e-9)


def _one(f):
    """The value of a function of one number that is traced and moves nothing."""
    return lambda: vjp(f, 0.0)[0]


HARD = {
    "norm.isf of little": _one(lambda z: stats.norm.isf(1e-20 + z)),
    "gamma.isf of little": _one(lambda z: stats.gamma.isf(1e-15 + z, 2.0)),
    "cauchy.cdf far out": _one(lambda z: stats.cauchy.cdf(-1e10 + z)),
    "geom.logsf far out": _one(lambda z: stats.geom.logsf(10_000, 0.3 + z)),
    "ppf of no probability": _one(lambda z: stats.uniform.ppf(1.1 + z)),
    "lognorm.pdf at 0": _one(lambda z: stats.lognorm.pdf(0.0 + z, 0.8)),
    "invgamma.logpdf at 0": _one(lambda z: stats.invgamma.logpdf(0.0 + z, 2.0)),
    "poisson.pmf of NaN": _one(lambda z: stats.poisson.pmf(np.nan, 2.0 + z)),
    "poisson.pmf by keyword": _one(lambda z: stats.poisson.pmf(k=2, mu=1.5 + z)),
    "norm.ppf by keyword": _one(lambda z: stats.norm.ppf(q=0.3 + z)),
    "norm.logpdf of lists": _one(lambda z: np.sum(stats.norm.logpdf([1.0, 2.0], [0, 1], 1.0 + z))),
    "a singular covariance": _one(lambda z: stats.multivariate_normal.logpdf(
        np.array([1.0, 1.0, 3.0]) + z, np.zeros(3), np.diag([1.0, 1.0, 0.0]), allow_singular=True)),
    "a covariance of which a triangle is read": _one(lambda z: stats.multivariate_normal.logpdf(
        np.array([1.0, 1.0]), np.zeros(2), np.array([[2.0, 9.0], [0.5, 3.0]]) + z)),
    "comb beyond": _one(lambda z: special.comb(2.5 + z, 3.0)),
    "factorial of less than 0": _one(lambda z: special.factorial(np.array([-0.5]) + z)),
    "logsumexp of what counts for nothing": _one(lambda z: special.logsumexp([800.0 + z, 1.0, 2.0], b=[0.0, 1.0, 1.0])),
    "odeint with what is no number": _one(lambda z: np.sum(integrate.odeint(
        lambda y, t, a, up: a * y if up is True else -y, [1.0, 2.0], [0.0, 0.5], args=(0.5 + z, True)))),
    "solve of a list": _one(lambda z: np.sum(linalg.solve(np.eye(2) * (2.0 + z), [1.0, 2.0]))),
}  # fmt: skip


@pytest.mark.parametrize("name", HARD)
def test_values_are_those_of_scipy_where_that_is_hard(name):
    of_traced = HARD[name]()
    with np.errstate(all="ignore"):
        plain = HARD[name].__closure__[0].cell_contents(0.0)
    np.testing.assert_allclose(of_traced, plain, rtol=1e-9)


def test_slopes_in_the_tail():
    for x in (-10.0, -1e4, -1e7):
        np.testing.assert_allclose(grad(stats.norm.logcdf)(x), -x, rtol=2e-2)
        np.testing.assert_allclose(grad(stats.norm.logsf)(-x), x, rtol=2e-2)
    np.testing.assert_allclose(grad(grad(stats.norm.logcdf))(-1e4), -1.0, rtol=1e-6)


def test_a_distribution_with_another_support_is_refused():
    cut = type(stats.gamma)(a=1.0, name="cut gamma")
    with pytest.raises(NotDifferentiable, match="cut gamma.pdf of a traced array: no rule"):
        grad(lambda x: cut.pdf(x, 2.0))(0.5)


def test_stacks_of_matrices_are_refused_where_scipy_loops_over_them():
    with pytest.raises(NotDifferentiable, match="of one matrix at a time"):
        vjp(lambda a: linalg.solve_triangular(a, np.ones((2, 3, 1))), np.stack([np.eye(3)] * 2))


def test_scipy_that_the_function_imports_itself():
    code = (
        "import scipy; from distbp.autodiff import grad; import numpy as np\n"
        "def f(x):\n    from scipy.signal import convolve\n"
        "    return np.sum(convolve(x, x) + scipy.special.expit(x[0]))\n"
        "print(grad(f)(np.ones(2)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "4.5898" in done.stdout, done.stdout + done.stderr
