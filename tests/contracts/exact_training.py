"""The toy training in exact mode, by either plan."""

import pytest
from toy_training import remembered, trainer

from distbp import SerialCommunicator

LEAVES, STEPS = 8, 12


def run(comm, steps=STEPS, leaves=LEAVES, **options):
    records = []

    def keep(record):
        records.append({k: v for k, v in record.items() if "second" not in k})

    t = trainer(comm, leaves=leaves, log_every=1, on_record=keep, **options)
    t.fit(steps=steps)
    theta, figures = t.network.theta.copy(), t.evaluate(t.train)
    t.close()
    return theta.tobytes(), records, figures


KINDS = ["rows", "units"]


@pytest.fixture(name="sums", params=KINDS)
def exact_sums(request, monkeypatch):
    """Both plans, whichever would suit."""
    monkeypatch.setattr("distbp.gradient.choose.shares_units", lambda *_: request.param == "units")
    monkeypatch.setattr("distbp.gradient.unit_parallel._LEAF_ROWS", 2)
    return request.param


@remembered
def alone(*, sums, **options):
    """What one process gets, with the kind of reducer that the fixture `sums` gives."""
    return run(SerialCommunicator(), **options)
