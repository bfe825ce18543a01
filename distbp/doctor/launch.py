"""The launch: who started these processes, whether their MPI understands it, and what it allows when a rank dies.

Where launcher and MPI do not belong together, MPI_Init aborts, or every process is rank 0 of 1 and the job is reported
as a success. Both show before MPI is initialised.
"""

import os
import re
from collections.abc import Mapping
from importlib import metadata
from typing import NamedTuple

from distbp.comm.communicator import Communicator
from distbp.comm.elastic import why_not_elastic
from distbp.comm.host import available_cores
from distbp.comm.launchers import Launch, cure
from distbp.comm.mpi import library_version, loaded_mpi
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding

_FULL = "mpirun --with-ft ulfm --mca coll ^han,adapt"
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
_LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")


class Library(NamedTuple):
    """Names the MPI that mpi4py finds: its version, or why there is none; mpi4py's version; and how MPI_Init failed."""

    version: str
    error: str = ""
    mpi4py: str = ""
    failed: str = ""

    @property
    def name(self) -> str:
        """Return what tells it from others, of the version string, which may be long."""
        return " ".join(self.version.partition("\n")[0].split()).partition(", package")[0].replace(" Version:", "")


def find_library() -> Library:
    """Load MPI, without initialising it."""
    mpi4py = ""
    try:
        mpi4py = metadata.version("mpi4py")
        return Library(library_version(), "", mpi4py)
    except metadata.PackageNotFoundError:
        return Library("", "no mpi4py")
    except (ImportError, RuntimeError) as error:
        return Library("", " ".join(str(error).split()), mpi4py)


def claimed_rank(environ: Mapping[str, str], *, on_host: bool = False) -> int:
    """Return the rank that the launcher gave this process, of all or of its host's; 0 without a launcher.

    MPI may not know it. Below an mpirun SLURM's variables are those of mpirun's daemon: they count last.
    """
    given = (environ.get(name, "") for name in (_LOCAL_RANKS if on_host else _RANKS))
    return next((int(rank) for rank in given if rank.isdigit()), 0)


def check_launch(comm: Communicator, launch: Launch | None, library: Library) -> list[Finding]:
    """Judge launcher and library, before MPI_Init as well as after it."""
    if not hasattr(comm, "library"):
        return [judge_launch(launch, library.version), judge_library(launch, library)]
    MPI = loaded_mpi()
    levels = ("single", "funneled", "serialized", "multiple")
    level = next(name for name in levels if getattr(MPI, f"THREAD_{name.upper()}") == MPI.Query_thread())
    return [judge_launch(launch, library.version, size=comm.size), judge_library(launch, library, level=level)]


def judge_launch(
    launch: Launch | None, version: str, *, environ: Mapping[str, str] = os.environ, size: int | None = None
) -> Finding:
    """Judge the launcher against the MPI library of that version; `size` is MPI's world, None before MPI_Init."""
    if launch is None:
        if "SLURM_JOB_ID" in environ and "SLURM_STEP_ID" not in environ:
            return _judge_batch_step(environ)
        return Finding("launch", OK, "no launcher: one process")
    several = launch.processes > 1
    figure = f"{launch.launcher} started {launch.processes} process{'es' * several}"
    if version and (better := cure(launch, version)):
        name = Library(version).name
        if several:
            return Finding("launch", FAILURE, f"{figure}, which {name} does not understand", f"Launch with {better}.")
        advice = f"For more than one process launch with {better}."
        return Finding("launch", WARNING, f"{figure}; {name} does not understand it", advice)
    if size is not None:
        figure += f", MPI's world has {size}"
    if size not in (None, launch.processes):
        advice = "Launch with the mpirun of the MPI that mpi4py finds, or srun with its --mpi."
        return Finding("launch", FAILURE, figure, advice)
    return Finding("launch", OK, figure)


def _judge_batch_step(environ: Mapping[str, str]) -> Finding:
    """Judge what awaits an mpirun that is started from here: later is too late, for it starts no rank to say so."""
    here, nodes = "batch step of a SLURM job, no launcher", int(environ.get("SLURM_JOB_NUM_NODES", "1"))
    if nodes > 1:
        for name in ("PRTE_MCA_plm", "OMPI_MCA_plm"):
            asked = environ.get(name, "")
            if asked and asked.startswith("^") == ("slurm" in asked):
                figure = f"{here}; {name}={asked} lets mpirun start its daemons on {nodes} nodes without SLURM"
                return Finding("launch", WARNING, figure, f"Unset {name}, unless all nodes allow ssh.")
        if environ.get("SLURM_EXPORT_ENV") == "NONE":
            figure = f"{here}; SLURM_EXPORT_ENV=NONE lets mpirun start its daemons on {nodes} nodes without PATH"
            return Finding("launch", WARNING, figure, "export SLURM_EXPORT_ENV=ALL in the job script.")
    tasks = re.match(r"\d+", environ.get("SLURM_TASKS_PER_NODE", ""))  # e.g. 16(x2),8
    cores = len(available_cores())
    if tasks and int(tasks[0]) > cores:
        figure = f"{here}; it has {tasks[0]} tasks a node, and {cores} cores: Open MPI's mpirun refuses to bind them"
        return Finding("launch", WARNING, figure, "Ask for fewer tasks a node, or mpirun --bind-to none.")
    ranks = environ.get("SLURM_NTASKS", "1")
    how = f"; for more, up to {ranks}, mpirun or srun (srun mpirun hangs)" if ranks != "1" else ""
    return Finding("launch", OK, f"{here}: one process is right here{how}")


def judge_library(launch: Launch | None, library: Library, *, level: str = "") -> Finding:
    """Judge the MPI library; `level` is what thread level it was initialised with, "" where it was not."""
    if library.failed:
        return Finding("MPI library", FAILURE, f"MPI_Init: {library.failed}", "Repair this MPI.")
    if library.version:
        threads = f", thread level {level}" if level else ", not initialised: one process"
        return Finding("MPI library", OK, f"{library.name}, mpi4py {library.mpi4py}{threads}")
    if launch and launch.processes > 1:
        advice = "Install one on all hosts, into this environment: pip install 'distbp[mpi]'."
        return Finding("MPI library", FAILURE, f"none: {library.error}", advice)
    advice = "One process only; for more: pip install 'distbp[mpi]'."
    return Finding("MPI library", WARNING, f"none: {library.error}", advice)


def judge_fault_tolerance(environ: Mapping[str, str], version: str, *, size: int) -> Finding:
    """Judge whether ranks can go on without a dead one."""
    name = "fault tolerance"
    if size == 1:
        return Finding(name, OK, "one process: no other can die")
    if not (obstacle := why_not_elastic(dict(environ))):
        return Finding(name, OK, "yes: ranks go on without a dead one")
    if environ.get("OMPI_MCA_mpi_ft_enable", "0").lower() not in ("0", "false", "f", "no", "disabled"):
        return Finding(name, WARNING, f"half set: {obstacle.partition(': --mca')[0]}", f"Launch with {_FULL}.")
    can = f"`{_FULL}` can" if version.startswith("Open MPI v5") else f"`{_FULL}` of Open MPI 5 can"
    return Finding(name, OK, f"no: ranks cannot go on without a dead one; {can}")
