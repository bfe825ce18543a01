"""Stragglers: ranks that compute longer than the others, for whom all wait in every step."""

import time
from statistics import median

from distbp.comm.communicator import Communicator

_SLOW = 1.5
"""Factor above the median of the others from which a rank is called slow."""
_ENOUGH = 0.5
"""Seconds of computing from which ranks can be told to be slow."""


def slow_ranks(seconds_per_row: list[float]) -> dict[int, float]:
    """Return the ranks that compute longer than the others, and by which factor; 0 is a rank that computes nothing."""
    slow = {}
    for rank, mine in enumerate(seconds_per_row):
        others = [theirs for other, theirs in enumerate(seconds_per_row) if other != rank and theirs > 0.0]
        if others and mine > _SLOW * median(others):
            slow[rank] = mine / median(others)
    return slow


class Stragglers:
    """Measures how long this rank computes in its steps, beside the others."""

    def __init__(self, comm: Communicator) -> None:
        self._comm, self._computing, self._begun = comm, 0.0, 0.0

    def begin(self) -> None:
        """Begin a step."""
        self._begun = time.perf_counter() - self._comm.recorder.waited

    def end(self) -> None:
        """End it."""
        self._computing += time.perf_counter() - self._comm.recorder.waited - self._begun

    def slow(self, rows: float) -> list[str]:
        """Return a line for each rank that was slow since the last call; `rows` is the `work` of this one in a step."""
        computing, self._computing = self._computing, 0.0
        comm = self._comm
        if comm.size == 1 or comm.crowded:  # ranks that take turns on a core wait where they compute
            return []
        everyone = comm.allgather_obj([computing / rows if rows else 0.0, computing >= _ENOUGH, comm.host])
        if not all(enough or not seconds for seconds, enough, _ in everyone):
            return []
        return [
            f"rank {comm.names[rank]} on {everyone[rank][2]} computes {factor:.1f} times as long as the others"
            for rank, factor in slow_ranks([row[0] for row in everyone]).items()
        ]
