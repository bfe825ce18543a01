"""Supervision: a check that hangs, or a rank that dies in it, ends all ranks with a line that says who and where.

Each rank tells rank 0, on a connection beside MPI, which check it has entered and left. When a check takes longer than
the limit, rank 0 asks those who are late where they are, and `judge` says who keeps the others waiting. A connection
that ends without a goodbye is a rank that died. MPI_Init keeps Python's other threads from running, so there a process
of its own looks at the clock.
"""

import contextlib
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.doctor.finding import EXIT_CODE, FAILURE, WARNING, Finding, ranks_named
from distbp.watch.connection import BYE, Line, connect
from distbp.watch.verdict import Report, judge
from distbp.watch.watcher import Watcher

_ANSWER = 1.0
"""Seconds for the threads of late ranks to say where their ranks are."""
FORWARD = 0.5
"""Seconds for the launcher to pass on what was printed."""
_LOOK = 0.1

_GUARD = """
import os, select, signal, sys
parent, limit, text = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
if not select.select([0], [], [], limit)[0]:
    os.write(2, text.encode())
    os.kill(parent, signal.SIGKILL)
"""


@contextlib.contextmanager
def start_limit(limit: float) -> Iterator[None]:
    """End this process, with a line, when the block takes longer than `limit` seconds, even inside MPI_Init."""
    late = f"MPI_Init, or the first collective, did not return within {limit:g} s"
    text = f"distbp: rank ? on {socket.gethostname()}: {late}\n"
    command = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), str(limit), text]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL):
        yield  # its input closes behind this


def leave(comm: Communicator, problem: str) -> None:
    """End this rank, and say why."""
    os.write(2, f"distbp: rank {comm.rank} on {comm.host}: {problem}\n".encode())
    time.sleep(FORWARD)
    os._exit(EXIT_CODE[FAILURE])


def _send(lines: Iterable[Line], message: Any) -> None:
    for line in list(lines):
        line.send(message)


class Supervision:
    """Watches over the checks of all ranks of `comm`, which all make one in the same place; a `Watch`.

    A check may take `limit` seconds, and `grace` more, in which rank 0 speaks, before a rank ends by itself. Rank 0
    calls `last_words`, in another thread, with the finding that ends all. It knows nothing of the ranks `unseen`, which
    could not connect to it.
    """

    def __init__(
        self, comm: Communicator, limit: float, last_words: Callable[[Finding], None], *, grace: float = 5.0
    ) -> None:
        self._comm, self._limit, self._last_words, self._grace = comm, limit, last_words, grace
        self._check, self._since, self._steps, self._over = "", math.inf, 0, False
        self._root, self._ranks, self._hosts, self.unseen = connect(comm, 0)
        self._up = {self._root: 0} if self._root else {}
        self.lines = self._ranks | self._up
        # on rank 0, of all: where they are, when they reported that, and the checks, and when the first one entered it
        self._reports = {rank: Report(self._hosts[rank], 0, "", 0.0, place=(0, 0)) for rank in self._ranks.values()}
        self._checks: list[tuple[str, float]] = []
        self._heard, self._asked = dict.fromkeys(self._reports, -math.inf), math.inf
        Watcher().add(self)

    @contextlib.contextmanager
    def check(self, name: str) -> Iterator[None]:
        """Let this rank be in the check `name`; all ranks enter the same ones in the same order."""
        self._check, self._since, self._steps = name, time.monotonic(), self._steps + 1
        self._tell()
        yield
        self._since, self._steps = math.inf, self._steps + 1
        self._tell()

    def missed(self) -> list[Finding]:
        """Return what it means that there are `unseen` ranks."""
        if not self.unseen:
            return []
        figure = f"{ranks_named(self.unseen, self._hosts)} cannot connect to rank 0 by TCP"
        advice = "A firewall, or a host name that is not known there: if one hangs it ends, but is not named."
        return [Finding("supervision", WARNING, figure, advice, tuple(self.unseen))]

    def fail(self, check: str, problem: str) -> None:
        """Say that this rank alone cannot go on; rank 0 prints it and ends all."""
        _send(self._up, ["fail", check, problem])
        time.sleep(self._limit if self._root else 0)
        leave(self._comm, f"{check}: {problem}")

    def close(self) -> None:
        """Say that all checks are over on this rank; the process of rank 0 may end before the others are through."""
        self._over = True
        _send(self.lines, BYE)

    def _tell(self) -> None:
        """Say where this rank is, after an odd number of steps in a check."""
        _send(self._up, ["at", self._check, self._steps, self._comm.recorder.count, self._comm.recorder.inside])

    def hear(self, line: Line, message: Any) -> None:
        """Obey rank 0; there, note where a rank is, and end all when it fails or dies."""
        rank = self._ranks.get(line, -1)  # -1: it is rank 0 that speaks
        match message:
            case "where":
                self._tell()
            case "end":
                os._exit(EXIT_CODE[FAILURE])
            case ["at", name, steps, count, inside]:
                if steps % 2 and steps // 2 == len(self._checks):
                    self._checks.append((name, time.monotonic()))
                self._reports[rank] = self._reports[rank]._replace(inside=inside, place=(steps, count))
                self._heard[rank] = time.monotonic()
            case ["fail", name, problem]:
                self._end(name, f"{ranks_named([rank], self._hosts)}: {problem}", "Mend what it says.", [rank])
            case None if rank >= 0:
                name, _ = [*self._checks, ("the end", 0.0)][self._reports[rank].place[0] // 2]
                advice = "Look for its own message, and for the kernel's on lack of memory."
                self._end(name, f"{ranks_named([rank], self._hosts)} died in '{name}'", advice, [rank])
            case None:
                del self.lines[line]
                line.close()
                if not self._over:
                    leave(self._comm, f"the process of rank 0 on {self._hosts[0]} has ended in '{self._check}'")
            case _ if rank >= 0:  # goodbye
                del self.lines[line], self._ranks[line], self._reports[rank]
                line.close()
            case _:  # goodbye of rank 0, whose process may end before this one
                self._over = True

    def look(self) -> float:
        """End this rank when rank 0 should have done so; there, end all when a check takes too long."""
        if self._reports:
            self._compare()
        if time.monotonic() - self._since > self._limit + self._grace:
            within = f"within {self._limit:g} s"
            leave(self._comm, f"rank 0 on {self._hosts[0]} says nothing, and '{self._check}' did not end {within}")
        return _LOOK if self.lines or not self._over else math.inf

    def _compare(self) -> None:
        """Ask those who are late where they are, and end all."""
        now, number = time.monotonic(), min(report.place[0] for report in self._reports.values()) // 2
        late = [rank for rank, report in self._reports.items() if report.place[0] // 2 == number]
        if number >= len(self._checks) or now - self._checks[number][1] <= self._limit:
            self._asked = math.inf
        elif self._asked == math.inf:
            self._asked = now
            _send(self._ranks, "where")
        elif now > self._asked + _ANSWER or all(self._heard[rank] > self._asked for rank in late):
            self._accuse(self._checks[number][0], late)

    def _accuse(self, check: str, late: list[int]) -> None:
        """Say who keeps the others waiting, and end all."""
        reports = {rank: self._reports[rank] for rank in late if self._heard[rank] > self._asked}
        silent = {rank: (self._hosts[rank], "no answer") for rank in late if rank not in reports}
        guilty = judge(reports, silent, limit=0.0).guilty or late
        figure = f"{ranks_named(guilty, self._hosts)} did not answer in '{check}' within {self._limit:g} s"
        advice = "Look at what it does there, e.g. with py-spy; others may wait for it."
        if silent:
            advice = "It is stopped, or its host cannot be reached: look there."
        elif guilty == late and len(late) == len(self._hosts) > 1:
            figure = f"no rank came out of '{check}' within {self._limit:g} s"
            advice = "The network between the hosts may not carry MPI's messages: check interfaces and firewall."
        self._end(check, figure, advice, guilty)

    def _end(self, check: str, figure: str, advice: str, ranks: list[int]) -> None:
        """End all, on rank 0, when what it has found is printed."""
        self._last_words(Finding(check, FAILURE, figure, advice, tuple(ranks)))
        time.sleep(FORWARD)
        _send(self._ranks, "end")
        os._exit(EXIT_CODE[FAILURE])
