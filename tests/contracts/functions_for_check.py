"""Functions of the user's, to be checked."""

SIZES = (3, 4, 2, 3)

MINE = """
import numpy as np

def swish(z):
    return z / (1 + np.exp(-2 * z))

def softsign(z):
    return z / (1 + np.abs(z))

def writes(z):
    z[z < 0] = 0
    return z

def log_cosh(z, y):
    return np.sum(np.log(np.cosh(z - y)), axis=1)

def normal(z, y):
    deviation = 1e-3 + np.log1p(np.exp(z[:, 1:]))
    return np.sum(np.log(deviation) + 0.5 * ((y - z[:, :1]) / deviation) ** 2, axis=1)

normal.n_outputs = 2

def cross_entropy(z, y):
    return np.log(np.sum(np.exp(z), 1)) - z[np.arange(len(z)), y]

def init(rng, n_inputs, n_outputs):
    return {"W": rng.standard_normal((n_inputs, 50)), "b": np.zeros(50), "V": rng.standard_normal((50, n_outputs))}

def predict(p, X):
    return np.tanh(0.3 * X @ p["W"] + p["b"]) @ p["V"]

def predict_abs(p, X):
    return np.abs(0.3 * X @ p["W"] + p["b"]) @ p["V"]

model, with_kinks = (init, predict), (init, predict_abs)
"""
