"""Front door: ``python -m distbp.report RUN``: the report of a finished run, anew; of several RUNs one page about all.

It needs neither the data nor ranks: a run that was trained with ``--report`` has left what it shows.
"""

import argparse
import sys
from pathlib import Path

from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.errors import DONE
from distbp.markup import plain
from distbp.report import LANGUAGES
from distbp.report.of_run import report_on
from distbp.report.of_runs import compare
from distbp.report.page import understood
from distbp.run.entry_point import run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distbp.report", description=plain(__doc__), allow_abbrev=False)
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="directories of finished runs")
    parser.add_argument("--language", choices=LANGUAGES, default="en")
    parser.add_argument("--out", metavar="DIR", type=Path, default="comparison", help="of several: where [comparison]")
    options = parser.parse_args(arguments)
    return run(lambda comm: report(options, comm), SerialCommunicator)


def report(options: argparse.Namespace, comm: Communicator) -> int:
    """Write the report that `options` ask for."""
    runs, language = options.runs, options.language
    with understood(*runs):
        path = compare(runs, options.out, language) if len(runs) > 1 else report_on(runs[0], language)
    print(f"report: {path}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
