"""The step that the README shows is the step that runs, and is right for every plan on any number of ranks."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from step_contract import LINES, REMOVABLE, WAYS, agrees, run_the_step, serial

from distbp import run_threads
from distbp.trainer.step import step

ROOT = Path(__file__).parents[2]


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


CASES = [(way, k) for way in ("embeddings, shared", "shared, units", "exact, embeddings, shared") for k in REMOVABLE]
CASES.remove(("shared, units", len(LINES) - 1))  # before its next product every rank waits for all others anyway
CASES.remove(("shared, units", next(k for k in REMOVABLE if "step_rows" in LINES[k])))  # it has none


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


def lines_of(path, function):
    """The lines of a function, without what stands before them."""
    tree = ast.parse((ROOT / path).read_text())
    name = function.rpartition(".")[2]
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    lines = (ROOT / path).read_text().splitlines()
    return {line.strip() for node in found for line in lines[node.lineno - 1 : node.end_lineno]}


QUOTATION = re.compile(r"```python\n# (\S+), (\S+)\n(.*?)```", re.S)
QUOTATIONS = QUOTATION.findall((ROOT / "docs/backpropagation.md").read_text())


@pytest.mark.parametrize(("path", "function", "code"), QUOTATIONS, ids=[function for _, function, _ in QUOTATIONS])
def test_the_page_on_backpropagation_quotes_the_code(path, function, code):
    assert {line.strip() for line in code.splitlines()} <= lines_of(path, function)


def test_the_page_quotes_forward_backward_gradient_and_step():
    assert [function for _, function, _ in QUOTATIONS] == [
        "Network.forward", "Network.backward", "Network.gradient", "sums", "step",
    ]  # fmt: skip


def test_the_spanish_page_quotes_the_same():
    assert QUOTATION.findall((ROOT / "docs/retropropagacion.md").read_text()) == QUOTATIONS
