"""The house keeps its shape: imports go strictly downward, each library has one door, starts are light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import distbp

PACKAGE = Path(distbp.__file__).parent

LAYERS = [
    {"autodiff.tracing", "trees"},
    {"autodiff.derivatives", "autodiff.special"},
    {f"autodiff.{name}" for name in ("compositions", "rearrangements", "algebra", "fourier", "no_derivative")},
    {"autodiff.reverse"},
    {"autodiff.checking"},
    {"autodiff"},
    {"errors", "tape"},
    {"functions", "noise_scale"},
    {"adascale", "growth"},
    {"randomness", "compiled", "recorder", "processes", "launchers"},
    {"activations", "optimizers", "schedules", "sampling", "communicator", "datasets", "stopping"},
    {
        "losses",
        "network",
        "splitting",
        "checkpoint",
        "tables",
        "arrayfiles",
        "synthetic",
        "threads",
        "lifeline",
        "mpi",
        "transport",
        "profile",
    },
    {
        "function_model",
    },
    {
        "reducer",
        "moments",
        "reporting",
        "rundir",
        "launch",
        "machine",
        "elastic",
        "watchdog",
        "saving",
        "recovery",
        "health",
    },
    {"preprocessing", "config", "exact", "world"},
    {"loading", "metrics", "model", "whole_batch"},
    {"doctor.finding"},
    {"doctor.environment", "doctor.files", "doctor.launch", "doctor.machine", "doctor.supervision", "doctor.report"},
    {"doctor.network"},
    {"trainer", "check.problem"},
    {"building", "check.gradients", "check.growth"},
    {"check.comparison"},
    {"check.report"},
    {"check.plot", "study.drawing", "study.batch_size.scaling", "study.trials"},
    {"study.page"},
    {"study.experiment"},
    {"study.batch_size.results", "study.batch_size.batch_science"},
    {"study.batch_size.words"},
    {"study.batch_size.charts"},
    {"study.batch_size.page"},
    {"study.batch_size.run"},
    {"study.plan.model", "study.plan.calibration"},
    {"study.plan.page"},
    {"study.plan.run"},
    {"study.stability.bound", "study.stability.results", "study.stability.twins"},
    {"study.stability.words", "study.stability.charts"},
    {"study.stability.page"},
    {"study.stability.run"},
    {"study.tradeoff.objective"},
    {"study.tradeoff.race"},
    {"study.tradeoff.split", "study.tradeoff.race_page"},
    {"study.tradeoff.split_page"},
    {"study.tradeoff.page"},
    {"study.tradeoff.run"},
    {"train", "predict", "slurm", "check.__main__", "doctor.__main__", "study.__main__"},
    {"__main__"},
]
ONE_DOOR = {
    "mpi4py": {"mpi"},
    "safetensors": {"checkpoint"},
    "threadpoolctl": {"machine"},
    "rich": {"reporting"},
    "torch": set(),
    "sklearn": set(),
    "autograd": set(),
    "numba": {"compiled"},
    "matplotlib": {"check.plot", "study.drawing"},
    "jinja2": {"study.page"},
    "scipy": {"study.tradeoff.objective"},
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
    tree = ast.parse(source(module))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if name.removeprefix("distbp.") in LAYER}
            names |= modules if modules == inner else {node.module or "", *modules}
    return names


def test_every_module_has_a_layer():
    assert set(MODULES) == set(LAYER) - {"autodiff"}


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_imports_go_strictly_downward(module):
    ours = {name.removeprefix("distbp.") for name in imported(module) if name.startswith("distbp.")}
    upward = {name for name in ours if name in LAYER and LAYER[name] >= LAYER[module]}
    assert not upward, f"{module} imports {upward} of its own or a higher layer"


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_each_library_has_one_door(module):
    libraries = {name.split(".")[0] for name in imported(module)} & set(ONE_DOOR)
    assert all(module in ONE_DOOR[library] for library in libraries)


@pytest.mark.parametrize("module", MODULES, ids="{}.py".format)
def test_every_module_says_what_it_is_for_and_what_is_public(module):
    tree = ast.parse(source(module))
    assert len(ast.get_docstring(tree) or "") > 40
    assert any("__all__" in ast.unparse(n) for n in tree.body if isinstance(n, (ast.Assign, ast.AnnAssign)))


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
