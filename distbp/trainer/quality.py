"""How good a model is, and how far to trust it: figures beside a baseline, with intervals.

Each figure has an interval that holds its value for all rows of this kind in 95 of 100 cases: the bootstrap's, in which
each row counts as often as a Poisson number of mean 1 says (Efron 1979; Chamandy et al. 2012, "Estimating Uncertainty
for Massive Data Streams"). That number is a function of the seed, the replicate and the row. Ranks share out the rows
whose outputs are computed, and the replicates; what comes out does not depend on their number.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.data.dataset import Target
from distbp.data.prepared import Prepared
from distbp.model import linked
from distbp.network.dense import Network
from distbp.network.flat import chosen
from distbp.network.function_model import FunctionModel
from distbp.network.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from distbp.network.mixture import Mixture
from distbp.randomness import key, uniform
from distbp.trainer.evaluation import EVALUATION_BLOCK, kind_of_metrics, outputs_of

Array = NDArray[Any]

_REPLICATES, _LEAST_REPLICATES, _NUMBERS = 200, 20, 20_000_000
"""Replicates of the bootstrap, fewer where they are of so many rows in all; a normal interval needs fewer."""
_FEW, _FEW_ROWS = 100, 10
"""Replicates below which an interval is a normal one, and rows below which there is none."""
_BINS = 15
"""Of confidence, in which the calibration error compares it with the accuracy (Guo et al. 2017, equation 3)."""
_MOST_OUTPUTS = 50_000_000
"""Outputs beyond which these figures are left out: each rank holds all."""
_COMPARED = {"accuracy": 1.0, "auc": 1.0, "log_loss": -1.0, "rmse": -1.0}
"""Figures that tell whether a model beats the baseline, and whether more or less is better."""
_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 12)]))
"""Probabilities of a Poisson number of mean 1 to be at most 0, 1, ..."""


@dataclass(frozen=True)
class Quality:
    """Figures of some rows, by their names.

    Attributes
    ----------
    figures : dict of str to float
    intervals : dict of str to (float, float)
        From where to where they may lie, at 95 %.
    baseline : dict of str to float
        Those of what knows the training targets alone: their shares, or their mean.
    """

    figures: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    baseline: dict[str, float] = field(default_factory=dict)

    @property
    def main(self) -> str:
        """Return the name of the figure that people ask for first, or ""."""
        return next((name for name in ("accuracy", "rmse") if name in self.intervals), "")

    @property
    def beats_baseline(self) -> str:
        """Return ``yes``, ``maybe`` or ``no``: whether some figure is better beyond its interval; "" without intervals.

        Where one class is rare no prediction may beat its share, but probabilities do.
        """
        verdicts = set()
        for name, sign in _COMPARED.items():
            if name in self.intervals:
                worst, best = sorted(sign * end for end in self.intervals[name])
                base = sign * self.baseline[name]
                verdicts.add("yes" if worst > base else "no" if best <= base else "maybe")
        return next((one for one in ("yes", "maybe", "no") if one in verdicts), "")


def assess(
    network: Network | FunctionModel | Mixture, loss: Loss, data: Prepared, train: Prepared, comm: Communicator, *,
    seed: int = 0,
) -> Quality:  # fmt: skip
    """Judge a network by all rows of `data`, beside what the targets of `train` alone would say.

    Each row counts the same, whatever its weight in training was, as in the metrics of `evaluate`.
    """
    if not _is_judged(network, loss, data):
        return Quality()
    p, y = predictions_of(network, loss, data, comm)
    assert data.target is not None
    guess = data.preprocessor.target_in_units(_baseline(train, data.target, comm))
    baseline_of = np.broadcast_to(guess, p.shape)
    measure, base = _measure(network, loss, data, p, y), _measure(None, loss, data, baseline_of, y)
    once = np.ones(data.n_rows)
    figures = _finite(measure(once))
    of_baseline = base(once)
    baseline = {name: of_baseline[name] for name in figures}
    if data.n_rows < _FEW_ROWS:
        return Quality(figures, {}, baseline)
    names = list(figures)
    n = max(_LEAST_REPLICATES, min(_REPLICATES, _NUMBERS // data.n_rows))
    found = np.zeros((n, len(names)))
    rows = np.arange(data.n_rows)
    for r in range(*block_bounds(n, comm.rank, comm.size)):
        times = np.searchsorted(_POISSON, uniform(key(seed, "bootstrap", r), rows), side="right")
        of_these = measure(times.astype(np.float64)) if times.any() else {}
        found[r] = [of_these.get(name, np.nan) for name in names]
    comm.allreduce(found)
    if n >= _FEW:
        low, high = np.nanpercentile(found, [2.5, 97.5], axis=0)
    else:
        low, high = np.array(list(figures.values())) + np.outer([-1.96, 1.96], np.nanstd(found, axis=0))
    intervals = {name: (float(a), float(b)) for name, a, b in zip(names, low, high, strict=True)}
    return Quality(figures, intervals, baseline)


def figures_of(network: Any, loss: Loss, data: Prepared, comm: Communicator) -> dict[str, float]:
    """Return the figures of all rows of `data` alone, {} where there are none."""
    if not _is_judged(network, loss, data):
        return {}
    return _finite(_measure(network, loss, data, *predictions_of(network, loss, data, comm))(np.ones(data.n_rows)))


def predictions_of(network: Any, loss: Loss, data: Prepared, comm: Communicator) -> tuple[Array, Array]:
    """Return predictions (n, k) for all rows of `data`, and their targets, in the units of the target, on all ranks."""
    z, y = outputs_of(network, data, comm)
    values = data.target is None or data.target.kind == "values"
    return linked(z, loss, data.target, data.preprocessor), data.preprocessor.target_in_units(y) if values else y


def _is_judged(network: Any, loss: Loss, data: Prepared) -> bool:
    kind, k = kind_of_metrics(network, loss, data.target), data.target.n_outputs if data.target else 0
    return data.target is not None and kind in ("classes", "values") and data.n_rows * k <= _MOST_OUTPUTS


def _measure(network: Any, loss: Loss, data: Prepared, p: Array, y: Array) -> Callable[[Array], dict[str, float]]:
    assert data.target is not None
    if data.target.kind == "values":
        return _of_values(p, y, data.target)
    certain = isinstance(loss, SoftmaxCrossEntropy | BinaryCrossEntropy)
    return _of_classes(p, y, certain, getattr(network, "decision", None))


def _finite(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if np.isfinite(value)}  # nothing ranks one class


def _baseline(train: Prepared, target: Target, comm: Communicator) -> Array:
    """Return what the targets of the training rows say of any row: the share of each class, or the mean (k,)."""
    sums = np.zeros((-(-train.n_rows // EVALUATION_BLOCK), target.n_outputs))
    for b in range(*block_bounds(len(sums), comm.rank, comm.size)):
        y = train.take_target(np.arange(b * EVALUATION_BLOCK, min((b + 1) * EVALUATION_BLOCK, train.n_rows)))
        sums[b] = np.bincount(y, minlength=target.n_outputs) if target.kind == "classes" else y.sum(axis=0, dtype=float)
    comm.allreduce(sums)
    return np.asarray(sums.sum(axis=0) / train.n_rows, np.float64)


def _of_classes(
    p: Array, y: Array, certain: bool, decision: Array | None = None
) -> Callable[[Array], dict[str, float]]:
    """Return what gives the figures of predictions `p` (n, k) and classes `y` (n,), by weights of the rows (n,).

    Some figures are of probabilities alone, which predictions are where `certain`.
    """
    n, k = p.shape
    likeliest = (p.argmax(axis=1) == y).astype(float)
    right = (chosen(p, decision) == y).astype(float)
    surprise = -np.log(np.maximum(p[np.arange(n), y], np.finfo(np.float64).tiny))
    square = np.einsum("nk,nk->n", p, p) - 2.0 * p[np.arange(n), y] + 1.0
    rankings = [_Ranking(p[:, 1], y == 1)] if k == 2 else []
    sure = p.max(axis=1)
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)

    def measure(w: Array) -> dict[str, float]:
        total = w.sum()
        found = {"accuracy": w @ right / total}
        if certain:
            found |= {"log_loss": w @ surprise / total, "brier": w @ square / total / (2.0 if k == 2 else 1.0)}
            found["calibration_error"] = np.abs(np.bincount(place, w * (sure - likeliest), _BINS)).sum() / total
        for ranking in rankings:
            found["auc"], found["average_precision"] = ranking.areas(w)
        return {name: float(value) for name, value in found.items()}

    return measure


def _of_values(p: Array, y: Array, target: Target) -> Callable[[Array], dict[str, float]]:
    """Return the same for values."""
    error = p - y

    def measure(w: Array) -> dict[str, float]:
        total = w.sum()
        square = w @ error**2 / total
        mean = w @ y / total
        spread = w @ (y - mean) ** 2 / total
        explained = 1.0 - np.divide(square, spread, out=(square > 0).astype(float), where=spread > 0)
        mae = w @ np.abs(error) / total
        found = {"rmse": np.sqrt(square), "mae": mae, "r2": explained}
        own = {f"{k} ({name})": float(v[i]) for i, name in enumerate(target.names) for k, v in found.items()}
        return {k: float(v.mean()) for k, v in found.items()} | (own if len(target.names) > 1 else {})

    return measure


class _Ranking:
    """Rows in the order of a score, equal ones together, and which of them are positive."""

    def __init__(self, score: Array, positive: Array) -> None:
        self._order = np.argsort(-score, kind="stable")
        ordered = score[self._order]
        self._starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self._positive = positive[self._order]

    def areas(self, w: Array) -> tuple[float, float]:
        """Return the area under the ROC curve, and the average precision, by weights of the rows; nan for one class."""
        w = w[self._order]
        yes = np.add.reduceat(w * self._positive, self._starts)
        no = np.add.reduceat(w * ~self._positive, self._starts)
        above, below = np.cumsum(yes), np.cumsum(no)
        if not above[-1] or not below[-1]:
            return np.nan, np.nan
        area = (no * (above - 0.5 * yes)).sum() / (above[-1] * below[-1])
        precision = above / np.maximum(above + below, np.finfo(np.float64).tiny)
        return float(area), float((yes * precision).sum() / above[-1])


def per_class(confusion: list[list[int]], classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 of each class, and its rows, from a matrix (true class, predicted class)."""
    counts = np.array(confusion, float)
    right, predicted, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    precision, recall, f1 = (
        np.divide(a, b, out=np.zeros(len(right)), where=b > 0)
        for a, b in ((right, predicted), (right, true), (2.0 * right, predicted + true))
    )
    return {
        name: {"precision": float(precision[i]), "recall": float(recall[i]), "f1": float(f1[i]), "rows": int(true[i])}
        for i, name in enumerate(classes)
    }


def doubts(of: dict[str, Quality], confusions: dict[str, list[list[int]]], classes: tuple[str, ...]) -> list[str]:
    """Return what speaks against a model, by its `Quality` on the validation and test rows."""
    found = []
    for part, quality in of.items():
        says = {"no": "is no better", "maybe": "may be no better"}.get(quality.beats_baseline)
        if says:
            found.append(
                f"on the {part} rows it {says} than the baseline: {quality.main} {quality.baseline[quality.main]:.4g}"
            )
    for part, confusion in confusions.items():
        counts = np.array(confusion)
        never = np.flatnonzero((counts.sum(axis=0) == 0) & (counts.sum(axis=1) > 0))
        if len(never):
            names = ", ".join(repr(classes[i]) for i in never[:5]) + (" ..." if len(never) > 5 else "")
            found.append(f"of the {part} rows none is predicted to be {names}; --class-weight balanced may help")
    if len(of) == 2 and len({quality.main for quality in of.values()}) == 1 and (name := next(iter(of.values())).main):
        (a, b), (c, d) = (quality.intervals[name] for quality in of.values())
        if b < c or d < a:
            found.append(f"{name} differs between {' and '.join(of)} rows by more than chance: are they of one kind?")
    return found
