"""The network and the delta recursion: begin with `dense`, beside the lecture.

Activation functions, losses with their output deltas, and any NumPy program in the place of the dense network.
"""

from distbp.network.activations import ACTIVATIONS
from distbp.network.dense import Network
from distbp.network.flat import Layer
from distbp.network.function_model import FunctionModel
from distbp.network.losses import BinaryCrossEntropy, FunctionLoss, Huber, Loss, SoftmaxCrossEntropy, SquaredError
from distbp.network.tape import Tape

__all__ = [
    "ACTIVATIONS",
    "BinaryCrossEntropy",
    "FunctionLoss",
    "FunctionModel",
    "Huber",
    "Layer",
    "Loss",
    "Network",
    "SoftmaxCrossEntropy",
    "SquaredError",
    "Tape",
]
