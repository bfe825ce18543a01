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


def quartiles(turns: Sequence[float]) -> dict[str, float]:
    """Return ``seconds``, the median, between ``low`` and ``high``."""
    low, middle, high = np.quantile(turns, [0.25, 0.5, 0.75])
    return {"seconds": float(middle), "low": float(low), "high": float(high)}


def time_step(
    comm: Communicator, part: Communicator | None, config: TrainConfig, data: Data, batch_size: int, *, most: float
) -> list[float]:
    """Time a step over the ranks of `part`, of `first_ranks`: seconds by turns, `most` in all; all ranks call it."""
    if part is None:
        return _told(comm, [])
    with closing(build_trainer(of_trial(config, batch_size=batch_size, steps=10**6), data, part)) as trainer:
        turns = _turns(part, lambda n: trainer.fit(steps=trainer.position.step + n), most)
    return _told(comm, turns)


def time_allreduce(comm: Communicator, part: Communicator | None, n_bytes: int, *, most: float) -> list[float]:
    """Time an Allreduce of so many bytes, as `time_step`."""
    if part is None:
        return _told(comm, [])
    buffer = np.zeros(max(1, n_bytes // 4), np.float32)

    def repeat(n: int) -> None:
        for _ in range(n):
            part.allreduce(buffer)

    return _told(comm, _turns(part, repeat, most))


def _turns(part: Communicator, repeat: Callable[[int], object], most: float) -> list[float]:
    """Return seconds of one repetition in each turn, of the slowest rank; the ranks agree on how many turns."""
    repeat(3)
    start = time.perf_counter()
    repeat(3)
    each = np.array([(time.perf_counter() - start) / 3])
    part.allreduce(each, "max")
    n = max(1, round(min(_TURN, most / 5.0) / each[0]))
    turns = np.zeros(max(3, round(most / (n * each[0]))))
    for turn in range(len(turns)):
        part.barrier()
        start = time.perf_counter()
        repeat(n)
        turns[turn] = (time.perf_counter() - start) / n
    part.allreduce(turns, "max")
    return list(turns.tolist())


def _told(comm: Communicator, turns: list[float]) -> list[float]:
    """Return what the first rank has measured, to all; meanwhile those that have nothing to do sleep."""
    wait_quietly(comm)
    return list(comm.bcast_obj(turns))


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
