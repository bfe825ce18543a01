"""distbp.autodiff beside HIPS autograd: gradients and second derivatives of the same functions, in turns.

    scripts/environment .venv mpi,test
    .venv/bin/python scripts/benchmark_autodiff.py [--repetitions 15] [--only TEXT] [--json FILE]

Both differentiate the same source: each problem is a function of the module that stands for NumPy, plain ``numpy`` for
us, ``autograd.numpy`` for the peer. Times are medians over turns, ratios medians of those of neighbouring turns; peaks
are the largest memory that NumPy held during one gradient (tracemalloc), above what was held before.
"""

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

import autograd
import autograd.numpy as anp
import numpy as np
from threadpoolctl import threadpool_limits

from distbp import autodiff

SIZES = (784, 256, 128, 10)


def mlp(xp, rng, batch):
    """Cross-entropy of a dense network, by its parameters."""
    X, y = rng.standard_normal((batch, SIZES[0])), rng.integers(0, SIZES[-1], batch)
    layers = [
        (rng.standard_normal((m, n)) / m**0.5, np.zeros(n)) for m, n in zip(SIZES, SIZES[1:], strict=False)
    ]  # fmt: skip

    def loss(layers):
        a = X
        for W, b in layers[:-1]:
            a = xp.maximum(xp.dot(a, W) + b, 0.0)
        z = xp.dot(a, layers[-1][0]) + layers[-1][1]
        z = z - xp.max(z, axis=1, keepdims=True)
        return xp.mean(xp.log(xp.sum(xp.exp(z), axis=1)) - z[np.arange(batch), y])

    return loss, layers


def recurrence(xp, rng):
    """A thousand steps of one number."""

    def last(x):
        h = x
        for _ in range(1000):
            h = 0.9 * h + 0.1 * xp.sin(h) * x
        return h

    return last, 0.5


def mixture(xp, rng):
    """Log-likelihood of a mixture of normal distributions, by their means, deviations and weights."""
    data = rng.standard_normal((2000, 1))
    start = rng.standard_normal(8), np.zeros(8), np.zeros(8)

    def likelihood(parameters):
        mean, log_deviation, logit = parameters
        weight = logit - xp.log(xp.sum(xp.exp(logit)))
        terms = weight - log_deviation - 0.5 * ((data - mean) / xp.exp(log_deviation)) ** 2
        top = xp.max(terms, axis=1, keepdims=True)
        return xp.sum(xp.log(xp.sum(xp.exp(terms - top), axis=1)) + top[:, 0])

    return likelihood, start


def attention(xp, rng):
    """Self-attention of several heads, by its three matrices."""
    X = rng.standard_normal((4, 32, 64))
    start = tuple(rng.standard_normal((64, 4, 16)) / 8.0 for _ in range(3))

    def output(matrices):
        q, k, v = (xp.einsum("btd,dhe->bhte", X, W) for W in matrices)
        score = xp.einsum("bhte,bhse->bhts", q, k) / 4.0
        score = xp.exp(score - xp.max(score, axis=-1, keepdims=True))
        weight = score / xp.sum(score, axis=-1, keepdims=True)
        return xp.sum(xp.einsum("bhts,bhse->bthe", weight, v) ** 2)

    return output, start


def convolution(xp, rng):
    """A layer of 3 x 3 filters as a sum of shifted products, relu, and a sum over each image."""
    X = rng.standard_normal((16, 14, 14, 4))
    start = rng.standard_normal((3, 3, 4, 8)) / 6.0, rng.standard_normal((8, 10))

    def output(parameters):
        filters, last = parameters
        z = 0.0
        for i in range(3):
            for j in range(3):
                z = z + xp.dot(X[:, i : i + 12, j : j + 12], filters[i, j])
        pooled = xp.mean(xp.maximum(z, 0.0), axis=(1, 2))
        return xp.sum(xp.tanh(xp.dot(pooled, last)) ** 2)

    return output, start


PROBLEMS = {
    "MLP, batch 32": lambda xp, rng: mlp(xp, rng, 32),
    "MLP, batch 512": lambda xp, rng: mlp(xp, rng, 512),
    "recurrence, 1,000 steps": recurrence,
    "mixture": mixture,
    "attention": attention,
    "convolution": convolution,
}


def flat(tree):
    """All numbers of a tree."""
    if isinstance(tree, (tuple, list)):
        return np.concatenate([flat(x) for x in tree])
    return np.ravel(tree)


def second(xp, grad, f, start):
    """The product of the Hessian matrix with ones: a derivative of the derivative."""

    def total(g, like):
        if isinstance(like, (tuple, list)):
            return sum(total(g[k], part) for k, part in enumerate(like))
        return xp.sum(g)

    return grad(lambda x: total(grad(f)(x), start))


def seconds(run, x, at_least=0.02):
    """Of one call: the mean of as many as take that long."""
    n, start = 0, time.perf_counter()
    while True:
        run(x)
        n += 1
        if (elapsed := time.perf_counter() - start) > at_least:
            return elapsed / n


def peak(run, x):
    """Bytes that a call holds at most."""
    gc.collect()
    tracemalloc.start()
    run(x)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--only", default="", help="problems whose name has this text")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows, products = [], {}
    print("| problem | derivative | ours us | autograd us | autograd / ours | peak, ours / autograd |")
    print("|---|---|---|---|---|---|")
    with threadpool_limits(1):
        for name, make in PROBLEMS.items():
            if options.only not in name:
                continue
            f, x = make(np, np.random.default_rng(0))
            g, _ = make(anp, np.random.default_rng(0))
            for order, ours, theirs in (
                ("first", autodiff.grad(f), autograd.grad(g)),
                ("second", second(np, autodiff.grad, f, x), second(anp, autograd.grad, g, x)),
            ):
                np.testing.assert_allclose(flat(ours(x)), flat(theirs(x)), rtol=1e-8, atol=1e-10)
                turns = [(seconds(ours, x), seconds(theirs, x)) for _ in range(options.repetitions)]
                ratio = statistics.median(b / a for a, b in turns)
                memory = peak(ours, x) / peak(theirs, x)
                products.setdefault(order, []).append(ratio)
                rows.append({"problem": name, "derivative": order, "turns": turns, "ratio": ratio, "memory": memory})
                a, b = (statistics.median(t) * 1e6 for t in zip(*turns, strict=True))
                print(f"| {name} | {order} | {a:,.0f} | {b:,.0f} | {ratio:.2f} | {memory:.2f} |", flush=True)
    for order, ratios in products.items():
        print(f"\n{order} derivatives: {statistics.geometric_mean(ratios):.2f} times as fast in the geometric mean")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
