"""JSON values on top of buffers: the same for every communicator."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["JsonObjects"]


class JsonObjects:
    """Exchange JSON values by the communicator's own `bcast` and `allreduce`."""

    rank: int
    size: int

    @property
    def is_root(self) -> bool:
        """Return whether this is rank 0."""
        return self.rank == 0

    def bcast_obj(self: Any, value: Any, root: int = 0) -> Any:
        """Return the JSON value of `root`."""
        data = _encode(value) if self.rank == root else np.zeros(0, np.uint8)
        length = np.array([len(data)], np.int64)
        self.bcast(length, root)
        if self.rank != root:
            data = np.zeros(int(length[0]), np.uint8)
        self.bcast(data, root)
        return _decode(data)

    def allgather_obj(self: Any, value: Any) -> list[Any]:
        """Return the JSON values of all ranks, by rank."""
        # a sum with zeros elsewhere: one collective serves every purpose
        data = _encode(value)
        lengths = np.zeros(self.size, np.int64)
        lengths[self.rank] = len(data)
        self.allreduce(lengths)
        ends = np.cumsum(lengths)
        everyone = np.zeros(int(ends[-1]), np.uint8)
        everyone[ends[self.rank] - len(data) : ends[self.rank]] = data
        self.allreduce(everyone)
        return [_decode(part) for part in np.split(everyone, ends[:-1])]


def _encode(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value).encode(), np.uint8).copy()


def _decode(data: NDArray[np.uint8]) -> Any:
    return json.loads(data.tobytes())
