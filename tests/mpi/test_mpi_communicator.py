"""The contract of communicators on the ranks of an MPI launch."""

import pytest
from communicator_contract import every_check

from distbp.comm import mpi as module

short_or_long = pytest.mark.parametrize("chunk", [64, 1 << 30])


@every_check
@short_or_long
def test_ranks(check, chunk, comm, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk)
    check(comm)


@every_check
@pytest.mark.parametrize("yields", [False, True])
def test_ranks_that_spin_or_yield(check, yields, comm, monkeypatch):
    monkeypatch.setattr(comm, "crowded", yields, raising=False)
    check(comm)
