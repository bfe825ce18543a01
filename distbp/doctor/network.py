"""Messages: whether Allreduce is right and how fast, long messages, shared memory, and the clocks of the hosts."""

import os
import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.doctor.environment import free_memory
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, hosts_of, ranks_named

__all__ = [
    "Curve",
    "Memory",
    "check_allreduce",
    "check_clocks",
    "check_large_message",
    "check_shared_memory",
    "fit",
    "judge_clocks",
    "judge_curve",
    "judge_large_message",
    "judge_shared_memory",
    "shared_memory",
    "why_not_large",
]

MiB, GiB = 1 << 20, 1 << 30
_LENGTHS = (1, 7, 100_003)
_BEYOND = 4096
_LARGE = (1 << 31) + _BEYOND
"""Bytes that do not fit in a C int."""
_SLOW_ALPHA, _SLOW_BETA = 1e-3, 50e6
_SHARED_LITTLE, _SHARED_NONE = 64 * MiB, 4 * MiB
_CLOCKS = 1.0
"""Seconds by which clocks may differ."""


class Curve(NamedTuple):
    """Holds the seconds of the shortest Allreduce, and bytes per second of long ones."""

    alpha: float
    beta: float

    def __str__(self) -> str:
        return f"alpha {1e6 * self.alpha:,.1f} us, {1e-6 * self.beta:,.0f} MB/s"


class Memory(NamedTuple):
    """Measures /dev/shm of a rank's host, in bytes (-1: there is none), and whether shared memory worked."""

    host: str
    size: int
    free: int
    works: bool | None = None


# --- Allreduce -------------------------------------------------------------------------------------------


def check_allreduce(comm: Communicator, *, longest: int = 4 * MiB) -> tuple[list[Finding], float]:
    """Check values, then time by length, within and across hosts; return the least bandwidth, too, 0 where unknown."""
    if comm.size == 1:
        return [Finding("allreduce", OK, "one process: nothing to add")], 0.0
    wrong = _wrong_sums(comm)
    everyone = comm.allgather_obj([comm.host, wrong])
    hosts = [host for host, _ in everyone]
    if bad := [rank for rank, (_, text) in enumerate(everyone) if text]:
        figure = f"wrong sums on {ranks_named(bad, hosts)}: {everyone[bad[0]][1]}"
        advice = "This MPI or its network driver adds up wrongly: another version, or OMPI_MCA_coll=^han,adapt."
        return [Finding("allreduce", FAILURE, figure, advice, tuple(bad))], 0.0
    here, leaders = comm.on_host(), comm.split(min(1, comm.on_host().rank))
    within = _curve(here, longest) if here.size > 1 else None
    wait_quietly(comm)
    across = _curve(leaders, longest) if here.rank == 0 and leaders.size > 1 else None
    wait_quietly(comm)
    curves = comm.allgather_obj([within, across])
    found = [Finding("allreduce", OK, f"right for float32, float64, {', '.join(f'{n:,}' for n in _LENGTHS)} numbers")]
    measured = []
    for kind, name in enumerate(("within a host", "across hosts")):
        there = {hosts[rank]: Curve(*row[kind]) for rank, row in enumerate(curves) if row[kind]}
        if there:
            found.append(judge_curve(name, there))
            measured += [curve.beta for curve in there.values()]
    return found, min(measured, default=0.0)


def _wrong_sums(comm: Communicator) -> str:
    """Return what is wrong with sums whose values are known, or ""; all are computed, as on the other ranks."""
    problem = ""
    for dtype in (np.float32, np.float64):
        for length in _LENGTHS:
            ramp = np.arange(length) % 97 + 1
            buffer = (ramp * (comm.rank + 1)).astype(dtype)
            comm.allreduce(buffer)
            wrong = np.flatnonzero(buffer != ramp * (comm.size * (comm.size + 1) // 2))
            if len(wrong) and not problem:
                problem = f"{len(wrong)} of {length} {np.dtype(dtype).name}, the first at {wrong[0]}"
    return problem


def _curve(comm: Communicator, longest: int) -> Curve:
    nbytes, seconds = [], []
    size = 4
    while size <= longest:
        buffer = np.zeros(size // 4, np.float32)
        first = np.array([_seconds(comm, buffer)])
        comm.allreduce(first, "max")  # all ranks repeat as often
        times = sorted(_seconds(comm, buffer) for _ in range(int(np.clip(0.1 / max(1e-9, first[0]), 3, 25))))
        nbytes.append(size)
        seconds.append(median(times))
        size *= 8
    curve = np.array(seconds)
    comm.allreduce(curve, "max")
    return fit(nbytes, list(curve))


def _seconds(comm: Communicator, buffer: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    comm.barrier()
    began = time.perf_counter()
    comm.allreduce(buffer)
    return time.perf_counter() - began


def fit(nbytes: Sequence[int], seconds: Sequence[float]) -> Curve:
    """Fit seconds = alpha + bytes / beta by least squares of relative errors: long messages do not hide short ones."""
    t = np.asarray(seconds)
    rows = np.stack([np.ones(len(t)), np.asarray(nbytes, float)], axis=1) / t[:, None]
    alpha, slope = np.linalg.lstsq(rows, np.ones(len(t)), rcond=None)[0]
    if alpha <= 0:
        alpha = t.min()
    if slope <= 0:
        slope = t[-1] / nbytes[-1]
    return Curve(float(alpha), float(1 / slope))


def judge_curve(where: str, curves: dict[str, Curve]) -> Finding:
    """Judge the time of Allreduce `where` ranks are, for each host."""
    name = f"allreduce {where}"
    slowest = max(curves, key=lambda host: curves[host].alpha + MiB / curves[host].beta)
    curve = curves[slowest]
    figure = str(curve) + (f", on the slowest of {len(curves)} hosts, {slowest}" if len(curves) > 1 else "")
    if where == "within a host" and curve.alpha > _SLOW_ALPHA:
        advice = "Ranks wait without giving their core away: fewer ranks, and with Open MPI mpi_yield_when_idle=1"
        return Finding(name, WARNING, figure, f"{advice} (export OMPI_MCA_mpi_yield_when_idle=1).")
    if where == "across hosts" and curve.beta < _SLOW_BETA:
        advice = "It may be the wrong interface: set UCX_NET_DEVICES (MPICH) or OMPI_MCA_btl_tcp_if_include (Open MPI)."
        return Finding(name, WARNING, figure, advice)
    return Finding(name, OK, figure)


# --- a long message --------------------------------------------------------------------------------------


def check_large_message(comm: Communicator, *, quick: bool, bandwidth: float, limit: float) -> list[Finding]:
    """Broadcast more than 2^31 bytes between the first and the last rank."""
    here = comm.allgather_obj([comm.host, free_memory()])
    both_here = here[0][0] == here[-1][0]
    why_not = "--quick" if quick else "one process" if comm.size == 1 else ""
    why_not = why_not or why_not_large([here[0][1], here[-1][1]], both_here, bandwidth=bandwidth, limit=limit)
    if why_not := comm.bcast_obj(why_not):
        return [Finding("large message", OK, f"left out: {why_not}")]
    ends = comm.rank in (0, comm.size - 1)
    pair = comm.split(int(not ends))
    right, seconds = True, 0.0
    if ends:
        buffer = np.zeros(_LARGE, np.uint8)
        marks = [0, _LARGE // 2, _LARGE - _BEYOND - 1, _LARGE - _BEYOND, _LARGE - 1]
        if comm.rank == 0:
            buffer[marks] = np.arange(1, len(marks) + 1)
        began = time.perf_counter()
        pair.bcast(buffer)
        seconds = time.perf_counter() - began
        right = bool((buffer[marks] == np.arange(1, len(marks) + 1)).all() and buffer[marks[1] + 1] == 0)
    wait_quietly(comm)
    everyone = comm.allgather_obj([right, seconds])
    return [judge_large_message([ok for ok, _ in everyone], max(took for _, took in everyone), [h for h, _ in here])]


def why_not_large(free: Sequence[int], both_here: bool, *, bandwidth: float, limit: float) -> str:
    """Return why a long message is left out, or ""; `free` are the bytes that the two hosts have."""
    need = 5 * GiB if both_here else 5 * GiB // 2
    if min(free) < need:
        return f"needs {need / GiB:g} GiB, {min(free) / GiB:.1f} free"
    # a broadcast moves a byte once, an allreduce about twice
    if bandwidth and _LARGE / bandwidth > limit / 4:
        return f"would take about {_LARGE / bandwidth:,.0f} s"
    return ""


def judge_large_message(right: Sequence[bool], seconds: float, hosts: Sequence[str]) -> Finding:
    """Judge whether it came whole."""
    figure = f"{_LARGE:,} bytes in {seconds:.1f} s"
    if bad := [rank for rank, whole in enumerate(right) if not whole]:
        advice = "This MPI cannot carry long messages: use another version, or shorter ones (smaller networks)."
        return Finding("large message", FAILURE, f"wrong on {ranks_named(bad, hosts)}: {figure}", advice, tuple(bad))
    return Finding("large message", OK, f"{figure}, right")


# --- shared memory ---------------------------------------------------------------------------------------


def shared_memory(host: str) -> Memory:
    """Measure /dev/shm of this host, `host`."""
    try:
        there = os.statvfs("/dev/shm")
    except OSError:
        return Memory(host, -1, -1)
    return Memory(host, there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize)


def check_shared_memory(comm: Communicator) -> list[Finding]:
    """Check whether the ranks of a host see what the others write, and how much room there is."""
    mine = shared_memory(comm.host)
    before = judge_shared_memory([Memory(*theirs) for theirs in comm.allgather_obj(mine)])
    if before.status == FAILURE:  # to write there could end the process
        return [before]
    here = comm.on_host()
    memory = here.shared(here.size, np.int64)
    memory.array[here.rank] = here.rank + 1
    memory.barrier()
    mine = mine._replace(works=bool((memory.array == np.arange(1, here.size + 1)).all()))
    memory.barrier()
    memory.free()
    return [judge_shared_memory([Memory(*theirs) for theirs in comm.allgather_obj(mine)])]


def judge_shared_memory(everyone: Sequence[Memory]) -> Finding:
    """Judge room in /dev/shm for each rank, and whether shared memory works."""
    name, hosts = "shared memory", [rank.host for rank in everyone]
    if bad := [rank for rank, theirs in enumerate(everyone) if theirs.works is False]:
        advice = "Train with --reduction allreduce, which needs none."
        figure = f"{ranks_named(bad, hosts)} does not see what the others write"
        return Finding(name, FAILURE, figure, advice, tuple(bad))
    shares = {
        host: everyone[ranks[0]].free // len(ranks) for host, ranks in hosts_of(hosts).items()
        if everyone[ranks[0]].size >= 0
    }  # fmt: skip
    if not shares:
        return Finding(name, OK, "works; there is no /dev/shm")
    least = min(shares, key=shares.__getitem__)
    size, free = next((rank.size, rank.free) for rank in everyone if rank.host == least)
    figure = f"/dev/shm of {least}: {free / MiB:,.0f} of {size / MiB:,.0f} MiB free"
    short = tuple(rank for rank, host in enumerate(hosts) if shares.get(host, _SHARED_LITTLE) < _SHARED_LITTLE)
    if short:
        advice = "Make room (docker --shm-size=1g, or mount -o remount,size=1g /dev/shm), or --reduction allreduce."
        status = FAILURE if shares[least] < _SHARED_NONE else WARNING
        if hosts.count(least) > 1:
            figure += f", {shares[least] / MiB:,.1f} MiB a rank"
        return Finding(name, status, figure, advice, short)
    return Finding(name, OK, f"works; {figure}")


# --- clocks ----------------------------------------------------------------------------------------------


def check_clocks(comm: Communicator) -> list[Finding]:
    """Compare wall clocks with rank 0's: all ranks read them when a barrier opens, which lets all go at once."""
    readings = []
    for _ in range(5):
        before = time.time()
        comm.barrier()
        now = time.time()
        readings.append([now - before, now])
    everyone = np.array(comm.allgather_obj(readings))  # (ranks, readings, 2)
    # the barrier in which ranks waited least is the one that tells best when it opened
    best = int(np.argmin(everyone[:, :, 0].max(axis=0)))
    offsets = everyone[:, best, 1] - everyone[0, best, 1]
    return [judge_clocks(comm.allgather_obj(comm.host), [float(o) for o in offsets])]


def judge_clocks(hosts: Sequence[str], offsets: Sequence[float]) -> Finding:
    """Judge the seconds by which each rank's clock is ahead of rank 0's."""
    if len(set(hosts)) == 1:
        return Finding("clocks", OK, "one host")
    far = [rank for rank, offset in enumerate(offsets) if abs(offset) > _CLOCKS]
    if far:
        worst = max(far, key=lambda rank: abs(offsets[rank]))
        side = "ahead of" if offsets[worst] > 0 else "behind"
        figure = f"{hosts[worst]} is {abs(offsets[worst]):,.1f} s {side} {hosts[0]}"
        return Finding(
            "clocks", WARNING, figure, "Set the clocks (chrony, ntpd): times of files and logs lie.", tuple(far)
        )
    return Finding("clocks", OK, f"at most {1000 * max(map(abs, offsets)):,.1f} ms apart")
