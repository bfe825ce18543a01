"""Activation functions: what makes a network more than one linear map.

Each has its value ``g(z)`` and a way to multiply a delta by its derivative. Most derivatives follow
from the *output* ``a = g(z)`` alone, so the pre-activation ``z`` need not be kept and ``g`` works in
place; the two whose output does not tell it (gelu, silu) say so, and the network keeps for them what they leave in
``z``. Any NumPy function that works element by element is one too: its derivative is found by `autodiff`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError
from distbp.network.user_functions import is_function_name, resolve

Array = NDArray[Any]

LEAKY_SLOPE = 0.01
GELU_C = float(np.sqrt(2.0 / np.pi))
GELU_CUBIC = 0.044715


@dataclass(frozen=True)
class Activation:
    """Describe an activation function and its derivative.

    Attributes
    ----------
    name : str
        Its name on the command line and in the model file.
    value : callable
        ``value(z, out)`` writes ``g(z)``; `out` may be `z` unless `from_z`, where it leaves in `z` what the
        derivative takes: ``g'(z)`` itself, which costs little beside ``g(z)``, or `z` as it was.
    times_derivative : callable
        ``times_derivative(delta, a)`` multiplies `delta` in place by ``g'``; the second argument is
        the output ``a``, or what is in ``z`` where `from_z`.
    from_z : bool
        Whether ``a`` does not tell the derivative.
    init : str
        The initialisation that suits it.
    """

    name: str
    value: Callable[[Array, Array], Any]
    times_derivative: Callable[[Array, Array], None]
    from_z: bool = False
    init: str = "he_normal"


def sigmoid(z: Array, out: Array | None = None) -> Array:
    """Return 1 / (1 + exp(-z)) as (1 + tanh(z/2)) / 2: no overflow at any z."""
    out = np.multiply(z, 0.5, out=out)
    np.tanh(out, out=out)
    out += 1.0
    out *= 0.5
    return out


def _identity(z: Array, out: Array) -> None:
    if out is not z:
        np.copyto(out, z)


def _relu(z: Array, out: Array) -> None:
    z.clip(0.0, np.inf, out)  # four times as fast as np.maximum with a number


def _relu_d(delta: Array, a: Array) -> None:
    delta *= a > 0.0


def _leaky_relu(z: Array, out: Array) -> None:
    np.maximum(z, LEAKY_SLOPE * z, out=out)


def _leaky_relu_d(delta: Array, a: Array) -> None:
    np.multiply(delta, LEAKY_SLOPE, out=delta, where=a <= 0.0)


def _elu(z: Array, out: Array) -> None:
    negative = np.expm1(np.minimum(z, 0.0))
    np.maximum(z, 0.0, out=out)
    out += negative


def _elu_d(delta: Array, a: Array) -> None:
    delta *= np.minimum(a, 0.0) + 1.0


def _sigmoid_d(delta: Array, a: Array) -> None:
    delta *= a * (1.0 - a)


def _tanh_d(delta: Array, a: Array) -> None:
    delta *= 1.0 - a * a


def _softplus(z: Array, out: Array) -> None:
    np.logaddexp(z, 0.0, out=out)


def _softplus_d(delta: Array, a: Array) -> None:
    delta *= -np.expm1(-a)  # sigmoid(z), from a = log(1 + e^z)


def _slope_times(delta: Array, slope: Array) -> None:
    delta *= slope


def _silu(z: Array, out: Array) -> None:
    s = sigmoid(z)
    np.multiply(z, s, out=out)
    z -= out
    z += 1.0
    z *= s  # g' = s (1 + z (1 - s))


def _gelu(z: Array, out: Array) -> None:
    # (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)): exp takes half the time of tanh, and loses no digits where u < 0
    square = z * z
    s = square * (-2.0 * GELU_C * GELU_CUBIC)
    s -= 2.0 * GELU_C
    s *= z
    with np.errstate(over="ignore"):
        np.exp(s, out=s)
    s += 1.0
    np.reciprocal(s, out=s)
    np.multiply(z, s, out=out)
    square *= 6.0 * GELU_C * GELU_CUBIC
    square += 2.0 * GELU_C
    z -= out
    z *= square
    z += 1.0
    z *= s  # g' = s (1 + z (1 - s) 2 u'(z))


ACTIVATIONS = {
    "identity": Activation("identity", _identity, lambda delta, a: None, init="glorot_uniform"),
    "relu": Activation("relu", _relu, _relu_d),
    # Maas, Hannun & Ng 2013, slope 0.01
    "leaky_relu": Activation("leaky_relu", _leaky_relu, _leaky_relu_d),
    # Clevert, Unterthiner & Hochreiter 2016, alpha = 1
    "elu": Activation("elu", _elu, _elu_d),
    # Hendrycks & Gimpel 2016, the tanh form: 0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))
    "gelu": Activation("gelu", _gelu, _slope_times, from_z=True),
    # z sigmoid(z): Elfwing, Uchibe & Doya 2018
    "silu": Activation("silu", _silu, _slope_times, from_z=True),
    "sigmoid": Activation("sigmoid", sigmoid, _sigmoid_d, init="glorot_uniform"),
    "tanh": Activation("tanh", np.tanh, _tanh_d, init="glorot_uniform"),
    "softplus": Activation("softplus", _softplus, _softplus_d),
}


def activation_named(name: str) -> Activation:
    """Return the activation of that name, or the user's ``module:function``; `ValueError` names those there are."""
    if is_function_name(name):
        return activation_of(resolve(name, "--activation"), name)
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: one of {', '.join(ACTIVATIONS)}, or module:function")
    return ACTIVATIONS[name]


def activation_of(function: Callable[[Array], Array], name: str) -> Activation:
    """Return the activation that a function of arrays is; it works element by element.

    Raises
    ------
    UserError
        When it does not, or cannot be differentiated.
    """
    from distbp.autodiff import NotDifferentiable, vjp  # not before it is needed

    def value(z: Array, out: Array) -> None:
        np.copyto(out, function(z), casting="same_kind")

    def times_derivative(delta: Array, z: Array) -> None:
        delta[...] = vjp(function, z)[1](delta)[0]

    probe = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    try:
        shape = np.shape(function(probe))
        if shape == probe.shape:
            times_derivative(probe.copy(), probe)
    except (TypeError, ValueError) as error:
        what = error if isinstance(error, NotDifferentiable) else f"{type(error).__name__}: {error}"
        raise UserError(f"--activation {name}: {what}") from error
    if shape != probe.shape:
        raise UserError(f"--activation {name}: an array of shape {probe.shape} became one of {shape}")
    return Activation(name, value, times_derivative, from_z=True)
