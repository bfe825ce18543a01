"""The toy training in exact mode, by either of its reducers."""

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


KINDS = ["leaf by leaf", "whole batch"]


@pytest.fixture(name="sums", params=KINDS)
def exact_sums(request, monkeypatch):
    """Both kinds of exact reducer, whichever would suit."""
    monkeypatch.setattr("distbp.gradient.whole_batch.suits", lambda *_: request.param == "whole batch")
    monkeypatch.setattr("distbp.gradient.whole_batch._LEAF_ROWS", 2)
    return request.param


@remembered
def alone(*, sums, **options):
    """What one process gets, with the kind of reducer that the fixture `sums` gives."""
    return run(SerialCommunicator(), **options)
