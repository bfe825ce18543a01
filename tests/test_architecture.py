"""The house keeps its shape: imports go strictly downward, each library has one door, starts are light."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import distbp

PACKAGE = Path(distbp.__file__).parent

LAYERS = [
    {"errors", "randomness", "blocks", "trees", "markup", "optim"},
    {"autodiff", "comm", "files"},
    {"network", "data", "watch"},
    {"gradient", "model"},
    {"trainer", "report"},
    {"run"},
    {"train", "predict", "slurm", "check", "doctor", "study", "estimators", "export"},
    {"runs"},
    {"__main__"},
]
"""Packages, and the modules that stand beside them: a module imports from its own package and from lower layers."""
ONE_DOOR = {
    "mpi4py": {"comm.mpi"},
    "safetensors": {"files"},
    "threadpoolctl": {"run.blas"},
    "rich": {"trainer.bar"},
    "torch": set(),
    "tensorboard": {"run.trackers"},
    "mlflow": {"run.trackers"},
    "wandb": {"run.trackers"},
    "trackio": {"run.trackers"},
    "sklearn": {"estimators.base", "estimators.classifier", "estimators.regressor"},
    "autograd": set(),
    "numba": {"optim.compiled"},
    "matplotlib": {"check.plot", "report.drawing"},
    "jinja2": {"report.page"},
    "scipy": {"study.tradeoff.objective"},
    "h5py": {"data.arrayfiles"},
    "duckdb": {"data.table.database"},
}
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)


def source(module: str) -> str:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text()


def imported(module: str) -> set[str]:
    """Modules that it imports, ours by what stands behind ``distbp.``."""
    names = set()
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if name.removeprefix("distbp.") in {*MODULES, *LAYER}}
            names |= modules if modules == inner else {node.module or "", *modules}
    return names


def test_every_module_has_a_layer():
    assert {module.split(".")[0] for module in MODULES} == set(LAYER)


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_imports_go_strictly_downward(module):
    here = module.split(".")[0]
    ours = {name.split(".")[1] for name in imported(module) if name.startswith("distbp.")} - {here}
    floor = (
        LAYER["train"] if module in ("data.__main__", "report.__main__") else LAYER[here]
    )  # a front door in a room of its own
    upward = {name for name in ours if name in LAYER and LAYER[name] >= floor}
    assert not upward, f"{module} imports {upward} of its own or a higher layer"


def test_modules_of_a_package_import_each_other_in_one_direction():
    below = {module: {name.removeprefix("distbp.") for name in imported(module)} & set(MODULES) for module in MODULES}
    left = dict(below)
    while done := {module for module in left if not left.keys() & below[module] - {module}}:
        left = {module: names for module, names in left.items() if module not in done}
    assert not left, f"in a circle: {sorted(left)}"


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_each_library_has_one_door(module):
    libraries = {name.split(".")[0] for name in imported(module)} & set(ONE_DOOR)
    assert all(module in ONE_DOOR[library] for library in libraries)


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_every_module_says_what_it_is_for(module):
    """What is public has no underscore; packages say in ``__all__`` what they give on."""
    tree = ast.parse(source(module))
    assert len(ast.get_docstring(tree) or "") > 40
    assert "__all__" not in {
        ast.unparse(target) for n in tree.body if isinstance(n, ast.Assign) for target in n.targets
    }


def test_what_begins_with_an_underscore_stays_in_its_module():
    for module in MODULES:
        for node in ast.walk(ast.parse(source(module))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("distbp"):
                private = [alias.name for alias in node.names if re.match("_[^_]", alias.name)]
                assert not private, f"{module} imports {private}"


def test_public_names_are_sorted_documented_and_there():
    assert distbp.__all__ == sorted(distbp.__all__)
    for name in distbp.__all__:
        assert getattr(distbp, name).__doc__


def test_import_is_light():
    """A thousand ranks do it at once on a cluster."""
    heavy = "mpi4py matplotlib sklearn scipy torch rich safetensors threadpoolctl numba distbp.autodiff".split()
    code = f"import sys, distbp; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_is_pickled():
    for module in MODULES:
        text = source(module)
        assert "import pickle" not in text and "allow_pickle=True" not in text


BUDGET = {
    "network": 1770,
    "optim": 735,
    "data": 5345,
    "comm": 1555,
    "gradient": 2240,
    "trainer": 2730,
    "run": 3640,
    "report": 725,
    "watch": 575,
    "autodiff": 3750,
    "check": 1050,
    "doctor": 1250,
    "study": 3160,
    "estimators": 430,
    "export": 510,
    "runs": 535,
    "": 1245,
}
"""Lines of each package, and of the modules beside them; a commit that raises one says why."""


def test_each_package_keeps_its_budget():
    lines = dict.fromkeys(BUDGET, 0)
    for path in PACKAGE.rglob("*.py"):
        folder = path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else ""
        lines[folder] += len(path.read_text().splitlines())
    assert {name: n for name, n in lines.items() if n > BUDGET[name]} == {}


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_modules_classes_and_functions_are_short(module):
    """300, 220 and 50 lines, docstrings of classes and functions aside."""
    assert len(source(module).splitlines()) <= 300
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= (220 if isinstance(node, ast.ClassDef) else 50), f"{node.name} has {lines} lines"


def test_a_trainer_is_told_little():
    arguments = distbp.Trainer.__init__.__code__.co_varnames[1 : distbp.Trainer.__init__.__code__.co_argcount]
    assert len(arguments) + distbp.Trainer.__init__.__code__.co_kwonlyargcount <= 12


def test_the_top_of_the_package_is_short():
    beside = {p.name for p in PACKAGE.iterdir() if not p.is_dir() and p.suffix != ".pyc"}
    assert len(beside) <= 14


@pytest.mark.parametrize("name", distbp.__all__)
def test_a_public_name_is_what_it_says_in_a_fresh_process(name):
    """Names are found when they are asked for; modules of the same name stand beside some of them."""
    home = distbp.__getattr__(name) if name != "__version__" else distbp.__version__
    assert not inspect.ismodule(home) and getattr(distbp, name) is home
