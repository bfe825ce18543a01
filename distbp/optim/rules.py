"""Update rules: what is subtracted from the parameters, from SGD to LAMB.

Each names its memory (`buffers`), writes the change of a block of parameters (`_change`) and gives the numbers that
the compiled form of the same update takes (`_numbers`). LARS and LAMB scale the step of a layer by norms of all of it.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.optim.optimizer import Optimizer

Array = NDArray[Any]


class SGD(Optimizer):
    """Subtract the gradient: ``theta -= lr g`` (Robbins & Monro 1951)."""

    compiled = "sgd"

    def _numbers(self) -> tuple[float, ...]:
        return (self.lr,)

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        np.multiply(g, self.lr, out=out)


class Momentum(Optimizer):
    """Subtract a decaying sum of gradients, the heavy ball: ``v = mu v + g; theta -= lr v`` (Polyak 1964)."""

    buffers = ("velocity",)
    lr_default = 0.05
    compiled = "momentum"

    def __init__(self, lr: float | None = None, *, momentum: float = 0.9, **common: Any) -> None:
        super().__init__(lr, **common)
        self.momentum = _fraction("momentum", momentum)

    def _factors(self) -> dict[str, float]:
        return {"velocity": self.momentum}

    def _numbers(self) -> tuple[float, ...]:
        return self.momentum, self.lr

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        (v,) = state
        v *= self.momentum
        v += g
        np.multiply(v, self.lr, out=out)


class Nesterov(Momentum):
    """Look one step of momentum ahead: ``v = mu v + g; theta -= lr (g + mu v)`` (Sutskever et al. 2013, eqs. 3, 4)."""

    compiled = "nesterov"

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        (v,) = state
        v *= self.momentum
        v += g
        np.add(g, self.momentum * v, out=out)
        out *= self.lr


class RMSProp(Optimizer):
    """Divide the gradient by its running root mean square (Tieleman & Hinton 2012, lecture 6.5)."""

    buffers = ("square",)
    lr_default = 1e-3
    compiled = "rmsprop"

    def __init__(self, lr: float | None = None, *, decay: float = 0.99, epsilon: float = 1e-8, **common: Any) -> None:
        super().__init__(lr, **common)
        self.decay, self.epsilon = _fraction("decay", decay), float(epsilon)

    def _factors(self) -> dict[str, float]:
        return {"square": self.decay}

    def _numbers(self) -> tuple[float, ...]:
        return self.decay, 1.0 - self.decay, self.epsilon, self.lr

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        (square,) = state
        square *= self.decay
        square += (1.0 - self.decay) * g * g
        np.divide(g, np.sqrt(square) + self.epsilon, out=out)
        out *= self.lr


class Adam(Optimizer):
    """Divide the running mean of the gradient by its root mean square (Kingma & Ba 2015, algorithm 1).

    The bias correction stands in the step.
    """

    # sums without the factors (1 - beta) of the paper's means: three passes less over the arrays
    buffers = ("sum", "square_sum")
    lr_default = 1e-3
    compiled = "adam"

    def __init__(
        self, lr: float | None = None, *, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, **common: Any
    ) -> None:
        super().__init__(lr, **common)
        self.beta1, self.beta2 = _fraction("beta1", beta1), _fraction("beta2", beta2)
        self.epsilon = float(epsilon)

    def _factors(self) -> dict[str, float]:
        return {"sum": self.beta1, "square_sum": self.beta2}

    def _scales(self) -> tuple[float, float]:
        """Return the factors that turn the sums into ``mhat`` and into ``sqrt(vhat)``."""
        r1 = (1.0 - self.beta1) / (1.0 - self.beta1**self.t)
        return r1, math.sqrt((1.0 - self.beta2) / (1.0 - self.beta2**self.t))

    def _numbers(self) -> tuple[float, ...]:
        r1, r2 = self._scales()
        return self.beta1, self.beta2, self.epsilon / r2, self.lr * r1 / r2

    def _direction(self, factor: float, out: Array, g: Array, m: Array, v: Array) -> None:
        """Write ``factor * mhat / (sqrt(vhat) + epsilon)``; `out` may be `g`."""
        r1, r2 = self._scales()
        m *= self.beta1
        m += g
        np.multiply(g, g, out=out)
        v *= self.beta2
        v += out
        np.sqrt(v, out=out)
        out += self.epsilon / r2
        np.divide(m, out, out=out)
        out *= factor * r1 / r2

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        self._direction(self.lr, out, g, *state)


class AdamW(Adam):
    """Step as Adam does, with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

    decoupled = True
    compiled = "adam"


class LARS(Momentum):
    """Step with momentum and a rate for each layer (You, Gitman & Ginsburg 2017, algorithm 1).

    The rate of a weight matrix is multiplied by ``trust |W| / (|g| + lambda |W|)``; biases keep the
    plain rate.
    """

    lr_default = 1.0
    compiled = "momentum"

    def __init__(self, lr: float | None = None, *, trust: float = 1e-3, **common: Any) -> None:
        super().__init__(lr, **common)
        self.trust = float(trust)

    def _decay(self, weights: Array, grad: Array) -> None:
        pass  # belongs into the ratio of each layer, below

    def _update(self, theta: Array, grad: Array) -> None:
        for s, (w_norm, g_norm) in self._layer_norms(theta, grad):
            w, g = theta[s], grad[s]
            if self.weight_decay:
                g += self.weight_decay * w
            if w_norm > 0.0 and g_norm + self.weight_decay > 0.0:
                g *= self.trust * w_norm / (g_norm + self.weight_decay * w_norm)
        super()._update(theta, grad)


class LAMB(Adam):
    """Step as Adam does, with a rate for each layer (You et al. 2020, algorithm 2).

    The step of a weight matrix, ``r + lambda W`` with Adam's direction r, is multiplied by
    ``|W| / |r + lambda W|``; biases keep the plain step.
    """

    decoupled = True

    def _decay(self, weights: Array, grad: Array) -> None:
        pass  # part of the step whose norm is taken, below

    def _update(self, theta: Array, grad: Array) -> None:
        for block, state in self._blocks(len(theta)):
            self._direction(1.0, grad[block], grad[block], *state)  # grad is Adam's direction from here on
        if self.weight_decay:
            for s in self.layers or (slice(None),):
                grad[s] += self.weight_decay * theta[s]
        for s, (w_norm, r_norm) in self._layer_norms(theta, grad):
            if w_norm > 0.0 and r_norm > 0.0:
                grad[s] *= w_norm / r_norm
        grad *= self.lr
        theta -= grad


_KINDS: tuple[type[Optimizer], ...] = (SGD, Momentum, Nesterov, RMSProp, Adam, AdamW, LARS, LAMB)
OPTIMIZERS = {kind.__name__.lower(): kind for kind in _KINDS}


def make_optimizer(name: str, lr: float | None = None, *, momentum: float = 0.9, **common: Any) -> Optimizer:
    """Return the optimiser of that name; `lr` None is its customary rate."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: one of {', '.join(OPTIMIZERS)}")
    if issubclass(OPTIMIZERS[name], Momentum):
        common["momentum"] = momentum
    return OPTIMIZERS[name](lr, **common)


def _fraction(name: str, value: float) -> float:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must lie in [0, 1), not {value}")
    return float(value)
