"""What this host offers: cores for this process, memory for its ranks to share."""

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def available_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


def with_core(cores_of: Mapping[int, Sequence[int]]) -> set[int]:
    """Return the ranks of a host for which there is a core, of those that each may use: who comes first has it."""
    taken: dict[int, int] = {}
    for rank, cores in cores_of.items():
        if free := [core for core in cores if core not in taken]:
            taken[free[0]] = rank
    return set(taken.values())


def shared_memory_free() -> int:
    """Return the bytes that ranks of this host can still share."""
    try:
        there = os.statvfs("/dev/shm")
    except OSError:  # another system, another place: MPI knows
        return sys.maxsize
    return there.f_bavail * there.f_frsize


def memory_available() -> int:
    """Return the bytes of memory that this process may still have, by its host and its control groups."""
    found = [sys.maxsize]
    try:
        text = Path("/proc/meminfo").read_text()
        found += [1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable")]
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # another system
        return found[0]
    for _, controllers, path in (line.split(":", 2) for line in groups):
        folder = Path("/sys/fs/cgroup") / ("memory" if "memory" in controllers.split(",") else "")
        if not controllers or "memory" in controllers.split(","):
            for name in ("memory.max", "memory.limit_in_bytes"):
                with contextlib.suppress(OSError, ValueError):  # there is no limit, or it is none of ours
                    found.append(int((folder / path.lstrip("/") / name).read_text()))
    return min(found)
