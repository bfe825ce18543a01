"""scipy.special: rules of its ufuncs, family by family, a line a rule; and functions that are made of them."""

from math import log, pi, sqrt
from typing import Any

import numpy as np

from distbp.autodiff import reductions
from distbp.autodiff.scipy import front
from distbp.autodiff.shapes import array
from distbp.autodiff.tables import CONSTANT, RULES, Array, Rule
from distbp.autodiff.tracing import value_of

s: Any = None
"""The module scipy.special, when it is loaded."""
_EXP = 2.0 / sqrt(pi)
_NORMAL = 1.0 / sqrt(2.0 * pi)


def _gamma_density(a: Any, x: Any) -> Any:
    return np.exp(s.xlogy(a - 1.0 + 0.0 * x, x) - x - s.gammaln(a + 0.0 * x))


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    powers = s.xlogy(a - 1.0 + 0.0 * x, x) + s.xlog1py(b - 1.0 + 0.0 * x, -x)
    return np.exp(powers - s.betaln(a + 0.0 * x, b + 0.0 * x))


def double(x: Any) -> Any:
    """Return it in double precision, in which SciPy computes what is no ufunc; of a list an array."""
    x = array(x) if isinstance(x, (list, tuple)) else x
    return x.astype(float) if hasattr(x, "dtype") and x.dtype != float else x


def t_log_density(x: Any, df: Any) -> Any:
    """Return the log of Student's density."""
    df = df + 0.0 * x
    half = 0.5 * (df + 1.0)
    return s.gammaln(half) - s.gammaln(0.5 * df) - 0.5 * np.log(pi * df) - half * np.log1p(x * x / df)


SPECIAL_RULES: dict[str, list[Rule | None]] = {
    # exponentials, trigonometry and transformations
    "expit": [lambda g, ans, x: g * ans * (1.0 - ans)],
    "logit": [lambda g, ans, x: g / (x * (1.0 - x))],
    "log_expit": [lambda g, ans, x: g * s.expit(-x)],
    "exp10": [lambda g, ans, x: g * ans * log(10.0)],
    "cosm1": [lambda g, ans, x: -g * np.sin(x)],
    "sindg": [lambda g, ans, x: g * (pi / 180.0) * s.cosdg(x)],
    "cosdg": [lambda g, ans, x: -g * (pi / 180.0) * s.sindg(x)],
    "tandg": [lambda g, ans, x: g * (pi / 180.0) * (1.0 + ans * ans)],
    "boxcox": [lambda g, ans, x, k: g * x ** (k - 1.0), None],
    "boxcox1p": [lambda g, ans, x, k: g * (1.0 + x) ** (k - 1.0), None],
    "inv_boxcox": [lambda g, ans, y, k: g * ans ** (1.0 - k), None],
    # error functions and other integrals of exponentials
    "erf": [lambda g, ans, x: g * _EXP * np.exp(-x * x)],
    "erfc": [lambda g, ans, x: -g * _EXP * np.exp(-x * x)],
    "erfcx": [lambda g, ans, x: g * (2.0 * x * ans - _EXP)],
    "erfi": [lambda g, ans, x: g * _EXP * np.exp(x * x)],
    "erfinv": [lambda g, ans, x: g * np.exp(ans * ans) / _EXP],
    "erfcinv": [lambda g, ans, x: -g * np.exp(ans * ans) / _EXP],
    "dawsn": [lambda g, ans, x: g * (1.0 - 2.0 * x * ans)],
    "ndtr": [lambda g, ans, x: g * _NORMAL * np.exp(-0.5 * x * x)],
    "log_ndtr": [lambda g, ans, x: g * sqrt(2.0 / pi) / s.erfcx(x * -sqrt(0.5))],
    "ndtri": [lambda g, ans, x: g * np.exp(0.5 * ans * ans) / _NORMAL],
    "exp1": [lambda g, ans, x: -g * np.exp(-x) / x],
    "expi": [lambda g, ans, x: g * np.exp(x) / x],
    "spence": [lambda g, ans, x: g * np.log(x) / (1.0 - x)],
    # gamma and beta functions
    "gammaln": [lambda g, ans, x: g * s.psi(x)],
    "loggamma": [lambda g, ans, x: g * s.psi(x)],
    "gamma": [lambda g, ans, x: g * ans * s.psi(x)],
    "rgamma": [lambda g, ans, x: -g * ans * s.psi(x)],
    "psi": [lambda g, ans, x: g * s.zeta(2.0, x)],
    "zeta": [None, lambda g, ans, k, x: -g * k * s.zeta(k + 1.0, x)],
    "beta": [
        lambda g, ans, a, b: g * ans * (s.psi(a) - s.psi(a + b)),
        lambda g, ans, a, b: g * ans * (s.psi(b) - s.psi(a + b)),
    ],
    "betaln": [
        lambda g, ans, a, b: g * (s.psi(a) - s.psi(a + b)),
        lambda g, ans, a, b: g * (s.psi(b) - s.psi(a + b)),
    ],
    "binom": [
        lambda g, ans, n, k: g * ans * (s.psi(n + 1.0) - s.psi(n - k + 1.0)),
        lambda g, ans, n, k: g * ans * (s.psi(n - k + 1.0) - s.psi(k + 1.0)),
    ],
    "poch": [
        lambda g, ans, x, n: g * ans * (s.psi(x + n) - s.psi(x)),
        lambda g, ans, x, n: g * ans * s.psi(x + n),
    ],
    "gammaincinv": [None, lambda g, ans, a, y: g / _gamma_density(a, ans)],
    "gammainccinv": [None, lambda g, ans, a, y: -g / _gamma_density(a, ans)],
    "betaincc": [None, None, lambda g, ans, a, b, x: -g * _beta_density(a, b, x)],
    "betainccinv": [None, None, lambda g, ans, a, b, y: -g / _beta_density(a, b, ans)],
    "betaincinv": [None, None, lambda g, ans, a, b, y: g / _beta_density(a, b, ans)],
    "stdtr": [None, lambda g, ans, df, t: g * np.exp(t_log_density(t, df))],
    "stdtrit": [None, lambda g, ans, df, p: g * np.exp(-t_log_density(ans, df))],
    "chdtr": [None, lambda g, ans, v, x: g * 0.5 * _gamma_density(0.5 * v, 0.5 * x)],
    "chdtrc": [None, lambda g, ans, v, x: -g * 0.5 * _gamma_density(0.5 * v, 0.5 * x)],
    "pdtr": [None, lambda g, ans, k, m: -g * _gamma_density(np.floor(k + 0.0 * m) + 1.0, m)],
    "pdtrc": [None, lambda g, ans, k, m: g * _gamma_density(np.floor(k + 0.0 * m) + 1.0, m)],
    "gammainc": [None, lambda g, ans, a, x: g * _gamma_density(a, x)],
    "gammaincc": [None, lambda g, ans, a, x: -g * _gamma_density(a, x)],
    "betainc": [None, None, lambda g, ans, a, b, x: g * _beta_density(a, b, x)],
    # Bessel functions
    "i0": [lambda g, ans, x: g * s.i1(x)],
    "i0e": [lambda g, ans, x: g * (s.i1e(x) - np.sign(x) * ans)],
    "i1": [lambda g, ans, x: g * 0.5 * (s.i0(x) + s.iv(2.0, x))],
    "i1e": [lambda g, ans, x: g * (0.5 * np.exp(-np.abs(x)) * (s.i0(x) + s.iv(2.0, x)) - np.sign(x) * ans)],
    "iv": [None, lambda g, ans, v, x: g * 0.5 * (s.iv(v - 1.0, x) + s.iv(v + 1.0, x))],
    "ive": [None, lambda g, ans, v, x: g * (0.5 * (s.ive(v - 1.0, x) + s.ive(v + 1.0, x)) - np.sign(x) * ans)],
    "j0": [lambda g, ans, x: -g * s.j1(x)],
    "j1": [lambda g, ans, x: g * 0.5 * (s.j0(x) - s.jv(2.0, x))],
    "jv": [None, lambda g, ans, v, x: g * 0.5 * (s.jv(v - 1.0, x) - s.jv(v + 1.0, x))],
    "k0": [lambda g, ans, x: -g * s.k1(x)],
    "k1": [lambda g, ans, x: -g * 0.5 * (s.k0(x) + s.kv(2.0, x))],
    "kv": [None, lambda g, ans, v, x: -g * 0.5 * (s.kv(v - 1.0, x) + s.kv(v + 1.0, x))],
    "kve": [None, lambda g, ans, v, x: g * (ans - 0.5 * (s.kve(v - 1.0, x) + s.kve(v + 1.0, x)))],
    "k0e": [lambda g, ans, x: g * (ans - s.k1e(x))],
    "k1e": [lambda g, ans, x: g * (ans - 0.5 * (s.k0e(x) + s.kve(2.0, x)))],
    "kn": [None, lambda g, ans, n, x: -g * 0.5 * (s.kv(n - 1.0, x) + s.kv(n + 1.0, x))],
    "yn": [None, lambda g, ans, n, x: g * 0.5 * (s.yv(n - 1.0, x) - s.yv(n + 1.0, x))],
    "y0": [lambda g, ans, x: -g * s.y1(x)],
    "y1": [lambda g, ans, x: g * 0.5 * (s.y0(x) - s.yv(2.0, x))],
    "yv": [None, lambda g, ans, v, x: g * 0.5 * (s.yv(v - 1.0, x) - s.yv(v + 1.0, x))],
    # integrals and hypergeometric functions
    "expn": [None, lambda g, ans, n, x: -g * s.expn(n - 1.0, x)],
    "ellipk": [lambda g, ans, m: g * (s.ellipe(m) - (1.0 - m) * ans) / (2.0 * m * (1.0 - m))],
    "ellipe": [lambda g, ans, m: g * (ans - s.ellipk(m)) / (2.0 * m)],
    "hyp0f1": [None, lambda g, ans, v, z: g * s.hyp0f1(v + 1.0, z) / v],
    "hyp1f1": [None, None, lambda g, ans, a, b, z: g * s.hyp1f1(a + 1.0, b + 1.0, z) * a / b],
    "hyp2f1": [None, None, None, lambda g, ans, a, b, c, z: g * s.hyp2f1(a + 1.0, b + 1.0, c + 1.0, z) * a * b / c],
    "exprel": [lambda g, ans, x: g * (np.exp(x) - ans) / np.where(x == 0, 1.0, x) + np.where(x == 0, 0.5 * g, 0.0)],
    "wrightomega": [lambda g, ans, x: g * ans / (1.0 + ans)],
    # entropies and losses
    "xlogy": [
        lambda g, ans, x, y: g * np.log(np.where((x == 0) & (y == 0), 1.0, y)),
        lambda g, ans, x, y: g * (x / np.where(x == 0, 1.0, y)),
    ],
    "xlog1py": [lambda g, ans, x, y: g * np.log1p(y), lambda g, ans, x, y: g * x / (1.0 + y)],
    "entr": [lambda g, ans, x: -g * (1.0 + np.log(x))],
    "rel_entr": [lambda g, ans, x, y: g * (1.0 + np.log(x / y)), lambda g, ans, x, y: -g * x / y],
    "kl_div": [lambda g, ans, x, y: g * np.log(x / y), lambda g, ans, x, y: g * (1.0 - x / y)],
    "huber": [None, lambda g, ans, delta, r: g * np.clip(r, -delta, delta)],
    "pseudo_huber": [None, lambda g, ans, delta, r: g * r / np.sqrt(1.0 + (r / delta) ** 2)],
}
"""The rules of each function, by name."""


def load(module: Any) -> None:
    """Fill in the rules of the ufuncs of the module, and give fronts to its functions."""
    global s
    s = module
    for name, rules in SPECIAL_RULES.items():
        function = getattr(s._ufuncs, f"_{name}", None) or getattr(s, name, None)  # zeta is a function around a ufunc
        if isinstance(function, np.ufunc):
            RULES[function] = tuple(rules)
    for name in ("cbrt", "exp2", "expm1", "log1p"):  # its own ufuncs for what NumPy has, too
        RULES[getattr(s, name)] = RULES[getattr(np, name)]
    CONSTANT.update((s.round, s.gammasgn))
    for of_module, traced in (
        (s.logsumexp, logsumexp),
        (s.softmax, reductions.softmax),
        (s.log_softmax, reductions.log_softmax),
        (s.polygamma, polygamma),
        (s.multigammaln, multigammaln),
        (s.comb, comb),
        (s.factorial, factorial),
    ):
        front(of_module, traced)


def logsumexp(
    a: Array, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False
) -> Array | tuple[Array, Array]:
    """Return the log of the sum of exponentials, weighted by `b`; and the sign of the sum where it is asked for."""
    if b is None and not return_sign:
        return reductions.logsumexp(a, axis, keepdims)
    weight = 1.0 if b is None else b
    a, none = array(a) if isinstance(a, (list, tuple)) else a, np.asarray(value_of(weight)) == 0
    top = np.max(np.where(none, -np.inf, value_of(a)), axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    if none.any():  # what counts for nothing may be great
        a = np.where(none, np.minimum(value_of(a), top), a)
    total = np.sum(weight * np.exp(a - top), axis, keepdims=True)
    sign = np.sign(value_of(total))
    out = np.log(total * sign if return_sign else total) + top
    if not keepdims:
        out, sign = np.squeeze(out, axis), np.squeeze(sign, axis)
    return (out, sign) if return_sign else out


def polygamma(n: Any, x: Array) -> Array:
    """Return derivative number `n` of psi (Abramowitz & Stegun 1964, 6.4.10)."""
    n = np.asarray(value_of(n), float)
    higher = (-1.0) ** (n + 1.0) * s.gamma(n + 1.0) * s.zeta(np.maximum(n, 1.0) + 1.0, x)
    return np.where(n == 0, s.psi(x), higher) if (n == 0).any() else higher


def multigammaln(a: Array, d: int) -> Array:
    """Return the log of the multivariate gamma function."""
    a = double(a)
    if (np.asarray(value_of(a)) <= 0.5 * (d - 1)).any():
        raise ValueError(f"multigammaln: a must be above {0.5 * (d - 1)}, half of d - 1")
    return 0.25 * d * (d - 1) * log(pi) + sum(s.gammaln(a - 0.5 * j) for j in range(d))


def comb(N: Array, k: Array, *, exact: bool = False, repetition: bool = False) -> Array:
    """Return the number of combinations, as a smooth function of both."""
    N = N + k - 1 if repetition else N
    n, j = value_of(N), value_of(k)
    return np.where((n < 0) | (j < 0) | (j > n), 0.0, s.binom(N, k))


def factorial(n: Array, exact: bool = False, extend: str = "zero") -> Array:
    """Return ``gamma(n + 1)``."""
    n = double(n)
    return np.where(value_of(n) < 0, 0.0, s.gamma(n + 1.0))
