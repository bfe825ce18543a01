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
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distbp.optim.compiled import compiled_update

__all__ = ["OPTIMIZERS", "Optimizer", "clip_by_global_norm", "make_optimizer", "squared_norm"]

Array = NDArray[Any]

BLOCK = 32768
"""Elements handled at a time: the operands of one block stay in the cache between its passes."""
_DOT = 8192
"""Elements of a product that BLAS computes in one thread, whatever threads it has."""


class Optimizer:
    """Common part of all optimisers: rate, decay, state, and the walk over the parameters.

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
    compiled: ClassVar[str] = ""
    """Name in `compiled` of the update that this class itself has; it is not inherited."""
    compile_after: float = 1.5e9
    """Numbers of parameters and state that NumPy updates before Numba is loaded: what that takes (0.5 to 1 s) is
    saved by then. Both give the same bits."""

    def __init__(self, lr: float | None = None, *, weight_decay: float = 0.0, layers: Sequence[slice] = ()) -> None:
        self.lr = self.lr_default if lr is None else float(lr)
        if not (np.isfinite(self.lr) and self.lr >= 0):
            raise ValueError(f"the learning rate must be a number of at least 0, not {self.lr}")
        if not (np.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"the weight decay must be at least 0, not {weight_decay}")
        self.weight_decay = float(weight_decay)
        self.layers = tuple(layers)
        self.t = 0
        self.state: dict[str, Array] = {}
        self._walked = 0
        self._scratch: Array = np.empty(0, bool)
        self._total: Callable[[Array], None] = lambda numbers: None
        self._tiles: list[list[slice]] = []

    def look_after(self, own: slice, total: Callable[[Array], None], tiles: Sequence[slice] = ()) -> None:
        """From now on `theta` and `grad` are the stretch `own` of the parameters only.

        Ranks that look after the rest do the same; ``total(numbers)`` replaces numbers by their sums over
        all stretches: some optimisers ask for the norms of whole layers. They are added up from those of
        `tiles`, where these are given: stretches of parameters, each looked after by one rank.
        """

        def cut(s: slice) -> slice:
            lo, hi = max(s.start, own.start), min(s.stop, own.stop)
            return slice(lo - own.start, max(lo, hi) - own.start)

        whole = self.layers or (slice(0, own.stop),)
        self._tiles = [[cut(t) for t in tiles if s.start <= t.start < s.stop] for s in whole]
        self.layers = tuple(cut(s) for s in whole)
        self._total = total

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

    def _norms(self, theta: Array, grad: Array, layers: Sequence[slice]) -> list[list[float]]:
        """Norms of weights and gradient of each layer, wherever its parameters are looked after."""
        tiles = [tiles or [layer] for tiles, layer in zip(self._tiles or [[]] * len(layers), layers, strict=True)]
        squares = np.zeros((len(tiles), max(map(len, tiles)), 2))
        for i, of_layer in enumerate(tiles):
            for k, s in enumerate(of_layer):
                squares[i, k] = squared_norm(theta[s]), squared_norm(grad[s])
        self._total(squares)
        norms: list[list[float]] = np.sqrt(squares.sum(axis=1)).tolist()
        return norms

    def _walk(self, theta: Array, grad: Array) -> None:
        self._walked += len(theta) * (1 + len(self.buffers))
        pays = self._walked > self.compile_after
        if pays and (update := compiled_update(vars(type(self)).get("compiled", ""), theta.dtype)):
            update(theta, grad, *(self.state[name] for name in self.buffers), *map(theta.dtype.type, self._numbers()))
            return
        if self._scratch.dtype != theta.dtype:
            self._scratch = np.empty(BLOCK, theta.dtype)
        for block, state in self._blocks(len(theta)):
            t = theta[block]
            change = self._scratch[: len(t)]
            self._change(change, grad[block], *state)
            t -= change

    def _blocks(self, n: int) -> Iterator[tuple[slice, list[Array]]]:
        """Blocks of `n` parameters, each with its part of the state."""
        state = [self.state[name] for name in self.buffers]
        for lo in range(0, n, BLOCK):
            block = slice(lo, lo + BLOCK)
            yield block, [array[block] for array in state]

    def _numbers(self) -> tuple[float, ...]:
        """What the compiled update takes beside arrays."""
        raise AssertionError("an optimiser has an update")

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        """Write what is subtracted from a block of parameters, which stays in the cache meanwhile."""
        raise AssertionError("an optimiser has an update")


class SGD(Optimizer):
    """``theta -= lr g`` (Robbins & Monro 1951)."""

    compiled = "sgd"

    def _numbers(self) -> tuple[float, ...]:
        return (self.lr,)

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        np.multiply(g, self.lr, out=out)


class Momentum(Optimizer):
    """Heavy ball, ``v = mu v + g; theta -= lr v`` (Polyak 1964)."""

    buffers = ("velocity",)
    lr_default = 0.05
    compiled = "momentum"

    def __init__(self, lr: float | None = None, *, momentum: float = 0.9, **common: Any) -> None:
        super().__init__(lr, **common)
        self.momentum = _fraction("momentum", momentum)

    def _numbers(self) -> tuple[float, ...]:
        return self.momentum, self.lr

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        (v,) = state
        v *= self.momentum
        v += g
        np.multiply(v, self.lr, out=out)


class Nesterov(Momentum):
    """``v = mu v + g; theta -= lr (g + mu v)`` (Sutskever et al. 2013, equations 3 and 4)."""

    compiled = "nesterov"

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        (v,) = state
        v *= self.momentum
        v += g
        np.add(g, self.momentum * v, out=out)
        out *= self.lr


class RMSProp(Optimizer):
    """Divide by a running root mean square (Tieleman & Hinton 2012, lecture 6.5)."""

    buffers = ("square",)
    lr_default = 1e-3
    compiled = "rmsprop"

    def __init__(self, lr: float | None = None, *, decay: float = 0.99, epsilon: float = 1e-8, **common: Any) -> None:
        super().__init__(lr, **common)
        self.decay, self.epsilon = _fraction("decay", decay), float(epsilon)

    def _numbers(self) -> tuple[float, ...]:
        return self.decay, 1.0 - self.decay, self.epsilon, self.lr

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        (square,) = state
        square *= self.decay
        square += (1.0 - self.decay) * g * g
        np.divide(g, np.sqrt(square) + self.epsilon, out=out)
        out *= self.lr


class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1), with the bias correction in the step."""

    # sums without the factors (1 - beta) of the paper's means: three passes less over the arrays
    buffers = ("sum", "square_sum")
    lr_default = 1e-3
    compiled = "adam"

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
        self.beta1, self.beta2 = _fraction("beta1", beta1), _fraction("beta2", beta2)
        self.epsilon = float(epsilon)

    def _scales(self) -> tuple[float, float]:
        """What turns the sums into ``mhat`` and into ``sqrt(vhat)``."""
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
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2)."""

    decoupled = True
    compiled = "adam"


class LARS(Momentum):
    """Momentum with a rate for each layer (You, Gitman & Ginsburg 2017, algorithm 1).

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

    def _walk(self, theta: Array, grad: Array) -> None:
        layers = self.layers or (slice(None),)
        for s, (w_norm, g_norm) in zip(layers, self._norms(theta, grad, layers), strict=True):
            w, g = theta[s], grad[s]
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

    def _walk(self, theta: Array, grad: Array) -> None:
        for block, state in self._blocks(len(theta)):
            self._direction(1.0, grad[block], grad[block], *state)  # grad is Adam's direction from here on
        layers = self.layers or (slice(None),)
        if self.weight_decay:
            for s in layers:
                grad[s] += self.weight_decay * theta[s]
        for s, (w_norm, r_norm) in zip(layers, self._norms(theta, grad, layers), strict=True):
            if w_norm > 0.0 and r_norm > 0.0:
                grad[s] *= w_norm / r_norm
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
    return float(value)


def squared_norm(x: Array) -> float:
    """Sum of squares of a flat array: the same bits whatever the BLAS threads of a rank.

    Sums of short pieces, each a product that BLAS computes in one thread, are added in float64.
    """
    whole = len(x) // _DOT * _DOT
    pieces = x[:whole].reshape(-1, 1, _DOT)
    total = np.matmul(pieces, pieces.reshape(-1, _DOT, 1)).sum(dtype=np.float64)
    square = float(total + np.dot(x[whole:], x[whole:]))
    if not math.isfinite(square):  # too large for the dtype, or really not finite
        square = float(np.square(x, dtype=np.float64).sum())
    return square
