"""A small training with embeddings, dropout, sample weights, L2 and clipping."""

import numpy as np
from flat import flat_trainer

from distbp import Adam, Column, Network, Schedule, SerialCommunicator, SoftmaxCrossEntropy, Target
from distbp.data.dataset import ArrayDataset
from distbp.data.fitting import fit_preprocessor
from distbp.data.prepared import Prepared
from distbp.data.splitting import Subset

N, B, STEPS = 2003, 37, 60
VALUES = 400, 300


def dataset(seed=5):
    """Three numbers, a category of 400 values, some of them rare, and one of 300 that often is missing."""
    rng = np.random.default_rng(seed)
    names = [tuple(f"v{i}" for i in range(n)) for n in VALUES]
    codes = [np.minimum(rng.geometric(0.02, N) - 1, 399) if k == 0 else rng.integers(0, 300, N) for k in range(2)]
    codes[0][: 2 * VALUES[0]] = np.arange(2 * VALUES[0]) // 2
    X = np.column_stack([rng.standard_normal((N, 2)), codes[0], rng.standard_normal(N), codes[1]])
    X[rng.random(N) < 0.2, 4] = np.nan
    y = (codes[0] % 3 + (X[:, 0] > 0)) % 3
    columns = Column("a"), Column("b"), Column("city", names[0]), Column("c"), Column("shop", names[1])
    return ArrayDataset(
        X, y, Target("classes", ("y",), ("0", "1", "2")), np.arange(3), columns=columns,
        weights=rng.uniform(0.2, 3.0, N),
    )  # fmt: skip


def rows(dtype=np.float64):
    subset = Subset(dataset())
    return Prepared(subset, fit_preprocessor(subset, SerialCommunicator()), dtype)


def trainer(
    comm, *, hidden=(16, 12), dropout=0.3, optimizer=Adam, dtype=np.float64, clip_norm=0.5, judged=False, **options
):
    data = rows(dtype)
    network = Network(
        [data.preprocessor.n_inputs, *hidden, 3], "tanh", dropout=dropout, dtype=dtype, seed=3,
        embeddings=data.preprocessor.code_values,
    )  # fmt: skip
    return flat_trainer(
        network, SoftmaxCrossEntropy(0.1), optimizer(1e-2, weight_decay=1e-3), data, comm=comm, batch_size=B,
        clip_norm=clip_norm, validation=data if judged else None, seed=11,
        schedule=Schedule("cosine", warmup=5, total=STEPS), **options,
    )  # fmt: skip


def parameters(network):
    return np.concatenate([network.theta, *(table.ravel() for table in network.embeddings)])


def train(comm, steps=STEPS, **options):
    t = trainer(comm, **options)
    t.fit(steps=steps)
    comm.barrier()
    found = parameters(t.network).copy()
    t.close()
    assert np.array_equal(parameters(t.network), found)
    return found
