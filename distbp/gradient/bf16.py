"""16-bit numbers in place of float32 on the way between hosts, with error feedback.

What rounding loses is the *residual*: it is kept and added to the next gradient (Seide et al. 2014, section 3.2;
Karimireddy et al. 2019, algorithm 1), so that nothing is lost in the long run.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def to_bf16(x: Array) -> Array:
    """Return the upper halves (uint16) of float32 numbers, rounded to the nearest."""
    return ((x.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def from_bf16(h: Array) -> Array:
    """Return the float32 numbers whose upper halves are `h`, lower halves zero."""
    wide = h.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


class ErrorFeedback:
    """Rounds vectors of one length, and keeps the residual."""

    def __init__(self, length: int) -> None:
        self.residual = np.zeros(length, np.float32)

    def round(self, vectors: Iterable[Array], out: Array) -> None:
        """Write the sum of vectors and residual, rounded, to `out` (uint16); keep what is lost."""
        for x in vectors:
            self.residual += x
        out[...] = to_bf16(self.residual)
        self.residual -= from_bf16(out)
