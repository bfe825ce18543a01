"""Where the time of a step goes: gather, forward, loss, backward, wait, norm, optimizer, log.

A `Profile` puts a clock around methods of the objects that make up a step, and takes it off again; the
step itself knows nothing of it, and without a profile nothing is measured at all. Times are *self*
times: what a watched method spends in another watched one counts for that one only.
"""

import json
import time
from collections.abc import Callable
from typing import Any

from distbp.comm.communicator import Communicator

_MOST_EVENTS = 20_000
"""Of the trace; the totals count everything."""


class Profile:
    """Clocks around the methods that make up a step of a trainer, on every rank.

    Parameters
    ----------
    trainer : Trainer
        All its ranks make a profile at the same time: that is the zero of their clocks.
    """

    def __init__(self, trainer: Any) -> None:
        self.comm: Communicator = trainer.crew.comm
        reducer, network = trainer.reducer, trainer.network
        self._watched = (
            (trainer, "step", "other"),
            (trainer.train, "take", "gather"),
            (network, "forward", "forward"),
            (trainer.loss, "value", "loss"),
            (network, "backward", "backward"),
            (reducer.comm, "allreduce", "wait"),
            (reducer, "barrier", "wait"),
            (reducer.transport, "wait", "wait"),
            (reducer.transport, "gather", "wait"),
            (reducer, "wait", "norm"),
            (trainer.optimizer, "step", "optimizer"),
            (trainer, "settle", "log"),
        )
        self.seconds = {name: 0.0 for _, _, name in self._watched}
        self._events: list[tuple[str, float, float]] = []
        self._inner: list[float] = []
        self.comm.barrier()
        self._zero = time.perf_counter()
        for owner, method, name in self._watched:
            setattr(owner, method, self._timed(getattr(owner, method), name))

    def _timed(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        """Return `call` with a clock around it, which counts as `name`."""
        inner, clock, events = self._inner, time.perf_counter, self._events

        def timed(*arguments: Any, **options: Any) -> Any:
            inner.append(0.0)
            start = clock()
            try:
                return call(*arguments, **options)
            finally:
                spent = clock() - start
                self.seconds[name] += spent - inner.pop()
                if inner:
                    inner[-1] += spent
                if len(events) < _MOST_EVENTS:
                    events.append((name, start, spent))

        return timed

    def stop(self) -> None:
        """Take all clocks off."""
        for owner, method, _ in self._watched:
            delattr(owner, method)  # the method of the class is there again

    def table(self, steps: int) -> str:
        """Microseconds a step of each name: the mean over the ranks, the least and the most; all ranks call it."""
        everyone = self.comm.allgather_obj(self.seconds)
        lines = [f"{'us a step':<12}{'mean':>10}{'least':>10}{'most':>10}{'share':>8}"]
        total = sum(sum(seconds.values()) for seconds in everyone)
        for name in self.seconds:
            times = [seconds[name] * 1e6 / max(1, steps) for seconds in everyone]
            share = sum(seconds[name] for seconds in everyone) / max(total, 1e-12)
            mean = sum(times) / len(times)
            lines.append(f"{name:<12}{mean:>10.1f}{min(times):>10.1f}{max(times):>10.1f}{share:>8.1%}")
        return "\n".join(lines)

    def trace(self) -> str:
        """The first calls of all ranks as a Chrome trace, one row a rank; all ranks call it."""
        mine = [(name, round((start - self._zero) * 1e6, 1), round(d * 1e6, 1)) for name, start, d in self._events]
        events: list[dict[str, Any]] = []
        for rank, (host, theirs) in enumerate(self.comm.allgather_obj([self.comm.host, mine])):
            about = {"ph": "M", "pid": 0, "tid": rank}
            events.append({"name": "thread_name", "args": {"name": f"rank {rank} on {host}"}, **about})
            events += [{"name": n, "ph": "X", "pid": 0, "tid": rank, "ts": t, "dur": d} for n, t, d in theirs]
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})
