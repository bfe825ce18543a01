"""Two Bayesian models in plain NumPy and SciPy: logistic regression, and a Gaussian process.

    python examples/bayes.py classes.npz waves.npz
    mpirun -n 4 python -m distbp.train --data classes.npz --model examples.bayes:logistic \
        --loss examples.bayes:logistic_loss --dtype float64 --exact --epochs 40 --lr 0.02
    mpirun -n 4 python -m distbp.train --data waves.npz --model examples.bayes:process \
        --loss examples.bayes:process_loss --dtype float64 --exact --epochs 60 --lr 0.01

from the folder above this one. The posterior of the parameters is approximated by a normal distribution, whose evidence
lower bound is a sum over rows (Blei, Kucukelbir & McAuliffe 2017, "Variational inference"),

    log p(y) >= sum_n E_q log p(y_n | f_n) - KL(q, prior)

so mini-batches estimate it, and ranks share it out: a row's part of the divergence is a column of the outputs.
"""

import sys

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import log_expit
from scipy.stats import norm

ROWS, TRAINED = 2000, 1400
"""Rows that are made, and those of them that neither validate nor test."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
"""Where a standard normal variable is evaluated, and weights: Gauss and Hermite's rule."""


def divergence(mean, deviation, prior=1.0):
    """Return the Kullback-Leibler divergence of independent normal distributions from the prior."""
    return np.sum(np.log(prior / deviation) + (deviation**2 + mean**2) / (2.0 * prior**2) - 0.5)


# --- logistic regression: q(w) is normal, of independent weights ------------------------------------------


def logistic_init(rng, n_inputs, n_outputs):
    """Return the means of the weights, the last one the bias, and the logs of their deviations."""
    return {"mean": np.zeros(n_inputs + 1), "log deviation": np.full(n_inputs + 1, -1.0)}


def logistic_predict(p, X):
    """Return mean and deviation of the logit of each row, and its part of the divergence."""
    X = np.concatenate([X, np.ones((len(X), 1))], 1)
    deviation = np.exp(p["log deviation"])
    kl = divergence(p["mean"], deviation) / TRAINED
    return np.stack([X @ p["mean"], np.sqrt(X**2 @ deviation**2), np.full(len(X), 1.0) * kl], 1)


def logistic_loss(z, y):
    """Return what a row adds to the bound, negative: ``E log sigmoid(+-f)`` by quadrature."""
    f = z[:, :1] + z[:, 1:2] * NODES
    sign = 2.0 * np.reshape(y, (-1, 1)) - 1.0
    return z[:, 2] - log_expit(sign * f) @ (WEIGHTS / WEIGHTS.sum())


logistic = (logistic_init, logistic_predict)
logistic_loss.n_outputs = 3


# --- a Gaussian process, by its values at some points (Hensman, Fusi & Lawrence 2013) ----------------------

POINTS = 20


def process_init(rng, n_inputs, n_outputs):
    """Return the points, q of the process there (whitened), and the kernel's and the noise's parameters."""
    return {
        "points": np.sort(rng.uniform(-1.7, 1.7, (POINTS, n_inputs)), 0), "mean": np.zeros(POINTS),
        "root": np.eye(POINTS) * 0.5, "log length": np.log(0.5), "log scale": np.log(1.0), "log noise": np.log(0.3),
    }  # fmt: skip


def kernel(p, a, b):
    """Return the covariances of the process: of squared exponentials."""
    square = np.sum(((a[:, None] - b[None]) / np.exp(p["log length"])) ** 2, -1)
    return np.exp(2.0 * p["log scale"] - 0.5 * square)


def process_predict(p, X):
    """Return mean and deviation of the process at each row, the noise, and the row's part of the divergence."""
    L = cholesky(kernel(p, p["points"], p["points"]) + 1e-6 * np.eye(POINTS), lower=True)
    A = solve_triangular(L, kernel(p, p["points"], X), lower=True)  # (points, rows)
    root = np.tril(p["root"])
    mean = p["mean"] @ A
    variance = np.exp(2.0 * p["log scale"]) - np.sum(A**2, 0) + np.sum((root.T @ A) ** 2, 0)
    of_root = 0.5 * np.sum(root**2) - np.sum(np.log(np.abs(np.diagonal(root)))) - 0.5 * POINTS
    kl = (of_root + 0.5 * np.sum(p["mean"] ** 2)) / TRAINED
    ones = np.ones(len(X))
    return np.stack([mean, np.sqrt(np.maximum(variance, 1e-9)), np.exp(p["log noise"]) * ones, kl * ones], 1)


def process_loss(z, y):
    """Return what a row adds to the bound, negative: the normal likelihood has its expectation in closed form."""
    mean, deviation, noise, kl = z[:, 0], z[:, 1], z[:, 2], z[:, 3]
    return kl - norm.logpdf(np.reshape(y, -1), mean, noise) + 0.5 * (deviation / noise) ** 2


process = (process_init, process_predict)
process_loss.n_outputs = 4
process_loss.link = lambda z: z[:, :1]

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 5))
    np.savez(sys.argv[1], X=X, y=(X @ [2.0, -1.0, 0.5, 0.0, 0.0] + rng.logistic(size=ROWS) > 0).astype(int))
    x = rng.uniform(-3.0, 3.0, (ROWS, 1))
    np.savez(sys.argv[2], X=x, y=np.sin(2.0 * x[:, 0]) + 0.3 * x[:, 0] + 0.2 * rng.standard_normal(ROWS))
    print(f"{sys.argv[1]}, {sys.argv[2]}: {ROWS:,} rows each")
