"""scipy.stats: densities, masses and distribution functions, with location, scale and shape parameters.

A distribution is given in its standard form, as in SciPy's documentation; what is derived from others (the density from
its log, the log of what has no better form) and what lies outside of the support are the same for all. Frozen ones, as
``norm(mean, deviation)``, go through the same methods. By a shape parameter there is a derivative where the function
has one that is known: of densities always, of a distribution function not by the ``a`` of gamma or beta.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log, pi, sqrt
from typing import Any

import numpy as np

from distbp.autodiff.scipy import front, multivariate
from distbp.autodiff.scipy.special import double, t_log_density
from distbp.autodiff.tables import Array, NotDifferentiable
from distbp.autodiff.tracing import value_of

s: Any = None
"""The module scipy.special."""
Form = Callable[..., Any]
_HALF_LOG_2_PI = 0.5 * log(2.0 * pi)
TINY = 5e-324
"""The least place of a support that has not 0 itself."""


@dataclass(frozen=True)
class Distribution:
    """A distribution in its standard form: functions of y (or a probability q) and the shape parameters."""

    log: Form
    """Log of the density, or of the mass at a whole number."""
    cdf: Form
    sf: Form
    logcdf: Form | None = None
    logsf: Form | None = None
    ppf: Form | None = None
    isf: Form | None = None
    """By default `ppf` of 1 - q, which loses small ones."""
    low: float = -inf
    high: float | Form = inf
    inside: float = 0.5
    """A place within the support of all its members, of counts 1."""
    counts: bool = False


def _binom_log(k: Array, n: Array, p: Array) -> Array:
    ways = s.gammaln(n + 1.0) - s.gammaln(k + 1.0) - s.gammaln(n - k + 1.0)
    return ways + s.xlogy(k, p) + s.xlog1py(n - k, -p)


def _half_exponential(y: Array) -> Array:
    """Return half of exp(-|y|), whose slope at 0 is that from below."""
    return 0.5 * np.exp(np.where(y > 0, -y, y))


def _laplace_ppf(q: Array) -> Array:
    return np.where(q > 0.5, -np.log(2.0 - 2.0 * q), np.log(2.0 * q))


def _lognorm_log(y: Array, shape: Array) -> Array:
    z = np.log(y) / shape
    return -0.5 * z * z - _HALF_LOG_2_PI - np.log(shape * y)


CONTINUOUS: dict[str, Distribution] = {
    "norm": Distribution(
        lambda y: -0.5 * y * y - _HALF_LOG_2_PI, lambda y: s.ndtr(y), lambda y: s.ndtr(-y),
        lambda y: s.log_ndtr(y), lambda y: s.log_ndtr(-y), lambda q: s.ndtri(q), lambda q: -s.ndtri(q),
    ),
    "t": Distribution(
        lambda y, df: t_log_density(y, df), lambda y, df: s.stdtr(df, y), lambda y, df: s.stdtr(df, -y),
        ppf=lambda q, df: s.stdtrit(df, q), isf=lambda q, df: -s.stdtrit(df, q),
    ),
    "beta": Distribution(
        lambda y, a, b: s.xlogy(a - 1.0, y) + s.xlog1py(b - 1.0, -y) - s.betaln(a, b),
        lambda y, a, b: s.betainc(a, b, y), lambda y, a, b: s.betaincc(a, b, y),
        ppf=lambda q, a, b: s.betaincinv(a, b, q), isf=lambda q, a, b: s.betainccinv(a, b, q), low=0.0, high=1.0,
    ),
    "gamma": Distribution(
        lambda y, a: s.xlogy(a - 1.0, y) - y - s.gammaln(a), lambda y, a: s.gammainc(a, y),
        lambda y, a: s.gammaincc(a, y), ppf=lambda q, a: s.gammaincinv(a, q),
        isf=lambda q, a: s.gammainccinv(a, q), low=0.0,
    ),
    "chi2": Distribution(
        lambda y, df: s.xlogy(0.5 * df - 1.0, y) - 0.5 * y - s.gammaln(0.5 * df) - 0.5 * log(2.0) * df,
        lambda y, df: s.gammainc(0.5 * df, 0.5 * y), lambda y, df: s.gammaincc(0.5 * df, 0.5 * y),
        ppf=lambda q, df: 2.0 * s.gammaincinv(0.5 * df, q),
        isf=lambda q, df: 2.0 * s.gammainccinv(0.5 * df, q), low=0.0,
    ),
    "expon": Distribution(
        lambda y: -y, lambda y: -np.expm1(-y), lambda y: np.exp(-y), lambda y: np.log(-np.expm1(-y)), lambda y: -y,
        lambda q: -np.log1p(-q), lambda q: -np.log(q), low=0.0,
    ),
    "laplace": Distribution(
        lambda y: log(0.5) - np.abs(y), lambda y: np.where(y > 0, 1.0 - _half_exponential(y), _half_exponential(y)),
        lambda y: np.where(y > 0, _half_exponential(y), 1.0 - _half_exponential(y)),
        ppf=lambda q: _laplace_ppf(q), isf=lambda q: -_laplace_ppf(q),
    ),
    "logistic": Distribution(
        lambda y: s.log_expit(y) + s.log_expit(-y), lambda y: s.expit(y), lambda y: s.expit(-y),
        lambda y: s.log_expit(y), lambda y: s.log_expit(-y), lambda q: s.logit(q), lambda q: -s.logit(q),
    ),
    "lognorm": Distribution(
        _lognorm_log, lambda y, shape: s.ndtr(np.log(y) / shape), lambda y, shape: s.ndtr(-np.log(y) / shape),
        lambda y, shape: s.log_ndtr(np.log(y) / shape), lambda y, shape: s.log_ndtr(-np.log(y) / shape),
        lambda q, shape: np.exp(shape * s.ndtri(q)), lambda q, shape: np.exp(-shape * s.ndtri(q)), low=TINY,
    ),
    "uniform": Distribution(
        lambda y: 0.0 * y, lambda y: y, lambda y: 1.0 - y, ppf=lambda q: q, isf=lambda q: 1.0 - q, low=0.0, high=1.0,
    ),
    "cauchy": Distribution(
        lambda y: -log(pi) - np.log1p(y * y), lambda y: np.arctan2(1.0, -y) / pi, lambda y: np.arctan2(1.0, y) / pi,
        ppf=lambda q: -1.0 / np.tan(pi * q), isf=lambda q: 1.0 / np.tan(pi * q),
    ),
    "halfnorm": Distribution(
        lambda y: 0.5 * log(2.0 / pi) - 0.5 * y * y, lambda y: s.erf(y / sqrt(2.0)), lambda y: s.erfc(y / sqrt(2.0)),
        ppf=lambda q: s.ndtri(0.5 * (1.0 + q)), isf=lambda q: -s.ndtri(0.5 * q), low=0.0,
    ),
    "weibull_min": Distribution(
        lambda y, c: np.log(c) + s.xlogy(c - 1.0, y) - y**c, lambda y, c: -np.expm1(-(y**c)),
        lambda y, c: np.exp(-(y**c)), logsf=lambda y, c: -(y**c),
        ppf=lambda q, c: (-np.log1p(-q)) ** (1.0 / c), isf=lambda q, c: (-np.log(q)) ** (1.0 / c), low=0.0,
    ),
    "invgamma": Distribution(
        lambda y, a: -(a + 1.0) * np.log(y) - s.gammaln(a) - 1.0 / y, lambda y, a: s.gammaincc(a, 1.0 / y),
        lambda y, a: s.gammainc(a, 1.0 / y), ppf=lambda q, a: 1.0 / s.gammainccinv(a, q),
        isf=lambda q, a: 1.0 / s.gammaincinv(a, q), low=TINY,
    ),
}  # fmt: skip
DISCRETE: dict[str, Distribution] = {
    "poisson": Distribution(
        lambda k, mu: s.xlogy(k, mu) - s.gammaln(k + 1.0) - mu, lambda k, mu: s.gammaincc(k + 1.0, mu),
        lambda k, mu: s.gammainc(k + 1.0, mu), low=0.0, counts=True,
    ),
    "binom": Distribution(
        _binom_log, lambda k, n, p: s.betainc(n - k, k + 1.0, 1.0 - p), lambda k, n, p: s.betainc(k + 1.0, n - k, p),
        low=0.0, high=lambda n, p: n, inside=0.0, counts=True,
    ),
    "bernoulli": Distribution(
        lambda k, p: s.xlogy(k, p) + s.xlog1py(1.0 - k, -p), lambda k, p: 1.0 - p + 0.0 * k, lambda k, p: p + 0.0 * k,
        low=0.0, high=1.0, inside=0.0, counts=True,
    ),
    "geom": Distribution(
        lambda k, p: np.log(p) + s.xlog1py(k - 1.0, -p), lambda k, p: -np.expm1(k * np.log1p(-p)),
        lambda k, p: np.exp(k * np.log1p(-p)), logsf=lambda k, p: k * np.log1p(-p), low=1.0, inside=1.0, counts=True,
    ),
    "nbinom": Distribution(
        lambda k, n, p: s.gammaln(n + k) - s.gammaln(k + 1.0) - s.gammaln(n) + n * np.log(p) + s.xlog1py(k, -p),
        lambda k, n, p: s.betainc(n, k + 1.0, p), lambda k, n, p: s.betaincc(n, k + 1.0, p), low=0.0, counts=True,
    ),
}  # fmt: skip


def load(module: Any) -> None:
    """Give fronts to the methods of all distributions, which look up theirs, and to those of several variables."""
    global s
    s = sys.modules["scipy.special"]  # which it has imported
    of = {type(getattr(module, name)): (getattr(module, name), d) for name, d in (CONTINUOUS | DISCRETE).items()}
    for base in (module.rv_continuous, module.rv_discrete):
        for name in _METHODS:
            if (method := vars(base).get(name)) is not None:
                front(method, _method(name, of))
    multivariate.load(module)


def _method(name: str, of: dict[type, tuple[Any, Distribution]]) -> Form:
    def traced(dist: Any, *args: Any, **kwargs: Any) -> Any:
        standard, form = of.get(type(dist), (dist, None))
        if form is None or (dist.a, dist.b) != (standard.a, standard.b):
            known = ", ".join(sorted(CONTINUOUS | DISCRETE))
            raise NotDifferentiable(
                f"scipy.stats.{dist.name}.{name} of a traced array: no rule is known, but of {known}; write it with"
                " functions of NumPy and scipy.special"
            )
        if not args:  # x, k, q: what SciPy calls it
            args = (kwargs.pop(next(iter(kwargs.keys() & {"x", "k", "q"}))),)
        shapes, loc, scale = dist._parse_args(*args[1:], **kwargs)
        x = args[0]
        x, loc, scale, *shapes = map(double, (x, loc, scale, *shapes))
        is_valid = dist._argcheck(*map(value_of, shapes)) & (value_of(scale) > 0)
        if np.all(is_valid):
            return _METHODS[name](form, x, loc, scale, shapes)
        with np.errstate(all="ignore"):
            return np.where(is_valid, _METHODS[name](form, x, loc, scale, shapes), np.nan)

    return traced


def _high(form: Distribution, shapes: Any) -> Any:
    return form.high(*map(value_of, shapes)) if callable(form.high) else form.high


def _placed(form: Distribution, x: Array, loc: Array, scale: Array, shapes: Any) -> tuple[Array, Any, Any, Any]:
    """Return the standard place, within the support; and where it was in it, below it, and above it."""
    y = (x - loc) / scale
    at, high = value_of(y), _high(form, shapes)
    if form.counts:
        at = np.floor(at)
    below, above = at < form.low, at > high
    inside = np.logical_not(below | above)
    if np.all(inside):
        return y, True, below, above
    return np.where(inside, y, form.inside), inside, below, above


def _log(form: Distribution, x: Array, loc: Array, scale: Array, shapes: Any) -> Array:
    y, inside, _, _ = _placed(form, x, loc, scale, shapes)
    if form.counts:
        inside = inside & (value_of(y) == np.floor(value_of(y))) | np.isnan(value_of(y))
    out = form.log(y, *shapes) - (0.0 if form.counts else np.log(scale))
    return out if inside is True or np.all(inside) else np.where(inside, out, -inf)


def _probability(of: str) -> Form:
    """Return a method for a function that goes from 0 to 1, ``cdf``, or from 1 to 0, ``sf``."""

    def method(form: Distribution, x: Array, loc: Array, scale: Array, shapes: Any) -> Array:
        y, _, below, above = _placed(form, x, loc, scale, shapes)
        if form.counts:
            y = np.floor(value_of(y))
            high = _high(form, shapes)
            above = above | (y >= high)
            y = np.where(above, form.inside, y) if np.isfinite(high).any() else y
        out = getattr(form, of)(y, *shapes)
        if np.any(below | above):
            ends = (0.0, 1.0) if of == "cdf" else (1.0, 0.0)
            out = np.where(below, ends[0], np.where(above, ends[1], out))
        return out

    return method


def _log_probability(of: str) -> Form:
    plain = _probability(of)

    def method(form: Distribution, x: Array, loc: Array, scale: Array, shapes: Any) -> Array:
        better = getattr(form, f"log{of}")
        y, inside, _, _ = _placed(form, x, loc, scale, shapes)
        if better is not None and np.all(inside):
            found: Array = better(np.floor(value_of(y)) if form.counts else y, *shapes)
            return found
        return np.log(plain(form, x, loc, scale, shapes))

    return method


def _quantile(upper: bool) -> Form:
    def method(form: Distribution, q: Array, loc: Array, scale: Array, shapes: Any) -> Array:
        if form.ppf is None:
            raise NotDifferentiable("ppf and isf of a traced array: this distribution has steps, or no rule is known")
        is_one = (value_of(q) >= 0) & (value_of(q) <= 1)
        q = q if np.all(is_one) else np.where(is_one, q, 0.5)
        found = form.isf(q, *shapes) if upper and form.isf else form.ppf(1.0 - q if upper else q, *shapes)
        found = found * scale + loc
        return found if np.all(is_one) else np.where(is_one, found, np.nan)

    return method


_METHODS: dict[str, Form] = {
    "logpdf": _log, "logpmf": _log, "pdf": lambda *all_: np.exp(_log(*all_)), "pmf": lambda *all_: np.exp(_log(*all_)),
    "cdf": _probability("cdf"), "sf": _probability("sf"), "logcdf": _log_probability("cdf"),
    "logsf": _log_probability("sf"), "ppf": _quantile(False), "isf": _quantile(True),
}  # fmt: skip
