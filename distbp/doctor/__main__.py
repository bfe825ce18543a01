"""Front door: ``python -m distbp.doctor``: is this launch, machine, MPI, BLAS and file system sane, and what to change.

Start it as you start the training: alone, under mpirun, in a job of SLURM. It prints one line for each check. The exit
code is 0 where all is well, 1 with a warning, 2 with a failure. It never hangs: a rank that does not answer is named.
"""

import argparse
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from distbp.comm.communicator import Communicator
from distbp.comm.launchers import Launch, launch_of
from distbp.comm.mpi import MPICommunicator
from distbp.comm.serial import SerialCommunicator
from distbp.doctor import files, machine, network
from distbp.doctor.finding import FAILURE, OK, Finding, Report, worst
from distbp.doctor.launch import Library, check_launch, claimed_rank, find_library, judge_fault_tolerance
from distbp.doctor.supervision import FORWARD, Supervision, leave, start_limit
from distbp.errors import USAGE
from distbp.markup import plain

_PATIENCE = 2.0
"""Seconds in which all ranks fail, where it is not one that fails alone."""
_ABORT = 10.0
"""Seconds for MPI_Abort to reach all."""
_SPEAK = 3.0
"""Seconds for the process that speaks, where processes do not know of each other."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if claimed_rank(os.environ) == 0:
            print(f"distbp: error: {message}", file=sys.stderr)
        sys.exit(USAGE)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line; what is wrong with it is one line, and exit code 2."""
    as_it_stands = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        "python -m distbp.doctor", description=plain(__doc__), formatter_class=as_it_stands, allow_abbrev=False
    )
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
    comm: Communicator = SerialCommunicator()
    if launch and library.version and worst(check_launch(comm, launch, library)) == OK:
        network.warn_of_little_memory()
        try:
            with start_limit(options.limit):
                comm = MPICommunicator()
        except Exception as error:  # mpi4py's own class has no name here
            library = library._replace(failed=_one_line(error))
    speaks = comm.is_root if comm.size > 1 else claimed_rank(os.environ) == 0
    report = Report(speaks=speaks, as_json=options.json)
    examine(comm, options, report, launch, library)
    if options.abort and comm.size > 1:  # the last rank ends all; who is still there says so
        timer = threading.Timer(_ABORT, leave, (comm, "MPI_Abort did not reach this rank"))
        timer.daemon = True
        timer.start()
        if comm.rank == comm.size - 1:
            time.sleep(FORWARD)
            comm.abort(report.code)
        comm.barrier()
    if not speaks and comm.size == 1:  # as many worlds of one as processes: launchers end all at the first bad exit
        time.sleep(_SPEAK)
    return report.code


def examine(
    comm: Communicator, options: argparse.Namespace, report: Report, launch: Launch | None, library: Library
) -> None:
    """Run all checks on all ranks of `comm`, into `report`."""
    probe = files.probe_folder(options.run_dir) if comm.is_root else Path()

    def last_words(finding: Finding) -> None:
        report.end(finding)
        clean = threading.Thread(target=shutil.rmtree, args=(probe, True), daemon=True)
        clean.start()  # in a thread: the file system may be what hangs
        clean.join(1.0)

    quick, limit, bandwidth = options.quick, options.limit, 0.0
    with start_limit(limit):
        supervision = Supervision(comm, limit, last_words)

    def allreduce() -> list[Finding]:
        nonlocal bandwidth
        found, bandwidth = network.check_allreduce(comm, longest=(1 if quick else 4) << 20)
        return found

    checks: dict[str, Callable[[], list[Finding]]] = {
        "launch": lambda: check_launch(comm, launch, library),
        "fault tolerance": lambda: [judge_fault_tolerance(os.environ, library.version, size=comm.size)],
        "supervision": supervision.missed,
        "versions": lambda: machine.check_versions(comm),
        "ranks and cores": lambda: machine.check_cores(comm),
        "limits": lambda: machine.check_limits(comm),
        "BLAS kernel": lambda: machine.check_blas(comm),
        "GEMM": lambda: machine.check_gemm(comm, n=512 if quick else 1024),
        "allreduce": allreduce,
        "large message": lambda: network.check_large_message(comm, quick=quick, bandwidth=bandwidth, limit=limit),
        "shared memory": lambda: network.check_shared_memory(comm),
        "clocks": lambda: network.check_clocks(comm),
        "run directory": lambda: files.check_run_directory(comm, probe),
        "data": lambda: files.check_data(comm, options.data),
    }
    for name, check in checks.items():
        with supervision.check(name):
            try:
                found = check()
            except Exception as error:
                found = [Finding(name, FAILURE, _one_line(error), "The check itself failed: mend what it says.")]
                if not comm.all_failed(_PATIENCE):  # the others are in it, and would wait for ever
                    supervision.fail(name, found[0].figure)
            report.add(found)
    tried = "tried after this report" if options.abort else "not tried: --abort tries it"
    report.add([Finding("abort", OK, tried if comm.size > 1 else "one process: nobody else to end")])
    with supervision.check("the end"):
        report.end()
        comm.barrier()  # a launcher may end all when the first one ends
    supervision.close()


def _one_line(error: Exception) -> str:
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    return f"{type(error).__name__}: {where}{' '.join(str(error).split())}"


if __name__ == "__main__":
    sys.exit(main())
