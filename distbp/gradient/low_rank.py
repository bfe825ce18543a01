"""Matrices of low rank in place of the gradient, on its way between hosts: PowerSGD.

For the weights of a layer, of which each of p ranks has the gradient of its rows (Vogels, Karimireddy & Jaggi 2019,
"PowerSGD", algorithms 1 and 2),

    M_i = gradient of rank i + its residual         (units, fan_in)
    P   = sum_i M_i Q                               (units, rank), its columns then made orthonormal
    Q   = sum_i M_i^T P                             (fan_in, rank), where the next step begins
    gradient = P Q^T,  residual of rank i = M_i - P Q^T / p

so rank (units + fan_in) numbers travel in place of units fan_in, in two sums. One power iteration a step is enough,
since Q is near already; what so few columns lose comes later, by the residual. Biases, and weights that would not
become less than half, travel as they are, with the first sum.

Residuals and Q are no part of a checkpoint, which is the same for any number of ranks: a run that is resumed begins
without them. (To drop them at each checkpoint, as those of bf16 are, cost a quarter of a point of accuracy.)
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError
from distbp.gradient.transport import Transport
from distbp.randomness import key, normal

Array = NDArray[Any]
_BLOCK = 1 << 15
"""Numbers of a residual that are handled at a time: they stay in the cache."""


class _Factors:
    """The weights of some units: ``P`` and ``Q`` are views of messages, `M` holds the residual between two steps."""

    def __init__(self, gradient: Array, P: Array, Q: Array, start: Array) -> None:
        self.gradient, self.M, self.P, self.Q, self._start = gradient, np.zeros_like(gradient), P, Q, start
        self.reset()

    def reset(self) -> None:
        """Drop the residual, and begin with other columns."""
        self.M[...] = 0.0
        self.Q[...] = self._start

    def project(self) -> None:
        """Compute this rank's part of P."""
        self.M += self.gradient
        np.matmul(self.M, self.Q, out=self.P)

    def project_back(self) -> None:
        """Compute this rank's part of Q, P being the sum."""
        self.P[...] = np.linalg.qr(self.P)[0]
        np.matmul(self.M.T, self.P, out=self.Q)

    def multiply(self, ranks: int) -> None:
        """Compute the gradient, Q being the sum, and keep what it lacks of this rank's."""
        np.matmul(self.P, self.Q.T, out=self.gradient)
        step = max(1, _BLOCK // self.M.shape[1])
        for lo in range(0, len(self.M), step):
            self.M[lo : lo + step] -= self.gradient[lo : lo + step] / np.float32(ranks)


class LowRank:
    """Sums a shard: see above.

    Parameters
    ----------
    transport : Transport
        Of the ranks that have the same shard.
    pieces : sequence of ndarray of shape (units, fan_in) or (n,)
        Views of the gradient, float32: all that the shard has of the weights and biases of each layer. After `wait`
        they hold the sum.
    rank : int
        Of the matrices that travel.

    Raises
    ------
    UserError
        The BLAS of the hosts differ in the last bits of their products: each would train a model of its own.
    """

    in_buckets = False

    def __init__(self, transport: Transport, pieces: Sequence[Array], rank: int) -> None:
        if any(piece.dtype != np.float32 for piece in pieces):
            raise ValueError("compression is for float32")
        self.transport, self.kind = transport, f" as matrices of rank {rank}"
        low = [piece for piece in pieces if piece.ndim == 2 and 2 * rank * sum(piece.shape) < piece.size]
        self._plain = [piece for piece in pieces if not any(piece is other for other in low)]
        self._first = np.zeros(rank * sum(len(M) for M in low) + sum(piece.size for piece in self._plain), np.float32)
        self._second = np.zeros(rank * sum(M.shape[1] for M in low), np.float32)
        self.bytes = self._first.nbytes + self._second.nbytes
        self._factors = list[_Factors]()
        p = q = 0
        for number, M in enumerate(low):
            units, fan_in = M.shape
            P, Q = self._first[p : p + rank * units], self._second[q : q + rank * fan_in]
            start = normal(key(0, "low rank", number), np.arange(rank * fan_in)).astype(np.float32)
            self._factors.append(
                _Factors(M, P.reshape(units, rank), Q.reshape(fan_in, rank), start.reshape(fan_in, rank))
            )
            p, q = p + rank * units, q + rank * fan_in
        self._tail = self._first[p:]
        if len(set(transport.comm.allgather_obj(self._try_out()))) > 1:
            raise UserError(
                "--compress low-rank: the products of these hosts differ in their last bits (other processors, or other"
                " numbers of BLAS threads), and so would their models: --compress bf16"
            )

    def complete(self, lo: int) -> None:
        """Wait for the rest."""

    def wait(self) -> None:
        """Return when the shard holds the sum."""
        comm = self.transport.comm
        for factors in self._factors:
            factors.project()
        at = 0
        for piece in self._plain:
            self._tail[at : at + piece.size] = piece.reshape(-1)
            at += piece.size
        comm.allreduce(self._first)
        at = 0
        for piece in self._plain:
            piece.reshape(-1)[:] = self._tail[at : at + piece.size]
            at += piece.size
        for factors in self._factors:
            factors.project_back()
        comm.allreduce(self._second)
        for factors in self._factors:
            factors.multiply(comm.size)

    def forget(self) -> None:
        """Drop the residuals, and begin with other columns."""
        for factors in self._factors:
            factors.reset()

    def _try_out(self) -> str:
        """Return the bits of what each rank computes for itself."""
        found = sha256()
        for factors in self._factors:
            factors.gradient[...] = np.sin(np.arange(factors.gradient.size, dtype=np.float32)).reshape(factors.M.shape)
            factors.project()
            factors.project_back()
            factors.multiply(1)
            found.update(factors.gradient.tobytes())
            factors.gradient[...] = 0.0
        self.forget()
        return found.hexdigest()
