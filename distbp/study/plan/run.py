"""Which batch size and how many ranks to ask for: a calibration of some seconds, and a table of predicted times.

The steps S(B) come from a batch-size study of the same data and network; where there is none, the gradient noise scale
of a short training stands for the critical batch size, and times are relative. The calibration measures the time of a
step against rows and ranks and that of an Allreduce against bytes and ranks, in this job; see `model`.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.agreement import on_root
from distbp.comm.communicator import Communicator
from distbp.data.loading import Data
from distbp.errors import UsageError, UserError
from distbp.run.options import TrainConfig
from distbp.study.batch_size.results import read_batch_sizes
from distbp.study.experiment import Experiment, at_least_1, batch_sizes, default_folder, listed
from distbp.study.plan import calibration
from distbp.study.plan.figures import figures
from distbp.study.trials import Trial, say, write_results

__all__ = ["PLAN"]

_DEFAULTS = ("--optimizer", "sgd", "--hidden", "128", "--validation-fraction", "0.2")
_SECONDS = 20.0
_ROUNDS = 4
_BYTES = (8, 2**12, 2**16, 2**20, 2**23)


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
        "batch_sizes": batch_sizes(options, rows, known or calibration.powers_between(4, rows, 4)),
        "predict_ranks": listed(options, "ranks") or [2**k for k in range(11)],
        "ranks_per_node": options.ranks_per_node,
        "network_given": [options.latency, options.bandwidth] if options.bandwidth else None, "curve": curve,
    }  # fmt: skip


def _curve(options: argparse.Namespace, config: TrainConfig, rows: int) -> dict[str, Any]:
    """Return S(B) of a study; no steps where there is none."""
    folder = Path(options.study or default_folder(config.data, "batch-size"))
    if not (folder / "study.json").exists():
        if options.study:
            raise UserError(f"--study {folder}: there is no study")
        return {"study": None, "steps": {}}
    results = read_batch_sizes(folder)
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

    groups, n = calibration.group_sizes(comm), data.train.n_rows
    sizes = sorted({*calibration.powers_between(min(4, n), n, 4), *asked["batch_sizes"]})
    if asked["curve"]["study"] is None:
        scales = calibration.noise_scale_of(config, data, comm, most=_SECONDS / 4.0)
        if not scales:
            raise UserError("no gradient noise scale was measured: run distbp.study batch-size, and give --study")
        low, middle, high = np.quantile(scales, [0.05, 0.5, 0.95])
        curve = {"low": float(low), "noise_scale": float(middle), "high": float(high)}
        note("noise scale", curve, f"{middle:.4g} ({low:.4g} to {high:.4g} along the training)")
    steps = [(ranks, b) for ranks in groups for b in sizes if b >= ranks]
    messages = [(ranks, n_bytes) for ranks in groups[1:] for n_bytes in _BYTES]
    parts = {ranks: calibration.first_ranks(comm, ranks) for ranks in groups}
    turns, most = dict[tuple[str, int, int], list[float]](), _SECONDS / _ROUNDS
    for _ in range(_ROUNDS):
        for ranks, b in steps:
            found = calibration.time_step(comm, parts[ranks], config, data, b, most=0.7 * most / len(steps))
            turns.setdefault(("step B", b, ranks), []).extend(found)
        for ranks, n_bytes in messages:
            found = calibration.time_allreduce(comm, parts[ranks], n_bytes, most=0.1 * most / len(messages))
            turns.setdefault(("allreduce bytes", n_bytes, ranks), []).extend(found)
    for (what, size, ranks), found in turns.items():
        times, name = calibration.quartiles(found), "batch_size" if what == "step B" else "bytes"
        text = "{:.4g} ms ({:.4g} to {:.4g})".format(*(1e3 * times[at] for at in ("seconds", "low", "high")))
        note(f"{what}={size} ranks={ranks}", {name: size, "ranks": ranks, **times}, text)
    hosts = len(set(comm.allgather_obj(comm.host)))
    about = {"trial": "job", "ranks": comm.size, "cores": comm.host_cores, "hosts": hosts}
    on_root(comm, lambda: write_results(folder, [about, *lines]), f"cannot write {folder}")
    return []


PLAN = Experiment(
    "Which batch size and how many ranks to ask for: a calibration of some seconds, and predicted times.",
    _DEFAULTS, _add_options, _ask, _run, figures, again=True,
)  # fmt: skip
