"""Train feed-forward networks by mini-batch backpropagation on any number of MPI ranks.

The number of ranks changes nothing but the time. Four nouns: a `Network` holds parameters and runs the
delta recursion, a `Communicator` connects ranks, a `GradientReducer` sums gradients, a `Trainer` loops.
"""

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
from distbp.trainer import Checkpoints, MetricTarget, Trainer, TrainState, evaluate

__version__ = "0.5.0.dev0"

__all__ = [
    "ACTIVATIONS",
    "Adam",
    "AdamW",
    "ArrayDataset",
    "BatchSampler",
    "BinaryCrossEntropy",
    "Checkpoints",
    "Column",
    "Communicator",
    "Data",
    "Dataset",
    "Epochs",
    "FunctionLoss",
    "FunctionModel",
    "GradientReducer",
    "Huber",
    "LAMB",
    "LARS",
    "Loss",
    "MPICommunicator",
    "MetricTarget",
    "Model",
    "Momentum",
    "Nesterov",
    "Network",
    "Optimizer",
    "Permutation",
    "Prepared",
    "Preprocessor",
    "RMSProp",
    "RankLost",
    "SGD",
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
    "fit_preprocessor",
    "load",
    "open_dataset",
    "run_threads",
    "split",
]
