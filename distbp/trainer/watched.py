"""Metrics that evaluations have beside their own where a run watches them: of probabilities, or the user's own."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.data.dataset import Target
from distbp.data.prepared import Prepared
from distbp.errors import UsageError, UserError
from distbp.network.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from distbp.network.user_functions import resolve
from distbp.trainer.evaluation import evaluate
from distbp.trainer.quality import figures_of, predictions_of

OF_PROBABILITIES = ("auc", "average_precision", "log_loss", "brier", "calibration_error")
_OF_TWO = ("auc", "average_precision")
_FALLS = ("loss", "rmse", "mae", "log_loss", "brier", "calibration_error")


def falls(metric: str) -> bool:
    """Return whether less of a metric is better: of losses and errors, and of functions that say so."""
    name = metric.removesuffix("/val").removesuffix("/train")
    if ":" in name:
        return bool(getattr(resolve(name, "--monitor"), "lower_is_better", False))
    return name in _FALLS


class Watched:
    """Compute metrics of validation rows.

    Parameters
    ----------
    metrics : iterable of str
        What a run watches, e.g. ``auc/val`` or ``module:function/val``; those that every evaluation has are left to it.
        A function is called with the targets (n,) or (n, k) and the predictions (n, k), probabilities or values, in
        the units of the target, and returns a number. More is better, but where it has a true ``lower_is_better``.
    """

    def __init__(self, metrics: Iterable[str] = ()) -> None:
        names = [metric.removesuffix("/val") for metric in metrics if metric.endswith("/val")]
        self.functions: dict[str, Callable[..., Any]] = {n: resolve(n, "--monitor") for n in names if ":" in n}
        self.names = [name for name in names if name in OF_PROBABILITIES]

    def metrics(self) -> list[str]:
        """Return their names."""
        return [f"{name}/val" for name in (*self.names, *self.functions)]

    def refuse(self, target: Target | None, loss: Loss) -> None:
        """Refuse to watch what there is none of, before the first step."""
        classes = target.n_outputs if target is not None and target.kind == "classes" else 0
        for name in self.names:
            if not classes or not isinstance(loss, SoftmaxCrossEntropy | BinaryCrossEntropy):
                raise UsageError(f"{name}/val is of probabilities of classes, which {loss.name} has not for a {target}")
            if name in _OF_TWO and classes != 2:
                raise UsageError(f"{name}/val is of two classes: this is a {target}")

    def evaluate(self, network: Any, loss: Loss, data: Prepared, comm: Communicator) -> dict[str, Any]:
        """Return what `evaluation.evaluate` does, and these, on all ranks."""
        found = evaluate(network, loss, data, comm)
        if self.names:
            figures = figures_of(network, loss, data, comm)
            found |= {name: figures.get(name, 0.0) for name in self.names}  # rows of one class have no area
        for name, function in self.functions.items():
            p, y = predictions_of(network, loss, data, comm)
            found[name] = comm.bcast_obj(_number(name, function, y, p))
        return found


def _number(name: str, function: Callable[..., Any], y: Any, p: Any) -> float:
    try:
        value = float(function(y, p))
    except Exception as error:
        raise UserError(f"--monitor {name}: {type(error).__name__}: {error}") from error
    if not np.isfinite(value):
        raise UserError(f"--monitor {name} gave {value}: a finite number is needed")
    return value
