"""The world of this process: alone, or the ranks of the launcher that started it."""

import os
import sys
from pathlib import Path

from distbp.comm.communicator import Communicator
from distbp.comm.elastic import ElasticCommunicator, why_not_elastic
from distbp.comm.launchers import TORCHRUN, Launch, cure, launch_of
from distbp.comm.mpi import MPICommunicator, library_version
from distbp.comm.serial import SerialCommunicator
from distbp.errors import UserError


def communicator(kind: str = "auto", *, elastic: bool | None = None) -> Communicator:
    """Return the communicator of this process.

    Parameters
    ----------
    kind : {"auto", "mpi", "serial"}
        ``auto`` is MPI under a launcher and serial without one.
    elastic : bool, optional
        Whether ranks may die; by default where the launch allows it (``mpirun --with-ft ulfm``). A process alone never
        is.

    Raises
    ------
    UserError
        When a launcher started several processes that the MPI here does not understand, or sees as worlds of
        one: they would be that many serial runs, each overwriting the others' files. Or when `elastic` is asked
        for and the launch does not allow it.
    """
    if kind not in ("auto", "mpi", "serial"):
        raise ValueError(f"unknown communicator {kind!r}: one of auto, mpi, serial")
    launch = launch_of(os.environ)
    launched = launch.processes if launch else 1
    if kind == "serial" or (kind == "auto" and launch is None):
        return SerialCommunicator()
    obstacle = why_not_elastic(dict(os.environ))
    asked = os.environ.get("OMPI_MCA_mpi_ft_enable", "0") != "0"  # then silence would be a trap
    if obstacle and (elastic or (elastic is None and asked)):
        raise UserError(f"--elastic {obstacle}; or --no-elastic")
    try:
        library = library_version()
        if launch and launched > 1 and (better := cure(launch, library)):
            raise UserError(_mismatch(launch, library, better))
        comm: MPICommunicator = ElasticCommunicator() if elastic is not False and not obstacle else MPICommunicator()
    except (ImportError, RuntimeError) as error:
        if kind == "auto" and launched == 1:
            return SerialCommunicator()
        raise UserError(
            f"a launcher started {launched} processes but MPI cannot be loaded"
            f" ({' '.join(str(error).split())}): pip install 'distbp[mpi]' into this environment"
        ) from error
    if launch and comm.size == 1 and launched > 1:
        raise UserError(_mismatch(launch, library, "that MPI's own mpirun, or srun with its --mpi"))
    return comm


def _mismatch(launch: Launch, library: str, better: str) -> str:
    mpirun = Path(sys.executable).with_name("mpirun")
    beside = f" ({mpirun})" if mpirun.exists() else ""
    if launch.launcher == TORCHRUN:
        n = launch.processes
        return f"{TORCHRUN} started {n} processes, which know nothing of each other here: use mpirun -n {n}{beside}"
    return (
        f"{launch.launcher} started {launch.processes} processes, but belongs to another MPI than mpi4py's"
        f" ({library.splitlines()[0]}), which sees a world of one: use {better}{beside}"
    )
