"""Stopwatch of the plan: the time of a step against batch size and ranks, of an Allreduce against bytes and ranks.

While some ranks are timed, the others sleep. A figure is a median over many turns, with the quartiles beside it; they
come in rounds over all figures, for a machine is now faster and now slower, for seconds on end.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.loading import Data
from distbp.run.build import build_trainer
from distbp.run.options import TrainConfig
from distbp.study.experiment import of_trial

__all__ = [
    "first_ranks", "group_sizes", "noise_scale_of", "powers_between", "quartiles", "time_allreduce", "time_step",
]  # fmt: skip

_TURN = 0.05
"""Seconds of a turn, about."""


def group_sizes(comm: Communicator) -> list[int]:
    """Return the numbers of ranks that can be timed: powers of two, and all."""
    return sorted({2**k for k in range(20) if 2**k < comm.size} | {comm.size})


def first_ranks(comm: Communicator, ranks: int) -> Communicator | None:
    """Return the first so many ranks, and None on the others; all ranks of `comm` call it."""
    part = comm.split(int(comm.rank >= ranks)) if ranks < comm.size else comm
    if comm.rank >= ranks:
        return None
    return SerialCommunicator() if ranks == 1 else part


def _on_first(
    comm: Communicator, part: Communicator | None, measure: Callable[[Communicator], list[float]]
) -> list[float]:
    """Let the first ranks measure and the others sleep; the slowest rank of each turn counts."""
    turns: list[float] = []
    if part is not None:
        table = np.array(measure(part))
        part.allreduce(table, "max")
        turns = table.tolist()
    wait_quietly(comm)
    turns = comm.bcast_obj(turns)
    return turns


def quartiles(turns: Sequence[float]) -> dict[str, float]:
    """Return ``seconds``, the median, between ``low`` and ``high``."""
    low, middle, high = np.quantile(turns, [0.25, 0.5, 0.75])
    return {"seconds": float(middle), "low": float(low), "high": float(high)}


def time_step(
    comm: Communicator, part: Communicator | None, config: TrainConfig, data: Data, batch_size: int, *, most: float
) -> list[float]:
    """Time a step over the ranks of `part`, of `first_ranks`: seconds by turns, `most` in all; all ranks call it."""

    def measure(part: Communicator) -> list[float]:
        of_step = of_trial(config, batch_size=batch_size, steps=10**6)
        with closing(build_trainer(of_step, data, part)) as trainer:
            return _turns(part, lambda n: trainer.fit(steps=trainer.position.step + n), most)

    return _on_first(comm, part, measure)


def time_allreduce(comm: Communicator, part: Communicator | None, n_bytes: int, *, most: float) -> list[float]:
    """Time an Allreduce of so many bytes, as `time_step`."""
    buffer = np.zeros(max(1, n_bytes // 4), np.float32)

    def measure(part: Communicator) -> list[float]:
        def repeat(n: int) -> None:
            for _ in range(n):
                part.allreduce(buffer)

        return _turns(part, repeat, most)

    return _on_first(comm, part, measure)


def _turns(part: Communicator, repeat: Callable[[int], object], most: float) -> list[float]:
    """Return seconds of one repetition in each turn; how many there are is agreed on by the ranks."""
    repeat(3)
    start = time.perf_counter()
    repeat(3)
    each = np.array([(time.perf_counter() - start) / 3])
    part.allreduce(each, "max")
    n = max(1, round(min(_TURN, most / 5.0) / each[0]))
    turns = []
    for _ in range(max(3, round(most / (n * each[0])))):
        part.barrier()
        start = time.perf_counter()
        repeat(n)
        turns.append((time.perf_counter() - start) / n)
    return turns


def noise_scale_of(config: TrainConfig, data: Data, comm: Communicator, *, most: float) -> list[float]:
    """Return gradient noise scales along a training of about `most` seconds; none where it cannot be measured."""
    scales = list[float]()
    with closing(build_trainer(of_trial(config, steps=10**6, noise_scale=1), data, comm)) as trainer:
        start = time.monotonic()
        while comm.bcast_obj(time.monotonic() - start < most):
            trainer.fit(steps=trainer.position.step + 20)
            trace, square, weight = trainer.noise.sums
            if weight and square > 0.0:
                scales.append(trace / square)
    return scales


def powers_between(low: int, high: int, factor: int) -> list[int]:
    """Return ``low``, then each `factor` times the one before, and ``high``."""
    return sorted({low, high} | {low * factor**k for k in range(64) if low * factor**k < high})
