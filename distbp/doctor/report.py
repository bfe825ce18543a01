"""The report: findings as lines while they come, or as one JSON object at the end."""

import json
import os
import threading
from collections import Counter
from dataclasses import asdict

from distbp.doctor.finding import EXIT_CODE, FAILURE, OK, WARNING, Finding, worst

__all__ = ["Report"]


class Report:
    """Collects findings; prints them where `speaks`, as text or at the end as JSON.

    It may be ended from another thread, once.
    """

    def __init__(self, *, speaks: bool, as_json: bool) -> None:
        self._speaks, self._json = speaks, as_json
        self._lock, self._ended = threading.Lock(), False
        self.findings: list[Finding] = []

    @property
    def code(self) -> int:
        """Return the exit code."""
        return EXIT_CODE[worst(self.findings)]

    def add(self, findings: list[Finding]) -> None:
        """Print a line for each of `findings`."""
        with self._lock:
            self._add(findings)

    def _add(self, findings: list[Finding]) -> None:
        self.findings += findings
        if self._speaks and not self._json and not self._ended and findings:
            self._print("\n".join(line(finding) for finding in findings))

    def end(self, last: Finding | None = None) -> None:
        """Print the summary, or all as JSON; `last` is what ended the checks before their time."""
        with self._lock:
            if last:
                self._add([last])
            if self._speaks and not self._ended:
                self._print(self._document() if self._json else self._summary())
            self._ended = True

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except BrokenPipeError:  # who reads has gone, e.g. head: the exit code still tells
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    def _document(self) -> str:
        return json.dumps({"findings": [asdict(f) for f in self.findings], "worst": worst(self.findings)}, indent=2)

    def _summary(self) -> str:
        counts = Counter(finding.status for finding in self.findings)
        failures, warnings = counts[FAILURE], counts[WARNING]
        if worst(self.findings) == OK:
            return f"\nall {counts[OK]} findings are ok"
        counted = [f"{n} {word}{'s' * (n > 1)}" for n, word in ((failures, FAILURE), (warnings, WARNING)) if n]
        return f"\n{' and '.join(counted)}, {counts[OK]} ok"


def line(finding: Finding) -> str:
    """Write one finding as people read it."""
    text = f"{finding.status:8} {finding.check:24} {finding.figure}"
    return " ".join((f"{text}. {finding.advice}" if finding.advice else text).splitlines())
