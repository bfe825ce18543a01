"""How the ranks of a team see what the others have computed: a barrier on a host, messages between hosts."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.gradient.memory import Memory

__all__ = ["Exchange", "Gather", "Message"]

Array = NDArray[Any]
Gather = Callable[[Array, Array], None]
"""``gather(mine, all)`` brings what each of the peers calls `mine` to row r of `all`."""


class Message(NamedTuple):
    """Holds what is sent and received, with the blocks that go into the one and come out of the other."""

    send: Array
    receive: Array
    mine: tuple[Array, Array]
    others: list[tuple[Array, Array]]


class Exchange:
    """Exchanges blocks of matrices among the ranks of a team.

    Parameters
    ----------
    memory : Memory
        Where the matrices lie.
    gather : callable, optional
        Given where the team has several memories.
    dtype : data-type
        Of the matrices.
    """

    def __init__(self, memory: Memory, gather: Gather | None, dtype: DTypeLike) -> None:
        self._memory, self._gather = memory, gather
        self._leads = gather is not None and memory.rank == 0
        self.hosts = memory.peer_numbers
        self._me = self.hosts.index(memory.number)
        self._buffer = np.zeros(0, dtype)

    def messages(self, matrices: Sequence[Sequence[Array]]) -> list[Message]:
        """Return what brings together each matrix, given as the blocks that the hosts compute of it."""
        return [self._message(blocks) for blocks in matrices] if self._leads else []

    def _message(self, blocks: Sequence[Array]) -> Message:
        hosts, length = len(blocks), max(block.size for block in blocks)
        if len(self._buffer) < (1 + hosts) * length:  # one message after the other uses it
            self._buffer = np.zeros((1 + hosts) * length, self._buffer.dtype)
        buffer = self._buffer[: (1 + hosts) * length].reshape(1 + hosts, length)
        send, receive = buffer[0], buffer[1:]
        others = [(block, _stored_as(block, receive[k])) for k, block in enumerate(blocks) if k != self._me]
        return Message(send, receive, (blocks[self._me], _stored_as(blocks[self._me], send)), others)

    def __call__(self, messages: Sequence[Message], k: int) -> None:
        """Return when all ranks of the team are here, and see what the others have written of matrix `k`."""
        self._memory.barrier()
        if self._gather is None:
            return
        if self._leads:
            send, receive, (block, there), others = messages[k]
            np.copyto(there, block)
            self._gather(send, receive)
            for block, there in others:
                np.copyto(block, there)
        self._memory.barrier()


def _stored_as(block: Array, message: Array) -> Array:
    """Return a part of a message in the shape of a block and in the order in which its numbers are stored."""
    flat = message[: block.size]
    by_unit = block.strides[0] < block.strides[1]
    return flat.reshape(block.shape[::-1]).T if by_unit else flat.reshape(block.shape)
