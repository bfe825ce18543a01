"""How the ranks of a team see what the others have computed: a barrier on a host, messages between hosts."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.gradient.memory import Memory
from distbp.gradient.tree import Operation

Array = NDArray[Any]
Gather = Callable[[Array, Array], None]
"""``gather(mine, all)`` brings what each of the peers calls `mine` to row r of `all`."""


class Exchange:
    """Exchanges blocks of matrices, which lie in `memory`, among the ranks of a team.

    `gather` is given where the team has several memories.
    """

    def __init__(self, memory: Memory, gather: Gather | None, dtype: DTypeLike) -> None:
        self._memory, self._gather = memory, gather
        self.hosts = memory.peer_numbers
        self._buffer = np.zeros(0, dtype)

    def messages(self, matrices: Iterable[Sequence[Array]]) -> list[list[Operation]]:
        """Return what brings together each matrix, given as the blocks that the hosts compute of it."""
        if self._gather is None:
            return []
        return [self._message(blocks, self._gather) if self._memory.rank == 0 else [] for blocks in matrices]

    def _message(self, blocks: Sequence[Array], gather: Gather) -> list[Operation]:
        hosts, length = len(blocks), max(block.size for block in blocks)
        if len(self._buffer) < (1 + hosts) * length:  # one message after the other uses it
            self._buffer = np.zeros((1 + hosts) * length, self._buffer.dtype)
        buffer = self._buffer[: (1 + hosts) * length].reshape(1 + hosts, length)
        send, receive, me = buffer[0], buffer[1:], self.hosts.index(self._memory.number)
        mine = _stored_as(blocks[me], send), blocks[me]
        others = [(block, _stored_as(block, receive[k])) for k, block in enumerate(blocks) if k != me]
        return [(np.copyto, mine), (gather, (send, receive)), *((np.copyto, of_host) for of_host in others)]

    def __call__(self, messages: Sequence[list[Operation]], k: int) -> None:
        """Return when all ranks of the team are here, and see what the others have written of matrix `k`."""
        self._memory.barrier()
        if self._gather is None:
            return
        for function, arguments in messages[k]:
            function(*arguments)
        self._memory.barrier()


def _stored_as(block: Array, message: Array) -> Array:
    """Return a part of a message in the shape of a block and in the order in which its numbers are stored."""
    flat = message[: block.size]
    by_unit = block.strides[0] < block.strides[1]
    return flat.reshape(block.shape[::-1]).T if by_unit else flat.reshape(block.shape)
