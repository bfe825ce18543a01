"""Transport: how pieces of the gradient are summed over ranks while this rank goes on computing.

A piece is on its way from `Transport.start` to `Transport.wait`. It travels in two steps: every rank
gets its part of the piece from all others and adds up, by default in the order of the ranks; then all get the sums
from each other. That is what a ring Allreduce sends, but in messages that go both ways at once.

MPI gets on with them only when it is called: where the communicator allows it, a thread looks after
all pieces every millisecond, while the products run (they hold no lock of Python's).

Compressed, 16-bit numbers travel in place of float32, and sums are taken in float32. What rounding
loses is kept and added to the next gradient, on both steps (error feedback: Seide et al. 2014, section
3.2; Karimireddy et al. 2019, algorithm 1), so that nothing is lost in the long run.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator, Done, Request
from distbp.errors import RankLost

__all__ = ["COMPRESSIONS", "Transport", "from_bf16", "to_bf16"]

Array = NDArray[Any]

COMPRESSIONS = ("none", "bf16", "fp16")
_PAUSE = 0.001
_TESTS = 4
"""Tests in a row, every `_PAUSE` seconds: one lets MPI move some 64 KiB."""
_GATHERS = 2
"""Second steps under way at a time: with one the link waits between them, with all it loses packets."""


def to_bf16(x: Array) -> Array:
    """The upper halves (uint16) of float32 numbers, rounded to the nearest."""
    return ((x.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16)).astype(np.uint16)


def from_bf16(h: Array) -> Array:
    """The float32 numbers whose upper halves are `h`, lower halves zero."""
    wide = h.astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


# gradients are small: with this factor numbers from 6e-8 to 64 keep the full precision of float16
_FP16_SCALE = np.float32(1024)
_FP16_LEAST = np.float32(2.0**-14)
"""The least number of full precision; smaller ones wait for the next gradient: to convert them is slow."""


def _to_fp16(x: Array) -> Array:
    scaled = x * _FP16_SCALE
    scaled *= np.abs(scaled) >= _FP16_LEAST
    return scaled.astype(np.float16).view(np.uint16)


def _from_fp16(h: Array) -> Array:
    return h.view(np.float16).astype(np.float32) / _FP16_SCALE


_CODES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "bf16": (to_bf16, from_bf16),
    "fp16": (_to_fp16, _from_fp16),
}


AddUp = Callable[[Array, Array], None]


def add_ranks(received: Array, out: Array) -> None:
    """The sum of one vector from each rank, in the order of the ranks."""
    np.add.reduce(received[:, 0], axis=0, out=out)


class _Piece:
    """One stretch of the vectors and the buffers of its two steps; used again in every step of training."""

    def __init__(
        self, comm: Communicator, vectors: int, length: int, dtype: np.dtype[Any], compress: str, add_up: AddUp
    ) -> None:
        self._comm, self._code, self._sum_of_ranks = comm, _CODES.get(compress), add_up
        part = -(-length // comm.size)
        wire = dtype if self._code is None else np.dtype(np.uint16)
        # what can travel from its place and back into it needs no copy
        self._in_place = self._code is None and vectors == 1 and length == comm.size * part
        self._sent = np.zeros((0 if self._in_place else comm.size, vectors, part), wire)
        self._received, self._mine = np.empty((comm.size, vectors, part), wire), np.empty(part, wire)
        self._all = np.zeros((0 if self._in_place else comm.size, part), wire)
        kept = 0 if self._code is None else 1
        self._kept, self._sum = np.zeros(kept * length, dtype), np.zeros(kept * part, dtype)
        self._piece: Array
        self.request: Request
        self.summed = True

    def start(self, pieces: Sequence[Array]) -> None:
        """The first step; the first of `pieces` is to hold the sum in the end."""
        self._piece, self.summed = pieces[0], False
        if self._in_place:
            self._all = self._piece.reshape(self._comm.size, -1)
            self._sent = self._all.reshape(self._received.shape)
        elif self._code is None:
            part = self._all.shape[1]
            for k, piece in enumerate(pieces):
                full = len(piece) // part
                self._sent[:full, k] = piece[: full * part].reshape(full, part)
                if full < len(self._sent):
                    self._sent[full, k, : len(piece) - full * part] = piece[full * part :]
        else:
            flat = self._sent.reshape(-1)[: len(self._piece)]
            encode, decode = self._code
            self._kept += self._piece
            flat[...] = encode(self._kept)
            self._kept -= decode(flat)
        self.request = self._comm.ialltoall(self._sent, self._received)

    def test(self) -> bool:
        """Go on as far as it goes at once; whether it is done."""
        done = self.request.test()
        if done and not self.summed:
            self._add_up()
            return False
        if done:
            self._finish()
        return done

    def _add_up(self) -> None:
        if self._code is None:
            self._sum_of_ranks(self._received, self._mine)
        else:
            encode, decode = self._code
            for row in self._received[:, 0]:
                self._sum += decode(row)
            self._mine[...] = encode(self._sum)
            self._sum -= decode(self._mine)
        self.summed = True
        self.request = self._comm.iallgather(self._mine, self._all)

    def _finish(self) -> None:
        if self._in_place:
            return
        flat = self._all.reshape(-1)[: len(self._piece)]
        self._piece[...] = flat if self._code is None else self._code[1](flat)

    def forget(self) -> None:
        """Drop what rounding kept back."""
        self._kept[...] = 0.0
        self._sum[...] = 0.0


class Transport:
    """Sums pieces of a flat vector over the ranks of `comm`.

    Parameters
    ----------
    comm : Communicator
        All its ranks start the same pieces in the same order.
    compress : {"none", "bf16", "fp16"}
        What travels in place of float32; float64 is refused with a `ValueError`.
    add_up : callable, optional
        ``add_up(received, out)`` writes the sum (n,) of what all ranks sent (ranks, vectors, n): by default of
        one vector each, in the order of the ranks.
    """

    def __init__(self, comm: Communicator, compress: str = "none", add_up: AddUp = add_ranks) -> None:
        if compress not in COMPRESSIONS:
            raise ValueError(f"unknown compression {compress!r}: one of {', '.join(COMPRESSIONS)}")
        self.comm, self.compress, self._add_up = comm, compress, add_up
        self._pieces: dict[tuple[int, int], _Piece] = {}
        self._under_way: list[_Piece] = []
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
        if (lo, hi) not in self._pieces:
            dtype = vectors[0].dtype
            if self.compress != "none" and dtype != np.float32:
                raise ValueError(f"compression is for float32, not {dtype}")
            self._pieces[lo, hi] = _Piece(self.comm, len(vectors), hi - lo, dtype, self.compress, self._add_up)
        with self._turn:
            self._pieces[lo, hi].start([vector[lo:hi] for vector in vectors])
            self._under_way.append(self._pieces[lo, hi])
            self._turn.notify()
        if self.comm.background and self._thread is None:
            self._thread = threading.Thread(target=self._look_after, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Return when all pieces hold their sums."""
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

    def gather(self, mine: Array, all_of_them: Array) -> None:
        """Return when row r of `all_of_them` is what rank r calls `mine`."""
        with self._turn:
            self.comm.recorder.wait("gather")
            self._gather = self.comm.iallgather(mine, all_of_them)
            self._gather.wait()
            self._gather = Done()
            self.comm.recorder.leave()

    def forget(self) -> None:
        """Drop what rounding kept back: from here on a run does not depend on what it was."""
        for piece in self._pieces.values():
            piece.forget()

    def abandon(self) -> None:
        """After a `RankLost`: MPI is done with the buffers of what was under way."""
        for step in (self._gather, *(piece.request for piece in self._under_way)):
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
        """Go on with all pieces as far as it goes at once."""
        gathers = 0
        for piece in list(self._under_way):
            if piece.summed or gathers < _GATHERS:
                if piece.test():
                    self._under_way.remove(piece)
                elif piece.summed:
                    gathers += 1
                else:
                    return  # a test lets MPI go on with all, and this piece's turn comes first

    def _look_after(self) -> None:
        try:
            while not self._closed:
                with self._turn:
                    self._turn.wait_for(lambda: self._under_way or self._closed)
                    for _ in range(_TESTS):
                        self._advance()
                time.sleep(_PAUSE)
        except BaseException as error:
            self._problem = error
