"""Which batch size and how many ranks to ask for: a calibration of some seconds, and a table of predicted times.

The steps S(B) come from a batch-size study of the same data and network; where there is none, the gradient noise scale
of a short training stands for the critical batch size, and times are relative. The calibration measures the time of a
step against rows and ranks and that of an Allreduce against bytes and ranks, in this job; see `model`. While some
ranks are timed, the others sleep. A figure is a median over many turns, with the quartiles beside it; they come in
rounds over all figures, for a machine is now faster and now slower, for seconds on end.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.agreement import on_root, wait_quietly
from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.prepared import Data
from distbp.errors import UsageError, UserError
from distbp.run.build import build_trainer
from distbp.run.options import TrainConfig
from distbp.study.batch_size.results import read_batch_sizes
from distbp.study.experiment import Experiment, at_least_1, batch_sizes, default_folder, listed, of_trial
from distbp.study.plan.figures import figures
from distbp.study.trials import Trial, say, write_results

_DEFAULTS = ("--recipe", "plain", "--optimizer", "sgd", "--hidden", "128", "--validation-fraction", "0.2")
_SECONDS = 20.0
_ROUNDS = 4
_BYTES = (8, 2**12, 2**16, 2**20, 2**23)
_TURN = 0.05
"""Seconds of a turn, about."""


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--study", metavar="DIR", help="a batch-size study of this data and network [studies/DATA-batch-size]")
    add("--ranks", metavar="P,P,...", help="numbers of ranks to predict [powers of two up to 1024]")
    add("--batch-sizes", metavar="B,B,...", help="batch sizes to predict [those of the study]")
    add("--ranks-per-node", type=int, metavar="N", help="for node-hours [the cores of this host]")
    add("--latency", type=float, metavar="SECONDS", help="of the network between nodes, if not this one")
    add("--bandwidth", type=float, metavar="BYTES/S", help="of that network")


def _ask(options: argparse.Namespace, config: TrainConfig, data: Data) -> dict[str, Any]:
    rows = data.train.n_rows
    if options.ranks_per_node is not None:
        at_least_1(options, "ranks_per_node")
    if (options.latency is None) != (options.bandwidth is None):
        raise UsageError("--latency and --bandwidth belong together")
    if options.bandwidth is not None and not (options.bandwidth > 0.0 and options.latency >= 0.0):
        raise UsageError("--latency is at least 0 and --bandwidth above 0")
    curve = _curve(options, config, rows)
    known = [int(b) for b in curve["steps"]]
    return {
        "batch_sizes": batch_sizes(options, rows, known or powers_between(4, rows, 4)),
        "predict_ranks": listed(options, "ranks") or [2**k for k in range(11)],
        "ranks_per_node": options.ranks_per_node,
        "network_given": [options.latency, options.bandwidth] if options.bandwidth else None, "curve": curve,
    }  # fmt: skip


def _curve(options: argparse.Namespace, config: TrainConfig, rows: int) -> dict[str, Any]:
    """Return S(B) of a study; no steps where there is none, or where nobody asked for one that is not done yet."""
    folder = Path(options.study or default_folder(config.data, "batch-size"))
    none: dict[str, Any] = {"study": None, "steps": {}}
    if not (folder / "study.json").exists():
        if options.study:
            raise UserError(f"--study {folder}: there is no study")
        return none
    try:
        results = read_batch_sizes(folder)
        if results.fit is None and not options.study:
            return none
    except (LookupError, ValueError) as error:
        if options.study:
            raise UserError(f"--study {folder}: it is not done yet, so it says nothing of steps") from error
        return none
    if results.study["rows"] != rows or results.study["config"]["hidden"] != config.hidden:
        raise UserError(
            f"{folder} is a study of {results.study['rows']} rows and --hidden {results.study['config']['hidden']},"
            f" not of {rows} and {config.hidden}: give the same options, or another --study"
        )
    if results.fit is None:
        raise UserError(f"{folder}: fewer than three batch sizes reached the goal, so steps cannot be predicted")
    return {
        "study": str(folder), "goal": results.goal, "s_min": results.fit.s_min, "b_crit": results.fit.b_crit,
        "steps": {str(size.batch_size): list(size.steps) for size in results.reached()},
    }  # fmt: skip


def _run(asked: dict[str, Any], config: TrainConfig, data: Data, comm: Communicator, folder: Path) -> list[Trial]:
    """Calibrate; all ranks together, from one figure to the next."""
    lines: list[dict[str, Any]] = []

    def note(name: str, found: dict[str, Any], text: str) -> None:
        lines.append({"trial": name, **found})
        if comm.is_root:
            say(f"{name}: {text}")

    groups, n = group_sizes(comm), data.train.n_rows
    sizes = sorted({*powers_between(min(4, n), n, 4), *asked["batch_sizes"]})
    if asked["curve"]["study"] is None:
        scales = noise_scale_of(config, data, comm, most=_SECONDS / 4.0)
        if not scales:
            raise UserError("no gradient noise scale was measured: run distbp.study batch-size, and give --study")
        low, middle, high = np.quantile(scales, [0.05, 0.5, 0.95])
        curve = {"low": float(low), "noise_scale": float(middle), "high": float(high)}
        note("noise scale", curve, f"{middle:.4g} ({low:.4g} to {high:.4g} along the training)")
    steps = [(ranks, b) for ranks in groups for b in sizes if b >= ranks]
    messages = [(ranks, n_bytes) for ranks in groups[1:] for n_bytes in _BYTES]
    parts, most = {ranks: first_ranks(comm, ranks) for ranks in groups}, _SECONDS / _ROUNDS
    turns: dict[tuple[str, str, int, int], list[float]] = defaultdict(list)
    for _ in range(_ROUNDS):
        for ranks, b in steps:
            found = time_step(comm, parts[ranks], config, data, b, most=0.7 * most / len(steps))
            turns["step B", "batch_size", b, ranks] += found
        for ranks, n_bytes in messages:
            found = time_allreduce(comm, parts[ranks], n_bytes, most=0.1 * most / len(messages))
            turns["allreduce bytes", "bytes", n_bytes, ranks] += found
    for (what, name, size, ranks), found in turns.items():
        times = quartiles(found)
        text = "{:.4g} ms ({:.4g} to {:.4g})".format(*(1e3 * times[at] for at in ("seconds", "low", "high")))
        note(f"{what}={size} ranks={ranks}", {name: size, "ranks": ranks, **times}, text)
    hosts = len(set(comm.allgather_obj(comm.host)))
    about = {"trial": "job", "ranks": comm.size, "cores": comm.host_cores, "hosts": hosts}
    on_root(comm, lambda: write_results(folder, [about, *lines]), f"cannot write {folder}")
    return []


def group_sizes(comm: Communicator) -> list[int]:
    """Return the numbers of ranks that can be timed: powers of two, and all."""
    return powers_between(1, comm.size, 2)


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
        turns = _turns(part, lambda n: trainer.fit_until(steps=trainer.position.step + n), most)
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
            trainer.fit_until(steps=trainer.position.step + 20)
            trace, square, weight = trainer.noise.state.sums
            if weight and square > 0.0:
                scales.append(trace / square)
    return scales


def powers_between(low: int, high: int, factor: int) -> list[int]:
    """Return ``low``, then each `factor` times the one before, and ``high``."""
    return sorted({low, high} | {low * factor**k for k in range(64) if low * factor**k < high})


PLAN = Experiment(
    "Which batch size and how many ranks to ask for: a calibration of some seconds, and predicted times.",
    _DEFAULTS, _add_options, _ask, _run, figures, again=True,
)  # fmt: skip
