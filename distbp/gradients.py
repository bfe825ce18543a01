"""One gradient in six ways: what `distbp.check` compares.

The cost of a batch of n rows is C(theta) = 1/n sum of the rows' losses. Its gradient by

    path_sum        the aggregation lemma: dC/dz_i(l) is a sum over all paths from unit i of layer l to the outputs, of
                    the product of the local derivatives on the way; one product a path, width^depth of them
    recursion       the delta recursion of `Network.backward`: each layer is visited once
    by_autodiff     `autodiff.grad` of the cost, written in plain NumPy
    differences     (C(theta + h e_k) - C(theta - h e_k)) / 2h for each parameter k: error h^2 of the series that is cut
                    off, and error eps/h of the rounding
    complex_step    Im C(theta + i h e_k) / h for each parameter: nothing is subtracted, h can be 1e-20 (Squire & Trapp
                    1998); where C is analytic
    summed_by_ranks each rank its rows, and the sum over the ranks, as the trainer does it

The plain functions here are written a second time on purpose: no line of them is shared with `network`, `activations`
and `losses`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.autodiff import grad
from distbp.autodiff.reverse import Tree, leaves_of, like
from distbp.function_model import FunctionModel
from distbp.losses import Loss
from distbp.network import Network
from distbp.reducer import GradientReducer

__all__ = [
    "ANALYTIC", "PLAIN_ACTIVATIONS", "PLAIN_LOSSES", "Problem", "by_autodiff", "complex_step", "count_paths",
    "differences", "path_sum", "plain_network", "recursion", "summed_by_ranks", "why_no_complex_step",
]  # fmt: skip

Array = NDArray[Any]

COMPLEX_STEP = 1e-20

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


def _huber(z: Any, y: Any) -> Any:
    size = np.abs(z - y)
    return np.sum(np.where(size <= 1.0, 0.5 * size * size, size - 0.5), axis=1)


PLAIN_LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "squared-error": lambda z, y: 0.5 * np.sum((z - y) * (z - y), axis=1),
    "huber": _huber,
    "binary-cross-entropy": lambda z, y: np.sum(np.log1p(np.exp(z)) - y * z, axis=1),
    "softmax-cross-entropy": lambda z, y: np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y],
}

ANALYTIC = {*PLAIN_ACTIVATIONS, *PLAIN_LOSSES} - {"relu", "leaky_relu", "elu", "huber"}


@dataclass
class Problem:
    """A gradient that is wanted: of which cost, at which parameters.

    Attributes
    ----------
    network : Network or FunctionModel
        In float64; its `theta` is where.
    loss : Loss
        Its loss.
    X, y : ndarray
        The batch, (n, n_inputs) and (n, ...).
    predict : callable
        ``predict(parameters, X)``, the network in plain NumPy.
    losses : callable
        ``losses(z, y)``, the loss of each row in plain NumPy.
    """

    network: Network | FunctionModel
    loss: Loss
    X: Array
    y: Array
    predict: Callable[[Tree, Array], Any]
    losses: Callable[[Any, Array], Any]

    def cost(self, parameters: Tree) -> Any:
        """C, a number; of plain, traced or complex parameters."""
        return np.sum(self.losses(self.predict(parameters, self.X), self.y)) / len(self.X)

    def parameters(self, theta: Array) -> Tree:
        """`theta` as a tree: for a network a list of (W, b), for a model its own. Views, so `theta` may be changed."""
        network = self.network
        if isinstance(network, FunctionModel):
            shapes = [np.shape(x) for _, x in leaves_of(network.parameters)]
            views = (theta[part].reshape(shape) for (_, part), shape in zip(network.parts, shapes, strict=True))
            return like(network.parameters, views)
        return [
            (theta[layer.weights].reshape(layer.fan_out, layer.fan_in).T, theta[layer.bias]) for layer in network.layers
        ]

    def flat(self, tree: Tree) -> Array:
        """The reverse of `parameters`: weights lie unit by unit in `theta`, so those of a network are transposed."""
        transposed = isinstance(self.network, Network)
        return np.concatenate([np.ravel(np.transpose(x) if transposed else x) for _, x in leaves_of(tree)])


def plain_network(activation: Callable[[Any], Any]) -> Callable[[Tree, Array], Any]:
    """The forward pass in plain NumPy: ``predict([(W, b), ...], X)``."""

    def predict(parameters: Tree, X: Array) -> Any:
        a: Any = X
        for W, b in parameters[:-1]:
            a = activation(a @ W + b)
        W, b = parameters[-1]
        return a @ W + b

    return predict


# --- (1) and (2): by hand, for a dense network -----------------------------------------------------------


def recursion(problem: Problem) -> Array:
    """The gradient by the delta recursion."""
    network = problem.network
    network.backward(_forward(problem))
    return network.grad.copy()


def _forward(problem: Problem) -> Array:
    """The forward pass of the network, and dC/dz of its last layer."""
    z = problem.network.forward(problem.X)
    delta = np.empty_like(z)
    problem.loss.value(z, problem.y, delta)
    delta /= len(z)
    return delta


def path_sum(problem: Problem) -> Array:
    """The gradient by the sum over all paths."""
    network = problem.network
    assert isinstance(network, Network)
    delta = _forward(problem)
    local = _local_derivatives(network)
    below = [problem.X, *network.tape.out]
    gradient = np.empty_like(network.theta)
    one = np.ones(len(delta))
    for i, layer in enumerate(network.layers):
        sums = np.stack([_sum_over_paths(local, delta.T, i, unit, one) for unit in range(layer.fan_out)])
        gradient[layer.weights] = (sums @ below[i]).ravel()
        gradient[layer.bias] = sums.sum(axis=1)
    return gradient


def _local_derivatives(network: Network) -> list[list[Array]]:
    """``[l][i][t]``: derivative of unit t of layer l + 1 by unit i of layer l, g'(z_i) W_it, for each row."""
    kept = network.tape.z if network.activation.from_z else network.tape.a
    tables = []
    for a, above in zip(kept, network.layers[1:], strict=True):
        slope = np.ones_like(a)
        network.activation.times_derivative(slope, a)
        tables.append(list(slope.T[:, None, :] * above.W[:, :, None]))
    return tables


def _sum_over_paths(local: list[list[Array]], delta: Array, level: int, unit: int, product: Array) -> Any:
    """Sum over the paths from here to the outputs; `product` is that of the local derivatives on the way to here."""
    if level == len(local):
        return product * delta[unit]
    total: Any = 0.0
    for t, derivative in enumerate(local[level][unit]):
        total = total + _sum_over_paths(local, delta, level + 1, t, product * derivative)
    return total


def count_paths(sizes: tuple[int, ...]) -> int:
    """Paths to the outputs from all units but the inputs, for a network of these sizes."""
    return sum(prod(sizes[level:]) for level in range(1, len(sizes)))


# --- (3) to (5): of the cost in plain NumPy ----------------------------------------------------------------


def by_autodiff(problem: Problem) -> Array:
    """The gradient by automatic differentiation."""
    return problem.flat(grad(problem.cost)(problem.parameters(problem.network.theta)))


def differences(problem: Problem, h: float, where: Array | None = None, *, central: bool = True) -> Array:
    """Differences with step `h`, of all parameters or of those numbered in `where`: (n_parameters,) or as `where`."""
    theta = problem.network.theta.copy()
    parameters = problem.parameters(theta)
    numbers = range(len(theta)) if where is None else where
    out = np.empty(len(numbers))
    middle = problem.cost(parameters)
    for i, k in enumerate(numbers):
        here = theta[k]
        theta[k] = here + h
        above = problem.cost(parameters)
        if central:
            theta[k] = here - h
            out[i] = (above - problem.cost(parameters)) / (2.0 * h)
        else:
            out[i] = (above - middle) / h
        theta[k] = here
    return out


def complex_step(problem: Problem, where: Array | None = None) -> Array:
    """The imaginary part of the cost at ``theta + i h``, divided by h; of which parameters: see `differences`."""
    theta = problem.network.theta.astype(complex)
    parameters = problem.parameters(theta)
    numbers = range(len(theta)) if where is None else where
    out = np.empty(len(numbers))
    for i, k in enumerate(numbers):
        here = theta[k]
        theta[k] = here + 1j * COMPLEX_STEP
        out[i] = problem.cost(parameters).imag / COMPLEX_STEP
        theta[k] = here
    return out


def why_no_complex_step(problem: Problem, direction: Array) -> str:
    """Why the complex step does not apply to a cost, or "".

    An analytic function has the same slope in the imaginary direction as in the real one (Cauchy and Riemann). Both
    are taken by differences here, so the answer does not depend on any derivative that is to be checked.
    """
    h, theta = 1e-4, problem.network.theta
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            up, down, left, right = (
                complex(problem.cost(problem.parameters(theta + step * direction)))
                for step in (1j * h, -1j * h, -h, h)
            )
    except Exception as error:
        return f"it does not take complex numbers ({' '.join(str(error).split())[:70]})"
    real, imaginary = (right - left) / (2.0 * h), (up - down) / (2j * h)
    if not abs(real - imaginary) <= 1e-4 * max(abs(real), abs(imaginary)):
        return "it is not analytic: its slope in the imaginary direction is another"
    return ""


# --- (6): by all ranks ---------------------------------------------------------------------------------------


def summed_by_ranks(problem: Problem, reducer: GradientReducer) -> Array:
    """The sum over the ranks of each one's rows, on every rank; `reducer` is that of the problem's network."""
    network, n = problem.network, len(problem.X)
    first, last = reducer.share(n)
    for part, tape in reducer.parts(n, n):
        mine = np.arange(first, last)[part]
        np.copyto(tape.X, problem.X[mine])
        z = network.forward(tape.X, tape=tape)  # type: ignore[arg-type]
        problem.loss.value(z, problem.y[mine], delta=z)
        network.backward(np.divide(z, n, out=tape.delta[-1]), reducer.gradient)
    reducer.wait()
    whole = reducer.gather(network.grad[reducer.own]).copy()
    reducer.barrier()
    return whole
