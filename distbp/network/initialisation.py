"""Initial weights: random numbers of a variance that suits the activation, the same on every rank.

The variance of a weight is gain / fan: He et al. 2015, equation 10; Glorot & Bengio 2010, equation 12; LeCun et al.
1998, equation 16. Biases begin at zero, embeddings near it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.randomness import key, normal, uniform

Array = NDArray[Any]

_GAIN = {"he": 2.0, "glorot": 1.0, "lecun": 1.0}
_AT_ONCE = 1 << 13
"""Weights drawn at a time: the memory that random numbers take stays small, in the core's own cache."""
_EMBEDDING = 0.01
INITIALISATIONS = ("auto", *(f"{kind}_{law}" for kind in _GAIN for law in ("normal", "uniform")))


def initialise(weights: Sequence[Array], init: str, hidden: str, seed: int) -> None:
    """Draw the weights of all layers.

    Parameters
    ----------
    weights : sequence of ndarray of shape (fan_in, fan_out)
        In forward order.
    init : str
        One of `INITIALISATIONS`; ``auto`` is `hidden`, and ``glorot_uniform`` in the last layer.
    hidden : str
        What suits the activation of the hidden layers.
    seed : int
        Of the run; each layer has random numbers of its own.
    """
    for i, W in enumerate(weights):
        suits = hidden if W is not weights[-1] else "glorot_uniform"
        draw_weights(W, suits if init == "auto" else init, key(seed, "weights", i))


def draw_embeddings(tables: Sequence[Array], seed: int) -> None:
    """Draw all rows of `tables` (values, width) but the first.

    They are small, since the values are rare: of a standard deviation of 1 the noise of the values was worth 4 points
    of accuracy (docs/data.md). Zeros would be a saddle where there are no other inputs.
    """
    for j, table in enumerate(tables):
        step = max(1, _AT_ONCE // table.shape[1])
        for lo in range(1, len(table), step):
            block = table[lo : lo + step]
            numbers = normal(key(seed, "embeddings", j), np.arange(block.size) + lo * table.shape[1])
            block[...] = _EMBEDDING * numbers.reshape(block.shape)


def draw_weights(W: Array, init: str, random_key: int) -> None:
    """Fill `W` (fan_in, fan_out) with numbers of the law and variance that `init` names, except ``auto``."""
    fan_in, fan_out = W.shape
    kind, law = init.split("_")
    deviation = np.sqrt(_GAIN[kind] / ((fan_in + fan_out) / 2 if kind == "glorot" else fan_in))
    step = max(1, _AT_ONCE // fan_out)
    for lo in range(0, fan_in, step):
        block = W[lo : lo + step]
        counters = np.arange(block.size) + lo * fan_out
        if law == "normal":
            values = deviation * normal(random_key, counters)
        else:  # uniform on (-r, r) has variance r^2 / 3
            values = deviation * np.sqrt(3.0) * (2.0 * uniform(random_key, counters) - 1.0)
        block[...] = values.reshape(block.shape)
