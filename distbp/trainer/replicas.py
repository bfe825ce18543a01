"""Health of the ranks: replicas that differ, and ranks that are slower than the others.

Replicas of the parameters are equal to the bit as long as hardware and libraries do their work. A flipped bit in one
of them would spread: the audit compares checksums of every layer (the idea is Mercury's and ShallowSpeed's) and names
ranks and layer.
"""

import time
import zlib
from collections import Counter
from statistics import median
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel

__all__ = ["Pace", "audit", "slow_ranks"]

_SLOW = 1.5
"""Factor above the median of the others from which a rank is called slow."""
_ENOUGH = 0.5
"""Seconds of computing from which ranks can be told to be slow."""


def audit(comm: Communicator, network: Network | FunctionModel, own: slice) -> str:
    """What differs between replicas of the parameters, or ""; the same on all ranks.

    Ranks with the same stretch `own` are replicas; where ranks of a host share memory, those are on other hosts.
    """
    sums = []
    for _, part in network.parts:
        lo, hi = max(part.start, own.start), min(part.stop, own.stop)
        sums.append(zlib.crc32(network.theta[lo:hi].data) if lo < hi else 0)
    everyone: list[list[Any]] = comm.allgather_obj([own.start, own.stop, comm.host, *sums])
    odd: dict[int, set[str]] = {}
    for lo, hi in sorted({(row[0], row[1]) for row in everyone}):
        ranks = [rank for rank, row in enumerate(everyone) if row[:2] == [lo, hi]]
        for i in range(len(sums)):
            values = {rank: everyone[rank][3 + i] for rank in ranks}
            (usual, count), *others = Counter(values.values()).most_common()
            if others:
                most = count > others[0][1]  # of two that differ nobody knows which one is right
                name = network.parts[i][0]
                for rank in ranks:
                    if not most or values[rank] != usual:
                        odd.setdefault(rank, set()).add(name)
    if not odd:
        return ""
    who = ", ".join(f"rank {comm.names[rank]} on {everyone[rank][2]}" for rank in sorted(odd))
    return (
        f"the parameters of {who} differ from the others' in {', '.join(sorted(set().union(*odd.values())))}: a flipped"
        " bit in memory, or another library; resume from the last checkpoint, without that host"
    )


def slow_ranks(seconds_per_row: list[float]) -> dict[int, float]:
    """Ranks that compute longer than the others, and by which factor; 0 is a rank that computes nothing."""
    slow = {}
    for rank, mine in enumerate(seconds_per_row):
        others = [theirs for other, theirs in enumerate(seconds_per_row) if other != rank and theirs > 0.0]
        if others and mine > _SLOW * median(others):
            slow[rank] = mine / median(others)
    return slow


class Pace:
    """How long this rank computes in its steps, beside the others."""

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._computing = comm, 0.0
        self._start = self._waited = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._start, self._waited = time.perf_counter(), self._comm.recorder.waited

    def end(self) -> None:
        """It is over."""
        waited = self._comm.recorder.waited - self._waited
        self._computing += time.perf_counter() - self._start - waited

    def slow(self, rows: float) -> list[str]:
        """A line for each rank that was slow since the last call; `rows` is the `work` of this one in a step."""
        computing, self._computing = self._computing, 0.0
        comm = self._comm
        if comm.size == 1 or comm.crowded:  # ranks that take turns on a core wait where they compute
            return []
        everyone = comm.allgather_obj([computing / rows if rows else 0.0, computing >= _ENOUGH, comm.host])
        if not all(enough or not seconds for seconds, enough, _ in everyone):
            return []
        return [
            f"rank {comm.names[rank]} on {everyone[rank][2]} computes {factor:.1f} times as long as the others"
            for rank, factor in slow_ranks([row[0] for row in everyone]).items()
        ]
