"""The README's own step, run as it stands: what every plan and every way of reduction owes it."""

import re
import time
from pathlib import Path

import numpy as np
from toy_training import data

from distbp import Adam, BatchSampler, Network, SerialCommunicator, SoftmaxCrossEntropy
from distbp.gradient import gradient_reducer

README = (Path(__file__).parents[2] / "README.md").read_text()
STEP = next(block for block in re.findall(r"```python\n(.*?)```", README, re.S) if "reducer.parts" in block)
LINES = STEP.splitlines()
REMOVABLE = [k for k, line in enumerate(LINES) if not line.startswith(("for ", "if "))]
STEPS, B = 4, 37

WAYS = {
    "allreduce": {"reduction": "allreduce"},
    "overlap": {"reduction": "overlap", "bucket_bytes": 400},
    "shared": {"reduction": "shared"},
    "shared, units": {"reduction": "shared", "units": True},
    "micro-batches": {"reduction": "shared", "micro_batch": 5},
    "units, micro-batches": {"reduction": "shared", "units": True, "micro_batch": 5},
    "exact, allreduce": {"reduction": "allreduce", "leaves": 4},
    "exact, overlap": {"reduction": "overlap", "leaves": 4},
    "exact, shared": {"reduction": "shared", "leaves": 4},
    "exact, units, overlap": {"reduction": "overlap", "leaves": 4, "units": True},
    "exact, units, shared": {"reduction": "shared", "leaves": 4, "units": True},
    "embeddings, allreduce": {"reduction": "allreduce", "embeddings": True},
    "embeddings, shared": {"reduction": "shared", "embeddings": True},
    "embeddings, micro-batches": {"reduction": "overlap", "micro_batch": 5, "embeddings": True},
    "exact, embeddings, shared": {"reduction": "shared", "leaves": 4, "embeddings": True},
}
VALUES = 5, 40


class Late(Adam):
    """An optimiser that takes its time, more on the first ranks: whoever does not wait reads what is not there yet."""

    delay = 0.0

    def step(self, theta, grad, norm=None):
        time.sleep(self.delay)
        super().step(theta, grad, norm)


class Coded:
    """Rows whose last inputs are codes."""

    def __init__(self, rows):
        self._rows = rows

    def take(self, positions, out=None):
        X, y, w = self._rows.take(positions, out=out)
        for j, values in enumerate(VALUES, 7 - len(VALUES)):
            X[:, j] = np.abs(X[:, j] * 1000).astype(int) % values
        return X, y, w


def run_the_step(comm, monkeypatch, *, units=False, embeddings=False, without=None, delay=0.0, **options):
    """Parameters, losses and counts after some steps of the README, on the ranks of `comm`."""
    monkeypatch.setattr("distbp.gradient.choose.shares_units", lambda *_: units)
    monkeypatch.setattr("distbp.gradient.unit_parallel._CELL_UNITS", 4)
    code = "\n".join(line for k, line in enumerate(LINES) if k != without)
    rows, loss = data(), SoftmaxCrossEntropy(0.1)
    network = Network([7, 16, 12, 4], "tanh", dtype=np.float64, seed=3, embeddings=VALUES if embeddings else ())
    optimizer = Late(1e-2, clip_norm=0.5)
    optimizer.delay = delay * (comm.size - comm.rank)
    reducer = gradient_reducer(comm, network, batch_size=B, **options)
    reducer.assign(optimizer)
    given = Coded(rows) if embeddings else rows
    sampler, figures = BatchSampler(rows.n_rows, B, seed=11), []
    for k in range(STEPS):
        names = {
            "rows": given, "network": network, "loss": loss, "reducer": reducer, "optimizer": optimizer,
            "batch": sampler.batch(k), "count": lambda part, losses, logits, y: part.count(losses),
        }  # fmt: skip
        exec(compile(code, "README.md", "exec"), names)
        figures += [names["statistics"].loss, names["statistics"].rows]
    comm.barrier()
    theta = np.concatenate([network.theta, *(table.ravel() for table in network.embeddings)])
    comm.barrier()
    reducer.close()
    return np.concatenate([theta, figures])


def serial(monkeypatch, **options):
    alone = {key: value for key, value in options.items() if key != "micro_batch"}
    return run_the_step(SerialCommunicator(), monkeypatch, **alone)


def agrees(result, wanted):
    """Whether it is that of one process, to rounding."""
    return np.allclose(result, wanted, rtol=1e-12, atol=1e-12)
