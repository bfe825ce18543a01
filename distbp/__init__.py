"""Train feed-forward networks by mini-batch backpropagation on any number of MPI ranks.

The number of ranks changes nothing but the time. Four nouns: a `Network` holds parameters and runs the
delta recursion, a `Communicator` connects ranks, a `GradientReducer` sums gradients, a `Trainer` loops.
"""

from distbp.activations import ACTIVATIONS
from distbp.checkpoint import Checkpoints
from distbp.communicator import Communicator, SerialCommunicator
from distbp.datasets import ArrayDataset, Column, Dataset, Target
from distbp.errors import RankLost, UserError
from distbp.function_model import FunctionModel
from distbp.loading import Data, TableOptions, load, open_dataset
from distbp.losses import BinaryCrossEntropy, FunctionLoss, Huber, Loss, SoftmaxCrossEntropy, SquaredError
from distbp.metrics import evaluate
from distbp.model import Model
from distbp.mpi import MPICommunicator
from distbp.network import Network
from distbp.optimizers import LAMB, LARS, SGD, Adam, AdamW, Momentum, Nesterov, Optimizer, RMSProp
from distbp.preprocessing import Prepared, Preprocessor, fit_preprocessor
from distbp.reducer import GradientReducer
from distbp.sampling import BatchSampler, Epochs, Permutation
from distbp.schedules import Schedule
from distbp.splitting import Subset, split
from distbp.stopping import MetricTarget
from distbp.synthetic import SyntheticDataset
from distbp.threads import ThreadCommunicator, run_threads
from distbp.trainer import Trainer, TrainState
from distbp.world import communicator

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
