"""Trials: what a study trains, who trains which, and what is known so far.

A trial is a piece of work with a name; its result is a line of ``trials.jsonl``. Groups of ranks take trials from a
queue, which is no process but a folder of locks: a group that holds the lock of a trial does it, the system drops the
lock when the group dies, and whoever comes next, also another job on the same folder, takes the trial again. So a study
can be killed and started again at any time, or spread over the jobs of an array.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.errors import Diverged, UserError
from distbp.files import atomic_write, take_lock

_PAUSE = 0.1


class Trial(Protocol):
    """What `work_through` must know of a trial; its text is its name."""

    def cost(self) -> float:
        """Return about how long it takes beside the others."""
        ...


T = TypeVar("T", bound=Trial)


def say(text: str) -> None:
    """Print a line of the progress."""
    print(text, flush=True)


def marks(total: int, factor: float = 1.2) -> list[int]:
    """Return steps at which a trial is measured: each is about `factor` times the one before; the last is `total`."""
    steps, at = [], 1.0
    while at < total:
        steps.append(int(at))
        at = max(at + 1.0, at * factor)
    return [*steps, total]


def train_and_measure(
    at: Iterable[int], train: Callable[[int], object], measure: Callable[[], dict[str, float]]
) -> tuple[list[dict[str, float]], int | None]:
    """Train up to each of the steps `at`, and measure there.

    Returns what was measured, and before which of the steps the training diverged: then it ends where it was finite
    last, for JSON has no infinities.
    """
    found: list[dict[str, float]] = []
    for step in at:
        try:
            train(step)
            with np.errstate(over="ignore", invalid="ignore"):  # seen in the numbers instead
                found.append(measure())
        except Diverged:
            return found, step
        if not all(map(math.isfinite, found[-1].values())):
            return found[:-1], step
    return found, None


def by_name(measured: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return what was measured mark by mark as a list for each name."""
    return {name: [mark[name] for mark in measured] for name in (measured[0] if measured else ())}


class _Results:
    """The results of a study, of which only those are read that have come since the last time."""

    def __init__(self, folder: Path) -> None:
        self._path, self._inode, self._end = folder / "trials.jsonl", 0, 0
        self._known: dict[str, dict[str, Any]] = {}

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the results by the name of the trial; a last line that was cut off is none."""
        if not self._path.exists():
            return {}
        with open(self._path, "rb") as stream:
            inode = os.fstat(stream.fileno()).st_ino
            if inode != self._inode:  # another file, as a job that is done leaves it
                self._inode, self._end, self._known = inode, 0, {}
            stream.seek(self._end)
            new = stream.read()
        new = new[: new.rfind(b"\n") + 1]  # what is behind it may still be taken away
        self._end += len(new)
        for line in new.splitlines():
            try:
                result = json.loads(line)
                self._known[result["trial"]] = result
            except (ValueError, LookupError, TypeError, RecursionError):
                where = f"{self._path}: a line is damaged, {line[:30].decode(errors='replace')!r}"
                raise UserError(f"{where}: remove it, and its trial is done again") from None
        return self._known


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the results by the name of the trial; a last line that was cut off is none."""
    return _Results(folder).read()


def write_results(folder: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write ``trials.jsonl`` as a whole."""
    atomic_write(folder / "trials.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


def sort_results(folder: Path, trials: Iterable[Trial]) -> None:
    """Bring the lines of ``trials.jsonl`` into the order of `trials`, whoever finished first."""
    results = read_results(folder)
    write_results(folder, (results[str(trial)] for trial in trials if str(trial) in results))


def groups_of(comm: Communicator, ranks: int) -> Communicator:
    """Return the group of `ranks` ranks that this one is in; all ranks of `comm`, a multiple, call it."""
    return SerialCommunicator() if ranks == 1 else comm.split(comm.rank // ranks)


def work_through(
    trials: Sequence[T], do: Callable[[T, Communicator], dict[str, Any]], group: Communicator, folder: Path,
    say: Callable[[str], None], what: str, *, best: Callable[[Iterable[dict[str, Any]]], str] | None = None,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Do what is not done of `trials`, the same on all ranks, the most costly first; each group of ranks calls it.

    ``do(trial, group)`` gives, on all ranks of a group of `groups_of`, the trial's line of ``trials.jsonl``; the name
    is added, and ``summary``, a few words for the progress, is taken out. The first rank of a group says how far it is
    when it has done a trial: `what` is the name of this part of the study, ``best(results)`` the best in a few words.
    Returns the results of all `trials`, also of those that other groups have done.
    """
    trials = sorted(trials, key=lambda trial: -trial.cost())
    if not group.is_root:
        while (at := int(group.bcast_obj(0))) >= 0:
            do(trials[at], group)
        return dict(group.bcast_obj({}))
    costs = {str(trial): trial.cost() for trial in trials}
    queue, start = Queue(folder, costs), time.monotonic()
    before = sum(costs[name] for name in costs.keys() & queue.results.read())
    with closing(queue):
        while (at := int(group.bcast_obj(queue.take()))) >= 0:
            result = do(trials[at], group)
            summary = result.pop("summary", "")
            queue.finish({"trial": str(trials[at]), **result})
            known = queue.results.read()
            done = [cost for name, cost in costs.items() if name in known]
            left = (time.monotonic() - start) * (sum(costs.values()) - sum(done)) / max(sum(done) - before, 1e-9)
            news = f"{what}: {len(done)} of {len(costs)} done, about {left:.0f} s left; {trials[at]}: {summary}"
            say(news + (f"; best so far {best(known.values())}" if best else ""))
    known = queue.results.read()
    return dict(group.bcast_obj({name: known[name] for name in costs if name in known}))


class Queue:
    """The trials that are not done, by name, in this order, for a group of ranks; its first rank does all of this."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder, self._names, self.results = folder, list(names), _Results(folder)
        self._mine: TextIO | None = None
        (folder / "locks").mkdir(exist_ok=True)

    def take(self) -> int:
        """Return the next trial that nobody has, by number, -1 when all are done; wait for those that others have."""
        while True:
            done = self.results.read()
            left = [i for i, name in enumerate(self._names) if name not in done]
            if not left:
                return -1
            for i in left:
                if self._lock(self._names[i]):
                    if self._names[i] not in self.results.read():  # another group may just have finished it
                        return i
                    self.release()
            time.sleep(_PAUSE)

    def finish(self, result: dict[str, Any]) -> None:
        """Write the result of the trial that was taken, and give its lock back."""
        with open(self._folder / "trials.jsonl", "a+b") as stream:
            take_lock(stream, wait=True)
            if stream.seek(0, os.SEEK_END):
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a writer was killed in the middle of its line
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.write(json.dumps(result).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.release()

    def _lock(self, name: str) -> bool:
        stream = open(self._folder / "locks" / name.replace(" ", ","), "a", encoding="utf-8")
        # on a file system without locks a trial may be done by several groups, and the last one counts
        is_free, _ = take_lock(stream)
        if is_free:
            self._mine = stream
        else:
            stream.close()
        return is_free

    def release(self) -> None:
        """Give the lock of the trial that was taken back."""
        if self._mine is not None:
            self._mine.close()
            self._mine = None

    close = release  # as `contextlib.closing` calls it
