"""Front door: ``distbp replay RUN --to tensorboard``: the records of a run for a program that shows them."""

import argparse
import shutil
import sys
from pathlib import Path

from distbp.comm.serial import SerialCommunicator
from distbp.errors import DONE, UserError
from distbp.markup import plain
from distbp.report.run_files import options_in
from distbp.run.entry_point import run
from distbp.run.report import records_of
from distbp.run.trackers import TRACKERS, replay


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="distbp replay", description=plain(__doc__), allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, finished or not")
    parser.add_argument("--to", choices=TRACKERS, required=True, help="files are written into the run directory")
    options = parser.parse_args(arguments)
    return run(lambda comm: show(options.run, options.to), SerialCommunicator)


def show(path: Path, to: str) -> int:
    """Give the records of a run to a tracker."""
    records = records_of(path)
    if not records:
        raise UserError(f"{path}: there are no records in it (metrics.jsonl)")
    if to == "tensorboard":  # all records are written anew
        shutil.rmtree(path / to, ignore_errors=True)
    n = replay(to, path, options_in(path / "config.toml"), records)
    look = f": tensorboard --logdir {path}" if to == "tensorboard" else ""
    print(f"{n} records of {path} are in {to} now{look}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
