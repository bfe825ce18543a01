"""``distbp train ...``, ``distbp predict ...``, and so on: the front doors as sub-commands."""

import sys

from distbp import __version__
from distbp.errors import USAGE

_USAGE = """\
usage: distbp COMMAND [options]

  train      train a network; put 'mpirun -n P' in front of it for P ranks
  predict    predictions of a trained model for new rows
  export     a trained model as an ONNX file
  report     the report of a run anew, or one page about several
  data       how the columns of a table are understood
  check      one gradient by several methods: their errors, their times, and how they grow
  slurm      write a job script for this cluster
  doctor     is this launch, machine, MPI, BLAS sane? what to change
  study      experiments with a report, e.g. on the batch size

'distbp COMMAND --help' lists the options of a command; 'distbp --version' tells the version."""


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    match arguments:
        case ["train", *rest]:
            from distbp import train

            return train.main(rest)
        case ["predict", *rest]:
            from distbp import predict

            return predict.main(rest)
        case ["report", *rest]:
            from distbp.report import __main__ as report

            return report.main(rest)
        case ["export", *rest]:
            from distbp.export import __main__ as export

            return export.main(rest)
        case ["data", *rest]:
            from distbp.data import __main__ as data

            return data.main(rest)
        case ["check", *rest]:
            from distbp.check import __main__ as check

            return check.main(rest)
        case ["doctor", *rest]:
            from distbp.doctor import __main__ as doctor

            return doctor.main(rest)
        case ["study", *rest]:
            from distbp.study import __main__ as study

            return study.main(rest)
        case ["slurm", *rest]:
            from distbp import slurm

            return slurm.main(rest)
        case ["--version"]:
            print(f"distbp {__version__}")
            return 0
        case ["--help" | "-h"]:
            print(_USAGE)
            return 0
    print(_USAGE, file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
