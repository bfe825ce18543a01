"""What NumPy can do, function by function: each is differentiable, or constant, or refused with what to do instead."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special as special

from distbp.autodiff import NotDifferentiable, grad
from distbp.autodiff.scipy import load_scipy
from distbp.autodiff.tables import COMPOSITIONS, CONSTANT, RULES, UNSUPPORTED
from distbp.autodiff.tracing import Traced, call

SCRIPT = Path(__file__).parents[2] / "scripts" / "autodiff_table.py"
sys.path.insert(0, str(SCRIPT.parent))
from autodiff_table import MAKERS, OTHER, kind, public  # noqa: E402

load_scipy()
FUNCTIONS = {f"{space}.{name}": f for space, functions in public().items() for name, f in functions.items()}


def test_every_function_of_numpy_is_classified():
    unknown = [n for n, f in FUNCTIONS.items() if kind(f) is None and n.removeprefix("np.") not in MAKERS | OTHER]
    assert not unknown, unknown


def test_no_function_is_in_two_lists():
    for f in (RULES.keys() | COMPOSITIONS.keys()) & (CONSTANT | UNSUPPORTED.keys()) | CONSTANT & UNSUPPORTED.keys():
        raise AssertionError(f)


@pytest.mark.parametrize("name", [name for name, f in FUNCTIONS.items() if f in UNSUPPORTED])
def test_what_is_not_supported_says_what_to_do(name):
    with pytest.raises(NotDifferentiable) as refusal:
        call(FUNCTIONS[name], (Traced(np.ones(3)),))
    assert UNSUPPORTED[FUNCTIONS[name]] in str(refusal.value) and FUNCTIONS[name].__name__ in str(refusal.value)


def test_what_is_unknown_says_what_to_do():
    with pytest.raises(NotDifferentiable, match=r"^struve of a traced array: no rule .*defvjp"):
        grad(lambda x: special.struve(1.0, x))(1.0)
    with pytest.raises(NotDifferentiable, match="np.subtract.reduce"):
        grad(lambda x: np.subtract.reduce(x))(np.ones(3))
    with pytest.raises(NotDifferentiable, match="gammainc: no derivative is known by argument 0"):
        grad(lambda a: special.gammainc(a, 1.0))(1.0)


CALLS = {
    "linalg.matrix_rank": (np.eye(3),), "searchsorted": (np.arange(4.0), 2.5), "digitize": (np.ones(3), np.arange(3.0)),
    "isin": (np.ones(3), np.ones(2)), "count_nonzero": (np.ones(3),), "array_equal": (np.ones(3), np.ones(3)),
    "allclose": (np.ones(3), np.ones(3)), "isclose": (np.ones(3), np.ones(3)), "heaviside": (np.ones(3), 0.5),
    "floor_divide": (np.arange(4.0), 2.0), 
    "argpartition": (np.arange(4.0), 2), "result_type": (np.ones(3),), "zeros_like": (np.ones(3),),
    "ones_like": (np.ones(3),), "shape": (np.ones(3),), "size": (np.ones(3),), "array2string": (np.ones(3),),
    "sign": (np.ones(3),), "round": (np.ones(3), 1), "nonzero": (np.arange(3.0),), "lexsort": ((np.arange(3.0),),),
    "einsum_path": ("ij,jk", np.eye(2), np.eye(2)), "greater": (np.ones(3), 0.5), "logical_not": (np.ones(3),),
    "all": (np.ones(3),), "any": (np.ones(3), 0), "argmax": (np.arange(3.0),), "argsort": (np.arange(3.0),),
    "tril_indices_from": (np.eye(3),), "signbit": (np.ones(3),),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_what_is_piecewise_constant_gives_plain_values(name):
    function = np.linalg.matrix_rank if name.startswith("linalg") else getattr(np, name)
    assert function in CONSTANT
    args = CALLS[name]
    traced = [Traced(a) if isinstance(a, np.ndarray) else a for a in args]
    actual, expected = function(*traced), function(*args)
    assert type(actual) is type(expected)
    np.testing.assert_equal(actual, expected)


def test_the_page_of_the_docs_is_up_to_date():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_page_that_is_not_is_noticed(tmp_path, monkeypatch):
    import autodiff_table

    stale = tmp_path / "page.md"
    stale.write_text(autodiff_table.page() + "more\n")
    monkeypatch.setattr(autodiff_table, "PAGE", stale)
    monkeypatch.setattr(sys, "argv", ["autodiff_table.py", "--check"])
    with pytest.raises(SystemExit, match="not up to date"):
        autodiff_table.main()
    monkeypatch.setattr(sys, "argv", ["autodiff_table.py"])
    autodiff_table.main()
    assert stale.read_text() == autodiff_table.page()
