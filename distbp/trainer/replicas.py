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


def audit(comm: Communicator, network: Network | FunctionModel, shard: slice) -> str:
    """Return what differs between replicas of the parameters, or ""; the same on all ranks.

    Ranks with the same shard are replicas; where ranks of a host share memory, those are on other hosts.
    """
    start, stop = shard.start, shard.stop
    names = [name for name, _ in network.parts] + [f"embeddings.{j}" for j in range(len(network.embeddings))]
    sums = [zlib.crc32(network.theta[max(p.start, start) : min(p.stop, stop)].data) for _, p in network.parts]
    first = start == 0 < stop  # one rank of each replica compares what is not cut in shards
    sums += [zlib.crc32(table.data) if first else 0 for table in network.embeddings]
    everyone: list[list[Any]] = comm.allgather_obj([start, stop, comm.host, *sums])
    odd: set[tuple[int, str]] = set()
    for lo, hi in {(row[0], row[1]) for row in everyone}:
        ranks = [rank for rank, row in enumerate(everyone) if row[:2] == [lo, hi]]
        for i, name in enumerate(names):
            values = {rank: everyone[rank][3 + i] for rank in ranks}
            (usual, count), *others = Counter(values.values()).most_common()
            if others:
                most = count > others[0][1]  # of two that differ nobody knows which one is right
                odd |= {(rank, name) for rank in ranks if not most or values[rank] != usual}
    if not odd:
        return ""
    who = ", ".join(f"rank {comm.names[rank]} on {everyone[rank][2]}" for rank in sorted({rank for rank, _ in odd}))
    layers = ", ".join(sorted({name for _, name in odd}))
    return (
        f"the parameters of {who} differ from the others' in {layers}: a flipped bit in memory, or another library;"
        " resume from the last checkpoint, without that host"
    )
