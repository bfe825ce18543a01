"""Dropout (Srivastava et al. 2014): which units of which rows a training step drops.

A mask is a function of (seed, step, layer, row, unit), never of the rank: whoever computes a unit for a row drops the
same ones. One 64-bit hash serves four units, 16 bits each; the fraction kept is a multiple of 2^-16.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.randomness import bits, key

Array = NDArray[Any]


class DropoutMasks:
    """Compute masks that drop a `fraction` of the units of layers that are `widths` wide, by the `seed` of a run."""

    def __init__(self, fraction: float, seed: int, widths: Sequence[int], dtype: DTypeLike) -> None:
        self._keep = max(1, round((1.0 - fraction) * 65536))
        self._seed, self._widths, self._dtype = seed, tuple(widths), np.dtype(dtype)

    def __call__(self, step: int, layer: int, rows: Array, units: slice) -> Array:
        """Return the mask (rows, units) of some units of a layer: 0 or 1/(fraction kept).

        Parameters
        ----------
        step, layer : int
            Their numbers.
        rows : ndarray of int, of shape (n,)
            Number of each row in the data.
        units : slice
            Of the layer; it begins at a multiple of 4.
        """
        lo, hi, _ = units.indices(self._widths[layer])
        row_keys = bits(key(self._seed, "dropout", step, layer), rows)
        hashes = bits(0, np.add.outer(row_keys, np.arange(lo // 4, -(-hi // 4), dtype=np.uint64)))
        sixteenths = hashes.astype("<u8", copy=False).view("<u2")[:, : hi - lo]
        mask: Array = np.empty((hi - lo, len(rows)), self._dtype).T  # unit by unit, as all of a tape
        np.multiply(sixteenths < self._keep, 65536 / self._keep, out=mask)
        return mask
