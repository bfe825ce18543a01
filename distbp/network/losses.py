"""Loss functions: how wrong a prediction is, and the delta that starts the backward pass.

A loss owns its *output link*: it takes the pre-activations ``z`` of the last layer (the logits),
so softmax cannot be paired with squared error by accident, and each pair is stable in one place.

Shapes: ``z`` is (n, n_outputs); the target ``y`` is (n, n_outputs), or (n,) integers, the classes.
A loss is a *sum over outputs* for each row; the mean over rows is taken once, by the trainer, with
the global count.

Any function of outputs and targets that gives the loss of each row is one too: its delta is found by `autodiff`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError
from distbp.network.activations import sigmoid
from distbp.network.user_functions import is_function_name, resolve

Array = NDArray[Any]


class Loss(Protocol):
    """Give loss, output delta and prediction: what the trainer asks of a loss."""

    name: str

    def value(self, z: Array, y: Array, delta: Array | None = None) -> Array:
        """Return the loss of each row, (n,); where `delta` (n, n_outputs) is given, dloss/dz goes into it."""
        ...

    def link(self, z: Array) -> Array:
        """Return the prediction: probabilities for a classifier, values for a regression."""
        ...

    def scores(self, z: Array) -> Array:
        """Return what metrics compare with the target: the logits, or what takes their place."""
        ...


def dense(y: Array, z: Array) -> Array:
    """Return classes (n,) as zeros and ones in the shape of `z`: one column of 0/1, or one-hot."""
    if y.ndim == 2:
        return y
    if z.shape[1] == 1:
        return y[:, None].astype(z.dtype)
    onehot: Array = (y[:, None] == np.arange(z.shape[1])).astype(z.dtype)
    return onehot


class _Ours:
    """What most losses have in common."""

    def link(self, z: Array) -> Array:
        """Return the outputs as they are."""
        return z

    def scores(self, z: Array) -> Array:
        """Return the logits."""
        return z


class SquaredError(_Ours):
    """Take half the squared error of the lecture, ``1/2 sum_k (z_k - y_k)^2``; delta is ``z - y``."""

    name = "squared-error"

    def value(self, z: Array, y: Array, delta: Array | None = None) -> Array:
        """Return the loss of each row; see `Loss.value`."""
        residual = np.subtract(z, dense(y, z), out=delta)
        rows: Array = 0.5 * np.einsum("nk,nk->n", residual, residual)
        return rows


class Huber(_Ours):
    """Grow quadratically near zero, linearly beyond `threshold` (Huber 1964, equation 1.1).

    Parameters
    ----------
    threshold : float
        The residual at which it turns linear, in the units of the (scaled) target.
    """

    name = "huber"

    def __init__(self, threshold: float = 1.0) -> None:
        if not threshold > 0:
            raise ValueError(f"the threshold of the huber loss must be positive, not {threshold}")
        self.threshold = threshold

    def value(self, z: Array, y: Array, delta: Array | None = None) -> Array:
        """Return the loss of each row; see `Loss.value`."""
        residual = z - dense(y, z)
        clipped = np.clip(residual, -self.threshold, self.threshold, out=delta)
        # r^2/2 inside and t|r| - t^2/2 outside are both c (r - c/2), c the clipped residual
        rows: Array = np.einsum("nk,nk->n", clipped, residual - 0.5 * clipped)
        return rows


class BinaryCrossEntropy(_Ours):
    """Take ``-sum_k y_k log p_k + (1 - y_k) log(1 - p_k)``, ``p = sigmoid(z)``; delta is ``p - y``.

    With one output a two-class problem, with several a multi-label one.
    """

    name = "binary-cross-entropy"

    def value(self, z: Array, y: Array, delta: Array | None = None) -> Array:
        """Return the loss of each row; see `Loss.value`."""
        y = dense(y, z)
        terms = np.logaddexp(z, 0.0)
        terms -= y * z  # in place: the difference of large arrays may lie, and be added up, in another order
        rows: Array = terms.sum(axis=1)
        if delta is not None:
            sigmoid(z, out=delta)
            delta -= y
        return rows

    def link(self, z: Array) -> Array:
        """Return probabilities, (n, n_outputs)."""
        return sigmoid(z)


class SoftmaxCrossEntropy(_Ours):
    """Take ``-sum_k t_k log p_k`` with ``p = softmax(z)``; delta is ``p - t``.

    Parameters
    ----------
    smoothing : float
        Label smoothing s: ``t = (1 - s) onehot(y) + s / n_classes`` (Szegedy et al. 2016, section 7).
    """

    name = "softmax-cross-entropy"

    def __init__(self, smoothing: float = 0.0) -> None:
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"label smoothing must lie in [0, 1), not {smoothing}")
        self.smoothing = smoothing

    def value(self, z: Array, y: Array, delta: Array | None = None) -> Array:
        """Return the loss of each row; see `Loss.value`."""
        s, index = self.smoothing, np.arange(len(z))
        # the maximum of the *row*: a row far below another must not underflow to zeros
        p = np.subtract(z, np.maximum.reduce(z, axis=1)[:, None], out=delta)
        right = p[index, y]
        average = s * p.mean(axis=1) if s else 0.0
        np.exp(p, out=p)
        total = np.add.reduce(p, axis=1)
        rows: Array = np.log(total)
        rows -= (1.0 - s) * right + average if s else right
        if delta is not None:
            p /= total[:, None]
            p[index, y] -= 1.0 - s
            if s:
                p -= s / z.shape[1]
        return rows

    def link(self, z: Array) -> Array:
        """Return class probabilities; rows sum to 1."""
        p: Array = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p


class FunctionLoss:
    """Take the user's own loss.

    Parameters
    ----------
    function : callable
        ``function(z, y)`` gives the loss of each row, (n,), from the outputs of the network, of any shape that begins
        with n, and the targets. Two attributes of it are used, where it has them: ``link(z)``, the prediction, and
        ``n_outputs``, the number of outputs that it wants of a dense network.
    name : str
        ``module:function``, which goes into the model file.
    """

    def __init__(self, function: Callable[[Array, Array], Array], name: str) -> None:
        if not callable(function):
            raise UserError(f"--loss {name}: not a function")
        self.function, self.name = function, name

    def value(self, z: Array, y: Array, delta: Array | None = None) -> Array:
        """Return the loss of each row; see `Loss.value`."""
        from distbp.autodiff import NotDifferentiable, vjp  # not before it is needed

        try:
            if delta is None:
                rows = np.asarray(self.function(z, y))
            else:
                rows, pull = vjp(lambda outputs: self.function(outputs, y), z)
        except NotDifferentiable as error:
            raise UserError(f"--loss {self.name}: {error}") from error
        if np.shape(rows) != (len(z),):
            raise UserError(
                f"--loss {self.name}: for {len(z)} rows it gives an array of shape {np.shape(rows)}; the loss of each"
                " row is wanted"
            )
        if delta is not None:
            delta[...] = pull(np.ones_like(rows))[0]
        return rows

    def link(self, z: Array) -> Array:
        """Return the function's own link, or the outputs as they are."""
        link = getattr(self.function, "link", None)
        return z if link is None else np.asarray(link(z))

    scores = link


LOSSES = ("squared-error", "huber", "binary-cross-entropy", "softmax-cross-entropy")


def make_loss(name: str, *, smoothing: float = 0.0, threshold: float = 1.0) -> Loss:
    """Return the loss of that name, with the parameter that it has, or the user's ``module:function``."""
    if is_function_name(name):
        return FunctionLoss(resolve(name, "--loss"), name)
    match name:
        case "squared-error":
            return SquaredError()
        case "huber":
            return Huber(threshold)
        case "binary-cross-entropy":
            return BinaryCrossEntropy()
        case "softmax-cross-entropy":
            return SoftmaxCrossEntropy(smoothing)
    raise ValueError(f"unknown loss {name!r}: one of {', '.join(LOSSES)}, or module:function")
