"""A finding: what one check has found, as a figure, a status, and what to do where it is not well.

Checks measure; judgements, which are plain functions of the figures, make findings of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["EXIT_CODE", "FAILURE", "OK", "WARNING", "Finding", "hosts_of", "ranks_named", "worst"]

OK, WARNING, FAILURE = "ok", "warning", "failure"
EXIT_CODE = {OK: 0, WARNING: 1, FAILURE: 2}
_NAMED = 5
"""Ranks that are named one by one; a thousand would hide what is wrong with them."""


@dataclass(frozen=True)
class Finding:
    """States what a check has found.

    Attributes
    ----------
    check : str
        Name of the check.
    status : {"ok", "warning", "failure"}
        How it is.
    figure : str
        What was measured.
    advice : str
        One sentence on what to do; "" where all is well.
    ranks : tuple of int
        The ranks it is about; empty: all.
    """

    check: str
    status: str
    figure: str
    advice: str = ""
    ranks: tuple[int, ...] = ()


def worst(findings: Iterable[Finding]) -> str:
    """Return the worst status of `findings`."""
    return max((finding.status for finding in findings), key=EXIT_CODE.__getitem__, default=OK)


def ranks_named(ranks: Iterable[int], hosts: Sequence[str]) -> str:
    """Name ranks for people, ``rank 3 on node2, rank 5 on node3``; `hosts` are those of all ranks."""
    ranks = sorted(ranks)
    more = f" and {len(ranks) - _NAMED} more" if len(ranks) > _NAMED else ""
    return ", ".join(f"rank {rank} on {hosts[rank]}" for rank in ranks[:_NAMED]) + more


def hosts_of(hosts: Sequence[str]) -> dict[str, list[int]]:
    """Return the ranks of each host, in the order in which hosts appear."""
    found: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        found.setdefault(host, []).append(rank)
    return found
