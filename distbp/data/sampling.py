"""Sampling: in every epoch a fresh permutation of the rows, batches taken in order.

Which rows make batch t of epoch e is a function of (seed, e, t, N, B) alone. No rank draws, stores
or sends a permutation: each computes the piece that it needs, in memory that does not grow with N.

`Permutation` is a Feistel network (Luby & Rackoff 1988) over the numbers below a b, with a and b near
the root of N: write x = l b + r, add a keyed hash of r to l modulo a, a hash of l to r modulo b, and so
on. Whatever the hash, each round can be undone, so it permutes 0 .. a b - 1; the few numbers that land at
N or above walk on along their cycle until they are below it (Black & Rogaway 2002, section 5).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.randomness import key

Rows = NDArray[np.int64]

# odd constants of MurmurHash3's 64-bit finaliser (Appleby)
_MULTIPLIERS = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_THIRTY_TWO = np.uint64(32)
_WINDOW = 4096
"""Rows of the permutation computed ahead: amortises the calls, bounded whatever N is."""


class Permutation:
    """Compute a permutation of ``range(n)``, which is not stored.

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
        self.n, self.seed = n, seed
        a = math.isqrt(max(0, n - 1)) + 1
        self._sides = np.uint64(a), np.uint64(max(1, -(-n // a)))
        rounds = max(6, 32 // a.bit_length())  # short sides mix slowly
        self._keys = [np.uint64(key(seed, "feistel", i)) for i in range(rounds)]

    def __call__(self, positions: NDArray[np.integer]) -> Rows:
        """Return the elements at `positions`."""
        return self._walk(positions, inverse=False)

    def inverse(self, elements: NDArray[np.integer]) -> Rows:
        """Return the positions of `elements`."""
        return self._walk(elements, inverse=True)

    def _walk(self, x: NDArray[np.integer], *, inverse: bool) -> Rows:
        y = self._feistel(x.astype(np.uint64), inverse)
        outside = np.flatnonzero(y >= self.n)
        while len(outside):
            y[outside] = again = self._feistel(y[outside], inverse)
            outside = outside[again >= self.n]
        return y.view(np.int64)

    def _feistel(self, x: NDArray[np.uint64], inverse: bool) -> NDArray[np.uint64]:
        left, right = np.divmod(x, self._sides[1])
        halves = (left, self._sides[0], right), (right, self._sides[1], left)
        rounds = list(enumerate(self._keys))
        for i, k in reversed(rounds) if inverse else rounds:
            half, side, other = halves[i % 2]
            noise = _below(side, other, k)
            half += side - noise if inverse else noise
            np.minimum(half, half - side, out=half)  # below side, half - side wraps around to a great number
        left *= self._sides[1]
        left += right
        return left


def _below(side: np.uint64, x: NDArray[np.uint64], k: np.uint64) -> NDArray[np.uint64]:
    """Hash each x below 2^32, with a key, to a number in 0 .. side - 1."""
    h = x + k
    h *= _MULTIPLIERS[0]
    h ^= h >> _THIRTY_TWO
    h *= _MULTIPLIERS[1]
    h >>= _THIRTY_TWO
    h *= side
    h >>= _THIRTY_TWO
    return h


@dataclass(frozen=True)
class Epochs:
    """Give an interval in epochs, where a plain number is one in steps.

    Parameters
    ----------
    n : int
        At least 1.
    """

    n: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"an interval has at least 1 epoch, not {self.n}; 0, a number of steps, means never")


class Batch:
    """Describe one mini-batch: its place in the run, and its rows, computed when asked for."""

    def __init__(self, sampler: "BatchSampler", step: int) -> None:
        self.step = step
        self.epoch, self.index = sampler.place(step)
        self.start = self.index * sampler.batch_size
        self.size = min(sampler.batch_size, sampler.n - self.start)
        self._sampler = sampler

    def rows(self, rank: int = 0, size: int = 1) -> Rows:
        """Return the block of the batch that `rank` of `size` takes, possibly empty."""
        assert 0 <= rank < size, f"rank {rank} of {size}"
        return self.between(*block_bounds(self.size, rank, size))

    def between(self, lo: int, hi: int) -> Rows:
        """Return rows `lo` to `hi` - 1 of the batch."""
        return self._sampler.permuted(self, lo, hi)


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
        self._window: Rows = np.zeros((0, 0), np.int64)
        self._window_of, self._window_first = (-1, 0, 0), 0

    def batch(self, step: int) -> Batch:
        """Return batch number `step` of the run, counted from 0 over all epochs."""
        return Batch(self, step)

    def total_steps(self, epochs: int | None, steps: int | None) -> int:
        """Steps of a run of `epochs` or `steps`, whichever ends first; at least one is given."""
        limits = [None if epochs is None else epochs * self.steps_per_epoch, steps]
        given = [limit for limit in limits if limit is not None]
        if not given:
            raise ValueError("say how long to train: epochs, steps or both")
        if min(given) < 0:
            raise ValueError(f"a training of {epochs if epochs is not None and epochs < 0 else steps} epochs or steps")
        return min(given)

    def place(self, step: int) -> tuple[int, int]:
        """Epoch of batch number `step`, and its number therein."""
        return divmod(step, self.steps_per_epoch)

    def epochs(self, step: int) -> float:
        """Epochs, and the part of the next one, that `step` steps are."""
        return step / self.steps_per_epoch

    def due(self, every: int | Epochs, step: int) -> bool:
        """Return whether what comes in every so many steps or epochs comes after `step` steps; 0 is never."""
        if isinstance(every, Epochs):
            epoch, index = self.place(step)
            return index == 0 and epoch % every.n == 0
        return every > 0 and step % every == 0

    def permutation(self, epoch: int) -> Permutation:
        """Return the permutation of `epoch`."""
        if self._permutation is None or self._permutation[0] != epoch:
            self._permutation = epoch, Permutation(self.n, key(self.seed, "epoch", epoch))
        return self._permutation[1]

    def permuted(self, batch: Batch, lo: int, hi: int) -> Rows:
        """Return rows `lo` to `hi` - 1 of `batch`, with those of the batches to come computed in one go."""
        wanted = batch.epoch, lo, hi
        if self._window_of != wanted or not 0 <= batch.index - self._window_first < len(self._window):
            full = self.n // self.batch_size  # batches of the full size; a short last one has its own window
            ahead = max(1, min(_WINDOW // max(1, hi - lo), full - batch.index))
            starts = batch.start + lo + self.batch_size * np.arange(ahead)
            positions = np.add.outer(starts, np.arange(hi - lo)).ravel()
            self._window = self.permutation(batch.epoch)(positions).reshape(ahead, hi - lo)
            self._window_of, self._window_first = wanted, batch.index
        rows: Rows = self._window[batch.index - self._window_first]
        return rows
