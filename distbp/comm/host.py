"""What this host offers: cores for this process, memory for its ranks to share."""

import os
import sys

__all__ = ["available_cores", "shared_memory_free"]


def available_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def shared_memory_free() -> int:
    """Return the bytes that ranks of this host can still share."""
    try:
        there = os.statvfs("/dev/shm")
    except OSError:  # another system, another place: MPI knows
        return sys.maxsize
    return there.f_bavail * there.f_frsize
