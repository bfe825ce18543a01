"""The step that the README shows is the step that runs, and is right for every plan on any number of ranks."""

import inspect

import pytest
from step_contract import LINES, REMOVABLE, WAYS, agrees, run_the_step, serial

from distbp import run_threads
from distbp.trainer.step import step


def test_the_readme_shows_the_step_that_runs():
    body = inspect.cleandoc(inspect.getsource(step).split('"""')[2]).splitlines()
    assert body == [*LINES, "return statistics"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("size", "per_host"), [(1, None), (2, None), (3, None), (2, 1), (4, 2)])
def test_the_step_of_the_readme_is_that_of_one_process(way, size, per_host, monkeypatch):
    options = WAYS[way]
    wanted = serial(monkeypatch, **options)
    for result in run_threads(size, lambda comm: run_the_step(comm, monkeypatch, **options), ranks_per_host=per_host):
        assert agrees(result, wanted)


CASES = [(way, k) for way in ("shared", "shared, units", "exact, shared") for k in REMOVABLE]
CASES.remove(("shared, units", len(LINES) - 1))  # before its next product every rank waits for all others anyway


@pytest.mark.parametrize(("way", "line"), CASES, ids=lambda x: x if isinstance(x, str) else LINES[x].split("#")[0])
def test_a_step_with_one_line_left_out_is_found(way, line, monkeypatch):
    """Else the test above would show nothing."""
    options = WAYS[way]
    wanted = serial(monkeypatch, **options)

    def run(comm):
        return run_the_step(comm, monkeypatch, without=line, delay=0.01, **options)

    try:
        results = run_threads(2, run)
    except Exception:
        return
    assert not all(agrees(result, wanted) for result in results)
