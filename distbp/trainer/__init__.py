"""The loop: step, log, evaluate, audit, checkpoint, stop; and what survives the loss of a rank.

`step` has the lines to read beside the lecture, `trainer` the loop; the rest are its components.
"""

from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.early_stopping import Judge, MetricTarget
from distbp.trainer.evaluation import evaluate
from distbp.trainer.log import Log
from distbp.trainer.noise_scale import NoiseScale
from distbp.trainer.nonfinite import Nonfinite
from distbp.trainer.options import Batches, Components, Gradient, Observer
from distbp.trainer.saver import Saver
from distbp.trainer.state import TrainState
from distbp.trainer.trainer import Outcome, Trainer

__all__ = [
    "Batches",
    "Checkpoints",
    "Components",
    "Gradient",
    "Judge",
    "Log",
    "MetricTarget",
    "NoiseScale",
    "Nonfinite",
    "Observer",
    "Outcome",
    "Saver",
    "TrainState",
    "Trainer",
    "evaluate",
]
