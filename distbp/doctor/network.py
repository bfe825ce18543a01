"""Messages: whether Allreduce is right and how fast, long messages, shared memory, and the clocks of the hosts."""

import itertools
import os
import socket
import sys
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, columns, hosts_of, ranks_named
from distbp.doctor.launch import claimed_rank
from distbp.doctor.machine import free_memory
from distbp.doctor.supervision import FORWARD

MiB, GiB = 1 << 20, 1 << 30
_LENGTHS = (1, 7, 100_003)
_BEYOND = 4096
_LARGE = (1 << 31) + _BEYOND
"""Bytes that do not fit in a C int."""
_SLOW_ALPHA, _SLOW_BETA = 1e-3, 50e6
_SHARED_LITTLE, _SHARED_NONE = 64 * MiB, 4 * MiB
_CLOCKS = 1.0
"""Seconds by which clocks may differ."""


def check_allreduce(comm: Communicator, *, longest: int = 4 * MiB) -> tuple[list[Finding], float]:
    """Check values, then time by length, within and across hosts; return the least bandwidth, too, 0 where unknown."""
    if comm.size == 1:
        return [Finding("allreduce", OK, "one process: nothing to add")], 0.0
    hosts, wrong = columns(comm, _wrong_sums(comm))
    if bad := tuple(rank for rank, text in enumerate(wrong) if text):
        figure = f"wrong sums on {ranks_named(bad, hosts)}: {wrong[bad[0]]}"
        advice = "This MPI or its network driver adds up wrongly: another version, or OMPI_MCA_coll=^han,adapt."
        return [Finding("allreduce", FAILURE, figure, advice, bad)], 0.0
    found = [Finding("allreduce", OK, f"right for float32, float64, {', '.join(f'{n:,}' for n in _LENGTHS)} numbers")]
    here, bandwidths = comm.on_host(), []
    leaders = comm.split(min(1, here.rank))
    for where, group in (("within a host", here), ("across hosts", leaders if here.rank == 0 else None)):
        mine = _curve(group, longest) if group and group.size > 1 else None
        wait_quietly(comm)
        curves = {host: theirs for host, theirs in comm.allgather_obj([comm.host, mine]) if theirs}
        if curves:
            found.append(judge_curve(where, curves))
            bandwidths += [beta for _, beta in curves.values()]
    return found, min(bandwidths, default=0.0)


def _wrong_sums(comm: Communicator) -> str:
    """Return what is wrong with sums whose values are known, or ""; all are computed, as on the other ranks."""
    problems = []
    for dtype, length in itertools.product((np.float32, np.float64), _LENGTHS):
        ramp = np.arange(length) % 97 + 1
        buffer = (ramp * (comm.rank + 1)).astype(dtype)
        comm.allreduce(buffer)
        wrong = np.flatnonzero(buffer != ramp * (comm.size * (comm.size + 1) // 2))
        if len(wrong):
            problems.append(f"{len(wrong)} of {length} {buffer.dtype}, the first at {wrong[0]}")
    return problems[0] if problems else ""


def _curve(comm: Communicator, longest: int) -> tuple[float, float]:
    nbytes = [4 * 8**i for i in range(12) if 4 * 8**i <= longest]
    seconds = np.empty(len(nbytes))
    for i, n in enumerate(nbytes):
        buffer = np.zeros(n // 4, np.float32)
        first = np.array([_seconds(comm, buffer)])
        comm.allreduce(first, "max")  # all ranks repeat as often
        seconds[i] = median(_seconds(comm, buffer) for _ in range(int(np.clip(0.1 / max(1e-9, first[0]), 3, 25))))
    comm.allreduce(seconds, "max")
    return fit(nbytes, seconds)


def _seconds(comm: Communicator, buffer: NDArray[Any]) -> float:
    comm.barrier()
    began = time.perf_counter()
    comm.allreduce(buffer)
    return time.perf_counter() - began


def fit(nbytes: Sequence[int], seconds: ArrayLike) -> tuple[float, float]:
    """Fit seconds = alpha + bytes / beta by least squares of relative errors: long messages do not hide short ones."""
    n, t = np.asarray(nbytes, float), np.asarray(seconds)
    alpha, slope = np.linalg.lstsq(np.stack([1 / t, n / t], axis=1), np.ones(len(t)), rcond=None)[0]
    alpha = alpha if alpha > 0 else t.min()
    slope = slope if slope > 0 else t[-1] / n[-1]
    return float(alpha), float(1 / slope)


def judge_curve(where: str, curves: dict[str, tuple[float, float]]) -> Finding:
    """Judge the time of Allreduce `where` ranks are, by its alpha and beta on each host."""
    name = f"allreduce {where}"
    slowest = max(curves, key=lambda host: curves[host][0] + MiB / curves[host][1])
    alpha, beta = curves[slowest]
    figure = f"alpha {1e6 * alpha:,.1f} us, {1e-6 * beta:,.0f} MB/s"
    figure += f", on the slowest of {len(curves)} hosts, {slowest}" if len(curves) > 1 else ""
    if where == "within a host" and alpha > _SLOW_ALPHA:
        advice = "Ranks wait without giving their core away: fewer ranks, and with Open MPI mpi_yield_when_idle=1"
        return Finding(name, WARNING, figure, f"{advice} (export OMPI_MCA_mpi_yield_when_idle=1).")
    if where == "across hosts" and beta < _SLOW_BETA:
        advice = "It may be the wrong interface: set UCX_NET_DEVICES (MPICH) or OMPI_MCA_btl_tcp_if_include (Open MPI)."
        return Finding(name, WARNING, figure, advice)
    return Finding(name, OK, figure)


def check_large_message(comm: Communicator, *, quick: bool, bandwidth: float, limit: float) -> list[Finding]:
    """Broadcast more than 2^31 bytes between the first and the last rank."""
    hosts, free = columns(comm, free_memory())
    why_not = "--quick" if quick else "one process" if comm.size == 1 else ""
    why_not = why_not or why_not_large([free[0], free[-1]], hosts[0] == hosts[-1], bandwidth=bandwidth, limit=limit)
    if why_not := comm.bcast_obj(why_not):
        return [Finding("large message", OK, f"left out: {why_not}")]
    at_an_end = comm.rank in (0, comm.size - 1)
    pair = comm.split(int(not at_an_end))
    whole, seconds = _broadcast(pair) if at_an_end else (True, 0.0)
    wait_quietly(comm)
    _, right, took = columns(comm, whole, seconds)
    figure = f"{_LARGE:,} bytes in {max(took):.1f} s"
    if bad := tuple(rank for rank, came in enumerate(right) if not came):
        advice = "This MPI cannot carry long messages: use another version, or shorter ones (smaller networks)."
        return [Finding("large message", FAILURE, f"wrong on {ranks_named(bad, hosts)}: {figure}", advice, bad)]
    return [Finding("large message", OK, f"{figure}, right")]


def why_not_large(free: Sequence[int], both_here: bool, *, bandwidth: float, limit: float) -> str:
    """Return why a long message is left out, or ""; `free` are the bytes that the two hosts have."""
    need = 5 * GiB if both_here else 5 * GiB // 2
    if min(free) < need:
        return f"needs {need / GiB:g} GiB, {min(free) / GiB:.1f} free"
    # a broadcast moves a byte once, an allreduce about twice
    if bandwidth and _LARGE / bandwidth > limit / 4:
        return f"would take about {_LARGE / bandwidth:,.0f} s"
    return ""


def _broadcast(pair: Communicator) -> tuple[bool, float]:
    """Return whether a long message came whole to this rank, and its seconds."""
    buffer = np.zeros(_LARGE, np.uint8)
    places = [0, _LARGE // 2, _LARGE - _BEYOND - 1, _LARGE - _BEYOND, _LARGE - 1]
    marks = np.arange(1, len(places) + 1)
    if pair.rank == 0:
        buffer[places] = marks
    began = time.perf_counter()
    pair.bcast(buffer)
    seconds = time.perf_counter() - began
    return bool((buffer[places] == marks).all() and buffer[places[1] + 1] == 0), seconds


def check_shared_memory(comm: Communicator) -> list[Finding]:
    """Check whether the ranks of a host see what the others write, and how much room there is."""
    hosts, sizes, free = columns(comm, *shared_memory())
    before = judge_shared_memory(hosts, sizes, free)
    if before.status == FAILURE:  # to write there could end the process
        return [before]
    here = comm.on_host()
    memory = here.shared(here.size, np.int64)
    memory.array[here.rank] = here.rank + 1
    memory.barrier()
    mine = bool((memory.array == np.arange(1, here.size + 1)).all())
    memory.barrier()
    memory.free()
    return [judge_shared_memory(hosts, sizes, free, comm.allgather_obj(mine))]


def shared_memory() -> tuple[int, int]:
    """Return the size of /dev/shm here and what of it is free, in bytes; -1 and a lot where there is none."""
    try:
        there = os.statvfs("/dev/shm")
    except OSError:
        return -1, sys.maxsize
    return there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize


def warn_of_little_memory() -> None:
    """Warn in front of MPI_Init, in which MPICH dies of it with a bus error."""
    size, free = shared_memory()
    found = judge_shared_memory([socket.gethostname()], [size], [free])
    if found.status == FAILURE:
        if claimed_rank(os.environ, on_host=True) == 0:
            text = f"distbp: warning: {found.figure}, of which MPI_Init may die (bus error). {found.advice}\n"
            os.write(2, text.encode())
        time.sleep(FORWARD)  # all of the host: the first death ends all


def judge_shared_memory(
    hosts: Sequence[str], sizes: Sequence[int], free: Sequence[int], works: Sequence[bool] = ()
) -> Finding:
    """Judge room in /dev/shm for each rank, and whether shared memory works, where it was tried."""
    name = "shared memory"
    if bad := tuple(rank for rank, sees in enumerate(works) if not sees):
        figure = f"{ranks_named(bad, hosts)} does not see what the others write"
        return Finding(name, FAILURE, figure, "Train with --reduction allreduce, which needs none.", bad)
    shares = {host: free[ranks[0]] // len(ranks) for host, ranks in hosts_of(hosts).items()}
    least = min(shares, key=shares.__getitem__)
    first = hosts.index(least)
    if sizes[first] < 0:
        return Finding(name, OK, "works; there is no /dev/shm")
    figure = f"/dev/shm of {least}: {free[first] / MiB:,.0f} of {sizes[first] / MiB:,.0f} MiB free"
    if shares[least] >= _SHARED_LITTLE:
        return Finding(name, OK, f"works; {figure}")
    short = tuple(rank for rank, host in enumerate(hosts) if shares[host] < _SHARED_LITTLE)
    if hosts.count(least) > 1:
        figure += f", {shares[least] / MiB:,.1f} MiB a rank"
    advice = "Make room (docker --shm-size=1g, or mount -o remount,size=1g /dev/shm), or --reduction allreduce."
    return Finding(name, FAILURE if shares[least] < _SHARED_NONE else WARNING, figure, advice, short)


def check_clocks(comm: Communicator) -> list[Finding]:
    """Compare wall clocks with rank 0's: all ranks read them when a barrier opens, which lets all go at once."""
    readings = []
    for _ in range(5):
        before = time.time()
        comm.barrier()
        readings.append([before, time.time()])
    hosts, everyone = columns(comm, readings)
    if len(set(hosts)) == 1:
        return [Finding("clocks", OK, "one host")]
    began, ended = np.moveaxis(np.array(everyone), 2, 0)  # (ranks, readings) each
    # the barrier in which ranks waited least is the one that tells best when it opened
    ahead = (ended - ended[0])[:, (ended - began).max(axis=0).argmin()]
    worst = int(np.abs(ahead).argmax())
    if far := tuple(rank for rank, seconds in enumerate(ahead) if abs(seconds) > _CLOCKS):
        side = "ahead of" if ahead[worst] > 0 else "behind"
        figure = f"{hosts[worst]} is {abs(ahead[worst]):,.1f} s {side} {hosts[0]}"
        return [Finding("clocks", WARNING, figure, "Set the clocks (chrony, ntpd): times of files and logs lie.", far)]
    return [Finding("clocks", OK, f"at most {1000 * abs(ahead[worst]):,.1f} ms apart")]
