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
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from distbp.comm.serial import SerialCommunicator
from distbp.errors import DONE, UsageError, UserError
from distbp.markup import plain
from distbp.run.entry_point import Parser, run

_TEMPLATE = Path(__file__).with_name("job.sbatch")


class Partition(NamedTuple):
    """Describe a partition by its smallest nodes, as sinfo does; without a time limit its minutes are infinite."""

    name: str
    nodes: int
    cores: int
    minutes: float
    default: bool


def _answer(default: Any, metavar: str | None, text: str, **flag: Any) -> Any:
    """Declare an answer: its default, and what argparse wants to know of its flag."""
    return field(default=default, metadata={"metavar": metavar, "help": text, **flag})


@dataclass(frozen=True)
class Answers:
    """Hold what a script needs to know; the defaults are those of ``job.sbatch``."""

    kind: str = "train"
    nodes: int = _answer(2, "N", "[2]")
    ntasks_per_node: int = _answer(16, "N", "ranks per node [as many as cores; 16 without sinfo]")
    cpus_per_task: int = _answer(1, "N", "cores of a rank, which are BLAS threads [1]")
    time: str = _answer("04:00:00", "TIME", "time limit [04:00:00, or the partition's]")
    partition: str = _answer("", "NAME", "[the cluster's default]")
    account: str = _answer("", "NAME", "[none]")
    launcher: str = _answer("mpirun", None, "[mpirun]", choices=("mpirun", "srun"))
    mpi: str = _answer("", "NAME", "srun --mpi=NAME [pmix for Open MPI, pmi2 for MPICH]")
    venv: str = _answer("$SLURM_SUBMIT_DIR/.venv", "DIR", "the environment with distbp [.venv where sbatch is called]")
    local: str = _answer("", "DIR", "copy the environment to this folder on each node's disk [no]")
    signal_ahead: int = _answer(120, "S", "seconds before the limit to stop with a checkpoint [120]")


_EXAMPLES = {"train": "--data DATA --epochs 100", "study": "batch-size --data DATA"}  # behind the script's name
_QUESTIONS = {
    "partition": "partition",
    "account": "account, if the cluster wants one",
    "nodes": "nodes",
    "ntasks_per_node": "ranks per node",
    "time": "time limit, DAYS-HH:MM:SS; the job is queued again as often as it needs",
}


def script(answers: Answers) -> str:
    """Return ``job.sbatch`` with these answers in place of its own; a `UserError` where no cluster would take them."""
    for name in ("nodes", "ntasks_per_node", "cpus_per_task", "signal_ahead"):
        if getattr(answers, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} {getattr(answers, name)}: it is at least 1")
    if minutes_of(answers.time) * 60 <= answers.signal_ahead:
        raise UserError(f"--time {answers.time} is not longer than --signal-ahead {answers.signal_ahead} seconds")
    for name in ("partition", "account"):
        if not re.fullmatch(r"[\w=,.-]*", getattr(answers, name)):
            raise UserError(f"--{name}={getattr(answers, name)}: a name has letters, digits, dots, dashes and commas")
    text = _TEMPLATE.read_text(encoding="utf-8")
    for default, given in zip(_lines(Answers()), _lines(answers), strict=True):
        assert text.count(default) == 1, default
        text = text.replace(default, given)
    return text


def _lines(answers: Answers) -> list[str]:
    """Return the lines of the script that hold the answers, in a fixed order; each occurs once."""
    names = {"partition": answers.partition, "account": answers.account}
    named = "".join(f"#SBATCH --{option}={name}\n" for option, name in names.items() if name)
    # quoted for ${NAME:-...}, where the shell's variables still count
    venv, local = (re.sub(r'(["\\`}])', r"\\\1", path) for path in (answers.venv, answers.local))
    return [
        f"#SBATCH --nodes={answers.nodes}\n",
        f"#SBATCH --ntasks-per-node={answers.ntasks_per_node}\n",
        f"#SBATCH --cpus-per-task={answers.cpus_per_task}\n",
        f"#SBATCH --time={answers.time}\n",
        named or "##SBATCH --partition=NAME --account=NAME\n",
        f"#SBATCH --job-name=distbp-{answers.kind}\n",
        f"#SBATCH --signal=B:USR1@{answers.signal_ahead}\n",
        f"ahead={answers.signal_ahead}\n",
        f"command={answers.kind}\n",
        f"venv=${{DISTBP_VENV:-{venv}}}\n",
        f"launcher=${{DISTBP_LAUNCHER:-{answers.launcher}}}\n",
        f"mpi=${{DISTBP_MPI:-{answers.mpi}}}\n",
        f"local=${{DISTBP_LOCAL:-{local}}}\n",
    ]


def minutes_of(time: str) -> float:
    """Return the minutes of a time limit of SLURM: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS, infinite."""
    if time.lower() in ("infinite", "unlimited"):
        return float("inf")
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", time)
    if not found:
        raise UserError(f"--time {time}: SLURM reads times like 04:00:00 or 2-12:00:00")
    days, first, second, third = (int(part or 0) for part in found.groups())
    hours_first = found[1] or found[4]
    return days * 1440 + first * 60 + second + third / 60 if hours_first else first + second / 60


def partitions() -> list[Partition]:
    """Ask sinfo for the partitions of this cluster; there are none where there is no SLURM."""
    command = ["sinfo", "--noheader", "--exact", "--format=%P %l %D %c"]
    try:
        table = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # it waits long for a controller that does not answer
        return []
    found: dict[str, Partition] = {}
    for line in table.splitlines():
        name, limit, nodes, cores = line.split()
        part = Partition(name.rstrip("*"), int(nodes), int(cores.rstrip("+")), minutes_of(limit), name.endswith("*"))
        if before := found.get(name):
            part = part._replace(nodes=part.nodes + before.nodes, cores=min(part.cores, before.cores))
        found[name] = part
    return list(found.values())


def _parser() -> argparse.ArgumentParser:
    as_it_stands = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        "python -m distbp.slurm", description=plain(__doc__), formatter_class=as_it_stands, allow_abbrev=False
    )
    add = parser.add_argument
    add("kind", nargs="?", choices=_EXAMPLES, default="train", help="what the job does [train]")
    for answer in fields(Answers)[1:]:
        add(f"--{answer.name.replace('_', '-')}", type=type(answer.default), **answer.metadata)
    add("--out", metavar="FILE", help="where to write it, - for standard output [train.sbatch, study.sbatch]")
    add("--yes", action="store_true", help="ask nothing, overwrite the file")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    options, problem = argparse.Namespace(), None
    try:
        options = _parser().parse_args(arguments)  # which exits after --help
    except UsageError as error:
        problem = error
    return run(lambda comm: _write(options), SerialCommunicator, problem=problem)


def _write(options: argparse.Namespace) -> int:
    known = partitions()
    given = {name: value for name, value in vars(options).items() if value is not None and name not in ("out", "yes")}
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
        try:
            given = given | ({name: type(default)(answer)} if answer else {})
        except ValueError:
            raise UserError(f"{question}: {answer!r} is not a number") from None
    return given


def _fitting(given: dict[str, Any], known: list[Partition]) -> Answers:
    """Complete the answers by what sinfo knows; raise a `UserError` where the cluster cannot give it."""
    name = given.get("partition")
    here = next((p for p in known if (p.name == name if name else p.default)), None)
    if known and name and not here:
        raise UserError(f"--partition {name}: this cluster has {', '.join(p.name for p in known)}")
    if not here:
        return Answers(**given)
    ranks = max(1, here.cores // given.get("cpus_per_task", 1))
    given = {"nodes": min(2, here.nodes), "ntasks_per_node": ranks} | given
    if "time" not in given and here.minutes < 240:
        given["time"] = str(int(here.minutes))
    answers = Answers(**given)
    if answers.nodes > here.nodes:
        raise UserError(f"--nodes {answers.nodes}: partition {here.name} has {here.nodes}")
    if answers.ntasks_per_node * answers.cpus_per_task > here.cores:
        asked = f"{answers.ntasks_per_node} ranks of {answers.cpus_per_task} cores per node"
        raise UserError(f"{asked}: those of partition {here.name} have {here.cores} cores")
    if minutes_of(answers.time) > here.minutes:
        raise UserError(f"--time {answers.time}: partition {here.name} allows {here.minutes:g} minutes")
    return answers


if __name__ == "__main__":
    sys.exit(main())
