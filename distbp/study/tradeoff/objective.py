"""The exact objective: mean loss over *all* rows, as a function of the flat parameters; and L-BFGS on it.

    J(theta) = sum_i w_i l(theta, row i) / n + lambda / 2 sum of the squared weights

A mini-batch estimates its gradient from b rows; here it is computed from all n, block by block in the passes of the
network itself, each rank a share of the rows. L-BFGS (Nocedal 1980; Liu & Nocedal 1989) is what a numerical analyst
would do with it: a quasi-Newton step from the last 10 differences of gradients, and a line search. It comes from SciPy,
whose only door in the studies this is.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.data.prepared import Prepared
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import Loss
from distbp.network.work import Leaves, OwnPass

Array = NDArray[Any]
Objective = Callable[[Array], tuple[float, Array]]

BLOCK = 2048
"""Rows of a pass over all rows that are computed at once: what they take stays in the cache."""


def objective(
    network: Network | FunctionModel, loss: Loss, rows: Prepared, comm: Communicator, *, weight_decay: float = 0.0
) -> Objective:
    """Return ``J(theta)``, which gives a number and the gradient (n_parameters,) in float64, the same bits everywhere.

    The passes are those of `network`, whose parameters and gradient are overwritten. The ranks of `comm` share `rows`;
    all call it, with the same parameters. `weight_decay` is lambda, of weights and not of biases.
    """
    lo, hi = block_bounds(rows.n_rows, comm.rank, comm.size)
    tapes = network.tapes(min(BLOCK, rows.n_rows))

    def value(theta: Array) -> tuple[float, Array]:
        network.theta[...] = theta
        total = np.zeros(1 + network.n_parameters)
        for start in range(lo, hi, BLOCK):
            block = np.arange(start, min(start + BLOCK, hi))
            own = OwnPass(tapes(len(block)), Leaves(len(network.layers)))
            X, y, w = rows.take(block, out=own.tape.X)
            assert y is not None
            z = network.forward(X, own)
            losses = loss.value(z, y, delta=z).astype(np.float64)
            if w is not None:
                losses *= w
                z *= w.reshape(-1, *(1,) * (z.ndim - 1))
            network.backward(z, own)
            total[0] += losses.sum()
            total[1:] += network.grad
        comm.allreduce(total)
        comm.bcast(total)  # the same bits, so that all ranks take the same steps
        total /= rows.n_rows
        if weight_decay:
            for part in network.weight_slices:
                total[0] += 0.5 * weight_decay * float(theta[part] @ theta[part])
                total[1:][part] += weight_decay * theta[part]
        return float(total[0]), total[1:]

    return value


def lbfgs(J: Objective, theta: Array, *, passes: int, each: Callable[[Array], None] = lambda theta: None) -> Array:
    """Return the parameters at which L-BFGS ends, from `theta` (n_parameters,), in float64.

    It ends after so many `passes` over all rows (evaluations of J), or where J does not fall any more; ``each(theta)``
    is called after each of its steps.
    """
    from scipy.optimize import minimize

    def finite(theta: Array) -> tuple[float, Array]:
        value, gradient = J(theta)
        return (value, gradient) if math.isfinite(value) else (math.inf, np.zeros_like(gradient))

    with np.errstate(over="ignore", invalid="ignore"):
        found = minimize(
            finite, theta.astype(np.float64), jac=True, method="L-BFGS-B", callback=lambda theta: each(theta),
            options={"maxfun": passes, "maxiter": passes, "ftol": 0.0, "gtol": 1e-9},
        )  # fmt: skip
    return np.asarray(found.x)
