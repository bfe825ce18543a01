"""Shared by all tests, alone and under mpirun.

Under ``mpirun -n P python -m pytest -p pytest_mpi --with-mpi tests/mpi`` every rank runs those tests with the real
communicator; a rank that fails ends the others rather than let them wait for it. In one process they run on one rank,
but for those of ``test_mpi_alone.py``, which want the real MPI.
"""

import importlib
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from grids import NIGHTLY, examples
from threadpoolctl import threadpool_limits

from distbp import ArrayDataset, Prepared, Subset, communicator, fit_preprocessor
from distbp.comm.communicator import Communicator
from distbp.comm.launchers import launch_of
from distbp.comm.serial import SerialCommunicator
from distbp.data.targets import infer_target

UNDER_MPIRUN = launch_of(os.environ) is not None
SKIP_IS_FAILURE = bool(os.environ.get("DISTBP_SKIP_IS_FAILURE"))
"""CI has all that a test can want."""
if not UNDER_MPIRUN:  # where each rank would import it for nothing
    from hypothesis import settings

    settings.register_profile("distbp", examples(100))
    settings.load_profile("distbp")
if "DISTBP_CACHE" not in os.environ:  # converted tables of the tests, and of all that they start
    _CACHE = tempfile.TemporaryDirectory(prefix="distbp-cache-")
    os.environ["DISTBP_CACHE"] = _CACHE.name
_NOT_STARTED = "listener thread failed to start"
"""What Open MPI's mpirun says on a busy machine, now and then, before it has started anything."""
collect_ignore = [
    *([] if UNDER_MPIRUN else ["mpi/test_mpi_alone.py"]),
    *([] if NIGHTLY else ["nightly"]),
]
_COMM: Communicator | None = None


def world() -> Communicator:
    """The one communicator of this process."""
    global _COMM
    if _COMM is None:
        _COMM = communicator("auto")
    return _COMM


@pytest.fixture
def comm() -> Communicator:
    return world()


@pytest.fixture
def shared_dir(tmp_path_factory: pytest.TempPathFactory, comm: Communicator) -> Path:
    """An empty folder, the same one on all ranks."""
    path = str(tmp_path_factory.mktemp("shared")) if comm.is_root else ""
    return Path(comm.bcast_obj(path))


@pytest.fixture(scope="session")
def cluster():
    """A SLURM of four nodes, one for all tests that want one."""
    from cluster import Cluster, why_not  # tests/slurm/cluster.py

    reason = why_not()
    if reason:
        pytest.skip(reason)
    one = Cluster()
    yield one
    one.stop()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study that is over in a second, in exact mode; nobody changes it."""
    from tiny_study import TINY, run_study  # tests/contracts/tiny_study.py

    folder = tmp_path_factory.mktemp("tiny")
    run_study(folder, *TINY, "--exact", "--leaves", "4")
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_pictures():
    """Reports have empty files in place of pictures, which take most of the time of a small study."""
    from distbp.report import page

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "rendered", lambda figure, kind: b"")
        yield


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports have their pictures from here on."""
    from distbp.report import drawing, page

    monkeypatch.setattr(page, "rendered", drawing.rendered)


@pytest.fixture
def one_thread():
    """One BLAS thread, as where the same product has to have the same bits."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """DISTBP_SLURM=short or full asks for tests that submit jobs."""
    not_now = {"": {"slurm"}, "short": {"full"}, "full": set()}[os.environ.get("DISTBP_SLURM", "")]
    gone = [item for item in items if any(item.get_closest_marker(name) for name in not_now)]
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in gone]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    report = yield
    if report.skipped and SKIP_IS_FAILURE:
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    report = yield
    if report.skipped and SKIP_IS_FAILURE and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    if UNDER_MPIRUN and report.failed and world().size > 1:
        print(f"\nrank {world().rank}: {item.nodeid}\n{report.longreprtext}", file=sys.stderr, flush=True)
        world().abort(1)
    return report


def prepared(
    X, y, *, task="auto", weights=None, dtype=np.float64, scaling="none", scale_target=False, **fit
) -> Prepared:
    """Arrays as a network sees them."""
    y = np.asarray(y)
    names = ("y",) if y.ndim == 1 else tuple(f"y{i}" for i in range(y.shape[1]))
    target, values = infer_target(y, names, "data", task=task)
    dataset = ArrayDataset(np.asarray(X), y, target, class_values=values, weights=weights)
    subset = Subset(dataset)
    fitted = fit_preprocessor(subset, SerialCommunicator(), scaling=scaling, scale_target=scale_target, **fit)
    return Prepared(subset, fitted, dtype)


def mpirun(ranks: int) -> list[str]:
    """The mpirun beside this Python, allowing more ranks than cores; skips where there is none."""
    path = Path(sys.executable).with_name("mpirun")
    if not path.exists():
        pytest.skip("no mpirun beside this Python: pip install 'distbp[mpi]'")
    return [str(path), "-n", str(ranks)]


def clean_environment() -> dict[str, str]:
    """The environment without what a launcher set; Open MPI may run as root and oversubscribe."""
    prefixes = ("PMI_", "PMIX_", "OMPI_", "MPI_", "SLURM_", "HYDRA_", "MPIR_", "MPIEXEC_", "PRTE_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
    return kept | {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    }


def done_by(command: list[str], **more) -> subprocess.CompletedProcess[str]:
    """Run a command, again where mpirun did not start on a busy machine."""
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, **more)
        if _NOT_STARTED not in done.stdout + done.stderr:
            break
    return done


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python ARGUMENTS`` in an empty folder, on `ranks` ranks where it is given."""

    def run(*arguments: str, ranks: int = 0, timeout: float = 60, cwd: Path = tmp_path, **env: str):
        command = [*(mpirun(ranks) if ranks else []), sys.executable, *map(str, arguments)]
        return done_by(command, cwd=cwd, env=clean_environment() | env, timeout=timeout, stdin=subprocess.DEVNULL)

    return run


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Do as `launch` does for ``-m MODULE ARGUMENTS``, but in this process, which saves most of the time."""
    monkeypatch.chdir(tmp_path)

    def run(minus_m: str, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        capfd.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are no errors in another process
            package = importlib.import_module(module)
            door = importlib.import_module(f"{module}.__main__") if hasattr(package, "__path__") else package
            try:
                code = door.main(list(map(str, arguments)))
            except SystemExit as error:
                code = error.code
        return subprocess.CompletedProcess([module, *arguments], code, *capfd.readouterr())

    return run
