"""Replicas of the parameters, which are equal to the bit as long as hardware and libraries do their work.

A flipped bit in one of them would spread: the audit compares checksums of every layer (the idea is Mercury's and
ShallowSpeed's) and names ranks and layer.
"""

import zlib
from collections import Counter
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel

__all__ = ["audit"]


def audit(comm: Communicator, network: Network | FunctionModel, shard: slice) -> str:
    """Return what differs between replicas of the parameters, or ""; the same on all ranks.

    Ranks with the same shard are replicas; where ranks of a host share memory, those are on other hosts.
    """
    sums = []
    for _, part in network.parts:
        lo, hi = max(part.start, shard.start), min(part.stop, shard.stop)
        sums.append(zlib.crc32(network.theta[lo:hi].data) if lo < hi else 0)
    everyone: list[list[Any]] = comm.allgather_obj([shard.start, shard.stop, comm.host, *sums])
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
