"""Calibration: probabilities that mean what they say, by one number, and how far values may be off.

A network that was trained for long is too sure of its classes, one that was trained with label smoothing not sure
enough. Its outputs times beta = 1/T (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2) keep the
order of the classes in every row, so no prediction changes, and beta is chosen for the least log loss on the validation
rows:

    C(beta) = mean over rows of -log softmax(beta z)_y           dC/dbeta = mean of sum_k p_k z_k - z_y

C is convex, so its slope, which grows with beta, is zero at the best one: found by bisection, the same on all ranks.
Where all rows are right it would grow for ever; so each of n rows is to be of another class with 1 in n + 2 (Platt
1999, "Probabilistic Outputs for Support Vector Machines", section 2.2).

Of values, the errors on the n validation rows say how far predictions are off: of a new row of the same kind the error
is at most the k-th smallest of theirs with probability k / (n + 1), whatever the network and the distribution are
(split conformal prediction: Papadopoulos et al. 2002; Lei et al. 2018, "Distribution-Free Predictive Inference for
Regression", theorem 2.2).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Prepared
from distbp.network.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy, dense
from distbp.trainer.evaluation import outputs_of

Array = NDArray[Any]

_MOST, _HALVINGS = 64.0, 60
"""Between 1 / `_MOST` and `_MOST` beta is looked for."""
_KEPT = 1000
_NUMBERS = 1 << 22
"""Of outputs that beta is chosen by, at most: rows in equal steps."""


def sharpness(network: Any, loss: Loss, rows: Prepared, comm: Communicator, offset: Array | float = 0.0) -> float:
    """Return the factor beta of the outputs with the least log loss on `rows`, on all ranks; 1 where there is none.

    Losses that have no probabilities have none. `offset` (k,) is added to the outputs, after the factor.
    """
    if not isinstance(loss, SoftmaxCrossEntropy | BinaryCrossEntropy):
        return 1.0
    z, y = outputs_of(network, rows, comm)
    if z.size > _NUMBERS:  # one factor needs no more
        some = np.arange(most := max(1, _NUMBERS // z.shape[1])) * len(z) // most
        z, y = z[some], y[some]
    one_hot = dense(y, z)
    rather = 1.0 / (len(z) + 2.0)
    truth = (1.0 - rather) * one_hot + rather * loss.link(np.zeros_like(z))

    def slope(beta: float) -> float:
        return float(np.mean(np.einsum("nk,nk->n", loss.link(beta * z + offset) - truth, z)))

    def surprise(beta: float) -> float:
        return float(np.mean(_log_loss(loss, beta * z + offset, y)))

    low, high = 1.0 / _MOST, _MOST
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0.0 else (low, middle)
    return high if surprise(high) < surprise(1.0) else 1.0


def unweighted(class_weight: list[float], n_outputs: int) -> Array:
    """Return what makes outputs of a network that was trained with weights of classes those of one without.

    It has learnt probabilities q_c in proportion to w_c p_c, so log p_c = log q_c - log w_c but for a constant (Elkan
    2001, "The Foundations of Cost-Sensitive Learning", theorem 2).
    """
    log = -np.log(class_weight)
    return log if n_outputs > 1 else log[1:] - log[:1]


def calibrated(
    network: Any, loss: Loss, rows: Prepared, comm: Communicator, class_weight: list[float]
) -> tuple[float, Array | float]:
    """Return the `sharpness` of the outputs, and what is added behind it where classes had weights: `unweighted`."""
    offset = unweighted(class_weight, *network.output_shape) if class_weight else 0.0
    return sharpness(network, loss, rows, comm, offset), offset


THRESHOLDS = ("accuracy", "f1", "balanced")
"""What a threshold may be chosen by: share right, F1 of the second class, mean of both classes' recall."""


def threshold(network: Any, loss: Loss, rows: Prepared, comm: Communicator, by: str) -> float:
    """Return from which probability on the second of two classes is best predicted, judged by `rows`, on all ranks.

    Of equally good ones it is that next to 1/2; it lies in the middle between two probabilities of rows.
    """
    z, y = outputs_of(network, rows, comm)
    p = loss.link(z)[:, -1]
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    cuts = np.flatnonzero(np.diff(p, prepend=np.inf, append=-np.inf))  # rows before one are predicted positive
    hits = np.concatenate([[0], np.cumsum(y)])[cuts].astype(float)
    n, positive = len(y), max(float(y.sum()), 1.0)
    false = cuts - hits
    negative = max(n - float(y.sum()), 1.0)
    good = {
        "accuracy": hits - false, "f1": 2.0 * hits / np.maximum(cuts + positive, 1.0),
        "balanced": hits / positive - false / negative,
    }[by]  # fmt: skip
    ends = np.concatenate([[1.0], p, [0.0]])
    between = 0.5 * (ends[cuts] + ends[cuts + 1])
    best = np.flatnonzero(good >= good.max() - 1e-12)
    return float(between[best[np.argmin(np.abs(between[best] - 0.5))]])


def errors(network: Any, rows: Prepared, comm: Communicator) -> list[list[float]]:
    """Return the absolute errors on `rows`, sorted, of each value and in its unit; at most `_KEPT` of them.

    Of more those are kept that have at least their share below or at them.
    """
    z, y = outputs_of(network, rows, comm)
    scale = np.array(rows.preprocessor.target_scale or [1.0])
    ordered = np.sort(np.abs(z - y) / scale, axis=0)
    if len(ordered) > _KEPT:
        ordered = ordered[np.ceil(np.arange(1, _KEPT + 1) * len(ordered) / _KEPT).astype(int) - 1]
    found: list[list[float]] = ordered.T.tolist()
    return found


def within(errors_of_one: list[float], level: float) -> float:
    """Return how far a new value is off at most, with probability `level`; infinite where that is of too few errors."""
    k = math.ceil((len(errors_of_one) + 1) * level)
    return errors_of_one[k - 1] if k <= len(errors_of_one) else math.inf


def coverage(network: Any, rows: Prepared, comm: Communicator, widths: list[float]) -> float:
    """Return for which part of the values of `rows` the error is at most `widths` (k,), in their unit; on all ranks."""
    z, y = outputs_of(network, rows, comm)
    return float((np.abs(z - y) / np.array(rows.preprocessor.target_scale or [1.0]) <= widths).mean())


def _log_loss(loss: Loss, z: Array, y: Array) -> Array:
    """Return the log loss of each row, without label smoothing."""
    return (SoftmaxCrossEntropy() if isinstance(loss, SoftmaxCrossEntropy) else loss).value(z, y)
