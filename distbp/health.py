"""Health of the ranks: replicas that differ, and ranks that are slower than the others.

Replicas of the parameters are equal to the bit as long as hardware and libraries do their work. A flipped bit in one
of them would spread: the audit compares checksums of every layer (the idea is Mercury's and ShallowSpeed's) and names
ranks and layer.
"""

import zlib
from collections import Counter
from statistics import median
from typing import Any

from distbp.communicator import Communicator
from distbp.network import Network

__all__ = ["SLOW", "audit", "slow_ranks"]

SLOW = 1.5
"""Factor above the median of the others from which a rank is called slow."""


def audit(comm: Communicator, network: Network, own: slice) -> str:
    """What differs between replicas of the parameters, or ""; the same on all ranks.

    Ranks with the same stretch `own` are replicas; where ranks of a host share memory, those are on other hosts.
    """
    sums = []
    for layer in network.layers:
        for part in layer.weights, layer.bias:
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
                name = f"layer {i // 2} ({'biases' if i % 2 else 'weights'})"
                for rank in ranks:
                    if not most or values[rank] != usual:
                        odd.setdefault(rank, set()).add(name)
    if not odd:
        return ""
    who = ", ".join(f"rank {comm.names[rank]} on {everyone[rank][2]}" for rank in sorted(odd))
    return f"the parameters of {who} differ from the others' in {', '.join(sorted(set().union(*odd.values())))}"


def slow_ranks(seconds_per_row: list[float]) -> dict[int, float]:
    """Ranks that compute longer than the others, and by which factor; 0 is a rank that computes nothing."""
    slow = {}
    for rank, mine in enumerate(seconds_per_row):
        others = [theirs for other, theirs in enumerate(seconds_per_row) if other != rank and theirs > 0.0]
        if others and mine > SLOW * median(others):
            slow[rank] = mine / median(others)
    return slow
