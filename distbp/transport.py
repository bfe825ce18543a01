"""Transport: how pieces of the gradient are summed over ranks while this rank goes on computing.

A piece is on its way from `Transport.start` to `Transport.wait`. In between MPI gets on with it only
when it is called: where the communicator allows it, a thread looks after all pieces twice a
millisecond, while the products run (they hold no lock of Python's).

Compressed, a piece travels as 16-bit numbers in two steps, of which each sends half of what a plain
ring of 32-bit numbers does: every rank gets its part of the piece from all others and adds up in
float32, in the order of the ranks; then all get the sums from each other. What rounding loses is kept
and added to the next gradient, on both steps (error feedback: Seide et al. 2014, section 3.2;
Karimireddy et al. 2019, algorithm 1), so that nothing is lost in the long run.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.communicator import Communicator, Request

__all__ = ["COMPRESSIONS", "Transport", "from_bf16", "to_bf16"]

Array = NDArray[Any]

COMPRESSIONS = ("none", "bf16", "fp16")
_PAUSE = 0.0005


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


def _to_fp16(x: Array) -> Array:
    return (x * _FP16_SCALE).astype(np.float16).view(np.uint16)


def _from_fp16(h: Array) -> Array:
    return h.view(np.float16).astype(np.float32) / _FP16_SCALE


_CODES: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "bf16": (to_bf16, from_bf16),
    "fp16": (_to_fp16, _from_fp16),
}


class _Plain:
    """One sum in place."""

    summed = True

    def __init__(self, comm: Communicator, piece: Array) -> None:
        self._request = comm.iallreduce(piece)

    def test(self, in_turn: bool) -> bool:
        """Go on as far as it goes at once; whether it is done."""
        return self._request.test()

    def wait(self) -> None:
        """Go on until it is done."""
        self._request.wait()


class _Compressed:
    """Two steps; the second ones start in the order of the pieces, on all ranks alike."""

    def __init__(self, comm: Communicator, piece: Array, kind: str, kept: tuple[Array, Array]) -> None:
        self._comm, self._piece, self._kept_sum = comm, piece, kept[1]
        self._encode, self._decode = _CODES[kind]
        part = len(kept[1])
        self._sent = np.zeros((comm.size, part), np.uint16)
        self._received = np.empty_like(self._sent)
        flat = self._sent.reshape(-1)[: len(piece)]
        kept[0][...] += piece
        flat[...] = self._encode(kept[0])
        kept[0][...] -= self._decode(flat)
        self.summed = False
        self._request: Request = comm.ialltoall(self._sent, self._received)

    def test(self, in_turn: bool) -> bool:
        """As `_Plain.test`; the second step begins when it is the turn of this piece."""
        done = self._request.test()
        if not self.summed:
            if done and in_turn:
                self._sum()
            return False
        if done:
            self._finish()
        return done

    def wait(self) -> None:
        """As `_Plain.wait`."""
        self._request.wait()
        if not self.summed:
            self._sum()
            self._request.wait()
        self._finish()

    def _sum(self) -> None:
        total = self._kept_sum
        for row in self._received:
            total += self._decode(row)
        rounded = self._encode(total)
        total -= self._decode(rounded)
        self.summed = True
        self._received = np.empty_like(self._sent)
        self._request = self._comm.iallgather(rounded, self._received)

    def _finish(self) -> None:
        self._piece[...] = self._decode(self._received.reshape(-1)[: len(self._piece)])


class Transport:
    """Sums pieces of a flat vector over the ranks of `comm`.

    Parameters
    ----------
    comm : Communicator
        All its ranks start the same pieces in the same order.
    compress : {"none", "bf16", "fp16"}
        What travels in place of float32; float64 is refused with a `ValueError`.
    """

    def __init__(self, comm: Communicator, compress: str = "none") -> None:
        if compress not in COMPRESSIONS:
            raise ValueError(f"unknown compression {compress!r}: one of {', '.join(COMPRESSIONS)}")
        self.comm, self.compress = comm, compress
        self._kept: dict[tuple[int, int], tuple[Array, Array]] = {}
        self._pieces: list[_Plain | _Compressed] = []
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem: BaseException | None = None

    def start(self, vector: Array, lo: int, hi: int) -> None:
        """Begin to replace ``vector[lo:hi]`` by its sum; nobody touches it before `wait`."""
        if self.comm.size == 1 or lo == hi:
            return
        with self._lock:
            self._pieces.append(self._make(vector, lo, hi))
        if self.comm.background and self._thread is None:
            self._thread = threading.Thread(target=self._look_after, daemon=True)
            self._thread.start()
        self._awake.set()

    def wait(self) -> None:
        """Return when all pieces hold their sums."""
        self._awake.clear()
        with self._lock:
            while self._pieces:
                self._pieces.pop(0).wait()
        if self._problem is not None:
            raise self._problem

    def forget(self) -> None:
        """Drop what rounding kept back: from here on a run does not depend on what it was."""
        self._kept.clear()

    def _make(self, vector: Array, lo: int, hi: int) -> "_Plain | _Compressed":
        piece = vector[lo:hi]
        if self.compress == "none":
            return _Plain(self.comm, piece)
        if piece.dtype != np.float32:
            raise ValueError(f"compression is for float32, not {piece.dtype}")
        if (lo, hi) not in self._kept:
            part = -(-len(piece) // self.comm.size)
            self._kept[lo, hi] = np.zeros(len(piece), np.float32), np.zeros(part, np.float32)
        return _Compressed(self.comm, piece, self.compress, self._kept[lo, hi])

    def _look_after(self) -> None:
        try:
            while True:
                self._awake.wait()
                with self._lock:
                    in_turn, under_way = True, []
                    for piece in self._pieces:
                        if not piece.test(in_turn):
                            under_way.append(piece)
                        in_turn = in_turn and piece.summed
                    self._pieces[:] = under_way
                    if not under_way:
                        self._awake.clear()
                time.sleep(_PAUSE)
        except BaseException as error:
            self._problem = error
