"""The loop: step, log, evaluate, checkpoint, stop; and what survives the loss of a rank."""

from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.early_stopping import MetricTarget
from distbp.trainer.evaluation import evaluate
from distbp.trainer.trainer import Outcome, Trainer, TrainState

__all__ = [
    "Checkpoints",
    "MetricTarget",
    "Outcome",
    "TrainState",
    "Trainer",
    "evaluate",
]
