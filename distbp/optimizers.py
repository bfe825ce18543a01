"""Optimisers: what a gradient does to the parameters.

Every one works in place on the flat vector `theta` and keeps its memory as named flat arrays in
`state`, so that a checkpoint is a dictionary and a resume is bit-identical. Rate and step count are
plain numbers: `lr` is set before each step by the schedule, `t` counts the updates.

Two kinds of weight decay, both on the weights alone and never on the biases: added to the gradient
(L2, the coupled kind) everywhere but in `adamw` and `lamb`, where it shrinks the weights directly
(Loshchilov & Hutter 2019). It enters after the reduction, once: it depends neither on the batch size
nor on the number of ranks.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["OPTIMIZERS", "Optimizer", "clip_by_global_norm", "make_optimizer", "squared_norm"]

Array = NDArray[Any]

BLOCK = 16384
"""Elements handled at a time: the operands of one block stay in the cache between its passes."""


class Optimizer:
    """Common part of all optimisers: rate, decay, state, and the walk over cache-sized blocks.

    Parameters
    ----------
    lr : float
        Learning rate.
    weight_decay : float
        Coefficient lambda of the L2 term ``lambda/2 |W|^2`` (or of the decoupled decay).
    layers : sequence of slice
        Where each weight matrix lies in `theta`, its bias behind it up to the next one. Without it
        the whole vector counts as one weight.
    """

    lr_default: ClassVar[float] = 0.1
    buffers: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False

    def __init__(self, lr: float | None = None, *, weight_decay: float = 0.0, layers: Sequence[slice] = ()) -> None:
        self.lr = self.lr_default if lr is None else lr
        if not (np.isfinite(self.lr) and self.lr >= 0):
            raise ValueError(f"the learning rate must be a number of at least 0, not {self.lr}")
        if not (np.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"the weight decay must be at least 0, not {weight_decay}")
        self.weight_decay = weight_decay
        self.layers = tuple(layers)
        self.t = 0
        self.state: dict[str, Array] = {}

    def step(self, theta: Array, grad: Array) -> None:
        """Update `theta` in place; `grad` (n_parameters,) is used up as scratch."""
        for name in self.buffers:
            if name not in self.state:
                self.state[name] = np.zeros_like(theta)
        self.t += 1
        if self.weight_decay:
            for weights in self.layers or (slice(None),):
                self._decay(theta[weights], grad[weights])
        self._walk(theta, grad)

    def _decay(self, weights: Array, grad: Array) -> None:
        if self.decoupled:
            weights *= 1.0 - self.lr * self.weight_decay
        else:
            grad += self.weight_decay * weights

    def _walk(self, theta: Array, grad: Array) -> None:
        state = [self.state[name] for name in self.buffers]
        for lo in range(0, len(theta), BLOCK):
            block = slice(lo, lo + BLOCK)
            self._update(theta[block], grad[block], *(array[block] for array in state))

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        raise AssertionError("an optimiser has an update")


class SGD(Optimizer):
    """``theta -= lr g`` (Robbins & Monro 1951)."""

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        g *= self.lr
        theta -= g


class Momentum(Optimizer):
    """Heavy ball, ``v = mu v + g; theta -= lr v`` (Polyak 1964)."""

    buffers = ("velocity",)
    lr_default = 0.05

    def __init__(self, lr: float | None = None, *, momentum: float = 0.9, **common: Any) -> None:
        super().__init__(lr, **common)
        self.momentum = _fraction("momentum", momentum)

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        (v,) = state
        v *= self.momentum
        v += g
        np.multiply(v, self.lr, out=g)
        theta -= g


class Nesterov(Momentum):
    """``v = mu v + g; theta -= lr (g + mu v)`` (Sutskever et al. 2013, equations 3 and 4)."""

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        (v,) = state
        v *= self.momentum
        v += g
        g += self.momentum * v
        g *= self.lr
        theta -= g


class RMSProp(Optimizer):
    """Divide by a running root mean square (Tieleman & Hinton 2012, lecture 6.5)."""

    buffers = ("square",)
    lr_default = 1e-3

    def __init__(self, lr: float | None = None, *, decay: float = 0.99, epsilon: float = 1e-8, **common: Any) -> None:
        super().__init__(lr, **common)
        self.decay, self.epsilon = _fraction("decay", decay), epsilon

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        (square,) = state
        square *= self.decay
        square += (1.0 - self.decay) * g * g
        g *= self.lr
        g /= np.sqrt(square) + self.epsilon
        theta -= g


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1), with the bias correction in the step."""

    buffers = ("mean", "square")
    lr_default = 1e-3

    def __init__(
        self,
        lr: float | None = None,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **common: Any,
    ) -> None:
        super().__init__(lr, **common)
        self.beta1, self.beta2, self.epsilon = _fraction("beta1", beta1), _fraction("beta2", beta2), epsilon

    def _direction(self, g: Array, mean: Array, square: Array) -> Array:
        """Turn `g` into ``mhat / (sqrt(vhat) + epsilon)``, in place."""
        mean *= self.beta1
        mean += (1.0 - self.beta1) * g
        g *= g
        g *= 1.0 - self.beta2
        square *= self.beta2
        square += g
        np.sqrt(square, out=g)
        g /= np.sqrt(1.0 - self.beta2**self.t)
        g += self.epsilon
        np.divide(mean, g, out=g)
        g /= 1.0 - self.beta1**self.t
        return g

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        g = self._direction(g, *state)
        g *= self.lr
        theta -= g


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

    decoupled = True


class LARS(Momentum):
    """Momentum with a rate for each layer (You, Gitman & Ginsburg 2017, algorithm 1).

    The rate of a weight matrix is multiplied by ``trust |W| / (|g| + lambda |W|)``; biases keep the
    plain rate.
    """

    lr_default = 1.0

    def __init__(self, lr: float | None = None, *, trust: float = 1e-3, **common: Any) -> None:
        super().__init__(lr, **common)
        self.trust = trust

    def _decay(self, weights: Array, grad: Array) -> None:
        pass  # belongs into the ratio of each layer, below

    def _walk(self, theta: Array, grad: Array) -> None:
        for s in self.layers or (slice(None),):
            w, g = theta[s], grad[s]
            w_norm, g_norm = _norm(w), _norm(g)
            if self.weight_decay:
                g += self.weight_decay * w
            if w_norm > 0.0 and g_norm + self.weight_decay > 0.0:
                g *= self.trust * w_norm / (g_norm + self.weight_decay * w_norm)
        super()._walk(theta, grad)


class LAMB(Adam):
    """Adam with a rate for each layer (You et al. 2020, algorithm 2).

    The step of a weight matrix, ``r + lambda W`` with Adam's direction r, is multiplied by
    ``|W| / |r + lambda W|``; biases keep the plain step.
    """

    def _decay(self, weights: Array, grad: Array) -> None:
        pass  # part of the step whose norm is taken, below

    def _update(self, theta: Array, g: Array, *state: Array) -> None:
        self._direction(g, *state)

    def _walk(self, theta: Array, grad: Array) -> None:
        super()._walk(theta, grad)  # grad is now Adam's direction
        for s in self.layers or (slice(None),):
            w, r = theta[s], grad[s]
            if self.weight_decay:
                r += self.weight_decay * w
            w_norm, r_norm = _norm(w), _norm(r)
            if w_norm > 0.0 and r_norm > 0.0:
                r *= w_norm / r_norm
        grad *= self.lr
        theta -= grad


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "rmsprop": RMSProp,
    "adam": Adam,
    "adamw": AdamW,
    "lars": LARS,
    "lamb": LAMB,
}


def make_optimizer(name: str, lr: float | None = None, *, momentum: float = 0.9, **common: Any) -> Optimizer:
    """The optimiser of that name; `lr` None is its customary rate."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: one of {', '.join(OPTIMIZERS)}")
    kind: Callable[..., Optimizer] = OPTIMIZERS[name]
    if issubclass(OPTIMIZERS[name], Momentum):
        return kind(lr, momentum=momentum, **common)
    return kind(lr, **common)


def clip_by_global_norm(grad: Array, limit: float, norm: float) -> None:
    """Scale `grad`, whose norm is `norm`, to a norm of at most `limit` (Pascanu et al. 2013)."""
    if norm > limit:
        grad *= limit / norm


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must lie in [0, 1), not {value}")
    return value


def squared_norm(x: Array) -> float:
    """Sum of squares of a flat array: the same bits whatever the BLAS threads of a rank, unlike np.dot.

    Sums of pieces are added in float64.
    """
    whole = len(x) // BLOCK * BLOCK
    pieces = x[:whole].reshape(-1, BLOCK)
    total = np.einsum("ij,ij->i", pieces, pieces).sum(dtype=np.float64)
    return float(total + np.einsum("i,i->", x[whole:], x[whole:]))


def _norm(x: Array) -> float:
    return math.sqrt(squared_norm(x))
