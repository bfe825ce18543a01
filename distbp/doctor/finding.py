"""Findings: what a check has found, as a figure, a status, and what to do where it is not well; and the report of all.

A check measures, gathers in `columns` what all ranks have measured, and judges that: all ranks find the same.
"""

import json
import os
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distbp.comm.communicator import Communicator

OK, WARNING, FAILURE = "ok", "warning", "failure"
EXIT_CODE = {OK: 0, WARNING: 1, FAILURE: 2}
_NAMED = 5
"""Ranks that are named one by one; a thousand would hide what is wrong with them."""


@dataclass(frozen=True)
class Finding:
    """States what a check has found; `ranks` are those that it is about, all where there are none."""

    check: str
    status: str
    figure: str
    advice: str = ""
    """One sentence on what to do; "" where all is well."""
    ranks: tuple[int, ...] = ()

    def __str__(self) -> str:
        text = f"{self.status:8} {self.check:24} {self.figure}"
        return " ".join((f"{text}. {self.advice}" if self.advice else text).splitlines())


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst status of `findings`."""
    return max((finding.status for finding in findings), key=EXIT_CODE.__getitem__, default=OK)


def columns(comm: Communicator, *mine: Any) -> list[Any]:
    """Gather what each rank has measured, JSON values: a column of all ranks for each, behind that of their hosts."""
    return list(zip(*comm.allgather_obj([comm.host, *mine]), strict=True))


def ranks_named(ranks: Sequence[int], hosts: Sequence[str]) -> str:
    """Name ranks for people, ``rank 3 on node2, rank 5 on node3``; `hosts` are those of all ranks."""
    more = f" and {len(ranks) - _NAMED} more" if len(ranks) > _NAMED else ""
    return ", ".join(f"rank {rank} on {hosts[rank]}" for rank in sorted(ranks)[:_NAMED]) + more


def hosts_of(hosts: Sequence[str]) -> dict[str, list[int]]:
    """Return the ranks of each host, in the order in which hosts appear."""
    found: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        found.setdefault(host, []).append(rank)
    return found


class Report:
    """Collects findings; prints them where it `speaks`, as lines or in the end as JSON. Any thread may end it, once."""

    def __init__(self, *, speaks: bool, as_json: bool) -> None:
        self._speaks, self._json = speaks, as_json
        self._lock = threading.RLock()
        self.findings: list[Finding] = []

    @property
    def code(self) -> int:
        """Return the exit code."""
        return EXIT_CODE[worst(self.findings)]

    def add(self, findings: list[Finding]) -> None:
        """Print a line for each of `findings`."""
        with self._lock:
            self.findings += findings
            if findings and not self._json:
                self._print("\n".join(map(str, findings)))

    def end(self, last: Finding | None = None) -> None:
        """Print the summary, or all as JSON; `last` is what ended the checks before their time."""
        with self._lock:
            self.add([last] if last else [])
            counts = Counter(finding.status for finding in self.findings)
            bad = [f"{counts[word]} {word}{'s' * (counts[word] > 1)}" for word in (FAILURE, WARNING) if counts[word]]
            text = f"\n{' and '.join(bad)}, {counts[OK]} ok" if bad else f"\nall {counts[OK]} findings are ok"
            if self._json:
                found = [asdict(finding) for finding in self.findings]
                text = json.dumps({"findings": found, "worst": worst(self.findings)}, indent=2)
            self._print(text)
            self._speaks = False

    def _print(self, text: str) -> None:
        try:
            if self._speaks:
                print(text, flush=True)
        except BrokenPipeError:  # who reads has gone, e.g. head: the exit code still tells
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
