"""The world of this process: alone, or the ranks of the launcher that started it."""

import os
import sys

from distbp.communicator import Communicator, SerialCommunicator, launched_processes
from distbp.elastic import ElasticCommunicator, why_not_elastic
from distbp.errors import UserError
from distbp.mpi import MPICommunicator

__all__ = ["communicator"]


def communicator(kind: str = "auto", *, elastic: bool | None = None) -> Communicator:
    """The communicator of this process.

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
        When a launcher started several processes but MPI sees a world of one: they would be that
        many serial runs, each overwriting the others' files. Or when `elastic` is asked for and the launch
        does not allow it.
    """
    if kind not in ("auto", "mpi", "serial"):
        raise ValueError(f"unknown communicator {kind!r}: one of auto, mpi, serial")
    launched = launched_processes()
    if kind == "serial" or (kind == "auto" and launched is None):
        return SerialCommunicator()
    obstacle = why_not_elastic(dict(os.environ))
    asked = os.environ.get("OMPI_MCA_mpi_ft_enable", "0") != "0"  # then silence would be a trap
    if obstacle and (elastic or (elastic is None and asked)):
        raise UserError(f"--elastic {obstacle}; or --no-elastic")
    try:
        comm: MPICommunicator = ElasticCommunicator() if elastic is not False and not obstacle else MPICommunicator()
    except (ImportError, RuntimeError) as error:
        if kind == "auto" and launched == 1:
            return SerialCommunicator()
        raise UserError(
            f"a launcher started {launched or 1} processes but MPI cannot be loaded"
            f" ({' '.join(str(error).split())}): pip install 'distbp[mpi]' into this environment"
        ) from error
    if comm.size == 1 and (launched or 1) > 1:
        raise UserError(
            f"the launcher started {launched} processes but MPI sees a world of one: this mpirun or"
            f" srun belongs to another MPI than mpi4py's ({comm.library}); use the mpirun next to"
            f" {sys.executable}, or srun --mpi=pmi2 or --mpi=pmix"
        )
    return comm
