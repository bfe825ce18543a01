"""Transport: how the gradient is summed over ranks that do not share memory, while this rank goes on computing.

Backpropagation completes the gradient from its end, so what is on its way is a suffix, cut in *buckets* (Li et al.
2020, section 3.2.3, have buckets of whole parameters). A bucket travels in two steps: every rank gets its part of the
bucket from all others and adds up, by default in the order of the ranks; then all get the sums from each other. That is
what a ring Allreduce sends, but in messages that go both ways at once.

MPI gets on with them only when it is called: where the communicator allows it, a thread tests all buckets every
millisecond, while the products run (they hold no lock of Python's).
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator, Done, Request
from distbp.errors import RankLost
from distbp.gradient.bf16 import ErrorFeedback, from_bf16

Array = NDArray[Any]

_PAUSE = 0.001
_TESTS = 4
"""Tests in a row, every `_PAUSE` seconds: one lets MPI move some 64 KiB."""
_GATHERS = 2
"""Second steps under way at a time: with one the link waits between them, with all it loses packets."""

AddUp = Callable[[Array, Array], None]


def add_ranks(received: Array, out: Array) -> None:
    """Write the sum of one vector from each rank, in the order of the ranks, to `out`."""
    np.add.reduce(received[:, 0], axis=0, out=out)


class _Bucket:
    """A part of the vectors and the buffers of its two steps; used again in every step of training."""

    def __init__(
        self, comm: Communicator, vectors: int, length: int, dtype: np.dtype[Any], compress: bool, add_up: AddUp
    ) -> None:
        self._comm, self._sum_of_ranks = comm, add_up
        part = -(-length // comm.size)
        wire = np.dtype(np.uint16) if compress else dtype
        # what can travel from its place and back into it needs no copy
        self._in_place = not compress and vectors == 1 and length == comm.size * part
        self._sent = np.zeros((0 if self._in_place else comm.size, vectors, part), wire)
        self._received, self._mine = np.empty((comm.size, vectors, part), wire), np.empty(part, wire)
        self._all = np.zeros((0 if self._in_place else comm.size, part), wire)
        self.feedback = [ErrorFeedback(length), ErrorFeedback(part)] if compress else []
        self._bucket: Array
        self.request: Request
        self.summed = True

    def start(self, buckets: Sequence[Array]) -> None:
        """Begin the first step; the first of `buckets` is to hold the sum in the end."""
        self._bucket, self.summed = buckets[0], False
        if self._in_place:
            self._all = self._bucket.reshape(self._comm.size, -1)
            self._sent = self._all.reshape(self._received.shape)
        elif self.feedback:
            self.feedback[0].round([self._bucket], self._sent.reshape(-1)[: len(self._bucket)])
        else:
            part = self._all.shape[1]
            for k, bucket in enumerate(buckets):
                full = len(bucket) // part
                self._sent[:full, k] = bucket[: full * part].reshape(full, part)
                if full < len(self._sent):
                    self._sent[full, k, : len(bucket) - full * part] = bucket[full * part :]
        self.request = self._comm.ialltoall(self._sent, self._received)

    def test(self) -> bool:
        """Go on as far as it goes at once; return whether it is done."""
        if not self.request.test():
            return False
        if not self.summed:
            self._add_up()
            return False
        if not self._in_place:
            flat = self._all.reshape(-1)[: len(self._bucket)]
            self._bucket[...] = from_bf16(flat) if self.feedback else flat
        return True

    def _add_up(self) -> None:
        if self.feedback:
            self.feedback[1].round(map(from_bf16, self._received[:, 0]), self._mine)
        else:
            self._sum_of_ranks(self._received, self._mine)
        self.summed = True
        self.request = self._comm.iallgather(self._mine, self._all)


class Transport:
    """Sums buckets of a flat vector over the ranks of `comm`.

    Parameters
    ----------
    comm : Communicator
        All its ranks start the same buckets in the same order.
    bf16 : bool
        Whether 16-bit numbers travel in place of float32; float64 is refused with a `ValueError`.

    Attributes
    ----------
    add_up : callable
        ``add_up(received, out)`` writes the sum (n,) of what all ranks sent (ranks, vectors, n): by default of
        one vector each, in the order of the ranks.
    """

    def __init__(self, comm: Communicator, *, bf16: bool = False) -> None:
        self.comm, self.bf16, self.add_up = comm, bf16, add_ranks
        self._buckets: dict[tuple[int, int], _Bucket] = {}
        self._under_way: list[_Bucket] = []
        self._gather: Request = Done()
        self._turn = threading.Condition()  # held by whoever calls MPI
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None
        self._closed = False

    def start(self, vectors: Sequence[Array], lo: int, hi: int) -> None:
        """Begin to sum ``[lo:hi]`` of the flat vectors; ``vectors[0][lo:hi]`` is the sum after `wait`.

        Nobody touches it meanwhile.
        """
        if self.comm.size == 1 or lo == hi:
            return
        if (lo, hi) not in self._buckets:
            dtype = vectors[0].dtype
            if self.bf16 and dtype != np.float32:
                raise ValueError(f"compression is for float32, not {dtype}")
            self._buckets[lo, hi] = _Bucket(self.comm, len(vectors), hi - lo, dtype, self.bf16, self.add_up)
        with self._turn:
            self._buckets[lo, hi].start([vector[lo:hi] for vector in vectors])
            self._under_way.append(self._buckets[lo, hi])
            self._turn.notify()
        if self.comm.background and self._thread is None:
            self._thread = threading.Thread(target=self._progress, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Return when all buckets hold their sums."""
        with self._turn:
            if self._under_way:
                self.comm.recorder.wait("sum of the gradient")
                while self._under_way:
                    self._advance()
                    if self.comm.crowded:  # whoever is waited for wants this core
                        time.sleep(0)
                self.comm.recorder.leave()
        if self._problem is not None:
            raise self._problem

    def gather(self, mine: Array, everyone: Array) -> None:
        """Return when row r of `everyone` is what rank r calls `mine`."""
        with self._turn:
            self.comm.recorder.wait("gather")
            self._gather = self.comm.iallgather(mine, everyone)
            self._gather.wait()
            self._gather = Done()
            self.comm.recorder.leave()

    def forget(self) -> None:
        """Drop the residuals: from here on a run does not depend on what was rounded."""
        for bucket in self._buckets.values():
            for feedback in bucket.feedback:
                feedback.residual[:] = 0.0

    def abandon(self) -> None:
        """Wait, after a `RankLost`, until MPI is done with the buffers of what was under way; then close."""
        for step in (self._gather, *(bucket.request for bucket in self._under_way)):
            try:
                step.wait()
            except RankLost:
                pass
        self.close()

    def close(self) -> None:
        """End the thread; what is under way is given up."""
        with self._turn:
            self._closed = True
            self._turn.notify()
        if self._thread is not None:
            self._thread.join()
        self._thread, self._closed = None, False
        self._under_way.clear()

    def _advance(self) -> None:
        """Go on with all buckets as far as it goes at once."""
        gathers = 0
        for bucket in list(self._under_way):
            if bucket.summed or gathers < _GATHERS:
                if bucket.test():
                    self._under_way.remove(bucket)
                elif bucket.summed:
                    gathers += 1
                else:
                    return  # a test lets MPI go on with all, and this bucket's turn comes first

    def _progress(self) -> None:
        try:
            while not self._closed:
                with self._turn:
                    self._turn.wait_for(lambda: self._under_way or self._closed)
                    for _ in range(_TESTS):
                        self._advance()
                time.sleep(_PAUSE)
        except BaseException as error:
            self._problem = error


class Sender(Protocol):
    """Sums the shard of this rank with those of its peers, once backpropagation has computed it."""

    transport: Transport
    kind: str
    """What travels, for people."""
    in_buckets: bool
    """Whether it travels while others are computed."""
    bytes: int
    """At a time."""

    def complete(self, lo: int) -> None:
        """Note that the shard is complete from parameter `lo` on."""
        ...

    def wait(self) -> None:
        """Return when the shard holds the sum."""
        ...

    def forget(self) -> None:
        """Drop what was left for later: from here on a run does not depend on it."""
        ...


class Buckets:
    """Cuts what is complete of a shard of flat vectors in buckets of some `length`, from its end, and sends them.

    Without a length all of the shard is one.
    """

    def __init__(self, transport: Transport, vectors: Sequence[Array], shard: slice, length: int | None) -> None:
        self.transport, self._vectors, self._shard, self.in_buckets = transport, vectors, shard, length is not None
        self._length = length or max(1, shard.stop - shard.start)
        self._sent = shard.stop
        self.bytes = self._length * len(vectors) * (2 if transport.bf16 else vectors[0].itemsize)
        self.kind = " as bf16" if transport.bf16 else ""
        self.forget = transport.forget

    def complete(self, lo: int) -> None:
        """Send what is a bucket, or the last, now that the shard is complete from parameter `lo` on."""
        if self.transport.comm.size == 1:
            return
        while self._sent - lo >= self._length or self._sent > lo == self._shard.start:
            start = max(lo, self._sent - self._length)
            self.transport.start(self._vectors, start, self._sent)
            self._sent = start

    def wait(self) -> None:
        """Return when the shard holds the sum."""
        self.transport.wait()
        self._sent = self._shard.stop


class OneMessage:
    """Sums a message, the whole gradient and what rides behind it, in one Allreduce after backpropagation."""

    kind, in_buckets = "", False

    def __init__(self, transport: Transport, message: Array) -> None:
        self.transport, self._message, self.bytes = transport, message, message.nbytes

    def forget(self) -> None:
        """Nothing is left for later."""

    def complete(self, lo: int) -> None:
        """Wait for the rest."""

    def wait(self) -> None:
        """Return when the message holds the sum."""
        self.transport.comm.allreduce(self._message)
