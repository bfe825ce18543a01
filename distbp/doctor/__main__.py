"""Front door: ``python -m distbp.doctor``: is this launch, machine, MPI, BLAS and file system sane, and what to change.

Start it as you start the training: alone, under mpirun, in a job of SLURM. It prints one line for each check. The exit
code is 0 where all is well, 1 with a warning, 2 with a failure. It never hangs: a rank that does not answer is named.
"""

import argparse
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from distbp.comm.communicator import Communicator
from distbp.comm.launchers import Launch, launch_of
from distbp.comm.mpi import MPICommunicator
from distbp.comm.serial import SerialCommunicator
from distbp.doctor.environment import check_limits, check_versions
from distbp.doctor.files import check_data, check_run_directory, probe_folder
from distbp.doctor.finding import EXIT_CODE, FAILURE, OK, WARNING, Finding, ranks_named, worst
from distbp.doctor.launch import (
    Library,
    claimed_rank,
    find_library,
    judge_fault_tolerance,
    judge_launch,
    judge_library,
    thread_level,
)
from distbp.doctor.machine import check_blas, check_cores, check_gemm
from distbp.doctor.network import (
    check_allreduce,
    check_clocks,
    check_large_message,
    check_shared_memory,
    judge_shared_memory,
    shared_memory,
)
from distbp.doctor.report import Report
from distbp.doctor.supervision import Supervision, start_limit
from distbp.errors import USAGE

__all__ = ["examine", "main"]

_PATIENCE = 2.0
"""Seconds in which all ranks fail, where it is not one that fails alone."""
_ABORT = 10.0
"""Seconds for MPI_Abort to reach all."""
_SPEAK = 3.0
"""Seconds for the process that speaks, where processes do not know of each other."""
_FORWARD = 0.5
"""Seconds for the launcher to pass on what was printed."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if claimed_rank(os.environ) == 0:
            print(f"distbp: error: {message}", file=sys.stderr)
        sys.exit(USAGE)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; what is wrong with it is one line, and exit code 2."""
    parser = _Parser(prog="python -m distbp.doctor", description=__doc__, allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--run-dir", default=".", metavar="DIR", help="where runs will write; here by default")
    parser.add_argument("--data", default="digits", metavar="NAME_OR_PATH", help="what will be read; digits by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument("--quick", action="store_true", help="shorter measurements, no large message")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="of one check; 60 by default")
    parser.add_argument("--abort", action="store_true", help="at the end try whether MPI_Abort ends all ranks")
    options = parser.parse_args(arguments)
    if not 0 < options.limit < 1e6:
        parser.error(f"--limit {options.limit:g}: seconds, more than 0")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parse(arguments)
    launch, library = launch_of(os.environ), find_library()
    first = [judge_launch(launch, library.version), judge_library(launch, library)]
    comm: Communicator = SerialCommunicator()
    if launch and library.version and worst(first) == OK:
        _warn_of_little_shared_memory()
        try:
            with start_limit(options.limit):
                comm = MPICommunicator()
        except Exception as error:  # mpi4py's own class has no name here
            first = [first[0], Finding("MPI library", FAILURE, f"MPI_Init: {_one_line(error)}", "Repair this MPI.")]
    speaks = claimed_rank(os.environ) == 0 if comm.size == 1 else comm.is_root
    report = Report(speaks=speaks, as_json=options.json)
    examine(comm, options, report, launch, library, () if worst(first) == OK else first)
    if options.abort and comm.size > 1:
        _abort(comm, report.code)
    if not speaks and comm.size == 1:  # as many worlds of one as processes: launchers end all at the first bad exit
        time.sleep(_SPEAK)
    return report.code


def _warn_of_little_shared_memory() -> None:
    """Warn in front of MPI_Init, in which MPICH dies of it with a bus error."""
    found = judge_shared_memory([shared_memory(socket.gethostname())])
    if found.status == FAILURE:
        if claimed_rank(os.environ, on_host=True) == 0:
            text = f"distbp: warning: {found.figure}, of which MPI_Init may die (bus error). {found.advice}\n"
            os.write(2, text.encode())
        time.sleep(_FORWARD)  # all of the host: the first death ends all


def examine(
    comm: Communicator,
    options: argparse.Namespace,
    report: Report,
    launch: Launch | None,
    library: Library,
    first: Sequence[Finding] = (),
) -> None:
    """Run all checks on all ranks of `comm`, into `report`; `first` is what keeps MPI from starting, if anything."""
    probe = probe_folder(options.run_dir) if comm.is_root else Path()

    def last_words(finding: Finding) -> None:
        report.end(finding)
        clean = threading.Thread(target=shutil.rmtree, args=(probe, True), daemon=True)
        clean.start()  # in a thread: the file system may be what hangs
        clean.join(1.0)

    with start_limit(options.limit):
        supervision = Supervision(comm, options.limit, last_words)
    bandwidth = 0.0

    def allreduce() -> list[Finding]:
        nonlocal bandwidth
        found, bandwidth = check_allreduce(comm, longest=(1 if options.quick else 4) << 20)
        return found

    def large_message() -> list[Finding]:
        return check_large_message(comm, quick=options.quick, bandwidth=bandwidth, limit=options.limit)

    checks: dict[str, Callable[[], list[Finding]]] = {
        "launch": lambda: list(first) or _of_launch(comm, launch, library),
        "fault tolerance": lambda: [judge_fault_tolerance(os.environ, library.version, size=comm.size)],
        "supervision": lambda: judge_supervision(comm, supervision.unseen),
        "versions": lambda: check_versions(comm),
        "ranks and cores": lambda: check_cores(comm),
        "limits": lambda: check_limits(comm),
        "BLAS kernel": lambda: check_blas(comm),
        "GEMM": lambda: check_gemm(comm, n=512 if options.quick else 1024),
        "allreduce": allreduce,
        "large message": large_message,
        "shared memory": lambda: check_shared_memory(comm),
        "clocks": lambda: check_clocks(comm),
        "run directory": lambda: check_run_directory(comm, probe),
        "data": lambda: check_data(comm, options.data),
    }
    for name, check in checks.items():
        with supervision.check(name):
            report.add(guarded(name, check, comm, supervision))
    tried = "tried after this report" if options.abort and comm.size > 1 else "not tried: --abort tries it"
    report.add([Finding("abort", OK, tried if comm.size > 1 else "one process: nobody else to end")])
    with supervision.check("the end"):
        report.end()
        comm.barrier()  # a launcher may end all when the first one ends
    supervision.close()


def guarded(
    name: str, check: Callable[[], list[Finding]], comm: Communicator, supervision: Supervision
) -> list[Finding]:
    """Return what `check` finds; where it raises, that is the finding, and where one rank alone does, the end."""
    try:
        return check()
    except Exception as error:
        problem = _one_line(error)
    if not comm.all_failed(_PATIENCE):
        supervision.fail(name, problem)
    return [Finding(name, FAILURE, problem, "The check itself failed: mend what it says.")]


def judge_supervision(comm: Communicator, unseen: list[int]) -> list[Finding]:
    """Judge the ranks of which rank 0 knows nothing."""
    if not unseen:
        return []
    figure = f"{ranks_named(unseen, comm.allgather_obj(comm.host))} cannot connect to rank 0 by TCP"
    advice = "A firewall, or a host name that is not known there: if one hangs it ends, but is not named."
    return [Finding("supervision", WARNING, figure, advice, tuple(unseen))]


def _of_launch(comm: Communicator, launch: Launch | None, library: Library) -> list[Finding]:
    size = comm.size if hasattr(comm, "library") else None
    return [
        judge_launch(launch, library.version, size=size),
        judge_library(launch, library, level=thread_level(comm)),
    ]


def _abort(comm: Communicator, code: int) -> None:
    """Let the last rank end all; who is still there says so."""

    def still_here() -> None:
        os.write(2, f"distbp: rank {comm.rank} on {comm.host}: MPI_Abort did not reach this rank\n".encode())
        os._exit(EXIT_CODE[FAILURE])

    timer = threading.Timer(_ABORT, still_here)
    timer.daemon = True
    timer.start()
    if comm.rank == comm.size - 1:
        time.sleep(_FORWARD)
        comm.abort(code)
    comm.barrier()


def _one_line(error: Exception) -> str:
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return f"{type(error).__name__}: {where}{' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main())
