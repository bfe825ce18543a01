"""The watcher: one thread on every rank that listens to other ranks, and looks now and then after its own.

It calls no MPI. What it does is in its watches: a `Lifeline`, the doctor's supervision, and the watchdog: a run that
hangs ends, or goes on without the rank that hangs, with a line that says who and where. Progress is collectives, or
blocks of an evaluation. Where a rank made none for the limit, each reports where it is, and all come to the same
verdict. Reports are files, ``hang/rank-00003.json`` of the run directory: they reach all that are left, whoever between
them is stopped or lost. The watchdog also ends a rank whose launcher has died.
"""

import contextlib
import json
import math
import os
import select
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from distbp.comm.communicator import Communicator
from distbp.comm.launchers import launch_of
from distbp.comm.processes import describe_process, end_process, process_identity
from distbp.errors import FAILED
from distbp.files import atomic_write
from distbp.watch.connection import Line
from distbp.watch.verdict import Report, doing, judge, out_of_reach

_LOOK, _LISTEN = 0.25, 2.0
"""Seconds between looks at this rank's progress, and for alarms of others; or a tenth of a limit that is shorter."""
_ANSWER, _ASK, _LAST_WORDS = 3.0, 0.05, 0.3
"""Seconds in which the others say where they are, between looks for that, and from the verdict to the end."""


class Watch(Protocol):
    """Gives work to the thread of a rank, until it has no lines and wants no look."""

    lines: dict[Line, int]
    """Connections to listen to, and the ranks at their other ends."""

    def hear(self, line: Line, message: Any) -> None:
        """Take a message; None at the end of the connection."""
        return

    def look(self) -> float:
        """Look after this rank; return the seconds until the next look, which comes sooner after a message."""
        ...

    def close(self) -> None:
        """End what is under way; the thread has let go of it."""


class Watcher:
    """Runs the watches of this rank in one thread, while there are any."""

    def __init__(self) -> None:
        self._due: dict[Watch, float] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()  # the thread has it but when it sleeps

    def add(self, watch: Watch) -> None:
        """Run `watch` from now on."""
        with self._lock:
            self._due[watch] = -math.inf
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def remove(self, watch: Watch) -> None:
        """Run `watch` no longer, and close it."""
        with self._lock:
            self._due.pop(watch, None)
        watch.close()

    def _run(self) -> None:
        while True:
            with self._lock:
                now = time.monotonic()
                for watch in [watch for watch, due in self._due.items() if due <= now]:
                    self._due[watch] = now + watch.look()
                self._due = {watch: due for watch, due in self._due.items() if watch.lines or due < math.inf}
                if not self._due:
                    self._thread = None
                    return
                patience = min(_LOOK, min(self._due.values()) - time.monotonic())
                listening = {line.fileno(): (watch, line) for watch in self._due for line in watch.lines}
            poll = select.poll()
            for number in listening:
                poll.register(number, select.POLLIN)
            ready = poll.poll(1000 * max(0.0, patience))
            with self._lock:
                for watch, line in (listening[number] for number, _ in ready):
                    if watch in self._due:  # else it was removed meanwhile
                        self._due[watch] = -math.inf
                        for message in line.read():
                            if line in watch.lines:
                                watch.hear(line, message)


class _Reports:
    """Keeps the reports in files that all ranks see; those of other processes than `pids` are of another run."""

    def __init__(self, folder: Path, pids: dict[int, int]) -> None:
        self._folder, self._pids = folder, pids

    def path(self, rank: int) -> Path:
        return self._folder / f"rank-{rank:05d}.json"

    def write(self, rank: int, report: Report) -> None:
        self._folder.mkdir(exist_ok=True)
        content = {"rank": rank, "pid": self._pids[rank], **report._asdict()}
        atomic_write(self.path(rank), json.dumps(content).encode())

    def read(self, ranks: Iterable[int]) -> dict[int, Report]:
        found = {}
        for rank in ranks if os.path.exists(self._folder) else []:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                content = json.loads(self.path(rank).read_text(encoding="utf-8"))
                if (content.pop("rank"), content.pop("pid")) == (rank, self._pids[rank]):
                    found[rank] = Report(**content)
        return found


class Watchdog(Watch):
    """Watches the progress of the ranks of `comm`, which all make one in the same place; a `Watch`.

    It gives alarm after `limit` seconds without progress; infinity is never, then it only ends orphans. `step` returns
    the step under way. All ranks must see the `folder` of the reports to be named rightly. Where it is `ending` this
    process, signals of the launcher to the others are no news.
    """

    def __init__(
        self, comm: Communicator, folder: Path, limit: float, step: Callable[[], int],
        *, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._comm, self._limit, self._step, self._clock = comm, limit, step, clock
        self._main = threading.get_ident()
        # a process that nobody launched may well outlive the shell that started it
        self._parent = os.getppid() if launch_of(os.environ) is not None else None
        if comm.is_root:
            shutil.rmtree(folder, ignore_errors=True)  # before anybody watches
        processes = comm.allgather_obj([comm.host, *process_identity(os.getpid())])
        self._processes: dict[int, tuple[str, int, int]] = dict(zip(comm.names, processes, strict=True))
        self._reports = _Reports(folder, {rank: pid for rank, (_, pid, _) in self._processes.items()})
        self._accused: list[int] = []
        self._alarmed = self.ending = False
        self._course = self._watch()
        self.lines: dict[Line, int] = {}

    def look(self) -> float:
        """Look at this rank's progress and for alarms of others, or go on with an alarm."""
        self._wait = next(self._course)
        return self._wait

    def close(self) -> None:
        """Bring an alarm to its end: others wait for what this rank says."""
        while self._alarmed:
            time.sleep(self._wait)
            self.look()

    def _watch(self) -> Iterator[float]:
        """Look and give alarm, for ever; yields the seconds to sleep."""
        comm, look, listen = self._comm, min(_LOOK, self._limit / 10), min(_LISTEN, self._limit / 10)
        seen, idle, unheard = -1, 0.0, 0.0
        while True:
            yield look
            if self._parent not in (None, os.getppid()):
                _say(f"rank {comm.name} on {comm.host}: the launcher is gone: ending")
                os._exit(FAILED)
            # looks are counted, not seconds: nobody is late because the whole machine was asleep
            idle = idle + look if comm.recorder.progress == seen else 0.0
            seen = comm.recorder.progress
            unheard += look
            if idle >= self._limit or (unheard >= listen and self._reports.read(comm.names)):
                self._alarmed = True
                yield from self._alarm(idle)
                self._alarmed, idle = False, 0.0
            unheard %= listen

    def _alarm(self, idle: float) -> Iterator[float]:
        """Report where this rank is, wait for the others, say what follows, and end whom the verdict ends."""
        comm, names, recorder = self._comm, list(self._comm.names), self._comm.recorder
        act = doing(sys._current_frames().get(self._main))
        own = Report(comm.host, self._step(), recorder.inside, idle, act, list(recorder.last))
        path = self._reports.path(comm.name)
        try:
            self._reports.write(comm.name, own)
        except OSError as error:
            _say(f"rank {comm.name} on {comm.host}: cannot write {path}: {error}; {act}")
        deadline = self._clock() + _ANSWER
        while len(reports := self._reports.read(names) | {comm.name: own}) < len(names) and self._clock() <= deadline:
            yield _ASK
        silent = {}
        for name in [name for name in names if name not in reports]:
            host, pid, started = self._processes[name]
            silent[name] = host, describe_process(pid, started) if host == comm.host else ""
        guilty, line, for_good = judge(reports, silent, self._limit)
        self.ending = for_good
        if for_good and comm.elastic and guilty:  # maybe the others can go on without them
            self.ending = out_of_reach(guilty, silent, reports, self._accused)
            self._accused = guilty
        if comm.name == min(reports):
            longest = max(report.idle for report in reports.values())
            _say(f"{line}, for {longest:.0f} s (--hang-timeout {self._limit:g})")
        yield _LAST_WORDS  # the others have read the same reports
        with contextlib.suppress(OSError):
            path.unlink()
        if for_good:
            self._end(guilty, silent)
        else:
            yield _ANSWER

    def _end(self, guilty: list[int], silent: Collection[int]) -> None:
        """End this rank where all end or it is guilty, and its neighbours that cannot do that themselves."""
        for name in guilty:
            host, pid, started = self._processes[name]
            if host == self._comm.host and name in silent and not end_process(pid, started, 1.0):
                self.ending = True
        if self.ending:
            os._exit(FAILED)
        if self._comm.name in guilty:
            self._comm.abort(FAILED)


def _say(line: str) -> None:
    os.write(2, f"distbp: {line}\n".encode())
