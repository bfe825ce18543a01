"""Train feed-forward networks by mini-batch backpropagation on any number of MPI ranks.

The number of ranks changes nothing but the time. Four nouns: a `Network` holds parameters and runs the
delta recursion, a `Communicator` connects ranks, a `GradientReducer` sums gradients, a `Trainer` loops.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# A name is imported when it is asked for: a command may say how many threads NumPy's BLAS starts before it does.
if TYPE_CHECKING:
    from distbp.comm import Communicator, MPICommunicator, SerialCommunicator, ThreadCommunicator, run_threads
    from distbp.comm.world import communicator
    from distbp.data import (
        ArrayDataset,
        BatchSampler,
        Column,
        Data,
        Dataset,
        Epochs,
        Permutation,
        Prepared,
        Preprocessor,
        Subset,
        SyntheticDataset,
        TableOptions,
        Target,
        fit_preprocessor,
        load,
        open_dataset,
        split,
    )
    from distbp.errors import RankLost, UserError
    from distbp.estimators import Classifier, Regressor
    from distbp.gradient import GradientReducer
    from distbp.model import Model
    from distbp.network import (
        ACTIVATIONS,
        BinaryCrossEntropy,
        FunctionLoss,
        FunctionModel,
        Huber,
        Loss,
        Network,
        SoftmaxCrossEntropy,
        SquaredError,
    )
    from distbp.optim import LAMB, LARS, SGD, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp, Schedule
    from distbp.run.fit import History, Run, fit
    from distbp.run.launch import launch
    from distbp.trainer import (
        Batches,
        Checkpoints,
        Components,
        Gradient,
        Judge,
        Log,
        MetricTarget,
        NoiseScale,
        Nonfinite,
        Observer,
        Saver,
        Trainer,
        TrainState,
        evaluate,
    )

__version__ = "1.0.0.dev0"

_HOMES = (
    "errors",
    "network",
    "optim",
    "comm",
    "comm.world",
    "data",
    "gradient",
    "model",
    "trainer",
    "run.fit",
    "run.launch",
    "estimators",
)

__all__ = [
    "ACTIVATIONS",
    "Adam",
    "AdamW",
    "ArrayDataset",
    "BatchSampler",
    "Batches",
    "BinaryCrossEntropy",
    "Checkpoints",
    "Classifier",
    "Column",
    "Communicator",
    "Components",
    "Data",
    "Dataset",
    "Epochs",
    "FunctionLoss",
    "FunctionModel",
    "Gradient",
    "GradientReducer",
    "History",
    "Huber",
    "Judge",
    "LAMB",
    "LARS",
    "Log",
    "Loss",
    "MPICommunicator",
    "MetricTarget",
    "Model",
    "Momentum",
    "Nesterov",
    "Network",
    "NoiseScale",
    "Nonfinite",
    "Observer",
    "Optimizer",
    "Permutation",
    "Prepared",
    "Preprocessor",
    "RMSProp",
    "RankLost",
    "Regressor",
    "Run",
    "SGD",
    "Saver",
    "Schedule",
    "SerialCommunicator",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "Subset",
    "SyntheticDataset",
    "TableOptions",
    "Target",
    "ThreadCommunicator",
    "TrainState",
    "Trainer",
    "UserError",
    "__version__",
    "communicator",
    "evaluate",
    "fit",
    "fit_preprocessor",
    "launch",
    "load",
    "open_dataset",
    "run_threads",
    "split",
]


def __getattr__(name: str) -> Any:
    """Return a public name, or a package of them, imported now."""
    if name in _HOMES:
        return import_module(f"distbp.{name}")
    for home in _HOMES if name in __all__ else ():
        module = import_module(f"distbp.{home}")
        if name in getattr(module, "__all__", vars(module)):  # a module of a package may have the name, too
            return globals().setdefault(name, vars(module)[name])
    raise AttributeError(f"module 'distbp' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted({*globals(), *__all__})
