"""Sampling: in every epoch a fresh permutation of the rows, batches taken in order.

Which rows make batch t of epoch e is a function of (seed, e, t, N, B) alone. No rank draws, stores
or sends a permutation: each computes the piece that it needs, in memory that does not grow with N.

`Permutation` is a Feistel network (Luby & Rackoff 1988): split the bits of a number in two halves,
xor one half with a keyed hash of the other, swap, repeat. Whatever the hash, that can be undone, so
it permutes 0 .. 4^k - 1; numbers that land at N or above walk on along their cycle until they are
below it (Black & Rogaway 2002, method 3), which makes it a permutation of 0 .. N - 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.randomness import key, mix

__all__ = ["Batch", "BatchSampler", "Permutation", "block_bounds"]

Rows = NDArray[np.int64]

_WINDOW = 4096
"""Rows of the permutation computed ahead: amortises the calls, bounded whatever N is."""


class Permutation:
    """A permutation of ``range(n)`` that is computed, not stored.

    Parameters
    ----------
    n : int
        Number of elements, up to 2^62.
    seed : int
        Key; equal keys give equal permutations, on every machine and with every NumPy.

    Examples
    --------
    >>> p = Permutation(10, seed=1)
    >>> sorted(p(np.arange(10)).tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    >>> p.inverse(p(np.array([7]))).tolist()
    [7]
    """

    def __init__(self, n: int, seed: int) -> None:
        if n < 0:
            raise ValueError(f"a permutation of {n} elements")
        self.n = n
        half = max(1, ((n - 1).bit_length() + 1) // 2) if n > 1 else 1
        self._half = np.uint64(half)
        self._mask = np.uint64((1 << half) - 1)
        rounds = max(6, 32 // half)  # short halves mix slowly
        self._keys = [np.uint64(key(seed, "feistel", i)) for i in range(rounds)]

    def __call__(self, positions: NDArray[np.integer]) -> Rows:
        """The elements at `positions`."""
        return self._walk(positions, self._keys)

    def inverse(self, elements: NDArray[np.integer]) -> Rows:
        """The positions of `elements`."""
        return self._walk(elements, self._keys[::-1], inverse=True)

    def _walk(self, x: NDArray[np.integer], keys: list[Any], inverse: bool = False) -> Rows:
        if not len(x):
            return np.zeros(0, np.int64)
        y = self._feistel(x.astype(np.uint64), keys, inverse)
        outside = np.flatnonzero(y >= self.n)
        while len(outside):
            again = self._feistel(y[outside], keys, inverse)
            y[outside] = again
            outside = outside[again >= self.n]
        return y.view(np.int64)

    def _feistel(self, x: NDArray[np.uint64], keys: list[Any], inverse: bool) -> NDArray[np.uint64]:
        left, right = x >> self._half, x & self._mask
        if inverse:
            left, right = right, left
        for k in keys:
            left ^= mix(right + k) & self._mask
            left, right = right, left
        if inverse:
            left, right = right, left
        return (left << self._half) | right


def block_bounds(n: int, part: int, parts: int) -> tuple[int, int]:
    """First and last + 1 of the block that `part` of `parts` takes; sizes differ by at most one."""
    small, larger = divmod(n, parts)
    lo = part * small + min(part, larger)
    return lo, lo + small + (part < larger)


class Batch:
    """One mini-batch: its place in the run and its rows, computed when asked for."""

    def __init__(self, sampler: "BatchSampler", step: int) -> None:
        self.step = step
        self.epoch, self.index = divmod(step, sampler.steps_per_epoch)
        self.start = self.index * sampler.batch_size
        self.size = min(sampler.batch_size, sampler.n - self.start)
        self._sampler = sampler

    def rows(self, rank: int = 0, size: int = 1) -> Rows:
        """The block of the batch that `rank` of `size` takes, possibly empty."""
        lo, hi = block_bounds(self.size, rank, size)
        return self._sampler.permuted(self, rank, size, lo, hi)


class BatchSampler:
    """All batches of a run.

    Parameters
    ----------
    n : int
        Training rows N.
    batch_size : int
        Global batch size B; the last batch of an epoch has what is left, unless `drop_last`.
    seed : int
        Seed of the run.
    """

    def __init__(self, n: int, batch_size: int, *, seed: int = 0, drop_last: bool = False) -> None:
        if not 1 <= batch_size <= n:
            raise ValueError(f"batch size {batch_size} with {n} training rows: it must lie between 1 and {n}")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.steps_per_epoch = n // batch_size if drop_last else -(-n // batch_size)
        self.rows_per_epoch = self.steps_per_epoch * batch_size if drop_last else n
        self._permutation: tuple[int, Permutation] | None = None
        self._window: dict[int, Rows] = {}
        self._window_of: tuple[int, int, int] = (-1, 0, 0)

    def batch(self, step: int) -> Batch:
        """Batch number `step` of the run, counted from 0 over all epochs."""
        return Batch(self, step)

    def permutation(self, epoch: int) -> Permutation:
        """The permutation of `epoch`."""
        if self._permutation is None or self._permutation[0] != epoch:
            self._permutation = epoch, Permutation(self.n, key(self.seed, "epoch", epoch))
        return self._permutation[1]

    def permuted(self, batch: Batch, rank: int, size: int, lo: int, hi: int) -> Rows:
        """Rows `lo` to `hi` of `batch`, with those of the batches to come computed in one go."""
        if self._window_of != (batch.epoch, rank, size) or batch.index not in self._window:
            ahead = max(1, _WINDOW // max(1, hi - lo))
            pieces = []
            for step in range(batch.step, batch.step + ahead):
                later = Batch(self, step)
                if later.epoch != batch.epoch:
                    break
                bounds = block_bounds(later.size, rank, size)
                pieces.append(np.arange(*bounds, dtype=np.int64) + later.start)
            rows = self.permutation(batch.epoch)(np.concatenate(pieces))
            ends = np.cumsum([len(piece) for piece in pieces])[:-1]
            self._window = dict(enumerate(np.split(rows, ends), batch.index))
            self._window_of = batch.epoch, rank, size
        return self._window[batch.index]
