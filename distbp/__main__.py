"""``distbp train ...``, ``distbp predict ...``, and so on: the front doors as sub-commands."""

import sys
from difflib import get_close_matches
from importlib import import_module

from distbp import __version__
from distbp.errors import DONE, FAILED, USAGE

COMMANDS = {
    "train": ("train", "train a network; put 'mpirun -n P' in front of it for P ranks"),
    "predict": ("predict", "predictions of a trained model for new rows"),
    "report": ("report.__main__", "the report of a run anew, or one page about several"),
    "runs": ("runs.__main__", "the runs of a folder beside each other; --rm removes some"),
    "verify": ("runs.verify", "train a run again, here, and compare: the same to the byte, or what differs"),
    "export": ("export.__main__", "a trained model as an ONNX file"),
    "replay": ("runs.replay", "the records of a run for TensorBoard, MLflow, Weights & Biases or Trackio"),
    "until-done": ("runs.until_done", "start a training again until it is done"),
    "data": ("data.__main__", "how the columns of a table are understood"),
    "check": ("check.__main__", "one gradient by several methods: their errors, their times, and how they grow"),
    "slurm": ("slurm", "write a job script for this cluster"),
    "doctor": ("doctor.__main__", "is this launch, machine, MPI, BLAS sane? what to change"),
    "study": ("study.__main__", "experiments with a report, e.g. on the batch size"),
}
"""Modules of the commands, and what each does."""

_USAGE = """\
usage: distbp COMMAND [options]

{}

'distbp COMMAND --help' lists the options of a command; 'distbp --version' tells the version."""


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command; return the exit code."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    usage = _USAGE.format("\n".join(f"  {name:<11}{text}" for name, (_, text) in COMMANDS.items()))
    if command == "--version":
        print(f"distbp {__version__}")
        return DONE
    if command in ("--help", "-h", "help"):
        print(usage)
        return DONE
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        print(f"distbp: no command {command!r}; did you mean {near[0]}?" if near else usage, file=sys.stderr)
        return USAGE
    if rest == ["--version"]:
        return main(rest)
    try:
        door = import_module(f"distbp.{COMMANDS[command][0]}")
    except KeyboardInterrupt:
        print("distbp: error: interrupted before the start", file=sys.stderr)
        return FAILED
    code: int = door.main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
