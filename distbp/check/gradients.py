"""One gradient in six ways: what `distbp.check` compares.

The gradient of the cost C(theta) of a `Problem` by

    path_sum        the aggregation lemma: dC/dz_i(l) is a sum over all paths from unit i of layer l to the outputs, of
                    the product of the local derivatives on the way; one product a path, width^depth of them
    recursion       the delta recursion of `Network.backward`: each layer is visited once
    by_autodiff     `autodiff.grad` of the cost, written in plain NumPy
    differences     (C(theta + h e_k) - C(theta - h e_k)) / 2h for each parameter k: error h^2 of the series that is cut
                    off, and error eps/h of the rounding
    complex_step    Im C(theta + i h e_k) / h for each parameter: nothing is subtracted, h can be 1e-20 (Squire & Trapp
                    1998); where C is analytic
    summed_by_ranks each rank its rows, and the sum over the ranks, as the trainer does it
"""

import warnings
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from distbp.autodiff import grad
from distbp.check.problem import Array, Problem
from distbp.data.sampling import BatchSampler
from distbp.gradient.reducer import GradientReducer
from distbp.network.dense import Network

COMPLEX_STEP = 1e-20


def recursion(problem: Problem) -> Array:
    """Compute the gradient by the delta recursion."""
    network = problem.network
    network.backward(_forward(problem))
    return network.grad.copy()


def _forward(problem: Problem) -> Array:
    """Run the forward pass of the network; return dC/dz of its last layer."""
    z = problem.network.forward(problem.X)
    delta = np.empty_like(z)
    problem.loss.value(z, problem.y, delta)
    delta /= len(z)
    return delta


def path_sum(problem: Problem) -> Array:
    """Compute the gradient by the sum over all paths."""
    network = problem.network
    assert isinstance(network, Network)
    delta = _forward(problem)
    # local[l][i][t]: derivative of unit t of layer l + 1 by unit i of layer l, g'(z_i) W_it, for each row
    local: list[list[Array]] = []
    kept = network.part.tape.z if network.activation.from_z else network.part.tape.a
    for a, above in zip(kept, network.layers[1:], strict=False):  # there is a z of the outputs, too
        slope = np.ones_like(a)
        network.activation.times_derivative(slope, a)
        local.append(list(slope.T[:, None, :] * above.W[:, :, None]))
    below = [problem.X, *network.part.tape.out]
    gradient = np.empty_like(network.theta)
    one = np.ones(len(delta))
    for i, layer in enumerate(network.layers):
        sums = np.stack([_sum_over_paths(local, delta.T, i, unit, one) for unit in range(layer.fan_out)])
        gradient[layer.weights] = (sums @ below[i]).ravel()
        gradient[layer.bias] = sums.sum(axis=1)
    return gradient


def _sum_over_paths(local: list[list[Array]], delta: Array, level: int, unit: int, product: Array) -> Any:
    """Sum over the paths from here to the outputs; `product` is that of the local derivatives on the way to here."""
    if level == len(local):
        return product * delta[unit]
    ways = enumerate(local[level][unit])
    return sum(_sum_over_paths(local, delta, level + 1, t, product * derivative) for t, derivative in ways)


def count_paths(sizes: tuple[int, ...]) -> int:
    """Count the paths to the outputs from all units but the inputs, for a network of these sizes."""
    return sum(prod(sizes[level:]) for level in range(1, len(sizes)))


def by_autodiff(problem: Problem) -> Array:
    """Compute the gradient by automatic differentiation."""
    return problem.flat(grad(problem.cost)(problem.parameters(problem.network.theta)))


def differences(problem: Problem, h: float, where: Array | None = None, *, central: bool = True) -> Array:
    """Compute differences with step `h` of all parameters, (n_parameters,), or of those numbered in `where`."""
    moved = _moved_costs(problem, where, (h, -h) if central else (h,))
    below = moved[1] if central else problem.cost(problem.parameters(problem.network.theta))
    slopes: Array = (moved[0] - below) / (2.0 * h if central else h)
    return slopes


def complex_step(problem: Problem, where: Array | None = None) -> Array:
    """Compute Im C(theta + i h) / h; of which parameters: see `differences`."""
    slopes: Array = _moved_costs(problem, where, (1j * COMPLEX_STEP,))[0].imag / COMPLEX_STEP
    return slopes


def _moved_costs(problem: Problem, where: Array | None, steps: Sequence[complex]) -> Array:
    """Return the cost with one parameter moved, (n_steps, n_parameters), the others in their place."""
    theta = problem.network.theta.astype(np.result_type(float, *steps))
    parameters = problem.parameters(theta)
    numbers = range(len(theta)) if where is None else where
    costs = np.empty((len(steps), len(numbers)), theta.dtype)
    for i, k in enumerate(numbers):
        here = theta[k]
        for j, step in enumerate(steps):
            theta[k] = here + step
            costs[j, i] = problem.cost(parameters)
        theta[k] = here
    return costs


def why_no_complex_step(problem: Problem, direction: Array) -> str:
    """Return why the complex step does not apply to a cost, or "".

    An analytic function has the same slope in the imaginary direction as in the real one (Cauchy and Riemann). Both
    are taken by differences here, so the answer does not depend on any derivative that is to be checked.
    """
    h, theta = 1e-4, problem.network.theta
    try:
        with warnings.catch_warnings(action="error", category=np.exceptions.ComplexWarning):
            up, down, left, right = (
                complex(problem.cost(problem.parameters(theta + step * direction))) for step in (1j * h, -1j * h, -h, h)
            )
    except Exception as error:
        return f"it does not take complex numbers ({' '.join(str(error).split())[:70]})"
    real, imaginary = (right - left) / (2.0 * h), (up - down) / (2j * h)
    if not abs(real - imaginary) <= 1e-4 * max(abs(real), abs(imaginary)):
        return "it is not analytic: its slope in the imaginary direction is another"
    return ""


def summed_by_ranks(problem: Problem, reducer: GradientReducer) -> Array:
    """Return the sum over the ranks of each one's rows, on every rank; `reducer` is that of the problem's network."""
    network = problem.network
    batch = BatchSampler(len(problem.X), len(problem.X)).batch(0)
    for part in reducer.parts(batch):
        np.copyto(part.X, problem.X[part.positions])
        logits = network.forward(part.X, part)
        problem.loss.value(logits, problem.y[part.positions], delta=part.delta)
        part.delta[...] /= batch.size
        network.backward(part.delta, part, reducer.ready)
    reducer.wait()
    whole = reducer.gather(network.grad[reducer.shard]).copy()
    reducer.barrier()
    return whole
