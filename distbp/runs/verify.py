"""Front door: ``distbp verify RUN``: train again, on whatever ranks and MPI are here, and compare.

A run with ``--exact`` must give its model file again to the byte; for any other one the figures must lie within the
intervals of the first, since sums of another number of ranks round in other places. Where something differs, what the
bits depend on is named: data, version, BLAS kernel, NumPy, CPU. It costs one training.
"""

import argparse
import hashlib
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from distbp.comm.agreement import on_root
from distbp.comm.communicator import Communicator
from distbp.comm.world import communicator
from distbp.errors import DONE, FAILED, STOPPED, UserError
from distbp.markup import plain
from distbp.report.run_files import figures_in, options_in
from distbp.run.blas import bits_depend_on
from distbp.run.config import parse_train_config
from distbp.run.entry_point import run
from distbp.run.manifest import describe
from distbp.run.next_step import IN_MEMORY
from distbp.train import train
from distbp.watch.watcher import Watcher

_FIGURES = ("accuracy", "exact_match", "rmse", "loss")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="distbp verify", description=plain(__doc__), allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help="the directory of a finished run")
    parser.add_argument("--data", metavar="PATH", help="where its data is now, if it has moved")
    options = parser.parse_args(arguments)
    watcher = Watcher()
    work = partial(verify, options.run, options.data, watcher)
    return run(work, lambda: communicator(elastic=False), watcher=watcher)


def verify(path: Path, data: str | None, watcher: Watcher, comm: Communicator) -> int:
    """Train a run again on all ranks, and say whether it is the same; `DONE` where it is."""
    if not (path / "results.json").exists() or not (path / "model.safetensors").exists():
        raise UserError(f"no finished run {path}: there is no results.json in it")
    with tempfile.TemporaryDirectory(prefix="distbp-verify-") as mine:
        folder = Path(comm.bcast_obj(mine)) / "again"
        if (code := _again(path, data, folder, comm, watcher)) == STOPPED:
            return code
        here = describe(comm)
        same: list[bool] = []
        on_root(comm, lambda: same.append(_compare(path, folder, here)), f"cannot read {path}")
        return DONE if comm.bcast_obj(same) == [True] else FAILED


def _again(path: Path, data: str | None, folder: Path, comm: Communicator, watcher: Watcher) -> int:
    """Train with the run's own configuration, in another folder, without what does not touch the model."""
    arguments = ["--config", str(path / "config.toml"), "--run-dir", str(folder), "--resume", "never"]
    arguments += ["--report", "none", "--checkpoint-every", "0", "--no-elastic"]
    config = parse_train_config([*arguments, "--quiet", *([] if data is None else ["--data", data])])
    if config.data == IN_MEMORY:
        raise UserError(f"{path} was trained on rows in memory: --data PATH says where the same rows are in a file")
    if comm.is_root:
        print(f"training {path} again, on {comm.size} rank{'s' * (comm.size > 1)}", flush=True)
    try:
        return train(config, comm, watcher=watcher)
    except UserError as error:
        if str(error).startswith("no such data"):
            raise UserError(f"{error}; --data PATH says where it is now") from error
        raise


def _compare(path: Path, folder: Path, here: dict[str, Any]) -> bool:
    """Say whether two runs are the same, on rank 0."""
    before = figures_in(path / "manifest.json")
    exact = options_in(path / "config.toml").get("exact", False)
    hashes = [hashlib.sha256((p / "model.safetensors").read_bytes()).hexdigest() for p in (path, folder)]
    ranks = f"on {_where(before)} then, on {_where(here)} now"
    if hashes[0] == hashes[1]:
        print(f"reproduced to the byte: model.safetensors {hashes[0][:16]}..., {ranks}")
        return True
    old, new = (figures_in(p / "results.json") for p in (path, folder))
    changed = _changed(before, here, old, new)
    far = [] if exact else _far(old, new)
    if not exact and not far and not changed:
        print(f"reproduced within rounding: {_figures(old, new)}; {ranks} (--exact gives the same bytes)")
        return True
    print(f"not reproduced: model.safetensors is {hashes[1][:16]}..., it was {hashes[0][:16]}...; {ranks}")
    for line in changed or ["nothing that is known of data, versions, BLAS or CPU has changed"]:
        print(f"  {line}")
    print(f"  {_figures(old, new)}")
    return False


def _changed(before: dict[str, Any], here: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a line for each thing that bits depend on and that is another now."""
    lines = []
    if old.get("data digest") != new.get("data digest"):
        lines.append("the data has changed")
    for name in ("distbp", "git"):
        if before.get(name) != here.get(name):
            lines.append(f"{name} was {before.get(name)}, here it is {here.get(name)}")
    depend = before.get("bits depend on") or {}
    for name, value in bits_depend_on().items():
        if depend.get(name, value) != value:
            lines.append(f"{name} was {depend[name]!r}, here it is {value!r}")
    return lines


def _far(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the figures that lie outside of the intervals of the first run."""
    found = []
    for name, (low, high) in old.get("intervals", {}).items():
        if name.split("/")[0] in _FIGURES and not low <= new.get(name, low) <= high:
            found.append(name)
    return found


def _figures(old: dict[str, Any], new: dict[str, Any]) -> str:
    names = [name for name in old if name.split("/")[0] in _FIGURES and isinstance(old[name], float)]
    return ", ".join(f"{name} {old[name]:.6g} then, {new.get(name, float('nan')):.6g} now" for name in names[:4])


def _where(manifest: dict[str, Any]) -> str:
    n, library = manifest.get("size", 1), str(manifest.get("mpi") or "no MPI").splitlines()[0]
    name = " ".join(library.split(",")[0].replace("Version:", "").split())
    return f"{n} ranks of {name}" if n > 1 else "1 rank"


if __name__ == "__main__":
    sys.exit(main())
