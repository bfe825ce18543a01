"""The README's own step on the ranks of an MPI launch."""

import pytest
from step_contract import WAYS, agrees, run_the_step, serial


@pytest.mark.parametrize("way", WAYS)
def test_the_step_of_the_readme_is_that_of_one_process(way, comm, monkeypatch):
    assert agrees(run_the_step(comm, monkeypatch, **WAYS[way]), serial(monkeypatch, **WAYS[way]))
