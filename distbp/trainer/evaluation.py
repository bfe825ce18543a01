"""Metrics: what an evaluation adds up, and the figures that follow from the sums.

An evaluation is a sum over blocks of rows, so any number of ranks can share it and uneven shares are
exact. Counts are whole numbers; they add up in any order. Sums of real numbers are kept by block and
added in one order by all ranks: who computed which block does not matter.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.data.dataset import Target
from distbp.data.moments import merge, moments
from distbp.data.prepared import Prepared
from distbp.data.sampling import Epochs
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import FunctionLoss, Loss
from distbp.network.mixture import Mixture

Array = NDArray[Any]

EVALUATION_BLOCK = 512
_CONFUSION = 100
"""Classes up to which the matrix of confusion is kept: it has a number for each pair."""


def decided(scores: Array, network: Any) -> Array:
    """Return scores of classes as they are compared: with what the `decision` of a network adds to them."""
    decision: Array | None = getattr(network, "decision", None)
    if decision is None:
        return scores
    return np.asarray(scores + (decision[1:] - decision[:1] if scores.shape[1] == 1 else decision))


def hits(z: Array, y: Array, kind: str) -> int:
    """Rows whose greatest output is the right class."""
    if kind != "classes":
        return 0
    guess = z.argmax(axis=1) if z.shape[1] > 1 else (z[:, 0] > 0.0)
    return int(np.count_nonzero(guess == y))


class _Figures:
    """Counts what is wanted of one kind of target; here nothing but the loss: outputs are no predictions of it."""

    names: tuple[str, ...] = ()
    n_sums = 0

    def __init__(self, target: Target, scale: list[float], top_k: int) -> None:
        self.counts = np.zeros(0)

    def add(self, z: Array, y: Array) -> Array:
        """Count a block of rows; return what is not a count, (n_sums,)."""
        return np.zeros(0)

    def result(self, table: Array, n: int) -> dict[str, Any]:
        """Return the metrics of `n` rows, from the counts and what `add` gave for each block."""
        return {}


class _Classes(_Figures):
    """Confusion matrix (true class, predicted class), and how often the top k hold the true one.

    Of many classes its diagonal and sums in place of the matrix.
    """

    names = "accuracy", "macro_f1"

    def __init__(self, target: Target, scale: list[float], top_k: int) -> None:
        self.c, self.k = len(target.classes), min(top_k, len(target.classes))
        self.pairs = self.c <= _CONFUSION
        self.counts = np.zeros((self.c if self.pairs else 3) * self.c + 1)

    def add(self, z: Array, y: Array) -> Array:
        if z.shape[1] == 1:  # the log-odds of the second of two classes
            z = np.concatenate([np.zeros_like(z), z], axis=1)
        guess = z.argmax(axis=1)
        if self.pairs:
            self.counts[:-1] += np.bincount(y * self.c + guess, minlength=self.c * self.c)
        else:
            self.counts[:-1] += np.ravel([np.bincount(of, minlength=self.c) for of in (y[guess == y], guess, y)])
        above = (z > np.take_along_axis(z, y[:, None], axis=1)).sum(axis=1)
        self.counts[-1] += np.count_nonzero(above < self.k)
        return np.zeros(0)

    def result(self, table: Array, n: int) -> dict[str, Any]:
        if self.pairs:
            confusion = self.counts[:-1].reshape(self.c, self.c)
            right, predicted, true = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
        else:
            right, predicted, true = self.counts[:-1].reshape(3, self.c)
        predicted_or_true = predicted + true
        seen = predicted_or_true > 0
        f1 = 2.0 * right[seen] / predicted_or_true[seen]
        out: dict[str, Any] = {"accuracy": float(right.sum() / n), "macro_f1": float(f1.mean())}
        if 1 < self.k < self.c:
            out[f"top{self.k}"] = float(self.counts[-1] / n)
        if self.pairs:
            out["confusion"] = confusion.astype(int).tolist()
        return out


class _Labels(_Figures):
    """For each label: true and false positives and negatives; rows with every label right."""

    names = "accuracy", "exact_match", "macro_f1"

    def __init__(self, target: Target, scale: list[float], top_k: int) -> None:
        self.k = target.n_outputs
        self.counts = np.zeros(3 * self.k + 1)

    def add(self, z: Array, y: Array) -> Array:
        guess, truth = z > 0.0, y > 0.5
        both, wrong = guess & truth, guess != truth
        per_label = [both.sum(axis=0), (wrong & guess).sum(axis=0), (wrong & truth).sum(axis=0)]
        self.counts += np.concatenate([*per_label, [np.count_nonzero(~wrong.any(axis=1))]])
        return np.zeros(0)

    def result(self, table: Array, n: int) -> dict[str, Any]:
        right, false_positive, missed = self.counts[:-1].reshape(3, self.k)
        total = 2.0 * right + false_positive + missed
        f1 = np.divide(2.0 * right, total, out=np.zeros(self.k), where=total > 0)
        wrong = (false_positive + missed).sum() / (n * self.k)
        exact = self.counts[-1] / n
        return {"accuracy": float(1.0 - wrong), "exact_match": float(exact), "macro_f1": float(f1.mean())}


class _Values(_Figures):
    """Errors in the units of the target, and R2; a mean over the outputs where there are several."""

    names = "rmse", "mae", "r2"

    def __init__(self, target: Target, scale: list[float], top_k: int) -> None:
        self.k = target.n_outputs
        self.unit = 1.0 / np.array(scale) if scale else np.ones(self.k)
        self.counts, self.n_sums = np.zeros(0), 7 * self.k

    def add(self, z: Array, y: Array) -> Array:
        error = z - y.astype(np.float64)
        sums = [np.abs(error).sum(axis=0), (error * error).sum(axis=0)]
        return np.concatenate([*sums, moments(y).ravel()])

    def result(self, table: Array, n: int) -> dict[str, Any]:
        absolute, square = table[:, : 2 * self.k].sum(axis=0).reshape(2, self.k)
        spread = merge(table[:, 2 * self.k :].reshape(-1, 5, self.k))["square"]
        # a constant target is explained or not, as scikit-learn has it
        unexplained = np.divide(square, spread, out=(square > 0).astype(float), where=spread > 0)
        rmse, mae = np.sqrt(square / n) * self.unit, absolute / n * self.unit
        return {"rmse": float(rmse.mean()), "mae": float(mae.mean()), "r2": float((1.0 - unexplained).mean())}


_KINDS = {"loss": _Figures, "classes": _Classes, "labels": _Labels, "values": _Values}


def kind_of_metrics(network: Network | FunctionModel | Mixture, loss: Loss, target: Target | None) -> str:
    """Return what metrics there are: the target's, or ``loss`` alone, where outputs are no predictions of it."""
    if target is None:
        return "values"
    linked = isinstance(loss, FunctionLoss) and hasattr(loss.function, "link") and target.kind != "labels"
    fits = network.output_shape == (target.n_outputs,) or (target.kind == "classes" and network.output_shape == (1,))
    return target.kind if linked or fits else "loss"


def evaluate(
    network: Network | FunctionModel | Mixture, loss: Loss, data: Prepared, comm: Communicator, *, top_k: int = 3
) -> dict[str, Any]:
    """Loss and metrics of `network` on all rows of `data`, computed by all ranks together.

    Returns
    -------
    dict
        ``loss`` (weighted mean), and for classes ``accuracy``, ``macro_f1``, ``top3``, ``confusion``
        (rows are the true classes); for labels ``accuracy`` (share of labels right), ``exact_match``,
        ``macro_f1``; for values ``rmse``, ``mae``, ``r2`` in the units of the target.
    """
    assert data.target is not None, "an evaluation needs a target"
    kind = kind_of_metrics(network, loss, data.target)
    figures = _KINDS[kind](data.target, data.preprocessor.target_scale, top_k)
    n_blocks = -(-data.n_rows // EVALUATION_BLOCK)
    table = np.zeros((n_blocks, 2 + figures.n_sums))
    for b in range(*block_bounds(n_blocks, comm.rank, comm.size)):
        rows = np.arange(b * EVALUATION_BLOCK, min((b + 1) * EVALUATION_BLOCK, data.n_rows))
        X, y, w = data.take(rows)
        assert y is not None
        z = network.forward(X)
        losses = loss.value(z, y).astype(np.float64)
        weights = np.ones(len(rows)) if w is None else w.astype(np.float64)
        comm.recorder.tick()
        table[b] = np.concatenate([[losses @ weights, weights.sum()], figures.add(decided(loss.scores(z), network), y)])
    comm.allreduce(table)
    if len(figures.counts):
        comm.allreduce(figures.counts)
    loss_sum, weight_sum = table[:, :2].sum(axis=0)
    return {"loss": float(loss_sum / weight_sum), **figures.result(table[:, 2:], data.n_rows)}


def outputs_of(network: Any, data: Prepared, comm: Communicator) -> tuple[Array, Array]:
    """Return the outputs (n, k) of a network, in float64, and the targets of all rows of `data`, on all ranks."""
    n, classes = data.n_rows, data.target is not None and data.target.kind == "classes"
    z = np.zeros((n, *network.output_shape))
    y = np.zeros(n, np.int64) if classes else np.zeros((n, data.target.n_outputs if data.target else 0))
    blocks = -(-n // EVALUATION_BLOCK)
    for b in range(*block_bounds(blocks, comm.rank, comm.size)):
        some = slice(b * EVALUATION_BLOCK, min((b + 1) * EVALUATION_BLOCK, n))
        X, y[some], _ = data.take(np.arange(some.start, some.stop))
        z[some] = network.forward(X)
        comm.recorder.tick()
    for array in (z, y):
        comm.allreduce(array)  # zeros elsewhere
    return z, y


def watched_metrics(
    target: Target | None, kind: str, eval_every: int | Epochs, log_every: int | Epochs
) -> tuple[list[str], list[str]]:
    """Return the names of what evaluations and the log of a run will have; 0 is never."""
    top = ["top3"] if kind == "classes" and target and target.n_outputs > 3 else []
    evaluated = [f"{name}/val" for name in ("loss", *_KINDS[kind].names, *top)] if eval_every else []
    logged = ["loss/train", "accuracy/train"][: 1 + (kind == "classes")] if log_every else []
    return evaluated, logged
