"""The verdict: who keeps the others waiting, from what the ranks report. Nothing here reads, sends, or waits.

a rank of which it is known for sure that it cannot go on: stopped, gone, or deaf on an open connection
a rank that goes on, only slowly: then nothing is done
a rank that is not as far as the others, or in no collective while others wait in one
a rank that is silent
a rank that is in another collective than the others
nobody: all wait in the same one
"""

import traceback
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from distbp.comm.processes import GONE
from distbp.comm.recorder import ASLEEP

_PACKAGE = Path(__file__).parents[1]
_DOING = {
    ("data/prepared.py", "take"): "reading rows",
    ("network/dense.py", "forward"): "in the forward pass",
    ("network/dense.py", "backward"): "in the backward pass",
    ("network/losses.py", "value"): "computing the loss",
    ("optim/optimizer.py", "step"): "updating the parameters",
    ("trainer/step.py", "step"): "in the passes",
    ("trainer/trainer.py", "save"): "saving a checkpoint",
    ("trainer/evaluation.py", "evaluate"): "evaluating",
    ("run/report.py", "record"): "writing the log",
    ("trainer/trainer.py", "fit"): "between two steps",
}
"""Words for functions, by file and name; the innermost one that runs counts."""

Silent = tuple[str, str]
"""The host of a rank that does not report, and what is known for sure to keep it from going on, or ""."""


class Report(NamedTuple):
    """Tells where a rank is, by its own account: what it waits in, or "", and for how many seconds it made no progress.

    Of its last collectives it tells number, operation and bytes. Its place is how far it is, the coarsest number first,
    where all ranks make the same calls.
    """

    host: str
    step: int
    inside: str
    idle: float
    doing: str = ""
    last: Sequence[tuple[int, str, int]] = ()
    place: Sequence[int] = ()


class Verdict(NamedTuple):
    """Names who keeps the others waiting, in a list and in a line, and whether it is for good."""

    guilty: list[int]
    line: str
    for_good: bool = True


def judge(reports: Mapping[int, Report], silent: Mapping[int, Silent], limit: float) -> Verdict:
    """Decide which ranks keep the others waiting, of those that have sent reports and those that are silent.

    To make no progress for `limit` seconds is too long; half of that is what a rank that goes on never needs.
    """
    hosts = {rank: host for rank, (host, *_) in {**silent, **reports}.items()}
    reports = {rank: report for rank, report in reports.items() if report.inside != ASLEEP}

    def named(ranks: Iterable[int]) -> str:
        return ", ".join(f"rank {rank} on {hosts[rank]}" for rank in ranks)

    step = max((report.step for report in reports.values()), default=0)
    if stuck := {rank: known for rank, (_, known) in silent.items() if known}:
        known = " and ".join(sorted(set(stuck.values())))
        return Verdict([*stuck], f"{named(stuck)} did not reach the end of step {step}: {known}")
    if busy := [rank for rank, report in reports.items() if report.idle < limit / 2 and not report.inside]:
        return Verdict(busy, f"the others wait for {named(busy)}, which goes on: {reports[busy[0]].doing}", False)
    if late := _behind(reports) or [rank for rank, report in reports.items() if not report.inside]:
        acts = [f"rank {rank}: {reports[rank].doing}" if len(late) > 1 else reports[rank].doing for rank in late]
        return Verdict(late, f"{named(late)} did not reach the end of step {reports[late[0]].step}: {'; '.join(acts)}")
    if silent:
        return Verdict([*silent], f"{named(silent)} did not reach the end of step {step}: no answer")
    # all wait: for the collective that most are in
    places = {rank: _collective(report) for rank, report in reports.items()}
    (usual, count), *_ = Counter(places.values()).most_common()
    odd = [rank for rank, place in places.items() if place != usual]
    if odd and count > len(odd):
        waits = f"{named(odd)} waits in {places[odd[0]]}, the others in {usual}"
        return Verdict(odd, f"{waits}: every rank must make the same calls; step {step}, {reports[odd[0]].doing}")
    if odd:
        waits = "; ".join(f"rank {rank} in {place}" for rank, place in sorted(places.items())[:4])
        return Verdict([], f"the ranks are in different collectives of step {step}: {waits}")
    return Verdict([], f"all ranks wait in {usual} of step {step}: MPI or the network does not go on")


def _behind(reports: Mapping[int, Report]) -> list[int]:
    """Return the ranks that are not as far as others, by the coarsest number of their places that differs."""
    for numbers in zip(*(report.place for report in reports.values()), strict=True):
        if behind := [rank for rank, number in zip(reports, numbers, strict=True) if number < max(numbers)]:
            return behind
    return []


def _collective(report: Report) -> str:
    number, operation, nbytes = report.last[-1] if report.last else (0, "", 0)
    return f"collective {number}, {operation} of {nbytes} bytes"


def out_of_reach(
    guilty: Collection[int], silent: Mapping[int, Silent], reports: Mapping[int, Report], accused: Collection[int]
) -> bool:
    """Return whether silent ranks cannot be ended so that MPI notices: then all must end.

    Who reports can end a process of its host; of those who were `accused` before it is known that this did not help.
    """
    hosts = {report.host for report in reports.values()}
    lone = {rank for rank, (host, known) in silent.items() if rank in guilty and (host not in hosts or known == GONE)}
    return bool(lone or silent.keys() & accused)


def doing(frame: FrameType | None) -> str:
    """Describe what a thread does, with the innermost line: ``reading rows (arrayfiles.py:88)``."""
    if frame is None:
        return "not running"
    line = f"({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"
    for here, _ in traceback.walk_stack(frame):
        file = here.f_code.co_filename.removeprefix(f"{_PACKAGE}/")
        if words := _DOING.get((file, here.f_code.co_name)):
            return f"{words} {line}"
    return f"in {frame.f_code.co_name} {line}"
