"""Parameters and gradient of a model as two flat vectors, of which the arrays of its layers are views."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.markup import card

Array = NDArray[Any]


class Layer:
    """Hold one affine map: views of its parameters and of their gradient."""

    def __init__(self, fan_in: int, fan_out: int, start: int) -> None:
        self.fan_in, self.fan_out = fan_in, fan_out
        self.weights = slice(start, start + fan_in * fan_out)
        self.bias = slice(self.weights.stop, self.weights.stop + fan_out)
        self.W: Array
        self.b: Array
        self.dW: Array
        self.db: Array


class Flat:
    """Hold parameters and gradient as flat vectors, whatever the model: those of each layer are views."""

    dtype: np.dtype[Any]
    n_parameters: int
    layers: list[Layer]
    output_shape: tuple[int, ...]
    forward: Callable[..., Array]
    embeddings: Sequence[Array] = ()
    """Tables (values, width) whose rows are looked up."""
    decision: Array | None = None
    """What is added to the log-probabilities (n_classes,) where one class has to be chosen; none by default."""

    def bind_parameters(self, theta: Array) -> None:
        """Let `theta` (n_parameters,) be the parameters, e.g. in memory that ranks share."""
        assert theta.shape == (self.n_parameters,) and theta.dtype == self.dtype
        self.theta = theta
        for layer in self.layers:
            layer.W = theta[layer.weights].reshape(layer.fan_out, layer.fan_in).T
            layer.b = theta[layer.bias]

    def bind_gradient(self, grad: Array) -> None:
        """Let the backward pass write into `grad` (n_parameters,), e.g. a part of a message."""
        assert grad.shape == (self.n_parameters,) and grad.dtype == self.dtype
        self.grad = grad
        for layer in self.layers:
            layer.dW = grad[layer.weights].reshape(layer.fan_out, layer.fan_in).T
            layer.db = grad[layer.bias]

    def release(self) -> None:
        """Let go of what the last pass has kept."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes over: all but the memory of passes."""
        return {name: value for name, value in vars(self).items() if name not in ("own_pass", "part")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if "theta" in state:  # the arrays of layers are views of its own vectors
            self.bind_parameters(self.theta)
            self.bind_gradient(self.grad)
        self.release()

    def describe(self) -> str:
        """Return sizes and activation, for people."""
        raise NotImplementedError

    def table(self) -> list[str]:
        """Return a line for each layer or array, after a head."""
        return []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()}, {self.n_parameters:,} parameters, {self.dtype})"

    def _repr_html_(self) -> str:
        return card(
            repr(self), (line.split() for line in self.table()[1:]), self.table()[0].split() if self.table() else ()
        )

    def predict(self, X: Array, block: int = 512) -> Array:
        """Return outputs (n, ...) of any number of rows, in blocks; nothing is kept."""
        out = np.empty((len(X), *self.output_shape), self.dtype)
        for lo in range(0, len(X), block):
            out[lo : lo + block] = self.forward(np.asarray(X[lo : lo + block], self.dtype))
        return out


def chosen(p: Array, decision: Array | None) -> Array:
    """Return the number of the class (n,) that is chosen, from probabilities (n, n_classes) and a `Flat.decision`."""
    return np.asarray((p if decision is None else p * np.exp(decision)).argmax(axis=1), np.int64)
