"""The run directory: one run, one folder, one writer.

    config.toml          the resolved configuration
    manifest.json        versions, libraries, hosts of the last start
    metrics.jsonl        a record a line
    checkpoints/         step-000000123.safetensors
    model.safetensors    the trained network
    results.json         final metrics; it exists only when the run is finished
    events.jsonl         losses of ranks and what they cost, warnings; only where there were some

Rank 0 alone touches it; when that is lost, the first rank that is left. A lock, which the system drops when its holder
dies, keeps a second run out. Where the file system has none (some Lustre, EFS, FUSE), the name of its holder does, as
far as can be seen from this host.
"""

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from distbp.comm.agreement import on_root
from distbp.comm.communicator import Communicator
from distbp.comm.processes import process_identity
from distbp.errors import UserError, complain
from distbp.files import atomic_write, take_lock
from distbp.report.run_files import figures_in, options_in

_PATIENCE = 10.0
"""Seconds for the lock of a rank that was lost to be free; on another host it takes a while."""


def data_name(data: str) -> str:
    """Return the name of a run after ``--data``: synthetic for ``synthetic:blobs``, table for ``some/table.csv``."""
    return Path(data.split(",")[0].split(":")[0]).name.split(".")[0]


def chosen_run_dir(
    asked: str | Path | None, data: str, comm: Communicator, going_on: dict[str, Any] | None = None
) -> Path:
    """Return the directory of a run, on all ranks: the one that is asked for, or ``runs/NAME-K``, after the data.

    To resume it is the newest one that was begun with what `going_on` says; else a new one, which is made here: runs
    that start together get different ones.
    """
    found: list[str] = []
    on_root(comm, lambda: found.append(str(asked or _default(data, going_on))), "cannot make a directory in runs")
    return Path(comm.bcast_obj(found[0] if comm.is_root else "")).expanduser()


def run_of(path: Path) -> dict[str, Any] | None:
    """Return what the run in a directory must agree with to be resumed; None where nothing says so."""
    found = figures_in(path / "manifest.json").get("run")
    return found if isinstance(found, dict) else None


def _default(data: str, going_on: dict[str, Any] | None) -> Path:
    stem = re.sub(r"[^\w.-]+", "-", data_name(data)) or "run"
    found = (re.fullmatch(re.escape(stem) + r"-(\d+)", path.name) for path in Path("runs").glob("*"))
    numbers = [int(name[1]) for name in found if name]
    for k in sorted(numbers, reverse=True) if going_on is not None else ():
        path = Path("runs", f"{stem}-{k}")
        if (path / "config.toml").exists() and run_of(path) in (None, json.loads(json.dumps(going_on))):
            return path
    return first_free(stem, max(numbers, default=0) + 1)


def first_free(stem: str, first: int = 1) -> Path:
    """Make ``runs/STEM-K`` with the first K that is free: starts at the same moment get different ones."""
    for k in itertools.count(first):
        path = Path("runs", f"{stem}-{k}")
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    return path


def begun(config: Any, comm: Communicator) -> dict[str, Any]:
    """Return the options of the run that is resumed, by their names, on all ranks; {} where none is."""
    found: dict[str, Any] = {}
    path = Path(config.run_dir or ".").expanduser() / "config.toml"
    if comm.is_root and config.resume == "auto" and config.run_dir:
        found = {name.replace("-", "_"): value for name, value in options_in(path).items()}
    of_all: dict[str, Any] = comm.bcast_obj(found)
    return of_all


@contextmanager
def removed_if_empty(path: Path) -> Iterator[None]:
    """Remove a directory that a run did not come to use, where what is within fails."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            path.rmdir()  # which fails where there is something in it
        raise


class RunDirectory:
    """A locked run directory, made if there is none; open it on all ranks of `comm`, and close it.

    Rank 0 does the work, and all raise the `UserError` that says what goes wrong there: another run is in it, or it
    holds one that may not be continued (`resume`), or it cannot be written.
    """

    def __init__(self, path: Path, comm: Communicator, *, resume: bool) -> None:
        self.path, self._comm = path, comm
        self._lock: TextIO | None = None
        self._written: dict[str, str] = {}
        self.remark = ""
        """What the user is to know of it, on rank 0."""
        self.on_anew: Callable[[], None] = lambda: None
        """Called on rank 0 when it had gone, and was made anew."""
        try:
            on_root(comm, lambda: self._open(resume), f"cannot use the run directory {path}")
        except BaseException:  # also a lost rank: whoever begins again wants the lock
            self.close()
            raise

    def _open(self, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"the run directory {self.path} is a file")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        if (self.path / "config.toml").exists() and not resume:
            cure = "continue it with --resume auto, or give another --run-dir"
            raise UserError(f"the run directory {self.path} holds a run already: {cure}")
        going_on = ("checkpoints", "step-*"), ("members", "*")
        if (self.path / "results.json").exists() and not any(any((self.path / f).glob(g)) for f, g in going_on):
            cure = f"--init-from {self.path} goes on from its model; or give another --run-dir"
            raise UserError(f"the run directory {self.path} holds a finished run whose checkpoints have gone: {cure}")

    def check(self) -> None:
        """See to it, on rank 0, that the directory is this run's: it may have been removed, and used by another.

        One that has gone is made anew, with what is known of it: a training is not lost for that.
        """
        other = f"the run directory {self.path} is another run's now: this one's was removed or moved"
        with suppress(FileNotFoundError, NotADirectoryError):
            if (self.path / "lock").read_text(encoding="utf-8") != self._mark():
                raise UserError(other)
            return
        if there := self.path.exists():
            config = self.path / "config.toml"
            if not config.exists() or config.read_text(encoding="utf-8") != self._written.get("config.toml"):
                raise UserError(other)
        self.close()
        self._open(resume=True)
        if not there:
            for name, content in self._written.items():
                atomic_write(self.path / name, content.encode())
            self.on_anew()
            complain(f"warning: the run directory {self.path} has gone, with all that was in it: made anew")

    def _mark(self) -> str:
        pid, since = process_identity(os.getpid())
        return f"process {pid} on {self._comm.host}\n{since}"

    def _take_lock(self, patience: float = 0.0) -> None:
        if self._lock is not None:
            return
        deadline = time.monotonic() + patience
        lock = open(self.path / "lock", "a+", encoding="utf-8")
        while self._is_held(lock):
            if time.monotonic() >= deadline:
                lock.seek(0)
                by = f"another run ({lock.read().partition(chr(10))[0] or 'unknown'})"
                lock.close()
                wait = "wait for it or give another --run-dir"
                raise UserError(f"the run directory {self.path} is in use by {by}: {wait}")
            time.sleep(0.01)
        lock.truncate(0)
        lock.write(self._mark())
        lock.flush()
        self._lock = lock

    def _is_held(self, lock: TextIO) -> bool:
        """Return whether somebody else has the lock; if not, this process has it now."""
        is_free, no = take_lock(lock)
        if not no:
            return not is_free
        lock.seek(0)
        holder = re.fullmatch(r"process (\d+) on (.*)\n(\d+)", lock.read())
        if holder is not None and holder[2] == self._comm.host:
            pid, since = int(holder[1]), int(holder[3])
            if pid != os.getpid() and process_identity(pid) == (pid, since):
                return True
        self.remark = f"{self.path} cannot be locked ({no}): see to it that no run on another host uses it meanwhile"
        return False

    def take_over(self) -> None:
        """Hold the lock in place of a rank that was lost; what goes wrong there is raised on all ranks."""
        on_root(self._comm, lambda: self._take_lock(_PATIENCE), f"cannot use the run directory {self.path}")

    def event(self, kind: str, **what: Any) -> None:
        """Add a line to ``events.jsonl``, if this is rank 0; no other rank takes part."""
        if self._comm.is_root:
            when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            try:
                with open(self.path / "events.jsonl", "a", encoding="utf-8") as stream:
                    stream.write(json.dumps({"time": when, "event": kind, **what}) + "\n")
            except OSError as error:  # a full disk is no reason to end a training
                complain(f"warning: cannot write {self.path / 'events.jsonl'}: {error}")

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Have rank 0 `write` a file, given its path; an error there is raised on all ranks."""
        path = self.path / name

        def put() -> None:
            self.check()
            write(path)

        on_root(self._comm, put, f"cannot write {path}")

    def write(self, name: str, content: str) -> None:
        """Write a whole file of text; an error of rank 0 is raised on all ranks."""
        self.save(name, lambda path: atomic_write(path, content.encode()))
        self._written[name] = content

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file."""
        self.write(name, json.dumps(value, indent=1) + "\n")

    def close(self) -> None:
        """Let others in; an empty lock says that its holder ended by itself."""
        if self._lock is not None:
            with suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
            self._lock = None
