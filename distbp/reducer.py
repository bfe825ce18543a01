"""Gradient reduction: the one message of a step.

The message is one flat buffer, the gradient with a few *status* numbers behind it:

    | dW_1 db_1 | dW_2 db_2 | ... | dW_L db_L | loss, rows, hits, stop, non-finite |
    0                                         n_parameters                        end

Ranks add sums; nothing else is exchanged in a step, so all ranks see the same loss, log, skip and
stop at the same step. The network writes its gradient straight into the message: nothing is packed.

Backpropagation finishes the message from its end, so a *bucket* is a suffix slice that can be on its
way while the layers below are still being computed (Li et al. 2020, section 3.2.3). One bucket
without limit is the plain Allreduce.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.communicator import Communicator, Request
from distbp.network import Network

__all__ = ["STATUS", "GradientReducer"]

STATUS = ("loss", "rows", "hits", "stop", "nonfinite")


class GradientReducer:
    """Sums the gradient of `network` over the ranks of `comm`.

    Parameters
    ----------
    comm : Communicator
        The ranks.
    network : Network
        Its gradient becomes a view of the message.
    bucket_bytes : float
        A bucket goes on its way when it has this many bytes; infinity is one blocking Allreduce.

    Attributes
    ----------
    status : ndarray of shape (5,)
        The numbers named in `STATUS`: set before `ready`, sums over all ranks after `wait`.
    """

    def __init__(self, comm: Communicator, network: Network, *, bucket_bytes: float = math.inf) -> None:
        self.comm, self.bucket_bytes = comm, bucket_bytes
        self.message: NDArray[Any] = np.zeros(network.n_parameters + len(STATUS), network.dtype)
        network.bind_gradient(self.message[: network.n_parameters])
        self.status = self.message[network.n_parameters :]
        self._sent_from = len(self.message)
        self._requests: list[Request] = []

    def ready(self, lo: int) -> None:
        """Everything in ``message[lo:]`` is final on this rank."""
        bucket = self.message[lo : self._sent_from]
        if bucket.nbytes >= self.bucket_bytes:
            self._requests.append(self.comm.iallreduce(bucket))
            self._sent_from = lo

    def wait(self) -> None:
        """Return when the message holds the sums over all ranks, on every rank."""
        if self._sent_from:
            self.comm.allreduce(self.message[: self._sent_from])
        for request in self._requests:
            request.wait()
        self._requests.clear()
        self._sent_from = len(self.message)
