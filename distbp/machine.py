"""The machine: BLAS threads, and what the numbers of a run depend on.

Ranks that share a host share its cores: each gets its part of them, at least one BLAS thread. The
manifest records versions, libraries, kernels and hosts.
"""

import contextlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import distbp
from distbp.communicator import Communicator, available_cores

__all__ = ["blas_threads", "describe", "limited_blas"]


def blas_threads(comm: Communicator) -> int:
    """BLAS threads of this rank: its share of the host's cores, at least one."""
    return max(1, min(comm.host_cores // comm.host_ranks, len(available_cores())))


@contextlib.contextmanager
def limited_blas(comm: Communicator) -> Iterator[int]:
    """Limit the BLAS of this process to its share of the cores; gives the number of threads."""
    from threadpoolctl import threadpool_limits

    threads = blas_threads(comm)
    with threadpool_limits(limits=threads, user_api="blas"):
        yield threads


def describe(comm: Communicator) -> dict[str, Any]:
    """The manifest; all ranks take part, rank 0 writes it."""
    from threadpoolctl import threadpool_info

    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    kernels = [{k: pool.get(k) for k in ("internal_api", "version", "architecture", "num_threads")} for pool in blas]
    here = {"host": comm.host, "pid": os.getpid(), "blas": kernels}
    return {
        "distbp": distbp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "mpi": getattr(comm, "library", None),
        "communicator": type(comm).__name__,
        "size": comm.size,
        "ranks": comm.allgather_obj(here),
        "command": sys.argv,
        "git": _git_revision(),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def _git_revision() -> str | None:
    """Revision of the source tree that is run, where it is one."""
    folder = Path(__file__).parent
    if not (folder.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
