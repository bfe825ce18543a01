"""Calls of the functions of SciPy of which `distbp.autodiff` knows a derivative; `autodiff_cases` takes them in."""

import numpy as np
import scipy.integrate as integrate
import scipy.linalg as linalg
import scipy.signal as signal
import scipy.special as special
import scipy.stats as stats

CASES = []
"""Of each name, function, and maker of arguments."""


def case(name, function, make):
    CASES.append((name, function, make))


def of(*args, **kwargs):
    return args, kwargs


# --- scipy.special: of whole numbers or parameters, and a number --------------------------------------------

for _name, _first, _domain in (
    ("gammaincinv", (1.5, 3.0), (0.1, 0.8)), ("gammainccinv", (1.5, 3.0), (0.1, 0.8)), ("stdtr", (2.5, 4.0), (-1.5, 2)),
    ("stdtrit", (2.5, 4.0), (0.2, 0.8)), ("chdtr", (2.5, 4.0), (0.5, 3)), ("chdtrc", (2.5, 4.0), (0.5, 3)),
    ("pdtr", (0.0, 2.0, 3.5), (0.5, 3)), ("pdtrc", (0.0, 2.0, 3.5), (0.5, 3)), ("ive", (0.5, 2.0), (0.5, 3)),
    ("kve", (0.5, 2.0), (0.5, 3)), ("kn", (1, 2), (0.5, 3)), ("yn", (1, 2), (0.8, 3)), ("expn", (2, 3), (0.3, 2)),
    ("hyp0f1", (1.5, 2.5), (0.2, 2)), ("polygamma", (0, 1, 3, np.array([0, 2, 1])), (0.5, 3)),
):  # fmt: skip
    case(f"special.{_name}", getattr(special, _name), lambda d, first=_first, domain=_domain: of(
        d.pick(*first), d.between(*domain, (3,))))  # fmt: skip
for _name, _domain in (
    ("k0e", (0.4, 3)), ("k1e", (0.4, 3)), ("ellipk", (0.1, 0.8)), ("ellipe", (0.1, 0.8)), ("exprel", (0.1, 2)),
    ("wrightomega", (-1, 2)),
):  # fmt: skip
    case(f"special.{_name}", getattr(special, _name), lambda d, domain=_domain: of(d.between(*domain)))
case("special.factorial", special.factorial, lambda d: of(d.between(0.5, 3, (3,))))
case("special.binom", special.binom, lambda d: of(d.between(4.2, 6, (2, 1)), d.between(0.6, 3, (3,))))
case(
    "special.comb",
    special.comb,
    lambda d: of(d.between(4.2, 6, (2, 1)), d.between(0.6, 3, (3,)), **d.some(repetition=True)),
)
case("special.poch", special.poch, lambda d: of(d.between(1, 2, (2, 1)), d.between(0.6, 3, (3,))))
case("special.betaincc", special.betaincc, lambda d: of(1.5, d.pick(2.0, 0.5), d.between(0.1, 0.9)))
case("special.betaincinv", special.betaincinv, lambda d: of(1.5, d.pick(2.0, 0.7), d.between(0.2, 0.8)))
case("special.hyp1f1", special.hyp1f1, lambda d: of(1.5, d.pick(2.0, 0.7), d.between(0.2, 1.5)))
case("special.hyp2f1", special.hyp2f1, lambda d: of(1.5, d.pick(2.0, 0.7), 2.5, d.between(0.1, 0.6)))
case("special.multigammaln", special.multigammaln, lambda d: of(d.between(1.6, 4), d.pick(1, 2, 3)))
case("special.softmax", special.softmax, lambda d: of(d.array((2, 3)), axis=d.pick(None, 0, -1)))
case("special.log_softmax", special.log_softmax, lambda d: of(d.array((2, 3)), axis=d.pick(None, 0, -1)))
case("special.logsumexp", special.logsumexp, lambda d: of(
    d.array((2, 3)), d.pick(None, 0, 1, (0, 1)), d.pick(None, d.between(0.2, 2, (3,))),
    **d.some(keepdims=True)))  # fmt: skip
case("special.logsumexp with a weight of 0", special.logsumexp, lambda d: of(d.array((2, 3)), 1, [1.0, 0.0, 2.0]))
case("special.logsumexp with signs", lambda *a: special.logsumexp(*a, return_sign=True)[0], lambda d: of(
    d.array((2, 3)), 1, d.array((3,)) + 5.0 * np.array([1.0, -1.0, 0.0])))  # fmt: skip

# --- scipy.stats ------------------------------------------------------------------------------------------------

DENSITIES, OTHERS, QUANTILES = ("logpdf", "pdf"), ("cdf", "sf", "logcdf", "logsf"), ("ppf", "isf")
SHAPES = {
    "t": (3.3,), "beta": (2.2, 1.7), "gamma": (2.3,), "chi2": (3.1,), "lognorm": (0.8,), "weibull_min": (1.7,),
    "invgamma": (2.5,),
}  # fmt: skip
FINITE = {"beta", "uniform"}
WHOLE = {"norm", "t", "laplace", "logistic", "cauchy"}
COUNTS = {"poisson": (2.5,), "binom": (5.0, 0.3), "bernoulli": (0.3,), "geom": (0.4,), "nbinom": (3.0, 0.4)}


def _density(name, shapes):
    def make(d):
        low, high = (-2.0, 2.0) if name in WHOLE else (0.1, 0.9) if name in FINITE else (0.2, 2.5)
        loc, scale = d.array((), 0.1, 0.3), d.between(0.8, 1.3, d.pick((), (2, 1)))
        y = d.between(low, high, (3,))
        return of(
            value(y * np.mean(scale) + loc), *(v * d.between(0.9, 1.1, d.pick((), (1,))) for v in shapes), loc, scale
        )

    def value(x):
        return np.append(x, -50.0) if name not in WHOLE else x  # outside of the support

    return make


def _probability(name, shapes):
    make = _density(name, ())
    return lambda d: (lambda args: of(args[0], *shapes, *args[1:]))(make(d)[0])


def _inside(make):
    """The log of 0 has no differences."""
    return lambda d: (lambda args: of(args[0][:3], *args[1:]))(make(d)[0])


CONTINUOUS = sorted({"norm", "expon", "laplace", "logistic", "uniform", "cauchy", "halfnorm", *SHAPES})
for _name in CONTINUOUS:
    _dist, _shapes = getattr(stats, _name), SHAPES.get(_name, ())
    case(f"stats.{_name}.pdf", _dist.pdf, _density(_name, _shapes))
    case(f"stats.{_name}.logpdf", _dist.logpdf, _inside(_density(_name, _shapes)))
    for _method in ("cdf", "sf"):
        case(f"stats.{_name}.{_method}", getattr(_dist, _method), _probability(_name, _shapes))
    for _method in ("logcdf", "logsf"):
        case(f"stats.{_name}.{_method}", getattr(_dist, _method), _inside(_probability(_name, _shapes)))
    for _method in QUANTILES:
        case(f"stats.{_name}.{_method}", getattr(_dist, _method), lambda d, s=_shapes: of(
            d.between(0.1, 0.9, (3,)), *s, d.array((), 0.1, 0.3), d.between(0.8, 1.3, ())))  # fmt: skip
for _name, (*_fixed, _last) in COUNTS.items():
    for _method in ("logpmf", "pmf", "cdf", "sf", "logcdf", "logsf"):
        _counts = [-1, 0, 1, 2, 3] if _method in ("pmf", "cdf", "sf") else [1]
        if _name == "bernoulli" and _method == "logsf":
            _counts = [0]
        _function = getattr(getattr(stats, _name), _method)
        case(f"stats.{_name}.{_method}", _function, lambda d, f=_fixed, p=_last, k=_counts: of(
            np.array(k), *f, p * d.between(0.9, 1.1, ())))  # fmt: skip
case("stats.norm, frozen", lambda x, m, s: stats.norm(m, s).logpdf(x), lambda d: of(
    d.array((3,)), d.array((), 0.1, 0.3), d.between(0.8, 1.3, ())))  # fmt: skip
case("stats.gamma, by names", lambda x, a, b: stats.gamma.logpdf(x, a=a, scale=1.0 / b), lambda d: of(
    d.between(0.5, 3, (3,)), d.between(1.2, 3, ()), d.between(0.8, 1.3, ())))  # fmt: skip


def _covariance(d, n=3):
    a = d.array((n, n))
    return a @ a.T + np.eye(n)


def _normal(f):
    """Of a covariance, of which both triangles count as one."""
    return lambda *args: f(*args[:-1], 0.5 * (args[-1] + args[-1].T))


mvn, dirichlet = stats.multivariate_normal, stats.dirichlet
case("stats.multivariate_normal.logpdf", _normal(mvn.logpdf), lambda d: of(
    d.array(d.pick((3,), (4, 3))), d.array((3,)), _covariance(d)))  # fmt: skip
case("stats.multivariate_normal.pdf", _normal(mvn.pdf), lambda d: of(d.array((2, 3)), d.array((3,)), _covariance(d)))
case("stats.multivariate_normal.entropy", _normal(lambda c: mvn.entropy(cov=c)), lambda d: of(_covariance(d)))
case("stats.multivariate_normal, frozen", lambda x, m, s: mvn(m, s).logpdf(x), lambda d: of(
    d.array((2, 3)), d.array((3,)), d.between(0.5, 2, d.pick((), (3,)))))  # fmt: skip
case("stats.multivariate_normal, of a singular covariance",
     lambda x, m: mvn.logpdf(np.append(x, 0.0), np.append(m, 0.0), np.diag([1.0, 2, 0]), True),
     lambda d: of(d.array((2,)), d.array((2,))))  # fmt: skip
case("stats.dirichlet.logpdf", dirichlet.logpdf, lambda d: of(d.between(0.1, 0.4, (2,)), d.between(0.7, 3, (3,))))
case("stats.dirichlet.pdf", lambda x, a: dirichlet(a).pdf(x), lambda d: of(
    d.between(0.1, 0.4, (2,)), d.between(0.7, 3, (3,))))  # fmt: skip

# --- scipy.linalg -----------------------------------------------------------------------------------------------


def _matrix(d, n=3):
    return d.array((n, n)) + 4.0 * np.eye(n)


def _right(d, n=3):
    return d.array(d.pick((n,), (n, 2)))


case("linalg.solve", linalg.solve, lambda d: of(_matrix(d), _right(d), **d.some(transposed=True)))
case("linalg.solve, symmetric", linalg.solve, lambda d: of(
    _covariance(d), _right(d), assume_a=d.pick("pos", "sym"), lower=d.pick(True, False)))  # fmt: skip
case("linalg.solve, triangular", linalg.solve, lambda d: of(
    _matrix(d), _right(d), assume_a=d.pick("lower triangular", "upper triangular")))  # fmt: skip
case("linalg.solve, diagonal", linalg.solve, lambda d: of(_matrix(d) * np.eye(3), _right(d), assume_a="diagonal"))
case("linalg.solve_triangular", linalg.solve_triangular, lambda d: of(
    _matrix(d), _right(d), d.pick(0, 1, "T", "N"), d.pick(True, False), **d.some(unit_diagonal=True)))  # fmt: skip
case("linalg.solve_banded", linalg.solve_banded, lambda d: of(
    (1, 2), d.array((4, 5)) + np.array([[0], [0], [9.0], [0]]), _right(d, 5)))  # fmt: skip
case("linalg.solve_sylvester", linalg.solve_sylvester, lambda d: of(_matrix(d), _matrix(d, 2), d.array((3, 2))))
case("linalg.cholesky", linalg.cholesky, lambda d: of(_covariance(d), **d.some(lower=True)))
case("linalg.cho_solve", lambda a, b, lower: linalg.cho_solve(linalg.cho_factor(a, lower), b), lambda d: of(
    _covariance(d), _right(d), d.pick(True, False)))  # fmt: skip
for _name in ("expm", "cosm", "sinm", "tanm", "coshm", "sinhm", "tanhm"):
    case(f"linalg.{_name}", getattr(linalg, _name), lambda d: of(0.2 * d.array((3, 3))))
for _name in ("logm", "sqrtm"):
    case(f"linalg.{_name}", getattr(linalg, _name), lambda d: of(_covariance(d)))
case("linalg.block_diag", linalg.block_diag, lambda d: of(d.array((2, 2)), d.array((1, 3)), d.array((2,))))
case("linalg.toeplitz", linalg.toeplitz, lambda d: of(d.array((3,)), *d.pick((), (d.array((4,)),))))
case("linalg.inv", linalg.inv, lambda d: of(_covariance(d), **d.some(assume_a="pos")))
case("linalg.det", linalg.det, lambda d: of(_matrix(d)))
case("linalg.norm", linalg.norm, lambda d: of(d.array((2, 3)), None, d.pick(0, 1)))
case("linalg.pinv", linalg.pinv, lambda d: of(d.array((4, 2))))
case("linalg.eigh", lambda a, **how: linalg.eigh(a, eigvals_only=True, **how), lambda d: of(
    _covariance(d), **d.some(lower=False)))  # fmt: skip
case("linalg.eigh, vectors", lambda a, **how: (lambda w, v: np.abs(v))(*linalg.eigh(a, **how)), lambda d: of(
    _covariance(d) + np.diag([0.0, 5.0, 20.0]), **d.some(lower=False)))  # fmt: skip
case("linalg.eigvalsh", linalg.eigvalsh, lambda d: of(_covariance(d)))
case("linalg.svd", lambda a: linalg.svd(a, full_matrices=False), lambda d: of(d.array(d.pick((2, 3), (3, 2)))))
case("linalg.svdvals", linalg.svdvals, lambda d: of(d.array((2, 3))))

# --- scipy.signal and scipy.integrate ---------------------------------------------------------------------------

MODES = ("full", "same", "valid")
for _name in ("convolve", "correlate", "fftconvolve", "oaconvolve"):
    case(f"signal.{_name}", getattr(signal, _name), lambda d: of(
        *d.pick((d.array((5,)), d.array((3,))), (d.array((2,)), d.array((4,))), (d.array((4, 3)), d.array((2, 2)))),
        d.pick(*MODES)))  # fmt: skip
for _name in ("convolve2d", "correlate2d"):
    case(f"signal.{_name}", getattr(signal, _name), lambda d: of(d.array((4, 3)), d.array((2, 2)), d.pick(*MODES)))
case("integrate.trapezoid", integrate.trapezoid, lambda d: of(d.array((2, 4)), *d.pick((), (np.sort(d.array((4,))),))))
case("integrate.cumulative_trapezoid", integrate.cumulative_trapezoid, lambda d: of(
    d.array((3, 4)), *d.pick((), (np.sort(d.array((4,))),)), **d.some(initial=0)))  # fmt: skip
case("integrate.cumulative_trapezoid, first axis", integrate.cumulative_trapezoid, lambda d: of(
    d.array((3, 2)), None, 0.5, 0))  # fmt: skip
case("integrate.odeint", lambda y, t, k, b: integrate.odeint(
    lambda y, t, k, b: np.stack([y[1], -k * y[0] + t * b[0] * y[1]]), y, t, args=(k, b), rtol=1e-10, atol=1e-10),
    lambda d: of(d.array((2,)), np.array([0.1, 0.4, 0.6]), d.between(0.5, 2, ()), d.array((1,))))  # fmt: skip
