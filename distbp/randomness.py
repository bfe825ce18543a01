"""Random numbers as a function of what they are for, never of a stream.

A stream (draw, draw, draw) makes a number depend on who drew before: on the rank, on a resume, on
a NumPy release. Here each number is a hash of a *key*, made from (seed, purpose, epoch or step),
and a *counter*, such as the row. Every rank can compute any of them, in any order.

The hash is the output function of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable
pseudorandom number generators", figure 17) in 64-bit integer arithmetic, the same everywhere.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def key(seed: int, purpose: str, *numbers: int) -> int:
    """A 64-bit key for one purpose, e.g. ``key(seed, "dropout", step, layer)``."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash each element, in place."""
    x ^= x >> np.uint64(30)
    x *= _MIX_1
    x ^= x >> np.uint64(27)
    x *= _MIX_2
    x ^= x >> np.uint64(31)
    return x


def bits(key: int, counters: NDArray[np.integer]) -> NDArray[np.uint64]:
    """64 random bits for each counter."""
    x = counters.astype(np.uint64)
    x *= _GOLDEN
    x += np.uint64(key)
    return mix(x)


def uniform(key: int, counters: NDArray[np.integer]) -> NDArray[np.float64]:
    """A number in [0, 1) for each counter, with 53 random bits."""
    return (bits(key, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(key: int, counters: NDArray[np.integer]) -> NDArray[np.float64]:
    """A standard normal number for each counter (Box & Muller 1958)."""
    twice = counters.astype(np.uint64) * np.uint64(2)
    radius = np.sqrt(-2.0 * np.log1p(-uniform(key, twice)))
    return np.asarray(radius * np.cos(2.0 * np.pi * uniform(key, twice + np.uint64(1))), np.float64)
