"""A convolutional network, in plain NumPy, on images of digits (LeCun et al. 1998, in the small).

    mpirun -n 2 python -m distbp.train --data MNIST_FOLDER --model examples.convolution:model \
        --batch-size 64 --epochs 15 --lr 0.002 --schedule cosine --weight-decay 1e-4

from the folder above this one. The images are squares of 28 x 28; `square` finds the side.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

CHANNELS, SIDE = (16, 32), 5


def init(rng, n_inputs, n_outputs):
    """Filters of both layers, and the weights of the last, each with a bias (He et al. 2015, equation 10)."""

    def weights(*shape):
        return rng.standard_normal(shape) * np.sqrt(2.0 / math.prod(shape[:-1]))

    left = pooled(pooled(math.isqrt(n_inputs)))
    return {
        "filters 1": weights(SIDE, SIDE, 1, CHANNELS[0]),
        "bias 1": np.zeros(CHANNELS[0]),
        "filters 2": weights(SIDE, SIDE, *CHANNELS),
        "bias 2": np.zeros(CHANNELS[1]),
        "last": weights(left * left * CHANNELS[1], n_outputs),
        "bias": np.zeros(n_outputs),
    }


def pooled(side):
    """Side of an image after a convolution and pooling."""
    return (side - SIDE + 1) // 2


def convolve(images, filters, bias):
    """Images (n, rows, columns, channels) by filters (side, side, channels, filters): each window times each filter."""
    windows = sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    return np.einsum("nijckl,klcf->nijf", windows, filters) + bias


def halve(images):
    """The largest of each 2 x 2 pixels."""
    n, rows, columns, channels = images.shape
    blocks = images[:, : rows // 2 * 2, : columns // 2 * 2].reshape(n, rows // 2, 2, columns // 2, 2, channels)
    return np.max(blocks, axis=(2, 4))


def predict(parameters, X):
    """Logits (n, classes)."""
    side = math.isqrt(X.shape[1])
    a = X.reshape(-1, side, side, 1)
    for layer in "12":
        a = np.maximum(halve(convolve(a, parameters[f"filters {layer}"], parameters[f"bias {layer}"])), 0.0)
    return a.reshape(len(X), -1) @ parameters["last"] + parameters["bias"]


model = init, predict
