"""Ranks without a core of their own, on the ranks of an MPI launch."""

import numpy as np
import pytest
from toy_training import alone, trainer


@pytest.fixture
def crowd(comm, monkeypatch):
    """Ranks 0 and 1 have cores, whatever this machine has."""
    monkeypatch.setattr(comm, "crowded", comm.size > 2)
    monkeypatch.setattr(comm, "has_core", comm.rank < 2)
    return comm


@pytest.mark.parametrize("options", [{}, {"leaves": 4}], ids=str)
def test_who_sleeps_has_the_parameters_of_who_computes(crowd, options):
    t = trainer(crowd, oversubscribe=False, **options)
    assert t.crew.asleep == (crowd.rank >= 2) and t.crew.comm.size == (1 if t.crew.asleep else min(2, crowd.size))
    for steps, whole in ((20, 20), (30, 50)):
        assert t.fit(steps=steps) == "done" and t.position.step == whole
    np.testing.assert_allclose(t.network.theta, alone(**options), rtol=1e-10, atol=1e-12)
    assert len(set(crowd.allgather_obj(t.network.theta.tobytes().hex()))) == 1
    t.close()


def test_who_sleeps_can_stop_all(crowd):
    t = trainer(crowd, oversubscribe=False)
    if crowd.rank == crowd.size - 1:
        t.request_stop()
    assert t.fit(steps=10**7) == "stopped"
    assert len(set(crowd.allgather_obj(t.position.step))) == 1
    assert t.fit_until(steps=t.position.step + 5) == "done"
    t.close()


def test_parts_have_no_crew_of_their_own_and_the_crew_is_made_once(crowd):
    assert crowd.crew() is crowd.crew() and not crowd.crew().crowded
    part = crowd.split(crowd.rank % 2)
    assert part.has_core and part.crowded == crowd.crowded
    t = trainer(part, oversubscribe=False)
    assert not t.crew.asleep and t.crew.comm is part
    assert t.fit(steps=5) == "done"
    t.close()
