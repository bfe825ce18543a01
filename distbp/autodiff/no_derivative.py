"""Functions of NumPy without a derivative: those that are piecewise constant, and those that are not supported."""

import numpy as np
from numpy.lib import scimath

from distbp.autodiff.tables import COMPOSITIONS, CONSTANT, UNSUPPORTED
from distbp.autodiff.tracing import Traced, value_of

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
    np.digitize, np.lexsort, np.iscomplexobj, np.isrealobj, np.linalg.matrix_rank,
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

for _instead, _functions in {
    "it writes into an array; make a new one with np.where, np.concatenate or np.stack": (
        np.copyto, np.fill_diagonal, np.place, np.put, np.put_along_axis, np.putmask,
    ),
    "its results are complex, or may become so; use the function of the same name in np": [
        function for name in scimath.__all__ if callable(function := getattr(scimath, name))
    ],
    "its results may be complex; np.linalg.eigh is known": (np.linalg.eig, np.linalg.eigvals, np.roots),
    "write the loop, and np.stack its results": (np.apply_along_axis, np.apply_over_axes),
    "np.polyval, np.convolve and np.linalg.solve are known": (
        np.poly, np.polyadd, np.polyder, np.polydiv, np.polyfit, np.polyint, np.polymul, np.polysub,
    ),
    "np.quantile(x[~np.isnan(x)], ...) is known": (np.nanmedian, np.nanpercentile, np.nanquantile),
    "counts have no derivative, edges have: give it autodiff.value_of(x); np.bincount of weights is known": (
        np.histogram, np.histogram2d, np.histogramdd, np.histogram_bin_edges,
    ),
    "np.unique(np.concatenate([x, y])) and x[np.isin(x, y)] are known": (
        np.intersect1d, np.setdiff1d, np.setxor1d, np.union1d,
    ),
    "np.meshgrid(..., sparse=True, indexing='ij') is known": (np.ix_,),
    "scipy.special.i0 is known": (np.i0,),
    "it is no function of real numbers": (np.nextafter,),
    "np.sort is known": (np.sort_complex,),
    "np.linalg.pinv(a) @ b is known, and np.linalg.solve": (np.linalg.lstsq,),
    "np.linalg.cholesky(a.T @ a).T is R": (np.linalg.qr,),
    "np.stack([...]) makes an array of traced numbers": (
        np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require,
    ),
}.items():  # fmt: skip
    UNSUPPORTED |= dict.fromkeys(_functions, _instead)
