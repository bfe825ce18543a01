"""Front door: ``python -m distbp.train``, with ``mpirun -n P`` in front of it for P ranks.

Reads the configuration and hands it to a `Job`.
"""

from distbp.run.quick_start import imported  # isort: skip  (before NumPy)

import dataclasses
import os
import sys
from contextlib import nullcontext

from distbp import __version__
from distbp.comm.communicator import Communicator
from distbp.comm.world import communicator
from distbp.errors import DONE, UsageError
from distbp.run.blas import limited_blas
from distbp.run.config import help_on, parse_train_config
from distbp.run.ensemble import EnsembleJob
from distbp.run.entry_point import run
from distbp.run.job import Job
from distbp.run.options import TrainConfig
from distbp.watch.watcher import Watcher

imported()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--version"]:
        print(f"distbp {__version__}")
        return DONE
    if text := help_on(arguments):
        print(text, end="")
        return DONE
    config, problem, watcher = TrainConfig(elastic=False), None, Watcher()
    try:
        config = parse_train_config(arguments)
    except UsageError as error:
        problem = error
    return run(
        lambda comm: train(config, comm, watcher=watcher),
        lambda: communicator(config.communicator, elastic=False if config.has_members else config.elastic),
        watcher=watcher,
        problem=problem,
    )


def train(config: TrainConfig, comm: Communicator, *, watcher: Watcher) -> int:
    """Train as `config` says on all ranks of `comm`; `DONE` or `STOPPED`."""
    if config.resume == "auto" and config.run_dir:  # maybe rank 0's host alone has the run, with its options
        config = TrainConfig(**comm.bcast_obj(dataclasses.asdict(config)))
    with (
        limited_blas(comm, most=1 if config.exact else config.threads) as threads,
        open(os.devnull, "w") if config.quiet else nullcontext() as stream,
    ):
        job = EnsembleJob if config.has_members else Job
        return job(config, comm, threads, watcher, stream=stream).run()


if __name__ == "__main__":
    sys.exit(main())
