"""The watchdog: a run that hangs ends, or goes on without the rank that hangs, with a line that says who and where.

A thread on every rank looks now and then whether its rank makes progress: collectives, or blocks of an evaluation.
Where there was none for the limit, each rank writes where it is to ``hang/rank-00003.json`` in the run directory (the
innermost line of Python, the last collectives), and from all of them it follows who keeps the others waiting:

    a rank that goes on, only slowly: then nothing is done
    a rank that is stopped, or gone
    a rank that is in no collective while others wait in one
    a rank that has not said anything
    a rank that is in another collective than the others
    nobody: all wait in the same one

The thread calls no MPI, and costs nothing between its looks. It also ends a rank whose launcher has died.
"""

import json
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from distbp.comm.communicator import Communicator
from distbp.comm.launchers import launch_of
from distbp.comm.processes import end_process, process_identity, process_state
from distbp.errors import FAILED
from distbp.files import atomic_write

__all__ = ["Watchdog", "doing", "judge"]

_LOOK, _LISTEN = 0.25, 2.0
"""Seconds between looks at this rank's progress, and for alarms of others; or a tenth of a limit that is shorter."""
_ANSWER = 3.0
"""Seconds within which the others say where they are."""
_LAST_WORDS = 0.3

_PACKAGE = Path(__file__).parents[1]
_DOING = {
    ("data/prepared.py", "take"): "reading rows",
    ("network/dense.py", "forward"): "in the forward pass",
    ("network/dense.py", "backward"): "in the backward pass",
    ("network/losses.py", "value"): "computing the loss",
    ("optim/optimizer.py", "step"): "updating the parameters",
    ("trainer/trainer.py", "_backpropagate"): "in the passes",
    ("trainer/trainer.py", "save"): "saving a checkpoint",
    ("trainer/evaluation.py", "evaluate"): "evaluating",
    ("run/report.py", "record"): "writing the log",
    ("trainer/trainer.py", "fit"): "between two steps",
}
_GONE = "its process is gone"
_STATES = {
    "T": "its process is stopped",
    "t": "its process is held by a debugger",
    "D": "its process waits for a disk",
    "X": _GONE,
    "Z": _GONE,
}

Report = dict[str, Any]


def doing(frame: FrameType | None) -> str:
    """What a thread does, in words, with the innermost line: ``reading rows (arrayfiles.py:88)``."""
    if frame is None:
        return "not running"
    line = f"({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
    here: FrameType | None = frame
    while here is not None:
        path = Path(here.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            key = path.relative_to(_PACKAGE).as_posix(), here.f_code.co_name
            if key in _DOING:
                return f"{_DOING[key]} {line}"
        here = here.f_back
    return f"in {frame.f_code.co_name} {line}"


class Verdict(NamedTuple):
    """Who keeps the others waiting, the line that says so, and whether it is for good."""

    guilty: list[int]
    line: str
    for_good: bool = True


def judge(reports: dict[int, Report], silent: dict[int, tuple[str, str]], limit: float) -> Verdict:
    """Follow from what the ranks say who keeps the others waiting.

    Parameters
    ----------
    reports : dict
        By rank: ``host``, ``idle`` seconds without progress, ``step`` under way, ``inside`` (what it waits in, or ""),
        ``doing``, ``last`` (number, operation and bytes of its last collectives).
    silent : dict
        Ranks that have said nothing: their host, and what the system knows about them, or "".
    limit : float
        Seconds without progress that are too many; half of it is what a rank that goes on never needs.
    """

    def named(ranks: list[int]) -> str:
        return ", ".join(f"rank {r} on {reports[r]['host'] if r in reports else silent[r][0]}" for r in ranks)

    step = max((report["step"] for report in reports.values()), default=0)
    stopped = [rank for rank, (_, known) in silent.items() if known]
    if stopped:
        known = " and ".join(sorted({silent[rank][1] for rank in stopped}))
        return Verdict(stopped, f"{named(stopped)} did not reach the end of step {step}: {known}")
    busy = [rank for rank, report in reports.items() if report["idle"] < limit / 2 and not report["inside"]]
    if busy:
        return Verdict(busy, f"the others wait for {named(busy)}, which goes on: {reports[busy[0]]['doing']}", False)
    outside = [rank for rank, report in reports.items() if not report["inside"]]
    if outside:
        said = [f"rank {r}: {reports[r]['doing']}" if len(outside) > 1 else reports[r]["doing"] for r in outside]
        step = reports[outside[0]]["step"]
        return Verdict(outside, f"{named(outside)} did not reach the end of step {step}: {'; '.join(said)}")
    if silent:
        return Verdict(list(silent), f"{named(list(silent))} did not reach the end of step {step}: no answer")
    # all wait: for the collective that most are in
    places = {rank: tuple(report["last"][-1]) if report["last"] else (0, "", 0) for rank, report in reports.items()}
    (usual, count), *_ = Counter(places.values()).most_common()
    odd = [rank for rank, place in places.items() if place != usual]
    if odd and count > len(odd):
        return Verdict(
            odd,
            f"{named(odd)} waits in {_collective(places[odd[0]])}, the others in {_collective(usual)}: every rank must"
            f" make the same calls; step {step}, {reports[odd[0]]['doing']}",
        )
    if odd:
        said = [f"rank {rank} in {_collective(place)}" for rank, place in sorted(places.items())[:4]]
        return Verdict([], f"the ranks are in different collectives of step {step}: {'; '.join(said)}")
    return Verdict([], f"all ranks wait in {_collective(usual)} of step {step}: MPI or the network does not go on")


def _collective(place: tuple[int, str, int]) -> str:
    number, operation, nbytes = place
    return f"collective {number}, {operation} of {nbytes} bytes"


class Watchdog:
    """Watches the ranks of `comm`; all make one, in the same place.

    Parameters
    ----------
    comm : Communicator
        The ranks.
    folder : Path
        Where reports go; all ranks must see it to be named rightly.
    limit : float
        Seconds without progress until the alarm; infinity for none, then it only ends orphans.
    step : callable
        The step under way.

    Attributes
    ----------
    ending : bool
        Whether it is about to end this process: signals of the launcher to the others are no news then.
    """

    def __init__(self, comm: Communicator, folder: Path, limit: float, step: Callable[[], int]) -> None:
        self._comm, self._folder, self._limit, self._step = comm, folder, limit, step
        self._main = threading.current_thread().ident
        # a process that nobody launched may well outlive the shell that started it
        self._parent = os.getppid() if launch_of(os.environ) is not None else None
        if comm.is_root:
            shutil.rmtree(folder, ignore_errors=True)  # before anybody watches
        self._processes = dict(
            zip(comm.names, comm.allgather_obj([comm.host, *process_identity(os.getpid())]), strict=True)
        )
        self._accused: set[int] = set()
        self._ended = threading.Event()
        self.ending = False
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()

    def _path(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05d}.json"

    def _watch(self) -> None:
        look, listen = min(_LOOK, self._limit / 10), min(_LISTEN, self._limit / 10)
        seen, idle, heard = -1, 0.0, 0.0
        while not self._ended.wait(look):
            if self._parent not in (None, os.getppid()):
                _say(f"rank {self._comm.name} on {self._comm.host}: the launcher is gone: ending")
                os._exit(FAILED)
            # looks are counted, not seconds: nobody is late because the whole machine was asleep
            idle = idle + look if self._comm.recorder.progress == seen else 0.0
            seen = self._comm.recorder.progress
            heard += look
            if idle >= self._limit or (heard >= listen and self._alarmed()):
                self._alarm(idle)
                idle = 0.0
            heard %= listen

    def _alarmed(self) -> bool:
        """Whether some rank has given alarm."""
        return self._folder.exists() and any(self._path(rank).exists() for rank in self._comm.names)

    def _report(self, idle: float) -> Report:
        recorder = self._comm.recorder
        frame = sys._current_frames().get(self._main or 0)
        return {
            "rank": self._comm.name, "host": self._comm.host, "pid": os.getpid(), "step": self._step(),
            "inside": recorder.inside, "doing": doing(frame), "idle": idle, "last": list(recorder.last),
        }  # fmt: skip

    def _alarm(self, idle: float) -> None:
        comm, mine = self._comm, self._path(self._comm.name)
        names = list(comm.names)
        own = self._report(idle)
        try:
            self._folder.mkdir(exist_ok=True)
            atomic_write(mine, json.dumps(own).encode())
        except OSError as error:
            _say(f"rank {comm.name} on {comm.host}: cannot write {mine}: {error}; {own['doing']}")
        deadline = time.monotonic() + _ANSWER
        while True:
            reports = self._read(names) | {comm.name: own}
            if len(reports) == len(names) or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        silent = {name: (self._processes[name][0], self._known(name)) for name in names if name not in reports}
        guilty, line, for_good = judge(reports, silent, self._limit)
        self.ending = for_good and (not comm.elastic or not guilty or self._stays(guilty, reports, silent))
        if comm.name == min(reports):
            idle = max(report["idle"] for report in reports.values())
            _say(f"{line}, for {idle:.0f} s (--hang-timeout {self._limit:g})")
        time.sleep(_LAST_WORDS)  # the others have read the same reports
        mine.unlink(missing_ok=True)
        if not for_good:
            time.sleep(_ANSWER)
            return
        for name in guilty:
            host, pid, started = self._processes[name]
            if name != comm.name and host == comm.host and name in silent and not end_process(pid, started, 1.0):
                self.ending = True
        if self.ending:
            os._exit(FAILED)
        if comm.name in guilty:
            comm.abort(FAILED)

    def _stays(self, guilty: list[int], reports: dict[int, Report], silent: dict[int, tuple[str, str]]) -> bool:
        """Whether nobody can end one of those that say nothing so that MPI notices."""
        hosts = {report["host"] for report in reports.values()}
        again = self._accused & silent.keys()
        self._accused = set(guilty)
        return bool(again) or any(
            name in silent and (silent[name][0] not in hosts or silent[name][1] == _GONE) for name in guilty
        )

    def _read(self, names: list[int]) -> dict[int, Report]:
        reports = {}
        for name in names:
            try:
                report = json.loads(self._path(name).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if report["pid"] == self._processes[name][1]:
                reports[name] = report
        return reports

    def _known(self, name: int) -> str:
        """What the system says about a rank of this host that says nothing itself."""
        host, pid, started = self._processes[name]
        if host != self._comm.host:
            return ""
        state, when = process_state(pid)
        return _STATES.get(state if when == started else "X", "")


def _say(line: str) -> None:
    os.write(2, f"distbp: {line}\n".encode())
