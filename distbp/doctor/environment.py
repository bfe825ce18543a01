"""What a rank finds around it: versions, and the limits that the system and its job put on it.

In a container or a job the control group decides, not the machine: memory and CPU quota are read there, in version 1
and 2, for the group of this process and all above it.
"""

import os
import platform
import resource
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np

import distbp
from distbp.comm.communicator import Communicator
from distbp.comm.host import available_cores
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, hosts_of, ranks_named
from distbp.run.blas import bits_depend_on

__all__ = [
    "Limits",
    "check_limits",
    "check_versions",
    "control_group",
    "free_memory",
    "judge_limits",
    "judge_versions",
    "versions",
]

MiB = 1 << 20
_FILES = 1024
_MEMORY = 512 * MiB
"""Bytes for a rank: Python, NumPy, MPI and some data."""


class Limits(NamedTuple):
    """Holds the limits of a rank: open files, free memory of its host, cores of its mask, and cores its group pays."""

    host: str
    files: int
    memory: int
    cores: int
    quota: float


def versions() -> dict[str, str]:
    """Return the versions that must be the same on all ranks."""
    try:
        mpi4py = metadata.version("mpi4py")
    except metadata.PackageNotFoundError:
        mpi4py = "none"
    # its kernel may differ: CPUs do
    blas = " ".join(bits_depend_on()["BLAS"].split()[:2])
    return {
        "Python": platform.python_version(), "NumPy": np.__version__, "mpi4py": mpi4py, "BLAS": blas or "unknown",
        "distbp": distbp.__version__,
    }  # fmt: skip


def check_versions(comm: Communicator) -> list[Finding]:
    """Gather and judge versions."""
    everyone = comm.allgather_obj([comm.host, versions()])
    return [judge_versions([host for host, _ in everyone], [theirs for _, theirs in everyone])]


def judge_versions(hosts: Sequence[str], everyone: Sequence[dict[str, str]]) -> Finding:
    """Judge the versions of each rank against rank 0's."""
    first = everyone[0]
    odd = [rank for rank, theirs in enumerate(everyone) if theirs != first]
    figure = ", ".join(f"{name} {version}" for name, version in first.items())
    if not odd:
        return Finding("versions", OK, figure)
    theirs = everyone[odd[0]]
    differ = ", ".join(
        f"{name} {theirs.get(name)} (not {first[name]})" for name in first if theirs[name] != first[name]
    )
    figure = f"{ranks_named(odd, hosts)} has {differ}, unlike rank 0 on {hosts[0]}"
    advice = "Use one environment on a file system that all hosts share."
    return Finding("versions", FAILURE, figure, advice, tuple(odd))


def check_limits(comm: Communicator) -> list[Finding]:
    """Gather and judge limits."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    group = control_group()
    mine = Limits(comm.host, files, free_memory(), len(available_cores()), group[1])
    return judge_limits([Limits(*theirs) for theirs in comm.allgather_obj(mine)])


def judge_limits(everyone: Sequence[Limits]) -> list[Finding]:
    """Judge open files, memory and CPU quota of each rank."""
    hosts = [rank.host for rank in everyone]
    found = []
    files = min(rank.files if rank.files >= 0 else 1 << 30 for rank in everyone)  # -1: without end
    few = [r for r, rank in enumerate(everyone) if 0 <= rank.files < max(_FILES, 4 * len(everyone))]
    figure = f"{files:,}" if files < 1 << 30 else "no limit"
    if few:
        figure, advice = (
            f"{figure} on {ranks_named(few, hosts)}",
            f"Raise it: ulimit -n {max(4096, 4 * len(everyone))}.",
        )
        found.append(Finding("open files", WARNING, figure, advice, tuple(few)))
    else:
        found.append(Finding("open files", OK, figure))
    shares = {host: min(everyone[r].memory for r in ranks) // len(ranks) for host, ranks in hosts_of(hosts).items()}
    least = min(shares, key=shares.__getitem__)
    figure = f"{shares[least] / MiB:,.0f} MiB free per rank" + (f" on {least}" if len(shares) > 1 else "")
    short = tuple(r for r, host in enumerate(hosts) if shares[host] < _MEMORY)
    advice = "Start fewer ranks on a host, or ask for more memory (SLURM: --mem, --mem-per-cpu)."
    found.append(Finding("memory", WARNING, figure, advice, short) if short else Finding("memory", OK, figure))
    wanted = [max(rank.cores, hosts.count(rank.host)) for rank in everyone]
    held = [r for r, rank in enumerate(everyone) if 0 < rank.quota < wanted[r] - 0.01]
    if held:
        figure = f"{everyone[held[0]].quota:g} cores for {ranks_named(held, hosts)}, which would use {wanted[held[0]]}"
        advice = "Start no more ranks than the quota allows, or raise it (docker --cpus)."
        found.append(Finding("CPU quota", WARNING, figure, advice, tuple(held)))
    return found


def free_memory() -> int:
    """Return the bytes that processes of this host, or of this control group, may still use together."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        here = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group = control_group()[0]
    return min(here, group) if group >= 0 else here


def control_group(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> tuple[int, float]:
    """Return the bytes that the groups of this process leave free, and the cores of their quota; -1, 0 for no limit."""
    free, cores = [], []
    try:
        lines = groups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return -1, 0.0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = root.joinpath(*controllers.split(",")[:1]) if controllers else root
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            if folder != top and top not in folder.parents:
                break
            most = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
            if most and most < 1 << 60:  # version 1 calls no limit a large one
                used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
                free.append(max(0, most - used + _cache(folder)))
            quota, period = _quota(folder)
            if quota > 0 and period > 0:
                cores.append(quota / period)
    return min(free, default=-1), min(cores, default=0.0)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []


def _number(path: Path) -> int:
    words = _words(path)
    return int(words[0]) if words and words[0].isdigit() else 0


def _cache(folder: Path) -> int:
    """Return the bytes of file pages that the system drops when memory is wanted."""
    words = _words(folder / "memory.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    return int(stat.get("total_inactive_file", stat.get("inactive_file", "0")))


def _quota(folder: Path) -> tuple[int, int]:
    words = _words(folder / "cpu.max")
    if words:
        return (int(words[0]) if words[0].isdigit() else 0), int(words[1])
    return _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
