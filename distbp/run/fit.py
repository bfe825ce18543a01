"""A run from Python: ``fit(X, y)`` trains as the command does, on all ranks of ``mpirun`` where there are some."""

import json
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.agreement import on_root
from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.comm.world import communicator
from distbp.data.inmemory import is_in_memory
from distbp.data.prepared import Data
from distbp.errors import STOPPED, UserError
from distbp.markup import card
from distbp.model import Model
from distbp.report.run_files import figures_in
from distbp.run.blas import limited_blas
from distbp.run.build import load_data
from distbp.run.config import config_of
from distbp.run.ensemble import EnsembleJob
from distbp.run.entry_point import end_together, hold
from distbp.run.findings import findings
from distbp.run.going_on import model_at
from distbp.run.job import Job
from distbp.run.next_step import IN_MEMORY
from distbp.run.recipes import recipe_of_rows
from distbp.run.report import records_of
from distbp.watch.watcher import Watcher


class History(list[dict[str, Any]]):
    """Hold the records of a run, in order, a dict each; ``history["loss/val"]`` is a column of them.

    A frame of pandas or polars is made of it as of any list of dicts.
    """

    @property
    def columns(self) -> list[str]:
        """The names of all figures, in order of their first appearance."""
        return list(dict.fromkeys(name for record in self for name in record))

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        if key not in self.columns:
            raise KeyError(f"no {key!r} in these records; there are {', '.join(self.columns)}")
        numbers = ((np.nan if record.get(key) is None else record[key]) for record in self)
        return np.array([number if isinstance(number, int | float) else np.nan for number in numbers])

    def _repr_html_(self) -> str:
        shown = [name for name in self.columns if name not in ("examples", "seconds")]
        rows = [[_short(record.get(name)) for name in shown] for record in self[-20:]]
        return card(f"{len(self)} records", rows, shown)


class Run:
    """A training that is done: its model, its records, and how good it is.

    `fit` gives it, and `Run.load` that of a run directory.

    Attributes
    ----------
    path : Path
        The run directory.
    results : dict
        What ``results.json`` says: figures as ``accuracy/test``, with intervals and baselines.
    history : History
        The records of the log.
    """

    def __init__(self, path: Path, results: dict[str, Any], history: Iterable[dict[str, Any]]) -> None:
        self.path, self.results, self.history = path, results, History(history)
        self.data: Data | None = None
        """The rows that it had, where it was trained in this process."""
        self._validated: Any = None
        self._seed = 0
        self._comm: Communicator = SerialCommunicator()

    @classmethod
    def load(cls, path: str | Path) -> "Run":
        """Return the finished run of a directory."""
        path = Path(path).expanduser()
        if not (results := figures_in(path / "results.json")):
            raise UserError(f"no finished run {path}: there is no results.json in it, or a damaged one")
        return cls(path, results, records_of(path))

    @cached_property
    def model(self) -> Model:
        """The trained model."""
        return model_at(str(self.path))

    def importance(self) -> list[list[Any]]:
        """Return which columns the predictions need: [name, mean, deviation], the largest first.

        Under MPI all ranks call it; see `distbp.trainer.inspection.importance`.
        """
        from distbp.report.of_run import read_run  # where it is wanted: starts are light

        self._look()
        found: list[list[Any]] = []
        on_root(self._comm, lambda: found.extend(read_run(self.path)["found"].get("importance", [])), "cannot read it")
        of_all: list[list[Any]] = self._comm.bcast_obj(found)
        return of_all

    def _look(self) -> None:
        """Write what a look into the model finds to ``report.json``, where nobody has and the rows are here."""
        path = self.path / "report.json"
        if self.data is not None and not self._comm.bcast_obj(path.exists()):
            found, _ = findings(self.model, self.data, self._comm, self._seed, self._validated)
            text = json.dumps(found | {"seconds": {}})
            on_root(self._comm, lambda: path.write_text(text, encoding="utf-8"), f"cannot write {path}")

    def report(self, language: str = "en") -> Path:
        """Write ``report.html`` and ``report.md`` where they are not yet; return the path of the first.

        Under MPI all ranks call it.
        """
        from distbp.report.of_run import report_on  # where it is wanted: starts are light

        self._look()
        on_root(self._comm, lambda: report_on(self.path, language), f"cannot write the report in {self.path}")
        return self.path / "report.html"

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to another process: not the rows, nor the ranks."""
        gone = {"data": None, "_validated": None, "_comm": SerialCommunicator()}
        return {"model": self.model, **{name: gone.get(name, value) for name, value in vars(self).items()}}

    def __repr__(self) -> str:
        figures = {name: value for name, value in self.results.items() if isinstance(value, float) and "/" in name}
        first = ", ".join(f"{name} {value:.4g}" for name, value in list(figures.items())[:4])
        return f"Run({str(self.path)!r}: {first or 'no rows to judge it by'})"

    def _repr_html_(self) -> str:
        rows = [(name, _short(value)) for name, value in self.results.items() if isinstance(value, int | float | str)]
        return card(f"Run: {self.model}", rows, ("figure", ""))


def fit(
    data: Any = "digits",
    y: Any = None,
    *,
    sample_weight: Any = None,
    validation_data: Any = None,
    test_data: Any = None,
    init_from: Any = None,
    comm: Communicator | None = None,
    on_record: Callable[[dict[str, Any]], object] | None = None,
    verbose: bool = True,
    **options: Any,
) -> Run:
    """Train a network, as ``python -m distbp.train`` does, with its recipes.

    Under ``mpirun`` all ranks call it, with the same data, and share the work.

    Parameters
    ----------
    data : str, Path, array_like of shape (n_rows, ...), data frame, dict of columns, or list of dicts
        Rows, or where they are; see `load`.
    y : array_like of shape (n_rows,) or (n_rows, k), or str, optional
        The target of rows in memory, or the name of its column.
    sample_weight : str or array_like of shape (n_rows,), optional
        The weight of each row, or its column.
    validation_data, test_data : like `data`, or a pair (data, y), optional
        Rows to validate and to test on. Without them parts of `data` are taken, but of rows in memory none to test on:
        ``test_fraction=0.2`` takes some.
    init_from : Model, str or Path, optional
        Go on from this model, or from that of a run.
    comm : Communicator, optional
        The ranks; all that the launcher started by default.
    on_record : callable, optional
        Called on rank 0 with each record of the log, a dict: ``{"epoch": 3.0, "loss/val": 0.41, ...}``.
    verbose : bool
        Print what the command prints.
    **options
        Those of the command, with underscores: ``epochs=20, hidden=[256, 256], exact=True``. Without `run_dir` the
        files of the run are temporary.

    Returns
    -------
    Run
        With `model`, `history`, `results`, `report`.

    Raises
    ------
    UserError
        What is wrong with data or options, in one line.
    SystemExit
        After a signal, or Ctrl-C: with code 75 and a checkpoint where there is a `run_dir`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((200, 3))
    >>> run = fit(X, X[:, 0] > X[:, 1], epochs=10, verbose=False)
    >>> run.model.predict([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    array([ True, False])
    """
    named = {"target": y, "sample_weight": sample_weight}
    options = {name: value for name, value in named.items() if isinstance(value, str)} | options
    given: dict[str, Any] = {"y": y, "sample_weight": sample_weight}
    given |= {"validation_data": validation_data, "test_data": test_data}
    if is_in_memory(data):
        given["data"] = data
        options = {"data": IN_MEMORY, "recipe": None if options.get("model") else recipe_of_rows(data)} | options
        options = {"test_fraction": 0.0} | options
    else:
        options["data"] = data if isinstance(data, str) else ",".join(map(os.fspath, _paths(data)))
    if isinstance(init_from, Model):
        given["start"] = init_from
    else:
        options["init_from"] = init_from
    given = {name: value for name, value in given.items() if value is not None}
    listen = None if on_record is None else lambda job, record: on_record(dict(record))
    return fit_with(given, options, comm or world(), verbose=verbose, listen=listen)


def fit_with(
    given: Mapping[str, Any], options: dict[str, Any], comm: Communicator, *, verbose: bool = False,
    steady: bool = False, listen: Callable[[Job, dict[str, Any]], object] | None = None,
) -> Run:  # fmt: skip
    """Train with `given` arguments of `load` and options; see `fit`. Rank 0 hears of each record by `listen`.

    Where it is `steady`, bits do not depend on what else this machine does.
    """
    temporary, watcher = None, Watcher()
    goodbye = hold(comm, watcher)
    try:
        if options.get("run_dir") is None:
            temporary = comm.bcast_obj(comm.is_root and tempfile.mkdtemp(prefix="distbp-"))
            options = options | {"run_dir": temporary, "report": options.get("report", "none")}
            options = {"checkpoint_every": "0", "checkpoint_async": False} | options
        else:  # where it is now, wherever the process goes meanwhile
            options = options | {"run_dir": os.path.abspath(os.path.expanduser(options["run_dir"]))}
        config = config_of(options, "fit()")
        limited = limited_blas(comm, 1 if config.exact else config.threads, steady=steady)
        with open(os.devnull, "w") as nowhere, limited as threads:
            data = load_data(config, comm, given)
            stream = sys.stdout if verbose else nowhere
            make = EnsembleJob if config.has_members else Job
            job = make(config, comm, threads, watcher, data=data, stream=stream)
            job.listen = listen if comm.is_root else None
            if job.run() == STOPPED:
                raise SystemExit(STOPPED)
    except BaseException as error:
        if temporary is not None and comm.is_root:
            shutil.rmtree(temporary, ignore_errors=True)
        end_together(error, comm)
        raise
    goodbye()
    path = Path(str(config.run_dir))
    records = comm.bcast_obj(records_of(path) if comm.is_root else None)
    run = Run(path, job.results, records)
    run.model, run.data, run._comm, run._validated = job.model, data, comm, job.validated
    run._seed = config.seed
    if temporary is not None:
        weakref.finalize(run, _remove, temporary, os.getpid())
    return run


@cache
def world() -> Communicator:
    """Return the ranks of the launcher, the same each time."""
    return communicator(elastic=False)


def _remove(folder: str, pid: int) -> None:
    """Remove a temporary folder of this process; a child that was forked has it from its parent."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _paths(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [data]


def _short(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
