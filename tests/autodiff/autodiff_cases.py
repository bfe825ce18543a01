"""Calls of every function of which `distbp.autodiff` knows a derivative, in as many forms as there are.

A case is a function and a maker of arguments: ``make(d)`` gives ``(args, kwargs)`` from the choices and numbers of `d`.
Derivatives are taken by the float arrays among `args`, in lists and tuples too; numbers of Python are constants.
"""

import operator
from typing import NamedTuple

import numpy as np
import scipy.special as special
import scipy_cases
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from distbp import autodiff
from distbp.autodiff.scipy import load_scipy

load_scipy()
linalg, fft = np.linalg, np.fft
SHAPES = ((3,), (2, 3), (), (1,), (3, 1), (2, 3, 2), (1, 4), (0,), (2, 0), (4, 1, 2))
PAIRS = (
    ((3,), (3,)), ((), ()), ((3,), ()), ((), (2,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((2, 3, 1), (3, 2)),
    ((0,), (1,)), ((1,), (4,)), ((2, 3), (2, 3)),
)  # fmt: skip


class Draw:
    """Choices, of hypothesis or of a generator of random numbers, and arrays with numbers away from kinks."""

    def __init__(self, data=None, seed=0):
        self.data = data
        self.rng = np.random.default_rng(seed if data is None else data.draw(st.integers(0, 2**16)))

    def pick(self, *options):
        if self.data is None:
            return options[self.rng.integers(len(options))]
        return self.data.draw(st.sampled_from(options))

    def shape(self, least=0, most=3, empty=True):
        return self.pick(*(s for s in SHAPES if least <= len(s) <= most and (empty or 0 not in s)))

    def array(self, shape=None, low=0.2, high=2.0, sign=True):
        """Numbers of distinct sizes between `low` and `high`, of either sign."""
        shape = self.shape() if shape is None else shape
        n = int(np.prod(shape, dtype=int))
        sizes = low + (high - low) * (self.rng.permutation(n) + self.rng.uniform(0.2, 0.8, n)) / max(n, 1)
        x = (sizes * self.rng.choice([-1.0, 1.0], n) if sign else sizes).reshape(shape)
        return x if shape else x[()]

    def between(self, low, high, shape=None):
        return self.array(shape, low, high, sign=False)

    def axis(self, ndim):
        return self.pick(*range(-ndim, ndim))

    def axes(self, ndim):
        """None, one axis or several."""
        options = [None, ()] if ndim == 0 else [None, *range(-ndim, ndim), (0,), (-1,)]
        return self.pick(*options, *([(0, -1), (1, 0)] if ndim > 1 else []))

    def mask(self, shape):
        return self.rng.uniform(size=shape) < 0.6

    def some(self, **options):
        """Some of these keywords."""
        return {k: v for k, v in options.items() if self.pick(True, False)}


class Case(NamedTuple):
    name: str
    function: object
    make: object
    examples: int = 8


CASES: dict[str, Case] = {}


def case(name, function, make, **how):
    assert name not in CASES, name
    CASES[name] = Case(name, function, make, **how)


def of(*args, **kwargs):
    return args, kwargs


# --- element by element ---------------------------------------------------------------------------------

UNARY = {
    np.negative: None, np.positive: None, np.absolute: None, np.fabs: None, np.conjugate: None, np.reciprocal: None,
    np.square: None, np.sqrt: (0.2, 3), np.cbrt: None, np.exp: None, np.exp2: None, np.expm1: None, np.log: (0.2, 3),
    np.log2: (0.2, 3), np.log10: (0.2, 3), np.log1p: (-0.7, 2), np.sin: None, np.cos: None, np.tan: (-1.2, 1.2),
    np.arcsin: (-0.8, 0.8), np.arccos: (-0.8, 0.8), np.arctan: None, np.sinh: None, np.cosh: None, np.tanh: None,
    np.arcsinh: None, np.arccosh: (1.3, 3), np.arctanh: (-0.8, 0.8), np.deg2rad: None, np.radians: None,
    np.rad2deg: None, np.degrees: None, np.sinc: None, np.real: None, np.imag: None, np.angle: None,
    np.nan_to_num: None, np.modf: None, np.frexp: None, np.copy: None, np.real_if_close: None,
}  # fmt: skip
BINARY = {
    np.add: None, np.subtract: None, np.multiply: None, np.divide: None, np.logaddexp: None, np.logaddexp2: None,
    np.arctan2: None, np.hypot: None, np.maximum: None, np.minimum: None, np.fmax: None, np.fmin: None,
    np.remainder: None, np.fmod: None, np.divmod: None, np.power: (0.3, 2), np.float_power: (0.3, 2),
}  # fmt: skip


def numbers(d, domain, shape=None):
    return d.array(shape) if domain is None else d.between(*domain, shape)


def unary(domain):
    return lambda d: of(numbers(d, domain))


def binary(domain):
    def make(d):
        a, b = d.pick(*PAIRS)
        x, y = numbers(d, domain, a), numbers(d, domain, b)
        return of(*d.pick((x, y), (x, 0.75), (1.25, y)))

    return make


def name_of(function, prefix="np"):
    return f"{prefix}.{function.__name__}"


for _f, _domain in UNARY.items():
    case(name_of(_f), _f, unary(_domain))
for _f, _domain in BINARY.items():
    case(name_of(_f), _f, binary(_domain))
case(
    "np.power of whole powers",
    np.power,
    lambda d: of(d.array(), d.pick(-2, -1, 0, 1, 2, 3, 2.0, np.array([3]))),
)
case("np.copysign", np.copysign, lambda d: of(*(d.array(s) for s in d.pick(*PAIRS))))
case("np.ldexp", np.ldexp, lambda d: of(d.array((2, 3)), d.pick(2, -1, np.array([0, 1, -3]))))
case("np.modf of 1", lambda x: np.modf(x)[0], unary(None))
case("np.where", np.where, lambda d: _where(d))
case("np.clip", np.clip, lambda d: _clip(d))
case("np.clip by keywords", lambda x, lo, hi: np.clip(x, min=lo, max=hi),
     lambda d: of(d.array((2, 3)), d.pick(-0.9, None, d.between(-0.9, -0.5, (3,))), 0.95))  # fmt: skip
case("x.clip", lambda x, *how: x.clip(*how), lambda d: of(d.array(), -0.9, d.pick(0.8, None)))
case("np.astype", np.astype, lambda d: of(d.array(), np.float64))
case("np.select", np.select, lambda d: _select(d))
case("np.choose", np.choose, lambda d: of(d.rng.integers(0, 3, (2, 3)), [d.array((2, 3)), d.array((3,)), 1.5]))
case("np.piecewise", lambda x: np.piecewise(x, [x < 0, x >= 1], [np.square, lambda x: 3 * x, d_constant]),
     lambda d: of(d.array(d.shape())))  # fmt: skip
case("np.interp", np.interp, lambda d: of(
    d.array(d.shape()), np.sort(d.array((6,), 0.1, 1.8)).tolist(), d.array((6,))))  # fmt: skip
case("np.unwrap", np.unwrap, lambda d: of(6.0 * d.array((2, 5)), **d.some(axis=d.pick(0, 1, -1))))


def d_constant(x):
    return 0.5 * np.exp(x)


def _where(d):
    a, b = d.pick(*PAIRS)
    condition = d.mask(d.pick(np.broadcast_shapes(a, b), a, b))
    return of(condition, *d.pick((d.array(a), d.array(b)), (d.array(a), 0.5), (2, d.array(b))))


def _clip(d):
    x = d.array(d.shape())
    return of(x, *d.pick((-0.9, 0.8), (None, 0.8), (-0.9, None), (d.between(-0.9, -0.5, ()), d.between(0.5, 0.9, ()))))


def _select(d):
    x = d.array((2, 3))
    return of([x > 0.5, x < -0.5], [x, d.array((3,))], *d.pick((), (0.5,)))


SPECIAL = {
    "expit": None, "logit": (0.1, 0.9), "log_expit": None, "erf": None, "erfc": None, "erfcx": None,
    "erfinv": (-0.8, 0.8), "erfcinv": (0.2, 1.8), "ndtr": None, "log_ndtr": None, "ndtri": (0.1, 0.9),
    "gammaln": (0.3, 3), "loggamma": (0.3, 3), "gamma": (0.3, 3), "rgamma": (0.3, 3), "psi": (0.5, 3), "entr": (0.2, 2),
    "exp10": (-1, 1), "exp2": None, "cbrt": None, "expm1": None, "log1p": (-0.7, 2), "cosm1": None, "i0": None,
    "i0e": None, "i1": None, "i1e": None, "j0": None, "j1": None, "k0": (0.4, 3), "k1": (0.4, 3), "y0": (0.4, 3),
    "y1": (0.4, 3), "erfi": (-1, 1), "dawsn": None, "exp1": (0.3, 2),
    "expi": (0.3, 2), "spence": (0.2, 3),
}  # fmt: skip
for _name, _domain in SPECIAL.items():
    case(f"special.{_name}", getattr(special, _name), unary(_domain))
for _f in (special.sindg, special.cosdg, special.tandg):
    case(f"special.{_f.__name__}", lambda x, f=_f: f(50.0 * x) * 50.0, unary((0.5, 1.2)))
for _name in ("xlogy", "xlog1py", "rel_entr", "kl_div", "beta", "betaln"):
    case(f"special.{_name}", getattr(special, _name), binary((0.4, 2)))
for _name, _parameters in {
    "zeta": (2.0, 3.5), "gammainc": (0.7, 2.0), "gammaincc": (0.7, 2.0), "iv": (0.5, 2), "jv": (0.5, 2), "kv": (0.5, 2),
    "yv": (0.5, 2), "huber": (0.75, 1.0), "pseudo_huber": (0.75, 2.0),
}.items():  # fmt: skip
    case(f"special.{_name}", getattr(special, _name), lambda d, p=_parameters: of(d.pick(*p), d.between(1.1, 3)))
case("special.betainc", special.betainc, lambda d: of(1.5, d.pick(2.0, 0.5), d.between(0.1, 0.9)))
case("special.boxcox", special.boxcox, lambda d: of(d.between(0.3, 2), d.pick(0.5, 2.0)))
case("special.boxcox1p", special.boxcox1p, lambda d: of(d.between(0.3, 2), d.pick(0.5, 2.0)))
case("special.inv_boxcox", special.inv_boxcox, lambda d: of(d.between(0.3, 2), d.pick(0.5, 2.0)))


# --- reductions -----------------------------------------------------------------------------------------


def reduction(*, where=True, least=0, empty=True, **more):
    def make(d):
        shape = d.shape(least, empty=empty)
        axis, kwargs = d.axes(len(shape)), d.some(keepdims=d.pick(True, False))
        if where and d.pick(True, False, False):
            kwargs["where"] = d.mask(d.pick(shape, shape[-1:])) if shape else np.True_
        for k, options in more.items():
            if d.pick(True, False):
                kwargs[k] = d.pick(*options)
        return of(d.array(shape), axis, **kwargs) if d.pick(True, False) else of(d.array(shape), axis=axis, **kwargs)

    return make


def with_where(d):
    """At least two numbers in every row and column."""
    mask = (np.arange(3)[:, None] + np.arange(6)) % 3 != d.pick(0, 1, 2)
    return of(d.array((3, 6)), d.axes(2), where=mask, keepdims=d.pick(True, False))


def with_zeros(several):
    def make(d):
        x = d.array((2, 3))
        x[0, d.pick(0, 1, 2)] = 0.0
        if several:
            x[0, d.pick(0, 1, 2)] = x[1, 1] = 0.0
        return of(x, d.pick(0, 1, -1, None))

    return make


def extreme(d):
    x = d.array(d.pick((2, 3), (3, 1), (2, 3, 2)))
    return of(
        x, d.axes(x.ndim), where=d.mask(x.shape[-1:]), initial=d.pick(-5.0, 0.1, 5.0), keepdims=d.pick(True, False)
    )


def passing_nan(function):
    """Derivatives by the numbers among NaNs."""
    return lambda x, holes, *how, **kw: function(np.where(holes, np.nan, x), *how, **kw)


def holes(d):
    return np.arange(8).reshape(2, 4) == d.pick(0, 2, 5, 7)


def accumulation(d):
    shape = d.shape(1)
    return of(d.array(shape), *d.pick((), (None,), (d.axis(len(shape)),)))


case("np.sum", np.sum, reduction(initial=(0.5,)))
case("np.mean", np.mean, reduction(where=False, empty=False))
case("np.prod", np.prod, reduction(initial=(0.5, 3.0)))
case("np.prod with zeros", np.prod, with_zeros(True))
case("np.cumprod with zeros", np.cumprod, with_zeros(True))
for _f in (np.max, np.min, np.amax, np.amin):
    case(name_of(_f), _f, reduction(where=False, empty=False))
    case(f"{name_of(_f)} with where", _f, extreme)
case("np.var", np.var, reduction(where=False, empty=False, ddof=(0, 0.5)))
for _f in (np.mean, np.var, np.std):
    case(f"{name_of(_f)} with where", _f, with_where)
case("np.var, unbiased", np.var, lambda d: of(d.array((2, 3)), d.pick(None, 0, -1, (0, 1)), **d.pick(
    {"ddof": 1}, {"correction": 1})))  # fmt: skip
case("np.std", np.std, lambda d: of(d.array((2, 3, 2)), d.axes(3), ddof=d.pick(0, 1), keepdims=d.pick(True, False)))
case("np.std of one", np.std, lambda d: of(d.array((3, 1)), 1))
case("np.var with mean", lambda x: np.var(x, 1, mean=np.mean(x, 1, keepdims=True)), lambda d: of(d.array((2, 3))))
case("np.ptp", np.ptp, reduction(where=False, empty=False))
case(
    "np.average", np.average, lambda d: of(d.array((2, 3)), d.pick(None, 0, -1), **d.some(keepdims=True, returned=True))
)
case("np.average with weights", np.average, lambda d: of(
    d.array((2, 3)), *d.pick((None, d.between(0.5, 2, (2, 3))),
    (0, d.between(0.5, 2, (2,))), (-1, d.between(0.5, 2, (3,))),
    (0, [1, 3])), **d.some(keepdims=True, returned=True)))  # fmt: skip
case("np.average with weights of several axes", np.average, lambda d: of(
    d.array((2, 3, 2)), *d.pick(((0, 1), d.between(0.5, 2, (2, 3))), ((1, 0), d.between(0.5, 2, (3, 2))))))  # fmt: skip
for _f in (np.nansum, np.nanprod, np.nanmax, np.nanmin, np.nanmean, np.nanvar, np.nanstd):
    case(
        name_of(_f),
        passing_nan(_f),
        lambda d: of(d.array((2, 4)), holes(d), d.pick(None, 1, -1), keepdims=d.pick(True, False)),
    )
for _f in (np.nanvar, np.nanstd):
    case(f"{name_of(_f)}, unbiased", passing_nan(_f), lambda d: of(d.array((2, 4)), holes(d), d.pick(None, 1), ddof=1))
for _f in (np.nancumsum, np.nancumprod):
    case(name_of(_f), passing_nan(_f), lambda d: of(d.array((2, 4)), holes(d), d.pick(None, 0, -1)))
case("np.cumsum", np.cumsum, accumulation)
case("np.cumprod", np.cumprod, accumulation)
for _f in (np.cumulative_sum, np.cumulative_prod):
    case(name_of(_f), _f, lambda d: of(d.array((2, 3)), axis=d.pick(0, 1, -1), include_initial=d.pick(True, False)))
    case(f"{name_of(_f)} of a vector", _f, lambda d: of(d.array((3,))))
case("np.median", np.median, reduction(where=False, empty=False))
case("np.quantile", np.quantile, lambda d: _quantile(d, 1))
case("np.percentile", np.percentile, lambda d: _quantile(d, 100))
case("np.cov", np.cov, lambda d: of(d.array(d.pick((3, 5), (4,), (2, 4))), **d.some(rowvar=False, bias=True, ddof=1)))
case("np.cov of two", np.cov, lambda d: of(*d.pick((d.array((5,)), d.array((5,))), (d.array((2, 4)), d.array((4,))))))
case("np.corrcoef", np.corrcoef, lambda d: of(d.array((3, 5)), **d.some(rowvar=False)))
case("np.corrcoef of two", np.corrcoef, lambda d: of(d.array((5,)), d.array((5,))))
case("np.trapezoid", np.trapezoid, lambda d: of(d.array((3, 4)), **d.pick(
    {}, {"axis": 0}, {"dx": 0.5, "axis": -1},
    {"x": np.arange(4.0) ** 2}, {"x": np.arange(3.0) ** 2, "axis": 0})))  # fmt: skip
case("np.trapezoid over x", np.trapezoid, lambda d: of(d.array((3, 4)), d.pick(d.array((4,)), d.array((3, 4)))))
case("np.diff", np.diff, lambda d: of(d.array((3, 4)), d.pick(0, 1, 2), d.pick(0, 1, -1)))
case("np.diff with ends", lambda x, p, **kw: np.diff(x, prepend=p, **kw), lambda d: of(
    d.array((2, 3)), d.pick(0.5, d.array((2, 1))), **d.some(append=1.5)))  # fmt: skip
case("np.ediff1d", np.ediff1d, lambda d: of(d.array(d.pick((4,), (2, 3))), **d.some(to_end=[0.5, 2.0], to_begin=0.5)))
case(
    "np.gradient",
    np.gradient,
    lambda d: of(d.array((3, 4)), *d.pick((), (0.5,), (0.5, 2.0)), **d.pick({}, {"edge_order": 1})),
)
case(
    "np.gradient along an axis",
    np.gradient,
    lambda d: of(d.array((3, 4)), *d.pick((), (0.5,)), axis=d.pick(0, 1, -1, (0, 1))),
)
case("autodiff.logsumexp", autodiff.logsumexp, lambda d: _along(d))
case("autodiff.softmax", autodiff.softmax, lambda d: of(*_along(d)[0]))
case("autodiff.log_softmax", autodiff.log_softmax, lambda d: of(*_along(d)[0]))


def _quantile(d, whole):
    x = d.array(d.pick((5,), (3, 4), (2, 3, 2)))
    q = d.pick(0.3, 0.0, 1.0, [0.25, 0.6], np.array([[0.1, 0.4]]))
    return of(
        x,
        np.multiply(q, whole).tolist(),
        d.pick(None, 0, -1, *([(0, 1), (-1, 0)] if x.ndim > 1 else [])),
        **d.some(keepdims=True),
    )


def _along(d):
    x = d.array(d.shape(1, empty=False))
    return of(x, d.pick(None, d.axis(x.ndim)), **d.some(keepdims=True))


METHODS_OF_UFUNCS = {
    "np.add.reduce": np.add.reduce, "np.multiply.reduce": np.multiply.reduce, "np.maximum.reduce": np.maximum.reduce,
    "np.minimum.reduce": np.minimum.reduce,
    "np.logaddexp.reduce": np.logaddexp.reduce, "np.hypot.reduce": np.hypot.reduce,
}  # fmt: skip
for _name, _f in METHODS_OF_UFUNCS.items():
    case(
        _name,
        _f,
        lambda d: of(d.array(d.pick((3,), (2, 3), (2, 3, 2))), *d.pick((), (0,), (-1,)), **d.some(keepdims=True)),
    )
case("np.add.reduce over all axes", np.add.reduce, lambda d: of(d.array((2, 3)), axis=d.pick(None, (0, 1))))
for _name, _f in (("np.add.accumulate", np.add.accumulate), ("np.multiply.accumulate", np.multiply.accumulate)):
    case(_name, _f, lambda d: of(d.array(d.pick((3,), (2, 3))), *d.pick((), (0,), (-1,))))
for _f in (np.add, np.subtract, np.multiply, np.maximum, np.arctan2):
    case(
        f"np.{_f.__name__}.outer",
        _f.outer,
        lambda d: of(d.array(d.pick((3,), (2, 1), ())), d.array(d.pick((2,), (), (2, 2)))),
    )


# --- products -------------------------------------------------------------------------------------------

MATRICES = (
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 2, 3), (3, 4)), ((2, 3), (2, 3, 4)),
    ((2, 1, 2, 3), (3, 3, 1)), ((3,), (2, 3, 4)), ((2, 2, 3), (3,)), ((1, 2, 3), (4, 3, 2)), ((2, 0), (0, 3)),
    ((0, 2), (2, 3)),
)  # fmt: skip
EINSUMS = (
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("ij->ji", (2, 3)),
    ("ba", (2, 3)), ("ij->", (2, 3)), ("i->", (3,)), ("...i,...i->...", (2, 3), (3,)),
    ("...ij,...jk", (2, 1, 2, 3), (3, 3, 2)), ("i...->...", (3, 2)), ("...", (2, 3)), ("i,j->ij", (2,), (3,)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)), ("bij,bjk->bik", (1, 2, 3), (2, 3, 2)), ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 1)), ("iij,j->i", (2, 2, 3), (3,)), ("ii,ii->i", (3, 3), (3, 3)), ("iii->i", (2, 2, 2)),
    ("ij,kl->", (2, 3), (2, 2)), ("ij,k->i", (2, 3), (2,)), ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
    ("i,i,i->i", (3,), (3,), (3,)), ("ab,bc,cd,de->ae", (2, 2), (2, 3), (3, 2), (2, 2)),
    ("bqd,bkd,bkv->bqv", (2, 2, 3), (2, 2, 3), (2, 2, 2)), (",i->i", (), (3,)), ("i,->i", (3,), ()), ("->", ()),
    (" i j , j -> i ", (2, 3), (3,)), ("...a,...b->...ab", (2, 3), (2, 2)), ("a...b,b...->a...", (2, 3, 2), (2, 3)),
    ("ij,jj->i", (2, 3), (3, 3)), ("ji,ij->j", (2, 3), (3, 2)), ("...,...", (2, 3), (3,)),
    ("i...,i->i...", (3, 2), (3,)), ("ij,jk,ki->", (2, 3), (3, 2), (2, 2)), ("ii...->...", (2, 2, 3)),
    ("iij->ji", (2, 2, 3)), ("ij,ij,j->", (2, 3), (1, 3), (3,)), ("ij,i->ij", (2, 0), (2,)),
    ("ij,jk->ik", (2, 0), (0, 3)), ("zA,Ay", (2, 3), (3, 2)), ("ij,j,kl->ik", (2, 3), (3,), (2, 2)),
    ("...ij->...ji", (2, 3, 2)),
)  # fmt: skip


def pairs(*shapes):
    return lambda d: of(*(d.array(s) for s in d.pick(*shapes)))


case("np.matmul", np.matmul, pairs(*MATRICES))
case("np.linalg.matmul", linalg.matmul, pairs(*MATRICES[3:]))
case("x @ y", operator.matmul, pairs(*MATRICES))
case(
    "np.dot",
    np.dot,
    pairs(
        *MATRICES[:4],
        ((), (3,)),
        ((2, 3), ()),
        ((2, 2, 3), (3,)),
        ((2, 3), (2, 3, 2)),
        ((2, 2, 3), (2, 3, 2)),
        ((3,), (2, 3, 2)),
        ((2, 0), (0, 3)),
    ),
)
case("x.dot", lambda x: (x.dot(x.T), x.dot([1.0, 2.0, 3.0])), lambda d: of(d.array((2, 3))))
case(
    "np.inner",
    np.inner,
    pairs(((3,), (3,)), ((2, 3), (3,)), ((2, 3), (4, 3)), ((), (3,)), ((2, 2, 3), (2, 3)), ((0,), (0,))),
)
case("np.outer", np.outer, pairs(((3,), (2,)), ((2, 2), (3,)), ((), (3,)), ((0,), (2,))))
case("np.linalg.outer", linalg.outer, pairs(((3,), (2,))))
case("np.vdot", np.vdot, pairs(((3,), (3,)), ((2, 3), (3, 2)), ((), ())))
case("np.vecdot", np.vecdot, pairs(((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 3))))
case("np.vecdot along an axis", np.vecdot, lambda d: of(d.array((2, 3)), d.array((2, 3)), axis=d.pick(0, -1)))
case("np.linalg.vecdot", linalg.vecdot, lambda d: of(d.array((2, 3)), d.array((2, 3)), axis=d.pick(0, -1)))
case("np.matvec", np.matvec, pairs(((2, 3), (3,)), ((4, 2, 3), (3,)), ((2, 3), (4, 3))))
case("np.vecmat", np.vecmat, pairs(((2,), (2, 3)), ((4, 2), (2, 3)), ((2,), (4, 2, 3))))
case(
    "np.tensordot",
    np.tensordot,
    lambda d: of(
        *d.pick(
            (d.array((2, 3)), d.array((3, 4)), 1),
            (d.array((2, 3, 2)), d.array((3, 2, 2))),
            (d.array((2,)), d.array((3,)), 0),
            (d.array((2, 3, 4)), d.array((4, 2)), ([0, 2], [1, 0])),
            (d.array((2, 3)), d.array((2, 4)), (0, 0)),
            (d.array((2, 3)), d.array((4, 3)), ((-1,), (-1,))),
            (d.array((2, 3)), d.array((2, 3)), 2),
            (d.array((2, 0)), d.array((0, 3)), 1),
        )
    ),
)
case("np.linalg.tensordot", linalg.tensordot, lambda d: of(d.array((2, 3)), d.array((3, 4)), axes=1))
case("np.kron", np.kron, pairs(((2, 3), (3, 2)), ((2,), (3,)), ((2, 2), (3,)), ((), (2,))))
case("np.cross", np.cross, pairs(((3,), (3,)), ((2, 3), (3,)), ((2, 3), (2, 3))))
case("np.cross along an axis", np.cross, lambda d: of(d.array((3, 2)), d.array((3, 2)), axis=0))
case("np.linalg.cross", linalg.cross, lambda d: of(d.array((2, 3)), d.array((2, 3)), **d.some(axis=-1)))
for _subscripts, *_shapes in EINSUMS:
    case(
        f"np.einsum {_subscripts!r} {_shapes}",
        np.einsum,
        lambda d, subscripts=_subscripts, shapes=_shapes: of(
            subscripts, *map(d.array, shapes), **d.some(optimize=True)
        ),
        examples=2,
    )
case(
    "np.einsum, operands and labels in turn",
    np.einsum,
    lambda d: of(
        *d.pick(
            (d.array((2, 3)), [0, 1], d.array((3, 2)), [1, 2]),
            (d.array((2, 3)), [0, 1], d.array((3, 2)), [1, 2], [2, 0]),
            (d.array((2, 3)), [Ellipsis, 0], d.array((3,)), [0]),
            (d.array((3, 3)), [5, 5]),
            (d.array((2, 3)), [1, 0], []),
            (d.array((2, 3)), [7, 3]),
        )
    ),
)
for _f, _name in ((np.trace, "np.trace"), (linalg.trace, "np.linalg.trace")):
    case(_name, _f, lambda d: of(d.array(d.pick((3, 3), (2, 3), (3, 2, 2))), offset=d.pick(0, 1, -1)))
case("np.trace along axes", np.trace, lambda d: of(d.array((2, 3, 4)), d.pick(0, 1), *d.pick((0, 2), (-1, 1), (2, 0))))
case(
    "np.convolve",
    np.convolve,
    lambda d: of(
        *d.pick((d.array((5,)), d.array((3,))), (d.array((2,)), d.array((4,))), (d.array((4,)), d.array((4,)))),
        *d.pick((), ("full",), ("same",), ("valid",)),
    ),
)
case(
    "np.correlate",
    np.correlate,
    lambda d: of(
        *d.pick((d.array((5,)), d.array((3,))), (d.array((5,)), d.array((2,))), (d.array((4,)), d.array((4,)))),
        *d.pick((), ("full",), ("same",), ("valid",)),
    ),
)
case(
    "np.correlate, the shorter first",
    np.correlate,
    lambda d: of(d.array((3,)), d.array((5,)), *d.pick((), ("full",), ("same",), ("valid",))),
)
case("np.polyval", np.polyval, lambda d: of(d.array(d.pick((4,), (1,))), d.pick(d.array((2, 3)), 0.7)))
case("np.vander", np.vander, lambda d: of(d.array((3,)), *d.pick((), (4,), (2, True), (None, True))))


# --- linear algebra -------------------------------------------------------------------------------------


def regular(d, *batch, n=3):
    """Matrices that are well away from singular ones, with distinct singular values."""
    return 0.3 * d.array((*batch, n, n)) + np.diag(np.arange(2.0, n + 2))


def square(d):
    return regular(d, *d.pick((), (), (2,), (2, 1)), n=d.pick(1, 2, 3))


def wide_or_tall(d):
    m, n = d.pick((3, 3), (4, 2), (2, 4), (1, 3))
    return regular(d, *d.pick((), (2,)), n=4)[..., :m, :n]


def positive(function):
    return lambda x, *how, **kw: function(x @ np.swapaxes(x, -1, -2), *how, **kw)


def symmetric(function):
    return lambda x, *how, **kw: function(x + np.swapaxes(x, -1, -2), *how, **kw)


def without_signs(function, columns):
    """Of singular and eigenvectors: their squares, which the choice of the sign does not change."""

    def squared(*args, **kwargs):
        return [part**2 if i in columns else part for i, part in enumerate(function(*args, **kwargs))]

    return squared


case("np.linalg.inv", linalg.inv, lambda d: of(square(d)))
case("np.linalg.det", linalg.det, lambda d: of(square(d)))
case("np.linalg.slogdet", linalg.slogdet, lambda d: of(square(d) * d.pick(1, -1)))
case(
    "np.linalg.solve",
    linalg.solve,
    lambda d: of(
        *d.pick(
            (regular(d), d.array((3,))),
            (regular(d), d.array((3, 2))),
            (regular(d, 2), d.array((3,))),
            (regular(d, 2), d.array((2, 3, 2))),
            (regular(d, 2), d.array((3, 2))),
            (regular(d), d.array((2, 3, 2))),
            (regular(d, 2, 1), d.array((4, 3, 1))),
            (regular(d), d.array((3, 0))),
        )
    ),
)
case("np.linalg.cholesky", positive(linalg.cholesky), lambda d: of(square(d), **d.some(upper=d.pick(True, False))))
case("np.linalg.eigh", without_signs(symmetric(linalg.eigh), [1]), lambda d: of(square(d), *d.pick((), ("L",), ("U",))))
case("np.linalg.eigvalsh", symmetric(linalg.eigvalsh), lambda d: of(square(d), *d.pick((), ("U",))))
case("np.linalg.svd", without_signs(linalg.svd, [0, 2]), lambda d: of(wide_or_tall(d), full_matrices=False))
case("np.linalg.svd of square ones", without_signs(linalg.svd, [0, 2]), lambda d: of(regular(d)))
case("np.linalg.svd, values", linalg.svd, lambda d: of(wide_or_tall(d), compute_uv=False))
case(
    "np.linalg.svd, rebuilt",
    lambda x: (lambda u, s, vt: (u * np.exp(s)[..., None, :]) @ vt)(*linalg.svd(x, False)),
    lambda d: of(wide_or_tall(d)),
)
case("np.linalg.svdvals", linalg.svdvals, lambda d: of(wide_or_tall(d)))
case("np.linalg.pinv", linalg.pinv, lambda d: of(wide_or_tall(d)))
case("np.linalg.matrix_power", linalg.matrix_power, lambda d: of(square(d) / 3, d.pick(-2, -1, 0, 1, 2, 3, 5)))
case(
    "np.linalg.cond",
    linalg.cond,
    lambda d: of(regular(d, *d.pick((), (2,))), d.pick(None, 2, -2, "fro", 1, -1, np.inf, -np.inf)),
)
case(
    "np.linalg.multi_dot",
    lambda *arrays: linalg.multi_dot(arrays),
    lambda d: of(
        *d.pick(
            (d.array((2, 3)), d.array((3, 4)), d.array((4, 2))),
            (d.array((3,)), d.array((3, 4)), d.array((4,))),
            (d.array((2, 3)), d.array((3, 4))),
        )
    ),
)
case(
    "np.linalg.tensorinv",
    linalg.tensorinv,
    lambda d: of(*d.pick((regular(d, n=4).reshape(2, 2, 4), 2), (regular(d, n=4).reshape(4, 2, 2), 1))),
)
case("np.linalg.tensorsolve", linalg.tensorsolve, lambda d: of(regular(d, n=4).reshape(2, 2, 4), d.array((2, 2))))
case(
    "np.linalg.norm of vectors",
    linalg.norm,
    lambda d: of(
        d.array(d.pick((3,), (2, 3), (2, 3, 2), (1,))),
        d.pick(None, 2, 1, 3, 2.5, 0, np.inf, -np.inf, -1, 0.5),
        axis=d.pick(0, -1, (0,)),
        keepdims=d.pick(True, False),
    ),
)
case("np.linalg.norm of all", linalg.norm, lambda d: of(d.array(d.shape(1, empty=False)), **d.some(keepdims=True)))
case("np.linalg.norm of a vector", linalg.norm, lambda d: of(d.array((3,)), d.pick(None, 1, 2, 3, np.inf)))
case(
    "np.linalg.norm of matrices",
    linalg.norm,
    lambda d: of(
        regular(d, 2).reshape(2, 3, 3),
        d.pick(None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf),
        d.pick((1, 2), (-1, -2), (2, 1)),
        keepdims=d.pick(True, False),
    ),
)
case(
    "np.linalg.norm of a matrix",
    linalg.norm,
    lambda d: of(wide_or_tall(d), d.pick("fro", 2, "nuc", 1, np.inf), (-2, -1)),
)
case(
    "np.linalg.norm along first axes",
    linalg.norm,
    lambda d: of(d.array((2, 3, 4)), d.pick("fro", 1, "nuc", 2), d.pick((0, 1), (2, 0)), **d.some(keepdims=True)),
)
case(
    "np.linalg.vector_norm",
    linalg.vector_norm,
    lambda d: of(
        d.array((2, 3)), axis=d.pick(None, 0, -1, (0, 1)), ord=d.pick(2, 1, 3, np.inf), keepdims=d.pick(True, False)
    ),
)
case(
    "np.linalg.matrix_norm",
    linalg.matrix_norm,
    lambda d: of(
        regular(d, *d.pick((), (2,))), ord=d.pick("fro", "nuc", 1, 2, -2, np.inf), keepdims=d.pick(True, False)
    ),
)


# --- shapes and places ----------------------------------------------------------------------------------


def shaped(*forms, shapes=((2, 3),)):
    return lambda d: (lambda form: of(d.array(d.pick(*shapes)), *form[0], **form[1]))(d.pick(*forms))


def several(*shapes, **options):
    """A list of arrays as one argument."""
    return lambda d: (
        [d.pick(list, tuple)([*(d.array(s) for s in d.pick(*shapes))])],
        {k: d.pick(*v) for k, v in options.items()},
    )


case(
    "np.reshape",
    np.reshape,
    shaped(of((3, 2)), of(-1), of((-1, 2), "F"), of((3, 2), order="C"), of(shape=(6,)), of((1, 6), order="F")),
)
case(
    "x.reshape",
    lambda x, *how, **kw: x.reshape(*how, **kw),
    shaped(of(3, 2), of(-1), of((3, -1)), of(6, order="F"), of([3, 2])),
)
case("np.ravel", np.ravel, shaped(of(), of("F"), of(order="C"), of("K"), shapes=((2, 3), (), (3,))))
case("x.ravel, x.flatten", lambda x, *how: (x.ravel(*how), x.flatten(*how)), shaped(of(), of("F")))
case(
    "np.transpose",
    np.transpose,
    shaped(of(), of((1, 0, 2)), of((2, 0, 1)), of(axes=(-1, 0, 1)), of(None), shapes=((2, 3, 2),)),
)
case("x.T, x.mT", lambda x: (x.T, x.mT, x.transpose(), x.transpose(0, 1), x.transpose((1, 0))), shaped(of()))
case("np.swapaxes", np.swapaxes, shaped(of(0, 1), of(-1, 0), shapes=((2, 3), (2, 3, 4))))
case(
    "np.moveaxis", np.moveaxis, shaped(of(0, -1), of((0, 1), (1, 2)), of(2, 0), of([2, 0], [0, 1]), shapes=((2, 3, 4),))
)
case("np.rollaxis", np.rollaxis, shaped(of(2), of(1, 3), of(-1, 1), of(0, -1), of(0, 2), of(1, 1), shapes=((2, 3, 4),)))
case("np.expand_dims", np.expand_dims, shaped(of(0), of(-1), of((0, 2)), of(axis=1)))
case("np.squeeze", np.squeeze, shaped(of(), of(0), of(axis=(0, -1)), of(-1), shapes=((1, 3, 1),)))
case("x.squeeze, x.swapaxes", lambda x: (x.squeeze(), x.squeeze(0), x.swapaxes(0, 1)), shaped(of(), shapes=((1, 3),)))
case("np.broadcast_to", np.broadcast_to, shaped(of((2, 3)), of(shape=(4, 2, 3)), shapes=((3,), (2, 1), (), (2, 3))))
case("np.broadcast_arrays", np.broadcast_arrays, pairs(*PAIRS))
case("np.atleast_1d", np.atleast_1d, pairs(((),), ((3,),), ((), (2, 2))))
case("np.atleast_2d", np.atleast_2d, pairs(((),), ((3,),), ((), (2, 2, 2)), ((0,),)))
case("np.atleast_3d", np.atleast_3d, pairs(((),), ((3,),), ((2, 3),), ((2, 3, 2), (2,)), ((0,),)))
case("np.matrix_transpose", np.matrix_transpose, shaped(of(), shapes=((2, 3), (2, 3, 4))))
case("np.linalg.matrix_transpose", linalg.matrix_transpose, shaped(of()))
case("np.concatenate", np.concatenate, several(((2, 3), (1, 3)), ((2, 3), (0, 3), (2, 3)), ((2, 3),), axis=(0, -2)))
case("np.concatenate along the last axis", np.concatenate, several(((3,), (2,)), ((2, 3), (2, 1)), axis=(-1, None)))
case("np.concatenate of vectors", lambda *x: np.concatenate(x), pairs(((3,), (2,)), ((3,), (0,))))
case("np.stack", np.stack, several(((2, 3), (2, 3)), ((2, 1),), axis=(0, 1, 2, -1, -3)))
case("np.stack of numbers", np.stack, several(((), ()), ((), (), ())))
case("np.vstack", np.vstack, several(((3,), (3,)), ((2, 3), (3,)), ((), ())))
case("np.hstack", np.hstack, several(((3,), (2,)), ((2, 3), (2, 1)), ((), ()), ((2, 1, 3), (2, 2, 3))))
case("np.dstack", np.dstack, several(((3,), (3,)), ((2, 3), (2, 3)), ((2, 3, 1), (2, 3))))
case("np.column_stack", np.column_stack, several(((3,), (3,)), ((3, 2), (3,)), ((), ())))
case(
    "np.block",
    np.block,
    lambda d: of(
        d.pick(
            [[d.array((2, 2)), d.array((2, 1))], [d.array((1, 2)), d.array((1, 1))]],
            [d.array((2,)), d.array((3,))],
            [[d.array((3,))], [d.array((3,))]],
            [[[d.array((2,))]], [[d.array((2,))]]],
            [d.array(()), 1.5],
            d.array((2,)),
        )
    ),
)
case(
    "np.append",
    np.append,
    lambda d: of(
        *d.pick(
            (d.array((2, 3)), d.array((2,))),
            (d.array((2, 3)), d.array((1, 3)), 0),
            (d.array((2,)), 0.5),
            (d.array((2, 3)), d.array((2, 2)), -1),
        )
    ),
)
case(
    "np.insert",
    np.insert,
    lambda d: of(
        *d.pick(
            (d.array((3,)), d.pick(0, 1, 3, -1, -3), d.pick(0.5, d.array(()))),
            (d.array((2, 3)), 1, d.array((3,)), 0),
            (d.array((2, 3)), 1, 0.5),
            (d.array((2, 3)), 2, d.array((2,)), 1),
            (d.array((2, 3)), -1, 0.5, -1),
            (d.array((3,)), 1, d.array((2,))),
            (d.array((2, 3)), 1, d.array((2, 3)), 0),
            (d.array((2, 3)), 0, d.array((2, 1)), 1),
        )
    ),
)
case(
    "np.split",
    np.split,
    shaped(of(2), of(4), of([1, 3]), of((1, 2), 0), of(3, axis=-1), of([0, 2, 7], 1), shapes=((4, 3),)),
)
case(
    "np.array_split",
    np.array_split,
    shaped(of(2), of(3), of(5), of(2, -1), of([1], axis=1), of([-1]), of([3, 1]), shapes=((4, 3),)),
)
case("np.vsplit", np.vsplit, shaped(of(2), of([1, 3]), shapes=((4, 3),)))
case("np.hsplit", np.hsplit, shaped(of(2), of([1, 3]), shapes=((3, 4), (4,))))
case("np.dsplit", np.dsplit, shaped(of(2), of([1]), shapes=((2, 1, 4),)))
case("np.unstack", np.unstack, shaped(of(), of(axis=-1), of(axis=1)))
case(
    "np.meshgrid",
    np.meshgrid,
    lambda d: of(*(d.array((n,)) for n in d.pick((2,), (2, 3), (2, 3, 2))), **d.some(sparse=True, indexing="ij")),
)
case(
    "np.linspace",
    np.linspace,
    lambda d: of(
        *d.pick((d.array(()), d.array(())), (d.array((2,)), d.array((2,))), (0.5, d.array(())), (d.array((2,)), 3)),
        d.pick(5, 2),
        **d.some(endpoint=False, axis=d.pick(0, -1), retstep=True),
    ),
)
case(
    "np.logspace", np.logspace, lambda d: of(d.array(()), d.array(()), d.pick(3, 4), **d.some(endpoint=False, base=2.0))
)
case(
    "np.geomspace",
    np.geomspace,
    lambda d: of(d.between(0.5, 1, ()), d.between(2, 3, ()), d.pick(3, 4), **d.some(endpoint=False)),
)
case("np.full_like", lambda x: np.full_like(x, x[0]), lambda d: of(d.array(d.pick((2, 3), (3,)))))
case("np.flip", np.flip, shaped(of(), of(0), of(-1), of((0, 1)), of(axis=1)))
case("np.fliplr", np.fliplr, shaped(of()))
case("np.flipud", np.flipud, shaped(of(), shapes=((2, 3), (3,))))
case(
    "np.roll",
    np.roll,
    shaped(of(1), of(-2, 0), of((1, 2), (0, 1)), of(1, axis=-1), of((1, 1), 1), of(2, (0, 1)), of(shift=5)),
)
case("np.rot90", np.rot90, shaped(of(), of(2), of(-1, (1, 0)), of(3)))
case("np.repeat", np.repeat, shaped(of(2), of(2, 0), of([1, 0, 2], 1), of(3, axis=-1), of([1, 2], axis=0), of(0)))
case("np.tile", np.tile, shaped(of(2), of((2, 1)), of((2, 1, 3)), of(()), shapes=((2, 3), (2,), ())))
case("np.resize", np.resize, shaped(of((4, 2)), of(3), of((2, 5))))
case("np.delete", np.delete, shaped(of(1), of([0, -1]), of(0, 0), of([0, 2], axis=1), of(slice(0, 2), 1)))
case(
    "np.trim_zeros",
    lambda x, *how: np.trim_zeros(np.concatenate([[0.0, 0.0], x, [0.0]]), *how),
    lambda d: of(d.array((3,)), *d.pick((), ("f",), ("b",))),
)
case(
    "np.pad",
    np.pad,
    shaped(
        of(1),
        of((1, 2)),
        of(((1, 0), (0, 2))),
        of(1, "constant", constant_values=0.5),
        of(1, constant_values=(1, 2)),
        of(2, "constant", constant_values=((1, 2), (3, 4))),
        of((2,)),
        of([[1, 2]]),
        of({0: 1}),
    ),
)
case(
    "np.pad by elements",
    np.pad,
    lambda d: of(d.array(d.pick((2, 3), (4,))), d.pick(1, 2, (1, 3)), d.pick("edge", "reflect", "symmetric", "wrap")),
)
case(
    "np.pad with a number",
    lambda x: np.pad(x, ((1, 2), (0, 1)), constant_values=x[0, 0]),
    lambda d: of(d.array((2, 3))),
)
case("np.diag", np.diag, shaped(of(), of(1), of(k=-1), shapes=((3,), (3, 3), (2, 3))))
case("np.diagonal", np.diagonal, shaped(of(), of(1), of(0, 1, 2), of(offset=-1, axis1=2, axis2=0), shapes=((2, 3, 4),)))
case("np.linalg.diagonal", linalg.diagonal, shaped(of(), of(offset=1), shapes=((2, 3, 4),)))
case("np.diagflat", np.diagflat, shaped(of(), of(1), shapes=((2, 2), (3,))))
case("np.tril", np.tril, shaped(of(), of(1), of(k=-1), shapes=((3, 3), (2, 3, 4))))
case("np.triu", np.triu, shaped(of(), of(1), of(k=-1), shapes=((3, 3), (2, 3, 4))))
case(
    "np.take",
    np.take,
    shaped(
        of(1),
        of([0, -1, 0]),
        of([[0, 1], [1, 1]], 0),
        of(2, axis=-1),
        of(np.array([2, 0, 2]), 1),
        of([7, -9], mode="wrap"),
        of([7, -9], 1, mode="clip"),
    ),
)
case(
    "np.take_along_axis",
    np.take_along_axis,
    shaped(of(np.array([[0, 2, 0], [1, 1, -1]]), 1), of(np.array([[0, 1, 1]]), axis=0), of(np.array([4, 4, 0]), None)),
)
case(
    "np.compress",
    lambda x, c, *how: np.compress(c, x, *how),
    shaped(of([True, False], 0), of([True, False, True, True]), of([0, 1, 1], 1)),
)
case("np.extract", lambda x, c: np.extract(c, x), shaped(of(np.array([[True, False, True], [False, True, False]]))))
case("np.sort", np.sort, shaped(of(), of(0), of(None), of(axis=-1), shapes=((2, 3), (4,))))
case("np.partition", lambda x, kth, *how: np.partition(x, kth, *how)[..., kth], shaped(of(1), of(0, -1), of(1, None)))
case("np.unique_values", np.unique_values, shaped(of(), shapes=((4,), (2, 2))))
for _f in (np.unique_counts, np.unique_inverse, np.unique_all):
    case(name_of(_f), _f, shaped(of(), shapes=((4,), (2, 2))))
case("np.unique", np.unique, shaped(of(), shapes=((4,), (2, 2))))
case("np.bincount", np.bincount, lambda d: of(np.array([0, 3, 1, 3]), d.array((4,)), *d.pick((), (6,))))
case(
    "np.lib.stride_tricks.sliding_window_view",
    sliding_window_view,
    shaped(of(2, 0), of((2, 2)), of((2, 3), (0, 1)), of(2, axis=-1), of(3, 1), of((2, 2), (1, 1)), shapes=((3, 4),)),
)
case(
    "squares of sliding windows", lambda x, n: sliding_window_view(x, n) ** 2, lambda d: of(d.array((4,)), d.pick(1, 2))
)

INDICES = (
    0, -1, slice(None), slice(0, 2), slice(None, None, -1), slice(1, None, 2), np.newaxis, Ellipsis, (0, 1),
    (-1, slice(None)), (Ellipsis, 0), (0, Ellipsis), (slice(None), np.newaxis, 1), (np.newaxis, Ellipsis, np.newaxis),
    [0, 1, 0], np.array([1, -2, 1]), np.array([[0, 1], [1, 1]]), ([0, 1, 1], [2, 0, 0]), (slice(None), [0, 0, 2]),
    ([0, 1], slice(None), 0), (np.array([0, 0]), Ellipsis, np.array([1, 1])),
    (np.array([[0], [1]]), np.array([[0, 2, 2]])), (0, [1, 1]), ([1], np.newaxis, [2]), (slice(None), slice(0, 0)),
    [], np.int64(1), (), (np.True_, 0), True, ([True, False, True],), (slice(None), [True, False, True]),
    (np.array([True, False, True]), 0), (Ellipsis, [0, -1, 0]), (np.array(1), slice(None)), np.array(-1),
    ([0, 2], [0, 2], [0, 1]), (slice(None, None, -1), slice(None, None, 2)), np.arange(18).reshape(3, 3, 2) % 3 == 0,
    np.arange(9).reshape(3, 3) % 2 == 0, (np.arange(9).reshape(3, 3) % 2 == 0, [0, 1, 0, 0, 1]), np.zeros(3, bool),
    np.array([0, 2], np.uint8),
)  # fmt: skip
for _i, _index in enumerate(INDICES):
    case(f"x[...] {_i}", operator.getitem, lambda d, index=_index: of(d.array((3, 3, 2)), index), examples=1)
case(
    "x[...] of vectors",
    operator.getitem,
    lambda d: of(
        d.array((4,)),
        d.pick(
            2,
            [1, 1],
            slice(1, None),
            np.array([True, False, True, False]),
            (Ellipsis, None),
            np.array([[3, 0], [3, 3]]),
        ),
    ),
)
case(
    "x[...] of nothing", operator.getitem, lambda d: of(d.array(()), d.pick((), Ellipsis, None, (None, Ellipsis), True))
)
case("x[i] + x[j]", lambda x: x[0] * x[1:] + x[[0, 1]] * x[-1] - np.sum(x[1:, None]), lambda d: of(d.array((3, 2))))


# --- Fourier transforms -----------------------------------------------------------------------------------


def parts(z):
    return np.real(z), np.imag(z)


def parts_of(function):
    return lambda *args, **kwargs: parts(function(*args, **kwargs))


def of_complex(function):
    return lambda x, y, *how, **kw: parts(function(x + 1j * y, *how, **kw))


def one(d, count):
    shape = d.pick((5,), (4,), (2, 5), (3, 4))
    axis = d.pick(0, -1)
    kwargs = d.some(
        n=d.pick(*(k for k in (shape[axis], shape[axis] + 2, shape[axis] - 1, 6) if k > 1)),
        norm=d.pick("ortho", "forward", None),
    )
    return of(*(d.array(shape) for _ in range(count)), axis=axis, **kwargs)


def many(d, count):
    shape = d.pick((3, 4), (2, 5), (2, 3, 4))
    kwargs = d.some(s=d.pick((3, 4), (2, 5), (4, 2)), norm=d.pick("ortho", "forward", None))
    return of(*(d.array(shape) for _ in range(count)), axes=d.pick((-2, -1), (0, 1), (1, 0)), **kwargs)


for _name in ("fft", "ifft", "rfft", "ihfft"):
    case(f"np.fft.{_name}", parts_of(getattr(fft, _name)), lambda d: one(d, 1))
for _name in ("fft", "ifft", "irfft", "hfft"):
    case(f"np.fft.{_name} of complex numbers", of_complex(getattr(fft, _name)), lambda d: one(d, 2))
for _name in ("irfft", "hfft"):
    case(f"np.fft.{_name} of real numbers", getattr(fft, _name), lambda d: one(d, 1))
for _name in ("fft2", "ifft2", "rfft2", "fftn", "ifftn", "rfftn"):
    case(f"np.fft.{_name}", parts_of(getattr(fft, _name)), lambda d: many(d, 1))
for _name in ("fft2", "ifft2", "irfft2", "fftn", "ifftn", "irfftn"):
    case(f"np.fft.{_name} of complex numbers", of_complex(getattr(fft, _name)), lambda d: many(d, 2))
for _name in ("fftn", "ifftn", "rfftn"):
    case(
        f"np.fft.{_name} along all axes",
        parts_of(getattr(fft, _name)),
        lambda d: of(d.array(d.pick((3,), (2, 3), (2, 3, 2)))),
    )
case("np.fft.irfftn along all axes", lambda x: fft.irfftn(fft.rfftn(x) ** 2), lambda d: of(d.array((3, 4))))
case(
    "np.fft.irfft there and back",
    lambda x, n: fft.irfft(fft.rfft(x), n),
    lambda d: of(d.array((5,)), d.pick(5, 4, None)),
)
case("sizes of a spectrum", lambda x: np.abs(fft.rfft(x)) + np.abs(fft.fft(x))[:3], lambda d: of(d.array((5,))))
case(
    "parts of a spectrum",
    lambda x: (fft.fft(x).real, fft.fft(x).imag, np.angle(fft.fft(x)[1:3]), abs(fft.fft(x) * fft.fft(x).conj())),
    lambda d: of(d.array(d.pick((5,), (4,)))),
)
case(
    "complex arithmetic",
    lambda x, y: parts(
        (x + 1j * y) / (2.0 - 1j * x) - (x + 2j) ** 2 * (y - 1j) + np.exp(1j * x) + np.square(y * 1j + x)
    ),
    lambda d: of(d.array((3,)), d.array((3,))),
)
case(
    "complex numbers, moved",
    lambda x: parts(
        np.concatenate([np.sum(np.stack([fft.fft(x), np.conj(fft.fft(x)[::-1])]), 0), np.roll(fft.fft(x), 1)])
    ),
    lambda d: of(d.array((3,))),
)
case(
    "norms and products of complex numbers",
    lambda x, y: (
        np.linalg.norm(x + 1j * y),
        np.linalg.norm(x + 1j * y, 1, axis=0),
        np.var(x - 1j * y),
        np.std(x * 1j + y, axis=0),
        *parts(np.vdot(x + 1j * y, y + 2j * x)),
        *parts(np.vecdot(x + 1j * y, y + 2j * x)),
        *parts(np.correlate(x + 1j * y, y[1:] - 2j * x[:2])),
        *parts(np.correlate(y[1:] - 2j * x[:2], x + 1j * y, "full")),
        *parts(np.convolve(x + 1j * y, y - 2j * x)),
        np.real_if_close(x + 0j * y),
    ),
    lambda d: of(d.array((3,)), d.array((3,))),
)
case("np.fft.fftshift", fft.fftshift, shaped(of(), of(0), of(axes=(0, 1)), of(-1)))
case("np.fft.ifftshift", fft.ifftshift, shaped(of(), of(0), of(axes=(1,))))


# --- what Python writes -----------------------------------------------------------------------------------

case(
    "operators with numbers",
    lambda x: (
        x + 1,
        2 - x,
        3 * x,
        x / 2,
        1.5 / x,
        x**2,
        2 ** abs(x),
        2.5**x,
        -x,
        +x,
        x % 0.7,
        np.float64(3) * x,
        np.float64(2) ** x,
    ),
    lambda d: of(d.array(d.pick((), (3,), (2, 2)))),
)
case(
    "operators with arrays",
    lambda x, a: (
        a + x,
        x + a,
        a - x,
        a * x,
        x * a,
        a / x,
        x / a,
        a**x,
        x**a,
        a % x,
        x // a * x,
        divmod(x, a)[1],
        divmod(7.0, x)[1],
    ),
    lambda d: of(d.between(0.3, 2, d.pick((3,), (2, 3))), d.between(0.4, 2, (3,))),
)
case("x @ matrices", lambda x, a: (a @ x, x @ a.T, x.T @ a.T), lambda d: of(d.array((3, 3)), d.array((3, 3))))
case(
    "methods",
    lambda x: (
        x.sum(axis=0),
        x.mean(1, keepdims=True),
        x.max(),
        x.min(axis=-1),
        x.prod(),
        x.std(),
        x.var(0),
        x.cumsum(1),
        x.cumprod(0),
        x.trace(),
        x.diagonal(),
        x.round(1),
        x.repeat(2),
        x.take([0, 1]),
        x.conj(),
        x.conjugate(),
        x.real,
        x.compress([True, False], axis=0),
        x.copy(),
        x.astype(x.dtype),
        x.item(1) * x,
        x.item(0, 1) * x,
    ),
    lambda d: of(d.array((2, 3))),
)
case("iteration", lambda x: [row[0] * len(row) for row in x] + [v * v for v in x.flat], lambda d: of(d.array((2, 3))))
case("the order of memory", lambda x: (x.T.ravel("A"), x.T.ravel("K"), x.T.flatten("F"), x.ravel("K")), shaped(of()))
case("unpacking", lambda x: (lambda a, b, c: a * b + np.exp(c))(*x), lambda d: of(d.array((3,))))
case("branches", lambda x: np.sin(x) if x > 0 else x**2 if x < -1 else 3 * x, lambda d: of(d.array(())))
case(
    "lists of traced numbers",
    lambda x, y: (np.stack([x, y, 2.0]), np.hstack([x, [1.0, 2.0], y]), np.concatenate([[0.5], np.stack([x, y])])),
    lambda d: of(d.array(()), d.array(())),
)
case(
    "an average log-likelihood",
    lambda x, m, s: np.mean(-0.5 * ((x - m) / s) ** 2 - np.log(s)),
    lambda d: of(d.array((4,)), d.array(()), d.between(0.5, 2, ())),
)

case("autodiff.checkpoint", autodiff.checkpoint(lambda x, y: (np.tanh(x) * y, np.sum(y))),
     lambda d: of(d.array((2, 3)), d.array((3,))))  # fmt: skip
case("autodiff.array", lambda x, y: autodiff.array([[x, 1.0], [y, x * y]]), lambda d: of(d.array(()), d.array(())))
case("autodiff.r_", lambda x, y: autodiff.r_[x, 1:3, y, 0.5], lambda d: of(d.array((3,)), d.array(())))
case("autodiff.c_", lambda x, y: autodiff.c_[x, y, [1.0, 2.0, 3.0]], lambda d: of(d.array((3,)), d.array((3, 2))))

# --- SciPy ------------------------------------------------------------------------------------------------

for _name, _f, _make in scipy_cases.CASES:
    case(_name, _f, _make, examples=4)
