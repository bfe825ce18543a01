"""The manifest of a run: versions, libraries, kernels and hosts, what its numbers depend on."""

import contextlib
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

import distbp
from distbp.comm.communicator import Communicator
from distbp.report.run_files import figures_in
from distbp.run.blas import bits_depend_on, loaded_blas


def bits_of(manifest: Path) -> dict[str, str] | None:
    """Return what `bits_depend_on` was when this manifest was written; None where there is none."""
    before = figures_in(manifest).get("bits depend on")
    return before if isinstance(before, dict) else None


def describe(comm: Communicator) -> dict[str, Any]:
    """Return the manifest on rank 0, which writes it, and nothing elsewhere; all ranks take part."""
    git = _describe_source() if comm.is_root else None  # beside what follows: others wait for it
    kernels = [
        {k: pool.get(k) for k in ("internal_api", "version", "architecture", "num_threads")} for pool in loaded_blas()
    ]
    ranks = comm.allgather_obj({"host": comm.host, "pid": os.getpid(), "blas": kernels})
    if not comm.is_root:
        return {}
    from importlib import metadata

    about = {
        "distbp": distbp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": next((found.version for found in metadata.distributions(name="numba")), None),
        "platform": platform.platform(),
        "mpi": getattr(comm, "library", None),
        "communicator": type(comm).__name__,
        "size": comm.size,
        "bits depend on": bits_depend_on(),
        "ranks": ranks,
        "command": sys.argv,
        "job": os.environ.get("SLURM_JOB_ID"),
        "started by": os.environ.get("DISTBP_JOB"),
    }
    return about | {"git": _answer(git)}


def _describe_source() -> "subprocess.Popen[str] | None":
    """Ask for the revision of the source tree that is run, where it is one."""
    tree = Path(distbp.__file__).parents[1]
    if not (tree / ".git").exists():
        return None
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return None


def _answer(git: "subprocess.Popen[str] | None") -> str | None:
    """Return what it says, None where it is not soon or nothing."""
    if git is None:
        return None
    with git:
        try:
            return git.communicate(timeout=5)[0].strip() or None
        except subprocess.TimeoutExpired:
            git.kill()
            return None
