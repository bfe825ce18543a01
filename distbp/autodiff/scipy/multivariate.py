"""scipy.stats of several variables: the normal distribution and Dirichlet's."""

import sys
from functools import partial
from math import log, pi
from typing import Any

import numpy as np

from distbp.autodiff.linear_algebra import symmetric
from distbp.autodiff.scipy import front
from distbp.autodiff.scipy.special import double
from distbp.autodiff.tables import Array, NotDifferentiable
from distbp.autodiff.tracing import Traced, value_of

s: Any = None
"""The module scipy.special."""
psd: Any = None
"""What SciPy makes of a covariance: a square root of its pseudo-inverse, and the log of its pseudo-determinant."""


def load(module: Any) -> None:
    """Give fronts to the methods."""
    global s, psd
    s, psd = sys.modules["scipy.special"], module._multivariate._PSD
    normal, dirichlet = type(module.multivariate_normal), type(module.dirichlet)
    front(normal.logpdf, normal_logpdf)
    front(normal.pdf, lambda *args, **kwargs: np.exp(normal_logpdf(*args, **kwargs)))
    front(normal.entropy, normal_entropy)
    front(dirichlet.logpdf, dirichlet_logpdf)
    front(dirichlet.pdf, lambda *args, **kwargs: np.exp(dirichlet_logpdf(*args, **kwargs)))
    of_normal, of_dirichlet = type(module.multivariate_normal()), type(module.dirichlet([1.0]))
    front(of_normal.logpdf, _of_frozen_normal)
    front(of_normal.pdf, lambda frozen, x: np.exp(_of_frozen_normal(frozen, x)))
    front(of_dirichlet.logpdf, lambda frozen, x: dirichlet_logpdf(None, x, frozen.alpha))
    front(of_dirichlet.pdf, lambda frozen, x: np.exp(dirichlet_logpdf(None, x, frozen.alpha)))
    front(normal.__call__, lambda dist, *args, **kwargs: Frozen(dist, kwargs, "mean cov allow_singular".split(), args))
    front(dirichlet.__call__, lambda dist, *args, **kwargs: Frozen(dist, kwargs, ["alpha"], args))


def _of_frozen_normal(frozen: Any, x: Array) -> Array:
    return normal_logpdf(None, x, frozen.mean, frozen.cov, frozen.allow_singular)


class Frozen:
    """A distribution with its parameters, some of them traced."""

    def __init__(self, dist: Any, kwargs: dict[str, Any], names: list[str], args: tuple[Any, ...]) -> None:
        given = dict(zip(names, args, strict=False)) | {k: v for k, v in kwargs.items() if k != "seed"}
        self.logpdf, self.pdf = partial(dist.logpdf, **given), partial(dist.pdf, **given)
        self.entropy = partial(dist.entropy, **{k: v for k, v in given.items() if k != "allow_singular"})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotDifferentiable(f"{name} of a distribution with traced parameters: logpdf, pdf and entropy are known")


def _square(cov: Array, dim: int) -> Array:
    """Return a covariance of any form that SciPy takes, as a matrix."""
    if np.ndim(cov) == 2:
        return cov
    if np.ndim(cov) > 2:
        raise ValueError(f"a covariance has up to two dimensions, not {np.ndim(cov)}")
    return np.eye(dim) * cov


def _root(cov: Array, allow_singular: bool) -> tuple[Array, Array, int, Any]:
    """Return U with ``U U^T`` the inverse of the covariance, the log of its determinant, its rank, and SciPy's own."""
    if type(cov) is not Traced:
        known = psd(np.asarray(cov), allow_singular=allow_singular)
        return known.U, known.log_pdet, known.rank, known
    traced: Array = cov
    try:
        lower = np.linalg.cholesky(symmetric(traced))
    except np.linalg.LinAlgError:
        if allow_singular and np.linalg.eigvalsh(value_of(cov)).min() > -1e-10:
            raise NotDifferentiable(
                "multivariate_normal: by a covariance that is singular there is no derivative"
            ) from None
        raise np.linalg.LinAlgError("the covariance is not positive definite") from None
    return np.linalg.inv(lower).T, 2.0 * np.sum(np.log(np.diagonal(lower))), len(lower), None


def normal_logpdf(dist: Any, x: Array, mean: Array = None, cov: Array = 1, allow_singular: bool = False) -> Array:
    """Return the log of the density at each row of `x`."""
    x, mean, cov = map(double, (x, mean, cov))
    sizes = [np.shape(cov)[0] if np.ndim(cov) else 1, np.size(mean) if mean is not None else 1]
    dim = max(*sizes, 1)
    x = np.reshape(x, (-1, 1)) if np.ndim(x) == 1 and dim == 1 else x
    if hasattr(cov, "log_pdet"):
        raise NotDifferentiable("multivariate_normal of a Covariance, and a traced array: give the matrix")
    root, log_det, rank, known = _root(_square(cov, dim), allow_singular)
    away = x if mean is None else x - mean
    off = np.matmul(away, root) if np.ndim(x) else away * root[0, 0]
    found = -0.5 * (rank * log(2.0 * pi) + log_det + (np.sum(off * off, -1) if np.ndim(off) else off * off))
    if rank < dim:  # SciPy looks whether a row is where there is any probability
        found = np.where(known._support_mask(value_of(away)), found, -np.inf)
    return np.squeeze(found) if np.ndim(found) else found


def normal_entropy(dist: Any, mean: Array = None, cov: Array = 1) -> Array:
    """Return the differential entropy."""
    cov = double(cov)
    dim = max(np.shape(cov)[0] if np.ndim(cov) else 1, np.size(mean) if mean is not None else 1)
    _, log_det, rank, _ = _root(_square(cov, dim), True)
    return 0.5 * (rank * (log(2.0 * pi) + 1.0) + log_det)


def dirichlet_logpdf(dist: Any, x: Array, alpha: Array) -> Array:
    """Return the log of the density; `x` has a component in each row, or all but the last."""
    x = x if type(x) is Traced else np.asarray(x)
    if x.shape[0] == np.shape(alpha)[0] - 1:
        x = np.concatenate([x, 1.0 - np.sum(x, 0, keepdims=True)])
    at, a = value_of(x), np.asarray(value_of(alpha))
    if at.shape[0] != a.shape[0] or (a <= 0).any() or (at < 0).any() or (abs(at.sum(0) - 1.0) > 1e-9).any():
        raise ValueError(
            "dirichlet: parameters are above 0, and the components of x, as many, are not negative and add up to 1"
        )
    beta = np.sum(s.gammaln(alpha)) - s.gammaln(np.sum(alpha))
    return np.sum(s.xlogy(np.reshape(alpha, (-1,) + (1,) * (x.ndim - 1)) - 1.0, x), 0) - beta
