"""The bound on the distance of twins, where the loss is convex: logistic regression.

The loss of row (x, y) is the softmax cross-entropy of z = x W + b, with p = softmax(z) and u = (x, 1). Its gradient is
the outer product of u and p - y, its Hessian that of u u^T and diag(p) - p p^T. Two points of the simplex are at most
sqrt(2) apart, and no eigenvalue of diag(p) - p p^T is above 1/2. So each row's loss is L-Lipschitz and beta-smooth with

    L = sqrt(2) max |u|        beta = max |u|^2 / 2

(a weight w of a row multiplies both). At a rate eta <= 2 / beta a step of gradient descent takes no two points further
apart, so twins move apart only where a batch of b rows holds the row in which their data differ, and then by at most
2 eta L / b. At every step T, whatever was drawn,

    |w_T - w'_T| <= sum over the batches t < T with that row of 2 eta L / b_t                                    (1)

A row comes once in an epoch of n / B batches, so (1) is about

    |w_T - w'_T| <= (2 L / n) eta T                                                                              (2)

which holds in expectation for batches of any size that are drawn anew from all rows: lemma 3.4 and theorem 3.8 of
Hardt, Recht & Singer (2016), who have batches of one row. L times that, (2 L^2 / n) eta T, bounds the loss of any row
that one twin can have above the other, and so the generalisation gap, in expectation.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.prepared import Prepared
from distbp.data.sampling import BatchSampler

Array = NDArray[Any]

_BLOCK = 4096


@dataclass(frozen=True)
class Constants:
    """L and beta of logistic regression on some rows."""

    lipschitz: float
    smoothness: float

    @property
    def limit(self) -> float:
        """Return 2 / beta: no bound is claimed for a larger rate."""
        return 2.0 / self.smoothness


def constants(data: Prepared) -> Constants:
    """Return L and beta over all rows of `data`."""
    lipschitz = smoothness = 0.0
    for lo in range(0, data.n_rows, _BLOCK):
        X, _, w = data.take(np.arange(lo, min(lo + _BLOCK, data.n_rows)))
        X = X.astype(np.float64)
        square = np.einsum("nk,nk->n", X, X) + 1.0
        weight = np.ones(len(X)) if w is None else w.astype(np.float64)
        lipschitz = max(lipschitz, math.sqrt(2.0) * float((weight * np.sqrt(square)).max()))
        smoothness = max(smoothness, 0.5 * float((weight * square).max()))
    return Constants(lipschitz, smoothness)


def largest_rate(limit: float) -> float:
    """Round `limit` down to two digits: a rate that people can write, for which the bound holds."""
    unit = 10.0 ** (math.floor(math.log10(limit)) - 1)
    return float(f"{math.floor(limit / unit) * unit:.6g}")


def meetings(sampler: BatchSampler, row: int, steps: int) -> tuple[Array, Array]:
    """Return the steps below `steps` whose batch holds `row`, and the sizes of these batches."""
    met, sizes = [], []
    for epoch in range(-(-steps // sampler.steps_per_epoch)):
        index = int(sampler.permutation(epoch).inverse(np.array([row]))[0]) // sampler.batch_size
        step = epoch * sampler.steps_per_epoch + index
        if index < sampler.steps_per_epoch and step < steps:  # else it is in the tail that is left out
            met.append(step)
            sizes.append(sampler.batch(step).size)
    return np.array(met, np.int64), np.array(sizes, np.int64)


def growth(met: Array, sizes: Array, at: Array) -> Array:
    """Return ``sum of 1 / b_t`` over the meetings before each of the steps `at`: (1) is 2 eta L times it."""
    sums = np.concatenate([[0.0], np.cumsum(1.0 / sizes)])
    return np.asarray(sums[np.searchsorted(met, at)])
