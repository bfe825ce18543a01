"""Front door: ``distbp runs``: the runs of a folder beside each other, newest last; and away with some.

The state of a run is what its directory says: *done* has a results.json, *running* holds its lock, *stopped* has a
checkpoint to go on from, *failed* none.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from distbp.comm.serial import SerialCommunicator
from distbp.errors import DONE, UserError
from distbp.markup import plain
from distbp.run.entry_point import run
from distbp.runs.listing import Listed, describe, listed


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="distbp runs", description=plain(__doc__), allow_abbrev=False)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", type=Path, help="runs, or folders of them [runs]")
    parser.add_argument("--rm", action="store_true", help="remove these runs, which are named one by one")
    parser.add_argument("--json", action="store_true", help="for programs: an object a line")
    options = parser.parse_args(arguments)
    return run(lambda comm: (remove if options.rm else show)(options), SerialCommunicator)


def show(options: argparse.Namespace) -> int:
    """Print the runs."""
    found = [one for folder in options.folders or [Path("runs")] for one in listed(folder)]
    if options.json:
        for one in found:
            print(json.dumps(one._asdict() | {"path": str(one.path)}))
    else:
        print(describe(found) if found else "no runs here: distbp train makes one, and distbp runs FOLDER lists others")
    return DONE


def remove(options: argparse.Namespace) -> int:
    """Remove runs; none where one of them is no run, or running."""
    if not options.folders:
        raise UserError("--rm: name the runs, as distbp runs shows them")
    found: list[Listed] = []
    for path in options.folders:
        if not (path / "config.toml").exists():
            raise UserError(f"--rm {path}: this is no run directory, there is no config.toml in it")
        found += [one for one in listed(path) if one.path == path]
    for one in found:
        if one.state == "running":
            raise UserError(f"--rm {one.path}: it is running; stop it first")
    for one in found:
        shutil.rmtree(one.path)
        print(f"removed {one.path}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
