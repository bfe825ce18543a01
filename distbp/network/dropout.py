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
        # unit by unit, as all of a tape: four units of all rows, and then the next
        hashes = bits(0, np.add.outer(np.arange(lo // 4, -(-hi // 4), dtype=np.uint64), row_keys))
        sixteenths = hashes.astype("<u8", copy=False).view("<u2").reshape(*hashes.shape, 4).transpose(0, 2, 1)
        mask: Array = np.empty((4 * len(hashes), len(rows)), self._dtype)
        kept = np.less(sixteenths, self._keep, out=np.empty(sixteenths.shape, bool))
        np.multiply(kept, np.asarray(65536 / self._keep, self._dtype), out=mask.reshape(kept.shape))
        return mask[: hi - lo].T
