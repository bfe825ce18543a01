"""Cores and BLAS: whether ranks have cores of their own, and compute as fast as the CPU allows."""

import os
import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np

from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.comm.host import available_cores
from distbp.doctor.finding import OK, WARNING, Finding, hosts_of, ranks_named
from distbp.run.blas import bits_depend_on, blas_threads, kernel_warning, limited_blas

__all__ = [
    "Cores",
    "Rate",
    "check_blas",
    "check_cores",
    "check_gemm",
    "judge_blas",
    "judge_cores",
    "judge_gemm",
]

_SLOW = 0.5
"""Part of the rate that is expected from which a rank or host is called slow."""


class Cores(NamedTuple):
    """Counts the cores of a rank: affinity mask, whole host, BLAS threads, and whether distbp can limit these."""

    host: str
    mask: list[int]
    there: int
    threads: int
    limited: bool = True


class Rate(NamedTuple):
    """Holds the GFLOP/s of a rank: alone on its host (0 where another one was measured), and all at once."""

    host: str
    alone: float
    together: float


def check_cores(comm: Communicator) -> list[Finding]:
    """Gather affinity masks and judge them."""
    known = bool(bits_depend_on()["BLAS"])
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    threads = blas_threads(comm) if known else int(wanted) if wanted.isdigit() else os.cpu_count() or 1
    mine = Cores(comm.host, available_cores(), os.cpu_count() or 1, threads, known)
    return judge_cores([Cores(*theirs) for theirs in comm.allgather_obj(mine)])


def judge_cores(everyone: Sequence[Cores]) -> list[Finding]:
    """Judge ranks against cores, host by host."""
    hosts = hosts_of([rank.host for rank in everyone])
    counts = " + ".join(str(len(ranks)) for ranks in list(hosts.values())[:8]) + (" + ..." if len(hosts) > 8 else "")
    cores = {host: len({c for r in ranks for c in everyone[r].mask}) for host, ranks in hosts.items()}
    threads = sorted({rank.threads for rank in everyone})
    figure = f"{len(hosts)} host{'s' * (len(hosts) > 1)}, {counts} rank{'s' * (len(everyone) > 1)} on "
    figure += f"{_range(list(cores.values()))} cores, {_range(threads)} BLAS thread{'s' * (threads != [1])} each"
    found = [_crowding(host, [(r, everyone[r]) for r in ranks], cores[host]) for host, ranks in hosts.items()]
    bad = [finding for finding in found if finding]
    for host, ranks in hosts.items():
        wild = [r for r in ranks if not everyone[r].limited]
        wanted = sum(everyone[r].threads for r in wild)
        if wild and wanted > cores[host]:
            advice = f"distbp cannot limit this BLAS: export OMP_NUM_THREADS={max(1, cores[host] // len(ranks))}."
            problem = f"{wanted} BLAS threads on {cores[host]} cores of {host}"
            bad.append(Finding("BLAS threads", WARNING, problem, advice, tuple(wild)))
    return [Finding("ranks and cores", OK, figure), *bad] if not any(found) else bad


def _crowding(host: str, ranks: list[tuple[int, Cores]], cores: int) -> Finding | None:
    """Judge whether ranks of one host have no core of their own."""
    masks: dict[tuple[int, ...], list[int]] = {}
    for number, rank in ranks:
        masks.setdefault(tuple(rank.mask), []).append(number)
    there = max(rank.there for _, rank in ranks)
    for mask, same in masks.items():
        if len(same) > len(mask) and there > len(mask):
            problem = (
                f"ranks {', '.join(map(str, same[:5]))} on {host} are bound to core {', '.join(map(str, mask[:8]))}"
            )
            advice = "Other cores may be free: mpirun --bind-to none, srun --cpu-bind=none or more --cpus-per-task."
            return Finding("ranks and cores", WARNING, f"{problem}, of {there}", advice, tuple(same))
    if len(ranks) > cores:
        advice = f"They wait for each other: start at most {cores} rank{'s' * (cores > 1)} on {host}."
        numbers = tuple(number for number, _ in ranks)
        return Finding("ranks and cores", WARNING, f"{len(ranks)} ranks on {cores} cores of {host}", advice, numbers)
    return None


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def check_blas(comm: Communicator) -> list[Finding]:
    """Gather the kernels of the ranks and judge them."""
    everyone = comm.allgather_obj([comm.host, bits_depend_on(), kernel_warning()])
    hosts, bits, warnings = (list(column) for column in zip(*everyone, strict=True))
    return judge_blas(hosts, bits, warnings)


def judge_blas(hosts: Sequence[str], bits: Sequence[dict[str, str]], warnings: Sequence[str]) -> list[Finding]:
    """Judge the BLAS of each rank against its CPU (`kernel_warning`), and against rank 0's."""
    figure = f"{bits[0]['BLAS'] or 'unknown'} on {bits[0]['CPU']}"
    found = []
    if slow := [rank for rank, text in enumerate(warnings) if text]:
        text, _, cure = warnings[slow[0]].rpartition(": ")
        problem = text + (f", on {ranks_named(slow, hosts)}" if len(hosts) > 1 else "")
        found.append(Finding("BLAS kernel", WARNING, problem, f"{cure[:1].upper()}{cure[1:]}.", tuple(slow)))
    keys = ("BLAS", "CPU", "vector instructions")
    if odd := [rank for rank, theirs in enumerate(bits) if any(theirs[k] != bits[0][k] for k in keys)]:
        key = next(k for k in keys if bits[odd[0]][k] != bits[0][k])
        problem = f"{ranks_named(odd, hosts)}: another {key} than rank 0 on {hosts[0]}"
        if key != "vector instructions":
            problem += f" ({bits[odd[0]][key]}, not {bits[0][key]})"
        advice = (
            "The bits of --exact then depend on the ranks: set OPENBLAS_CORETYPE to one kernel, or use equal hosts."
        )
        found.append(Finding("BLAS on all ranks", WARNING, problem, advice, tuple(odd)))
    return found or [Finding("BLAS kernel", OK, figure)]


def check_gemm(comm: Communicator, *, n: int = 1024, times: int = 3) -> list[Finding]:
    """Measure float32 products of n x n matrices, of one rank of each host alone, and of all at once."""
    a = np.ones((n, n), np.float32)
    out = np.empty_like(a)

    def rate() -> float:
        began = time.perf_counter()
        for _ in range(times):
            np.matmul(a, a, out=out)
        return 2e-9 * n**3 * times / (time.perf_counter() - began)

    with limited_blas(comm):
        np.matmul(a, a, out=out)
        comm.barrier()
        alone = rate() if comm.on_host().rank == 0 else 0.0
        wait_quietly(comm)
        together = rate()
        wait_quietly(comm)
    everyone = [Rate(*theirs) for theirs in comm.allgather_obj([comm.host, alone, together])]
    return judge_gemm(everyone, crowd=max(1.0, max(comm.allgather_obj(comm.host_ranks / comm.host_cores))))


def judge_gemm(everyone: Sequence[Rate], *, crowd: float = 1.0) -> list[Finding]:
    """Judge the rates of all ranks; `crowd` are ranks to a core, by which each is slower with good reason."""
    hosts = hosts_of([rank.host for rank in everyone])
    alone = {host: max(everyone[r].alone for r in ranks) for host, ranks in hosts.items()}
    together = {host: median(everyone[r].together for r in ranks) for host, ranks in hosts.items()}
    figure = f"{median(alone.values()):,.0f} GFLOP/s alone, {median(together.values()):,.0f} a rank all at once"
    found = []
    if held := [host for host in hosts if len(hosts[host]) > 1 and together[host] * crowd < _SLOW * alone[host]]:
        problem = (
            f"{alone[held[0]]:,.0f} GFLOP/s alone, {together[held[0]]:,.0f} a rank all at once, on {', '.join(held)}"
        )
        advice = "Ranks share cores, other jobs run there, or the CPU is throttled: check binding and load."
        found.append(Finding("GEMM", WARNING, problem, advice, tuple(r for host in held for r in hosts[host])))
    for host, rate in together.items():
        others = [theirs for other, theirs in together.items() if other != host]
        if others and rate < _SLOW * median(others):
            problem = f"{rate:,.0f} GFLOP/s a rank on {host}, {median(others):,.0f} on the other hosts"
            advice = f"All ranks wait for the slowest: leave {host} out, or look for its load and clock."
            found.append(Finding("GEMM", WARNING, problem, advice, tuple(hosts[host])))
    return found or [Finding("GEMM", OK, figure)]
