"""Functions that work element by element: arithmetic, powers, exponentials, trigonometry; a line a rule."""

from math import log, pi
from typing import Any

import numpy as np

from distbp.autodiff.operators import astype
from distbp.autodiff.tables import COMPLEX, COMPOSITIONS, Array, Rule, composes, defvjp, keep, linear
from distbp.autodiff.tracing import identity, record, value_of


def _power_x(g: Array, ans: Array, x: Array, y: Array) -> Array:
    if type(y) in (int, float):
        slope = 2.0 * x if y == 2 else y * x ** (y - 1.0) if y else 0.0 * x
    else:
        slope = y * x ** np.where(y == 0, 1.0, y - 1.0)
    return g * (slope if ans.dtype.kind == "f" else np.conj(slope))


def _power_y(g: Array, ans: Array, x: Array, y: Array) -> Array:
    slope = ans * (float(np.log(x or 1.0)) if type(x) in (int, float) else np.log(np.where(x == 0, 1.0, x)))
    return g * (slope if ans.dtype.kind == "f" else np.conj(slope))


def _logaddexp_rules(exp: Any) -> tuple[Rule, Rule]:
    def by_x(g: Array, ans: Array, x: Array, y: Array) -> Array:
        """Return g exp(x - ans), and 0 where both are -inf."""
        return g * exp(x - (np.where(np.isneginf(ans), 0.0, ans) if np.isneginf(ans).any() else ans))

    return by_x, lambda g, ans, x, y: by_x(g, ans, y, x)


def nonzero_or_one(x: Array) -> Array:
    """Return `x` with ones in place of its zeros, to divide by."""
    return np.where(x == 0, 1.0, x) if (x == 0).any() else x


defvjp(np.add, lambda g, ans, x, y: g, lambda g, ans, x, y: g)
defvjp(np.subtract, lambda g, ans, x, y: g, lambda g, ans, x, y: -g)
defvjp(
    np.multiply,
    lambda g, ans, x, y: g * (y if ans.dtype.kind == "f" else y.conjugate()),
    lambda g, ans, x, y: g * (x if ans.dtype.kind == "f" else x.conjugate()),
)
defvjp(
    np.divide,
    lambda g, ans, x, y: g / (y if ans.dtype.kind == "f" else y.conjugate()),
    lambda g, ans, x, y: -g * ans / y if ans.dtype.kind == "f" else -g * np.conj(ans / y),
)
defvjp(np.remainder, lambda g, ans, x, y: g, lambda g, ans, x, y: -g * np.floor_divide(x, y))
defvjp(np.fmod, lambda g, ans, x, y: g, lambda g, ans, x, y: -g * np.trunc(x / y))
defvjp(np.power, _power_x, _power_y)
defvjp(np.float_power, _power_x, _power_y)
defvjp(np.negative, lambda g, ans, x: -g)
defvjp(np.positive, lambda g, ans, x: g)
defvjp(np.absolute, lambda g, ans, x: g * (x / nonzero_or_one(np.abs(x)) if x.dtype.kind == "c" else np.sign(x)))
defvjp(np.fabs, lambda g, ans, x: g * np.sign(x))
defvjp(np.conjugate, lambda g, ans, x: np.conj(g))
defvjp(np.reciprocal, lambda g, ans, x: -g * ans * ans)
defvjp(np.square, lambda g, ans, x: g * (2.0 * (x if ans.dtype.kind == "f" else np.conj(x))))
defvjp(np.sqrt, lambda g, ans, x: g * 0.5 / ans)
defvjp(np.cbrt, lambda g, ans, x: g / (3.0 * ans * ans))
defvjp(np.exp, lambda g, ans, x: g * (ans if ans.dtype.kind == "f" else np.conj(ans)))
defvjp(np.exp2, lambda g, ans, x: g * ans * log(2.0))
defvjp(np.expm1, lambda g, ans, x: g * (ans + 1.0))
defvjp(np.log, lambda g, ans, x: g / x)
defvjp(np.log2, lambda g, ans, x: g / (x * log(2.0)))
defvjp(np.log10, lambda g, ans, x: g / (x * log(10.0)))
defvjp(np.log1p, lambda g, ans, x: g / (1.0 + x))
defvjp(np.logaddexp, *_logaddexp_rules(np.exp))
defvjp(np.logaddexp2, *_logaddexp_rules(np.exp2))
defvjp(np.sin, lambda g, ans, x: g * np.cos(x))
defvjp(np.cos, lambda g, ans, x: -g * np.sin(x))
defvjp(np.tan, lambda g, ans, x: g * (1.0 + ans * ans))
defvjp(np.arcsin, lambda g, ans, x: g / np.sqrt(1.0 - x * x))
defvjp(np.arccos, lambda g, ans, x: -g / np.sqrt(1.0 - x * x))
defvjp(np.arctan, lambda g, ans, x: g / (1.0 + x * x))
defvjp(np.sinh, lambda g, ans, x: g * np.cosh(x))
defvjp(np.cosh, lambda g, ans, x: g * np.sinh(x))
defvjp(np.tanh, lambda g, ans, x: g * (1.0 - ans * ans))
defvjp(np.arcsinh, lambda g, ans, x: g / np.sqrt(x * x + 1.0))
defvjp(np.arccosh, lambda g, ans, x: g / np.sqrt(x * x - 1.0))
defvjp(np.arctanh, lambda g, ans, x: g / (1.0 - x * x))
defvjp(np.arctan2, lambda g, ans, x, y: g * y / (x * x + y * y), lambda g, ans, x, y: -g * x / (x * x + y * y))
defvjp(np.hypot, lambda g, ans, x, y: g * x / nonzero_or_one(ans), lambda g, ans, x, y: g * y / nonzero_or_one(ans))
defvjp(np.deg2rad, lambda g, ans, x: g * (pi / 180.0))
defvjp(np.radians, lambda g, ans, x: g * (pi / 180.0))
defvjp(np.rad2deg, lambda g, ans, x: g * (180.0 / pi))
defvjp(np.degrees, lambda g, ans, x: g * (180.0 / pi))
defvjp(np.copysign, lambda g, ans, x, y: g * np.sign(x) * np.copysign(1.0, y), lambda g, ans, x, y: 0.0 * g)
defvjp(np.ldexp, lambda g, ans, x, n: np.ldexp(g, n), None)
defvjp(np.real, lambda g, ans, x: g + 0j if x.dtype.kind == "c" else g)
defvjp(np.imag, lambda g, ans, x: g * 1j)
defvjp(np.nan_to_num, lambda g, ans, x, *how, **kw: g * np.isfinite(x))
defvjp(identity, lambda g, ans, x: g)
defvjp(astype, lambda g, ans, x, dtype: g.astype(x.dtype), None)

linear(np.add, np.subtract, np.negative, np.positive, np.conjugate, identity)
keep("shapes", np.deg2rad, np.radians, np.rad2deg, np.degrees, np.ldexp, np.real, np.imag, astype)
keep("result", np.reciprocal, np.sqrt, np.cbrt, np.exp, np.exp2, np.expm1, np.tan, np.tanh)
keep(
    "arguments", np.absolute, np.fabs, np.square, np.log, np.log2, np.log10, np.log1p, np.sin, np.cos, np.arcsin,
    np.arccos, np.arctan, np.sinh, np.cosh, np.arcsinh, np.arccosh, np.arctanh, np.arctan2, np.remainder, np.fmod,
    np.copysign, np.nan_to_num,
)  # fmt: skip
keep("others", np.multiply)
keep("divisor", np.divide)
COMPLEX |= {np.multiply, np.divide, np.power, np.square, np.exp}

# --- in terms of others -------------------------------------------------------------------------------

COMPOSITIONS |= {
    np.divmod: lambda x, y: (np.floor_divide(x, y), np.remainder(x, y)),
    np.frexp: lambda x: (np.ldexp(x, -(exponent := np.frexp(value_of(x))[1])), exponent),
    np.modf: lambda x: (x - np.trunc(x), np.trunc(x)),
    np.real: lambda val: record(np.real, (val,)) if val.dtype.kind == "c" else val,
    np.imag: lambda val: record(np.imag, (val,)) if val.dtype.kind == "c" else np.zeros_like(val),
    np.real_if_close: lambda a, tol=100: np.real(a) if np.isrealobj(np.real_if_close(value_of(a), tol)) else a,
    np.angle: lambda z, deg=False: np.arctan2(np.imag(z), np.real(z)) * (180.0 / np.pi if deg else 1.0),
    np.unwrap: lambda p, *how, **kw: p + (np.unwrap(value_of(p), *how, **kw) - value_of(p)),
    np.copy: lambda a, *how, **kw: record(identity, (a,)),
    np.astype: lambda x, dtype, /, **kw: x.astype(dtype),
}


@composes(np.sinc)
def _sinc(x: Array) -> Array:
    y = np.pi * np.where(x == 0, 1.0, x)
    return np.where(x == 0, 1.0 - (np.pi * x) ** 2 / 6.0, np.sin(y) / y)
