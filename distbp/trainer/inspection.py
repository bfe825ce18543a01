"""Looking into a model: where it is wrong, how sure it is, and which columns it needs; for a report.

Ranks share out the rows and the permutations. What is found depends on the seed and the rows, not on the ranks.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.network.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from distbp.randomness import key, uniform
from distbp.trainer.evaluation import kind_of_metrics
from distbp.trainer.quality import predictions_of

Array = NDArray[Any]

_BINS, _POINTS, _SHOWN = 10, 400, 20
"""Of confidence; pairs of value and prediction that are kept; columns that are kept."""
_REPEATS, _ROWS, _LEAST_ROWS, _MOST_COLUMNS, _WORK = 5, 2000, 50, 200, 1e10
"""Permutations of a column, rows of them, columns beyond which none is permuted, and multiply-adds of all."""
_MOST_OUTPUTS = 20_000_000


def inspect(network: Any, loss: Loss, rows: Any, comm: Communicator) -> dict[str, Any]:
    """Return what a report shows of a model's predictions for `rows`, on all ranks; {} where there is nothing.

    Returns
    -------
    dict
        ``reliability`` of classes: for each bin of confidence its mean, the accuracy, and the rows. ``pairs`` of
        values: for each target some (true value, prediction), in its unit, and ``residuals``: counts between edges.
    """
    target, kind = rows.target, kind_of_metrics(network, loss, rows.target)
    if target is None or kind not in ("classes", "values") or rows.n_rows * target.n_outputs > _MOST_OUTPUTS:
        return {}
    if kind == "classes" and not isinstance(loss, SoftmaxCrossEntropy | BinaryCrossEntropy):
        return {}
    p, y = predictions_of(network, loss, rows, comm)
    if kind == "classes":
        sure, right = p.max(axis=1), p.argmax(axis=1) == y  # of the likeliest class, whatever is chosen
        place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
        n, total, hits = (np.bincount(place, w, _BINS) for w in (None, sure, right.astype(float)))
        filled = np.flatnonzero(n)
        return {"reliability": [[total[i] / n[i], hits[i] / n[i], int(n[i])] for i in filled]}
    some = np.unique(np.arange(min(len(y), _POINTS)) * len(y) // min(len(y), _POINTS))
    found: dict[str, Any] = {"pairs": np.stack([y[some], p[some]], axis=2).transpose(1, 0, 2).tolist()}
    counts, edges = np.histogram(p[:, 0] - y[:, 0], bins=25)
    return found | {"residuals": {"counts": counts.tolist(), "edges": edges.tolist()}}


def importance(network: Any, loss: Loss, rows: Any, comm: Communicator, *, seed: int = 0) -> list[list[Any]]:
    """Return which columns the predictions need: [name, mean, standard deviation], on all ranks, the largest first.

    It is by how much the error grows when the values of a column change places (Breiman 2001, "Random Forests",
    section 10): of values the root mean square, in standard deviations of the target, of all else the loss. Where
    columns say the same, each may seem dispensable. Beyond 200 columns nothing is computed.
    """
    columns = rows.preprocessor.inputs_by_column()
    if not rows.n_rows or not 1 < len(columns) <= _MOST_COLUMNS:
        return []
    n = int(_WORK / (len(columns) * _REPEATS * max(1, network.n_parameters)))
    n = min(rows.n_rows, max(_LEAST_ROWS, min(_ROWS, n)))
    X, y, _ = rows.take(np.arange(n) * rows.n_rows // n)
    values = kind_of_metrics(network, loss, rows.target) == "values" and network.output_shape == (y.shape[-1],)

    def error(X: Array) -> float:
        z = network.predict(X)
        return float(np.sqrt(np.mean((z.astype(np.float64) - y) ** 2)) if values else np.mean(loss.value(z, y)))

    tasks = [(j, r) for j in range(len(columns)) for r in range(_REPEATS)]
    found, before = np.zeros((len(columns), _REPEATS)), error(X)
    for j, r in tasks[slice(*block_bounds(len(tasks), comm.rank, comm.size))]:
        order = np.argsort(uniform(key(seed, "importance", j, r), np.arange(n)))
        kept = X[:, columns[j]]
        X[:, columns[j]] = kept[order]
        found[j, r] = error(X) - before
        X[:, columns[j]] = kept
        comm.recorder.tick()
    comm.allreduce(found)
    means, spreads = found.mean(axis=1), found.std(axis=1)
    names = [name for name, _ in rows.preprocessor.columns]
    order = np.argsort(-means, kind="stable")[:_SHOWN]
    return [[names[j], float(means[j]), float(spreads[j])] for j in order]
