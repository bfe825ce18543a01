"""What the transport of a vector promises on any ranks."""

from hashlib import sha256

import numpy as np
import pytest

from distbp.gradient.transport import Transport

PRECISION = {"none": 2.0**-23, "bf16": 2.0**-8}


each_kind = pytest.mark.parametrize("kind", PRECISION)


def vectors(comm, n, scale=1e-2):
    """What each rank contributes, and the sum."""
    parts = [np.random.default_rng(rank).normal(0, scale, n).astype(np.float32) for rank in range(comm.size)]
    return parts[comm.rank].copy(), np.sum(parts, axis=0, dtype=np.float64)


def send(comm, kind, n, cuts=()):
    """The transported sum of `vectors`, sent in pieces from the end."""
    transport = Transport(comm, bf16=kind == "bf16")
    vector, total = vectors(comm, n)
    ends = [0, *cuts, n]
    for lo, hi in reversed(list(zip(ends, ends[1:], strict=False))):
        transport.start([vector], lo, hi)
    transport.wait()
    transport.close()
    return vector, total


def check(comm, kind, n, cuts=()):
    vector, total = send(comm, kind, n, cuts)
    # each rank rounds once, and so does who adds up
    bound = (comm.size + 1) * PRECISION[kind] * max(1e-12, np.abs(total).max() + 0.05)
    assert np.abs(vector - total).max(initial=0.0) <= bound
    assert len(set(comm.allgather_obj(sha256(vector.tobytes()).hexdigest()))) == 1
