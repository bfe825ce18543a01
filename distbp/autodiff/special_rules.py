"""Derivatives of scipy.special's ufuncs, family by family: a line a rule."""

from math import log, pi, sqrt
from typing import Any

import numpy as np

from distbp.autodiff.tables import Rule

s: Any = None
"""The module scipy.special: `special` puts it here when it is loaded."""
_EXP = 2.0 / sqrt(pi)
_NORMAL = 1.0 / sqrt(2.0 * pi)


def _gamma_density(a: Any, x: Any) -> Any:
    return np.exp(s.xlogy(a - 1.0 + 0.0 * x, x) - x - s.gammaln(a + 0.0 * x))


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    powers = s.xlogy(a - 1.0 + 0.0 * x, x) + s.xlog1py(b - 1.0 + 0.0 * x, -x)
    return np.exp(powers - s.betaln(a + 0.0 * x, b + 0.0 * x))


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
    "log_ndtr": [lambda g, ans, x: g * _NORMAL * np.exp(-0.5 * x * x - ans)],
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
    "gammainc": [None, lambda g, ans, a, x: g * _gamma_density(a, x)],
    "gammaincc": [None, lambda g, ans, a, x: -g * _gamma_density(a, x)],
    "betainc": [None, None, lambda g, ans, a, b, x: g * _beta_density(a, b, x)],
    # Bessel functions
    "i0": [lambda g, ans, x: g * s.i1(x)],
    "i0e": [lambda g, ans, x: g * (s.i1e(x) - np.sign(x) * ans)],
    "i1": [lambda g, ans, x: g * 0.5 * (s.i0(x) + s.iv(2.0, x))],
    "i1e": [lambda g, ans, x: g * (0.5 * np.exp(-np.abs(x)) * (s.i0(x) + s.iv(2.0, x)) - np.sign(x) * ans)],
    "iv": [None, lambda g, ans, v, x: g * 0.5 * (s.iv(v - 1.0, x) + s.iv(v + 1.0, x))],
    "j0": [lambda g, ans, x: -g * s.j1(x)],
    "j1": [lambda g, ans, x: g * 0.5 * (s.j0(x) - s.jv(2.0, x))],
    "jv": [None, lambda g, ans, v, x: g * 0.5 * (s.jv(v - 1.0, x) - s.jv(v + 1.0, x))],
    "k0": [lambda g, ans, x: -g * s.k1(x)],
    "k1": [lambda g, ans, x: -g * 0.5 * (s.k0(x) + s.kv(2.0, x))],
    "kv": [None, lambda g, ans, v, x: -g * 0.5 * (s.kv(v - 1.0, x) + s.kv(v + 1.0, x))],
    "y0": [lambda g, ans, x: -g * s.y1(x)],
    "y1": [lambda g, ans, x: g * 0.5 * (s.y0(x) - s.yv(2.0, x))],
    "yv": [None, lambda g, ans, v, x: g * 0.5 * (s.yv(v - 1.0, x) - s.yv(v + 1.0, x))],
    # entropies and losses
    "xlogy": [
        lambda g, ans, x, y: g * np.where((x == 0) & (y == 0), 0.0, np.log(np.where(y == 0, 1.0, y))),
        lambda g, ans, x, y: g * np.where(x == 0, 0.0, x / np.where(y == 0, 1.0, y)),
    ],
    "xlog1py": [lambda g, ans, x, y: g * np.log1p(y), lambda g, ans, x, y: g * x / (1.0 + y)],
    "entr": [lambda g, ans, x: -g * (1.0 + np.log(x))],
    "rel_entr": [lambda g, ans, x, y: g * (1.0 + np.log(x / y)), lambda g, ans, x, y: -g * x / y],
    "kl_div": [lambda g, ans, x, y: g * np.log(x / y), lambda g, ans, x, y: g * (1.0 - x / y)],
    "huber": [None, lambda g, ans, delta, r: g * np.clip(r, -delta, delta)],
    "pseudo_huber": [None, lambda g, ans, delta, r: g * r / np.sqrt(1.0 + (r / delta) ** 2)],
}
"""The rules of each function, by name."""
