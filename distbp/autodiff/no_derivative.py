"""Functions of NumPy without a derivative: those that are piecewise constant, and those that are not supported."""

from typing import Any

import numpy as np
from numpy.lib import scimath

from distbp.autodiff.tables import COMPOSITIONS, CONSTANT, UNSUPPORTED
from distbp.autodiff.tracing import Traced, value_of

__all__: list[str] = []

linalg: Any = np.linalg

CONSTANT |= {
    # element by element
    np.sign, np.floor, np.ceil, np.trunc, np.rint, np.fix, np.round, np.around, np.floor_divide, np.heaviside,
    np.signbit, np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal, np.logical_and,
    np.logical_or, np.logical_xor, np.logical_not, np.isfinite, np.isinf, np.isnan, np.isnat, np.isneginf, np.isposinf,
    np.isreal, np.iscomplex, np.isclose, np.isin, np.spacing, np.invert, np.bitwise_and, np.bitwise_or, np.bitwise_xor,
    np.bitwise_count, np.left_shift, np.right_shift, np.gcd, np.lcm,
    # of the whole
    np.all, np.any, np.allclose, np.array_equal, np.array_equiv, np.argmax, np.argmin, np.nanargmax, np.nanargmin,
    np.argsort, np.argpartition, np.argwhere, np.nonzero, np.flatnonzero, np.count_nonzero, np.searchsorted,
    np.digitize, np.lexsort, np.iscomplexobj, np.isrealobj, linalg.matrix_rank,
    # shapes and types
    np.shape, np.ndim, np.size, np.result_type, np.can_cast, np.common_type, np.min_scalar_type, np.may_share_memory,
    np.shares_memory, np.zeros_like, np.ones_like, np.empty_like, np.einsum_path, np.array2string,
    np.array_repr, np.array_str, np.ravel_multi_index, np.unravel_index, np.diag_indices_from,
    np.tril_indices_from, np.triu_indices_from, np.packbits, np.unpackbits, np.save, np.savetxt, np.savez,
    np.savez_compressed, np.is_busday, np.busday_count, np.busday_offset,
}  # fmt: skip
COMPOSITIONS[np.full_like] = lambda a, fill_value, dtype=None, order="K", subok=True, shape=None: (
    np.broadcast_to(fill_value, np.shape(a) if shape is None else shape)
    if type(fill_value) is Traced
    else np.full_like(value_of(a), fill_value, dtype, shape=shape)
)

_WRITES = "it writes into an array; make a new one with np.where, np.concatenate or np.stack"
_COMPLEX = "its results are complex, or may become so; use the function of the same name in np"
UNSUPPORTED |= dict.fromkeys((np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask), _WRITES)
UNSUPPORTED |= dict.fromkeys(
    [getattr(scimath, name) for name in scimath.__all__ if callable(getattr(scimath, name))], _COMPLEX
)
UNSUPPORTED |= dict.fromkeys(
    (linalg.eig, linalg.eigvals, np.roots), "its results may be complex; np.linalg.eigh is known"
)
UNSUPPORTED |= dict.fromkeys((np.apply_along_axis, np.apply_over_axes), "write the loop, and np.stack its results")
UNSUPPORTED |= dict.fromkeys(
    (np.poly, np.polyadd, np.polyder, np.polydiv, np.polyfit, np.polyint, np.polymul, np.polysub),
    "np.polyval, np.convolve and np.linalg.solve are known",
)
UNSUPPORTED |= dict.fromkeys(
    (np.nanmedian, np.nanpercentile, np.nanquantile), "np.quantile(x[~np.isnan(x)], ...) is known"
)
UNSUPPORTED |= dict.fromkeys(
    (np.histogram, np.histogram2d, np.histogramdd, np.histogram_bin_edges),
    "counts have no derivative, edges have: give it autodiff.value_of(x); np.bincount of weights is known",
)
UNSUPPORTED |= dict.fromkeys(
    (np.intersect1d, np.setdiff1d, np.setxor1d, np.union1d),
    "np.unique(np.concatenate([x, y])) and x[np.isin(x, y)] are known",
)
UNSUPPORTED[np.ix_] = "np.meshgrid(..., sparse=True, indexing='ij') is known"
UNSUPPORTED[np.i0] = "scipy.special.i0 is known"
UNSUPPORTED[np.nextafter] = "it is no function of real numbers"
UNSUPPORTED[np.sort_complex] = "np.sort is known"
UNSUPPORTED[linalg.lstsq] = "np.linalg.pinv(a) @ b is known, and np.linalg.solve"
UNSUPPORTED[linalg.qr] = "np.linalg.cholesky(a.T @ a).T is R"
UNSUPPORTED |= dict.fromkeys(
    (np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require),
    "np.stack([...]) makes an array of traced numbers",
)
