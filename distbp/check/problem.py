"""What is differentiated by many methods: a network, a loss, a batch, and all of it once more in plain NumPy.

The cost of a batch of n rows is C(theta) = 1/n sum of the rows' losses. The plain functions here are written a second
time on purpose: no line of them is shared with `network`, `activations` and `losses`. They take plain, traced and,
where they are analytic, complex numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import FunctionLoss, Loss, make_loss
from distbp.network.user_functions import resolve
from distbp.randomness import bits, key, normal
from distbp.trees import Tree, leaves_of

Array = NDArray[Any]
_Model = Network | FunctionModel
_Function = Callable[[Any, Any], Any]

TARGETS = ("auto", "values", "classes", "labels")
_TARGETS_OF = {"softmax-cross-entropy": "classes", "binary-cross-entropy": "labels"}
_ROWS = 5

PLAIN_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda z: z,
    "relu": lambda z: np.where(z > 0.0, z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0.0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0.0, z, np.expm1(np.minimum(z, 0.0))),
    "gelu": lambda z: 0.5 * z * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z * z * z))),
    "silu": lambda z: z / (1.0 + np.exp(-z)),
    "sigmoid": lambda z: 1.0 / (1.0 + np.exp(-z)),
    "tanh": np.tanh,
    "softplus": lambda z: np.log1p(np.exp(z)),
}


PLAIN_LOSSES: dict[str, _Function] = {
    "squared-error": lambda z, y: 0.5 * np.sum((z - y) * (z - y), axis=1),
    "huber": lambda z, y: np.sum(np.where((size := np.abs(z - y)) <= 1.0, 0.5 * size * size, size - 0.5), axis=1),
    "binary-cross-entropy": lambda z, y: np.sum(np.log1p(np.exp(z)) - y * z, axis=1),
    "softmax-cross-entropy": lambda z, y: np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y],
}

ANALYTIC = {*PLAIN_ACTIVATIONS, *PLAIN_LOSSES} - {"relu", "leaky_relu", "elu", "huber"}


@dataclass
class Problem:
    """A gradient that is wanted: of which cost, at which parameters."""

    network: _Model  # in float64; its `theta` is where
    loss: Loss
    X: Array  # the batch, (n, n_inputs)
    y: Array  # (n, ...)
    predict: _Function  # ``predict(parameters, X)``, the network in plain NumPy
    losses: _Function  # ``losses(z, y)``, the loss of each row in plain NumPy

    def cost(self, parameters: Tree) -> Any:
        """Return C, a number; of plain, traced or complex parameters."""
        return np.sum(self.losses(self.predict(parameters, self.X), self.y)) / len(self.X)

    def parameters(self, theta: Array) -> Tree:
        """Return `theta` as a tree of views: for a network a list of (W, b), for a model its own."""
        if isinstance(self.network, FunctionModel):
            return self.network.tree(theta)
        layers = self.network.layers
        return [(theta[layer.weights].reshape(layer.fan_out, layer.fan_in).T, theta[layer.bias]) for layer in layers]

    def flat(self, tree: Tree) -> Array:
        """Flatten a tree like `parameters`: a network's weights are transposed, as they lie unit by unit in `theta`."""
        transposed = isinstance(self.network, Network)
        return np.concatenate([np.ravel(np.transpose(x) if transposed else x) for _, x in leaves_of(tree)])


def dense_problem(
    sizes: Sequence[int], activation: str, loss: str, *, targets: str = "auto", seed: int = 0, rows: int = _ROWS
) -> Problem:
    """Make a dense network with random data and biases; `activation` and `loss` as for `distbp.train`."""
    network = Network(sizes, activation, dtype=np.float64, seed=seed)
    for i, layer in enumerate(network.layers):
        layer.b[:] = 0.1 * normal(key(seed, "check biases", i), np.arange(layer.fan_out))
    plain = PLAIN_ACTIVATIONS.get(network.activation.name) or resolve(activation, "--activation")

    def predict(parameters: Tree, X: Array) -> Any:
        a: Any = X
        for W, b in parameters[:-1]:
            a = plain(a @ W + b)
        W, b = parameters[-1]
        return a @ W + b

    return _problem(network, predict, loss, targets, seed, rows)


def model_problem(name: str, n_inputs: int, n_outputs: int, loss: str, *, targets: str, seed: int) -> Problem:
    """Make the model of the user's of that name, with random data."""
    model = FunctionModel.named(name, n_inputs, n_outputs, dtype=np.float64, seed=seed)
    return _problem(model, model.function, loss, targets, seed, _ROWS)


def _problem(network: _Model, predict: _Function, loss: str, kind: str, seed: int, rows: int) -> Problem:
    made = make_loss(loss)
    plain = made.function if isinstance(made, FunctionLoss) else PLAIN_LOSSES[made.name]
    X = normal(key(seed, "check inputs"), np.arange(rows * network.sizes[0])).reshape(rows, -1)
    n_targets = network.n_outputs if isinstance(network, FunctionModel) else network.sizes[-1]
    if hasattr(plain, "n_outputs"):  # it wants more outputs than there are targets
        n_targets = 1
    kind = _TARGETS_OF.get(loss, "values") if kind == "auto" else kind
    seed = key(seed, "check targets")
    if kind == "classes":
        y: Array = (bits(seed, np.arange(rows)) % np.uint64(n_targets)).astype(np.int64)
    else:
        values = normal(seed, np.arange(rows * n_targets)).reshape(rows, n_targets)
        y = values if kind == "values" else (values > 0.0).astype(np.float64)
    return Problem(network, made, X, y, predict, plain)
