"""Preprocessors fitted by ranks: data with holes, categories, weights and targets."""

import numpy as np

from distbp import (
    ArrayDataset,
    Column,
    SerialCommunicator,
    Subset,
    Target,
    fit_preprocessor,
)

SERIAL = SerialCommunicator()


def mixed(n=300, seed=0, texts=("red", "green", "blue")):
    """Numbers with holes, and two columns of categories with holes, in turns."""
    rng = np.random.default_rng(seed)
    X = np.empty((n, 6))
    X[:, [0, 2, 3, 5]] = rng.normal(3, [1, 10, 0.1, 5], (n, 4))
    X[:, 1], X[:, 4] = rng.integers(0, len(texts), n), rng.integers(0, 2, n)
    X[rng.random(X.shape) < 0.1] = np.nan
    columns = (
        Column("a"),
        Column("c", tuple(texts)),
        Column("b"),
        Column("e"),
        Column("t", ("no", "yes")),
        Column("f"),
    )
    return ArrayDataset(X, rng.normal(size=n), Target("values", ("y",)), columns=columns)


def fit_weighted(comm):
    """Several blocks, holes, weights, balanced classes, some rows only."""
    rng = np.random.default_rng(3)
    X, y = rng.normal(2, 3, (1500, 4)), rng.integers(0, 3, 1500)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[:, 3] = rng.integers(0, 3, 1500)
    columns = (*(Column(n) for n in "abc"), Column("d", ("p", "q", "r")))
    target = Target("classes", ("y",), ("0", "1", "2"))
    weights = rng.uniform(0.2, 3, 1500)
    data = ArrayDataset(X, y, target, class_values=np.arange(3), weights=weights, columns=columns)
    rows = np.sort(rng.permutation(1500)[:1000])
    return fit_preprocessor(Subset(data, rows), comm, class_weight="balanced").as_dict()


def fit_values(comm):
    return fit_preprocessor(Subset(mixed(1500)), comm, scaling="minmax", bins=8).as_dict()
