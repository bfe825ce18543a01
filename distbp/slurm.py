"""Front door: ``python -m distbp.slurm``: writes a SLURM job script for this cluster.

The script survives time limits, pre-emption, killed ranks and lost nodes. On a terminal it asks for what no flag says;
`sinfo`, where there is one, gives the defaults and says what cannot be. ``job.sbatch`` is the script for a cluster that
this knows nothing about, and can be submitted as it stands; what is written differs from it in the answers alone.
"""

import argparse
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from distbp.comm.serial import SerialCommunicator
from distbp.errors import DONE, UsageError, UserError
from distbp.run.entry_point import run

__all__ = ["Answers", "Partition", "main", "partitions", "script"]

_TEMPLATE = Path(__file__).with_name("job.sbatch")
_PATIENCE = 10.0
"""Seconds for sinfo, which waits long for a controller that does not answer."""


class Partition(NamedTuple):
    """Describe a partition by its smallest nodes, as sinfo does."""

    name: str
    nodes: int
    cores: int
    minutes: float
    """The time limit; infinity where there is none."""
    default: bool


@dataclass(frozen=True)
class Answers:
    """Hold what a script needs to know; the defaults are those of ``job.sbatch``."""

    kind: str = "train"
    nodes: int = 2
    ntasks_per_node: int = 16
    cpus_per_task: int = 1
    time: str = "04:00:00"
    partition: str = ""
    account: str = ""
    launcher: str = "mpirun"
    mpi: str = ""
    venv: str = "$SLURM_SUBMIT_DIR/.venv"
    local: str = ""
    signal_ahead: int = 120
    """Seconds before the time limit at which SLURM signals the job."""


_EXAMPLES = {"train": "--data DATA --epochs 100", "study": "batch-size --data DATA"}
"""What stands behind the script's name, by kind."""

_QUESTIONS = {
    "partition": "partition",
    "account": "account, if the cluster wants one",
    "nodes": "nodes",
    "ntasks_per_node": "ranks per node",
    "time": "time limit, DAYS-HH:MM:SS; the job is queued again as often as it needs",
}


def script(answers: Answers) -> str:
    """Return the text of the job script: ``job.sbatch``, with these answers in place of the default ones.

    Raises
    ------
    UserError
        A number below 1, a time that SLURM does not read or that is over before its signal, a name that SLURM does not
        take.
    """
    _validate(answers)
    text = _TEMPLATE.read_text(encoding="utf-8")
    for default, given in zip(_lines(Answers()), _lines(answers), strict=True):
        assert text.count(default) == 1, default
        text = text.replace(default, given)
    return text


def _validate(answers: Answers) -> None:
    """Raise a `UserError` where no cluster would take the answers."""
    for name in ("nodes", "ntasks_per_node", "cpus_per_task", "signal_ahead"):
        if getattr(answers, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(answers, name)}: it is at least 1")
    if minutes_of(answers.time) * 60 <= answers.signal_ahead:
        raise UserError(f"--time {answers.time} is not longer than --signal-ahead {answers.signal_ahead} seconds")
    for option in _partition_options(answers):
        if not re.fullmatch(r"[\w=,.-]+", option):
            raise UserError(f"{option}: a name has letters, digits, dots, dashes and commas")


def _partition_options(answers: Answers) -> list[str]:
    """Return the options of sbatch that name partition and account, where they are given."""
    return [f"--{name}={getattr(answers, name)}" for name in ("partition", "account") if getattr(answers, name)]


def _lines(answers: Answers) -> list[str]:
    """Return the lines of the script that hold the answers, in a fixed order; each occurs once."""
    partition = "".join(f"#SBATCH {option}\n" for option in _partition_options(answers))
    return [
        f"#SBATCH --nodes={answers.nodes}\n",
        f"#SBATCH --ntasks-per-node={answers.ntasks_per_node}\n",
        f"#SBATCH --cpus-per-task={answers.cpus_per_task}\n",
        f"#SBATCH --time={answers.time}\n",
        partition or "##SBATCH --partition=NAME --account=NAME\n",
        f"#SBATCH --job-name=distbp-{answers.kind}\n",
        f"#SBATCH --signal=B:USR1@{answers.signal_ahead}\n",
        f"ahead={answers.signal_ahead}\n",
        f"command={answers.kind}\n",
        f"venv=${{DISTBP_VENV:-{_quoted(answers.venv)}}}\n",
        f"launcher=${{DISTBP_LAUNCHER:-{answers.launcher}}}\n",
        f"mpi=${{DISTBP_MPI:-{answers.mpi}}}\n",
        f"local=${{DISTBP_LOCAL:-{_quoted(answers.local)}}}\n",
    ]


def _quoted(path: str) -> str:
    """Quote a path for ``${NAME:-...}``, where the shell's variables still count."""
    return re.sub(r'(["\\`}])', r"\\\1", path)


def minutes_of(time: str) -> float:
    """Return the minutes of a time limit of SLURM: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS, infinite."""
    if time.lower() in ("infinite", "unlimited"):
        return float("inf")
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        raise UserError(f"--time {time}: SLURM reads times like 04:00:00 or 2-12:00:00")
    days, *rest = (int(part) if part else 0 for part in found.groups())
    if found[1] or found[4]:  # from the left: hours, minutes, seconds
        hours, minutes, seconds = rest
    else:
        hours, (minutes, seconds) = 0, rest[:2]
    return days * 1440 + hours * 60 + minutes + seconds / 60


def partitions() -> list[Partition]:
    """Ask sinfo for the partitions of this cluster; there are none where there is no SLURM."""
    try:
        table = subprocess.run(
            ["sinfo", "--noheader", "--exact", "--format=%P %l %D %c"],
            capture_output=True, text=True, timeout=_PATIENCE, check=True,
        ).stdout  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    found: dict[str, Partition] = {}
    for line in table.splitlines():
        name, limit, nodes, cores = line.split()
        before = found.get(name)
        found[name] = Partition(
            name.rstrip("*"), int(nodes) + (before.nodes if before else 0),
            min(int(cores.rstrip("+")), before.cores if before else sys.maxsize), minutes_of(limit), name.endswith("*"),
        )  # fmt: skip
    return list(found.values())


def _parser() -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> Any:
            raise UsageError(message)

    parser = Parser(
        prog="python -m distbp.slurm", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("kind", nargs="?", choices=_EXAMPLES, default="train", help="what the job does [train]")
    add("--nodes", type=int, metavar="N", help="[2]")
    add("--ntasks-per-node", type=int, metavar="N", help="ranks per node [as many as cores; 16 without sinfo]")
    add("--cpus-per-task", type=int, metavar="N", help="cores of a rank, which are BLAS threads [1]")
    add("--time", metavar="TIME", help="time limit [04:00:00, or the partition's]")
    add("--partition", metavar="NAME", help="[the cluster's default]")
    add("--account", metavar="NAME", help="[none]")
    add("--launcher", choices=("mpirun", "srun"), help="[mpirun]")
    add("--mpi", metavar="NAME", help="srun --mpi=NAME [pmix for Open MPI, pmi2 for MPICH]")
    add("--venv", metavar="DIR", help="the environment with distbp [.venv where sbatch is called]")
    add("--local", metavar="DIR", help="copy the environment to this folder on each node's disk [no]")
    add("--signal-ahead", type=int, metavar="S", help="seconds before the limit to stop with a checkpoint [120]")
    add("--out", metavar="FILE", help="where to write it, - for standard output [train.sbatch, study.sbatch]")
    add("--yes", action="store_true", help="ask nothing, overwrite the file")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    return run(lambda comm: _write(_parser().parse_args(given)), SerialCommunicator)


def _write(options: argparse.Namespace) -> int:
    known = partitions()
    flags = {name: getattr(options, name) for name in Answers.__dataclass_fields__}
    given = {name: value for name, value in flags.items() if value is not None}
    if not options.yes and options.out != "-" and sys.stdin.isatty():
        given = _asked(given, known)
    answers = _fitting(given, known)
    text = script(answers)
    if options.out == "-":
        print(text, end="")
        return DONE
    path = Path(options.out or f"{answers.kind}.sbatch")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        if path.samefile(_TEMPLATE):  # by slurm/train.sbatch, too, which is a link
            raise UserError(f"{path} is the script that all others are made from: give another --out")
        if not options.yes:
            raise UserError(f"{path} exists: give another --out, or --yes to overwrite it")
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}; submit it: sbatch {shlex.quote(str(path))} {_EXAMPLES[answers.kind]}")
    return DONE


def _asked(given: dict[str, Any], known: list[Partition]) -> dict[str, Any]:
    """Ask on the terminal for what no flag says; an empty answer is the default."""
    for name, question in _QUESTIONS.items():
        if name in given or (name == "partition" and len(known) == 1):
            continue
        default = getattr(_fitting(given, known), name)
        choices = f" ({', '.join(p.name for p in known)})" if name == "partition" and known else ""
        answer = input(f"{question}{choices} [{default}]: ").strip()
        if answer:
            kind = type(default)
            try:
                given = given | {name: kind(answer)}
            except ValueError:
                raise UserError(f"{question}: {answer!r} is not a number") from None
    return given


def _fitting(given: dict[str, Any], known: list[Partition]) -> Answers:
    """Complete the answers by what sinfo knows; raise a `UserError` where the cluster cannot give it."""
    here = None
    if known:
        name = given.get("partition")
        here = next((p for p in known if (p.name == name if name else p.default)), None)
        if name and not here:
            raise UserError(f"--partition {name}: this cluster has {', '.join(p.name for p in known)}")
    if not here:
        return Answers(**given)
    cores = here.cores // given.get("cpus_per_task", 1)
    given = {"nodes": min(2, here.nodes), "ntasks_per_node": max(1, cores)} | given
    if "time" not in given and here.minutes < 240:
        given["time"] = str(int(here.minutes))
    answers = Answers(**given)
    if answers.nodes > here.nodes:
        raise UserError(f"--nodes {answers.nodes}: partition {here.name} has {here.nodes}")
    if answers.ntasks_per_node * answers.cpus_per_task > here.cores:
        raise UserError(
            f"{answers.ntasks_per_node} ranks of {answers.cpus_per_task} cores per node: those of partition"
            f" {here.name} have {here.cores} cores"
        )
    if minutes_of(answers.time) > here.minutes:
        raise UserError(f"--time {answers.time}: partition {here.name} allows {here.minutes:g} minutes")
    return answers


if __name__ == "__main__":
    sys.exit(main())
