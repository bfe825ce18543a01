"""Who started this process, and whether its MPI understands that launcher.

Where they do not belong together every process is rank 0 of 1: as many trainings as processes, each writing over the
others' files, and the job is reported as a success. Each launcher is known by what it leaves in the environment, each
MPI by its version string.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

OPEN_MPI_RUN, MPICH_RUN = "Open MPI's mpirun", "MPICH's mpirun"
TORCHRUN = "torchrun"
"""Or what does as it does: its processes have no MPI."""
_SIZES = {"jsrun": "JSM_NAMESPACE_SIZE", "flux run": "FLUX_JOB_SIZE"}
_RANKS = {"aprun": "ALPS_APP_PE", "PALS's mpiexec": "PALS_RANKID"}
"""Launchers that more than one MPI understands, which shows when it counts the ranks: what they say of them."""
_UNDERSTOOD = {"Open MPI": (OPEN_MPI_RUN, "srun --mpi=pmix"), "MPICH": (MPICH_RUN, "srun --mpi=pmi2")}
"""How to launch for an MPI, by what its version string has."""


def for_mpirun(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Open MPI's mpirun starts where MPICH's does: as root, and with more ranks than
    cores. What is in `environ` counts first.
    """
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
    return root | {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"} | dict(environ)


class Launch(NamedTuple):
    """Name a launcher, for people, and how many processes it says it started."""

    launcher: str
    processes: int


def launch_of(environ: Mapping[str, str]) -> Launch | None:
    """Return the launch that `environ` tells of; None without a launcher.

    mpirun's own variables count first: below it, SLURM's describe mpirun's daemons.
    """

    def number(name: str) -> int:
        return int(environ[name]) if environ.get(name, "").isdigit() else 0

    for launcher, name in _SIZES.items():
        if processes := number(name):
            return Launch(launcher, processes)
    if processes := number("OMPI_COMM_WORLD_SIZE"):
        return Launch(OPEN_MPI_RUN, processes)
    srun = environ.get("SLURM_MPI_TYPE", "")
    if (processes := number("PMI_SIZE")) and ("MPI_LOCALNRANKS" in environ or not srun.startswith("pmi2")):
        return Launch(MPICH_RUN, processes)
    if processes := number("PMI_SIZE") or number("MV2_COMM_WORLD_SIZE") or number("SLURM_STEP_NUM_TASKS"):
        return Launch(f"srun --mpi={srun}" if srun else "srun --mpi=none", processes)
    for launcher, name in _RANKS.items():
        if environ.get(name, "").isdigit():
            return Launch(launcher, 1 + number(name))  # at least
    if environ.get("LOCAL_RANK", "").isdigit() and environ.get("RANK", "").isdigit():
        return Launch(TORCHRUN, number("WORLD_SIZE")) if number("WORLD_SIZE") > 1 else None
    return None


def cure(launch: Launch, library: str) -> str:
    """Return what to launch with instead, because an MPI of that version string does not understand `launch`; or "".

    There is no answer for an MPI that is neither Open MPI nor MPICH, and for launchers that more than one understands.
    """
    if launch.launcher in (*_SIZES, *_RANKS):
        return ""
    for name, (mpirun, srun) in _UNDERSTOOD.items():
        if name in library:
            built_for_pmix = "pmix" in library  # an MPICH may well be: its configuration says so
            fits = launch.launcher.startswith((mpirun, srun)) or (built_for_pmix and "pmix" in launch.launcher)
            return "" if fits else f"{srun}, or {mpirun}"
    return ""
