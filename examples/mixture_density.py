"""Mixture-density regression: a loss that no table of losses has (Bishop 1994).

    python examples/mixture_density.py inverse.npz
    mpirun -n 2 python -m distbp.train --data inverse.npz --loss examples.mixture_density:loss \
        --hidden 32,32 --activation tanh --epochs 60 --lr 0.005

from the folder above this one. Where one input has several right answers, their mean is none. The network gives
weights, means and deviations of a mixture of normal distributions; the loss is the negative log-likelihood. The data
are Bishop's: x = t + 0.3 sin(2 pi t) + noise, and t is to be found from x.
"""

import math
import sys

import numpy as np

PARTS = 3


def parts(z):
    """Logarithms of the weights, means and logarithms of the deviations, (n, PARTS) each."""
    logits, mean, log_deviation = z[:, :PARTS], z[:, PARTS : 2 * PARTS], z[:, 2 * PARTS :]
    return logits - np.logaddexp.reduce(logits, axis=1)[:, None], mean, log_deviation


def loss(z, y):
    """The negative logarithm of the density at y (n, 1)."""
    log_weight, mean, log_deviation = parts(z)
    log_density = -log_deviation - 0.5 * ((y - mean) / np.exp(log_deviation)) ** 2 - 0.5 * math.log(2.0 * math.pi)
    return -np.logaddexp.reduce(log_weight + log_density, axis=1)


def likeliest(z):
    """The mean of the part with the largest weight."""
    log_weight, mean, _ = parts(z)
    return np.take_along_axis(mean, np.argmax(log_weight, axis=1)[:, None], axis=1)


loss.n_outputs = 3 * PARTS
loss.link = likeliest

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    t = rng.uniform(0.0, 1.0, 4000)
    x = t + 0.3 * np.sin(2.0 * np.pi * t) + rng.uniform(-0.1, 0.1, len(t))
    np.savez(sys.argv[1], X=x[:, None], y=t)
    print(f"{sys.argv[1]}: {len(t):,} rows")
