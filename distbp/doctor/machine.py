"""What a rank finds on its host: versions, cores, BLAS, and the limits that the system and its job put on it.

In a container or a job the control group decides, not the machine: memory and CPU quota are read there, in version 1
and 2, for the group of this process and all above it.
"""

import os
import platform
import re
import resource
from pathlib import Path
from statistics import median
from timeit import timeit

import numpy as np
from numpy.typing import NDArray

import distbp
from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.comm.host import available_cores
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, columns, hosts_of, ranks_named
from distbp.doctor.launch import find_library
from distbp.run.blas import bits_depend_on, blas_threads, kernel_warning, limited_blas

MiB = 1 << 20
_FILES, _UNLIMITED = 1024, 1 << 30
_MEMORY = 512 * MiB
"""Bytes for a rank: Python, NumPy, MPI and some data."""
_SLOW = 0.5
"""Part of the rate that is expected from which a rank or host is called slow."""


def check_versions(comm: Communicator) -> list[Finding]:
    """Compare what must be the same on all ranks."""
    here = {
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "mpi4py": find_library().mpi4py or "none",
        "BLAS": " ".join(bits_depend_on()["BLAS"].split()[:2]) or "unknown",  # its kernel may differ: CPUs do
        "distbp": distbp.__version__,
    }
    hosts, versions = columns(comm, here)
    first = versions[0]
    odd = tuple(rank for rank, theirs in enumerate(versions) if theirs != first)
    if not odd:
        return [Finding("versions", OK, ", ".join(f"{name} {version}" for name, version in first.items()))]
    theirs = versions[odd[0]]
    differ = ", ".join(f"{name} {theirs[name]} (not {first[name]})" for name in first if theirs[name] != first[name])
    figure = f"{ranks_named(odd, hosts)} has {differ}, unlike rank 0 on {hosts[0]}"
    return [Finding("versions", FAILURE, figure, "Use one environment on a file system that all hosts share.", odd)]


def check_cores(comm: Communicator) -> list[Finding]:
    """Check whether the ranks of each host have cores of their own, and no more BLAS threads than these."""
    known, all_cores = bool(bits_depend_on()["BLAS"]), os.cpu_count() or 1  # else distbp cannot limit its threads
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    mine = blas_threads(comm) if known else int(wanted) if wanted.isdigit() else all_cores
    hosts, masks, there, threads, limited = columns(comm, available_cores(), all_cores, mine, known)
    of_host = hosts_of(hosts)
    cores = {host: len({core for rank in ranks for core in masks[rank]}) for host, ranks in of_host.items()}
    found = []
    for host, ranks in of_host.items():
        found += _crowding(host, {rank: tuple(masks[rank]) for rank in ranks}, max(there[rank] for rank in ranks))
    if not found:
        counts = " + ".join([str(len(ranks)) for ranks in of_host.values()][:8]) + " + ..." * (len(of_host) > 8)
        figure = f"{len(of_host)} host{'s' * (len(of_host) > 1)}, {counts} rank{'s' * (len(hosts) > 1)} on "
        n_cores, n_threads = (" to ".join(map(str, sorted({min(n), max(n)}))) for n in (cores.values(), threads))
        figure += f"{n_cores} cores, {n_threads} BLAS thread{'s' * (set(threads) != {1})} each"
        found.append(Finding("ranks and cores", OK, figure))
    for host, ranks in of_host.items():
        wild = tuple(rank for rank in ranks if not limited[rank])
        started = sum(threads[rank] for rank in wild)
        if started > cores[host]:
            advice = f"distbp cannot limit this BLAS: export OMP_NUM_THREADS={max(1, cores[host] // len(ranks))}."
            figure = f"{started} BLAS threads on {cores[host]} cores of {host}"
            found.append(Finding("BLAS threads", WARNING, figure, advice, wild))
    return found


def _crowding(host: str, masks: dict[int, tuple[int, ...]], there: int) -> list[Finding]:
    """Find ranks of one host, by their masks, that have no core of their own."""
    for mask in dict.fromkeys(masks.values()):
        same = tuple(rank for rank, theirs in masks.items() if theirs == mask)
        if len(mask) < min(len(same), there):
            bound = f"ranks {', '.join(map(str, same[:5]))} on {host} are bound to core {', '.join(map(str, mask[:8]))}"
            advice = "Other cores may be free: mpirun --bind-to none, srun --cpu-bind=none or more --cpus-per-task."
            return [Finding("ranks and cores", WARNING, f"{bound}, of {there}", advice, same)]
    cores = len(set().union(*masks.values()))
    if len(masks) > cores:
        gain = "In a training those without a core sleep, elsewhere they take turns"
        advice = f"{gain}: more than {cores} rank{'s' * (cores > 1)} on {host} gain nothing."
        crowd = f"{len(masks)} ranks on {cores} cores of {host}"
        return [Finding("ranks and cores", WARNING, crowd, advice, tuple(masks))]
    return []


def check_blas(comm: Communicator) -> list[Finding]:
    """Compare the BLAS of each rank with what its CPU allows, and with rank 0's."""
    hosts, bits, warnings = columns(comm, bits_depend_on(), kernel_warning())
    found, first = [], bits[0]
    if slow := tuple(rank for rank, text in enumerate(warnings) if text):
        text, _, cure = warnings[slow[0]].rpartition(": ")
        figure = text + (f", on {ranks_named(slow, hosts)}" if len(hosts) > 1 else "")
        found.append(Finding("BLAS kernel", WARNING, figure, f"{cure[:1].upper()}{cure[1:]}.", slow))
    differ = [[key for key in ("BLAS", "CPU", "vector instructions") if theirs[key] != first[key]] for theirs in bits]
    if odd := tuple(rank for rank, keys in enumerate(differ) if keys):
        key = differ[odd[0]][0]
        figure = f"{ranks_named(odd, hosts)}: another {key} than rank 0 on {hosts[0]}"
        if key != "vector instructions":
            figure += f" ({bits[odd[0]][key]}, not {first[key]})"
        advice = "The bits of --exact then depend on the ranks: set OPENBLAS_CORETYPE to one kernel, or use equal hosts"
        found.append(Finding("BLAS on all ranks", WARNING, figure, f"{advice}.", odd))
    return found or [Finding("BLAS kernel", OK, f"{first['BLAS'] or 'unknown'} on {first['CPU']}")]


def check_gemm(comm: Communicator, *, n: int = 1024) -> list[Finding]:
    """Measure float32 products of n x n matrices, of one rank of each host alone, and of all at once."""
    a = np.ones((n, n), np.float32)
    with limited_blas(comm):
        np.matmul(a, a)
        comm.barrier()
        alone = _gflops(a) if comm.on_host().rank == 0 else 0.0
        wait_quietly(comm)
        together = _gflops(a)
        wait_quietly(comm)
    hosts, alones, rates, crowds = columns(comm, alone, together, comm.host_ranks / comm.host_cores)
    crowd = max(1.0, *crowds)  # ranks to a core: each is slower with good reason
    of_host = hosts_of(hosts)
    one = {host: max(alones[rank] for rank in ranks) for host, ranks in of_host.items()}
    each = {host: median(rates[rank] for rank in ranks) for host, ranks in of_host.items()}
    found = []
    if held := [host for host in one if len(of_host[host]) > 1 and each[host] * crowd < _SLOW * one[host]]:
        figure = f"{one[held[0]]:,.0f} GFLOP/s alone, {each[held[0]]:,.0f} a rank all at once, on {', '.join(held)}"
        advice = "Ranks share cores, other jobs run there, or the CPU is throttled: check binding and load."
        found.append(Finding("GEMM", WARNING, figure, advice, tuple(rank for host in held for rank in of_host[host])))
    for host, rate in each.items():
        others = [theirs for other, theirs in each.items() if other != host]
        if others and rate < _SLOW * median(others):
            figure = f"{rate:,.0f} GFLOP/s a rank on {host}, {median(others):,.0f} on the other hosts"
            advice = f"All ranks wait for the slowest: leave {host} out, or look for its load and clock."
            found.append(Finding("GEMM", WARNING, figure, advice, tuple(of_host[host])))
    figure = f"{median(one.values()):,.0f} GFLOP/s alone, {median(each.values()):,.0f} a rank all at once"
    return found or [Finding("GEMM", OK, figure)]


def _gflops(a: NDArray[np.float32], times: int = 3) -> float:
    """Return the GFLOP/s of a product with itself."""
    out = np.empty_like(a)
    return 2e-9 * len(a) ** 3 * times / timeit(lambda: np.matmul(a, a, out=out), number=times)


def check_limits(comm: Communicator) -> list[Finding]:
    """Check open files and CPU quota of each rank, and the memory of its host."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # -1: no limit
    _, paid = control_group()
    hosts, files, memory, cores, quotas = columns(comm, open_files, free_memory(), len(available_cores()), paid)
    fewest = min(n if n >= 0 else _UNLIMITED for n in files)
    figure = f"{fewest:,}" if fewest < _UNLIMITED else "no limit"
    found = [Finding("open files", OK, figure)]
    if few := tuple(rank for rank, n in enumerate(files) if 0 <= n < max(_FILES, 4 * len(hosts))):
        advice = f"Raise it: ulimit -n {max(4096, 4 * len(hosts))}."
        found = [Finding("open files", WARNING, f"{figure} on {ranks_named(few, hosts)}", advice, few)]
    of_host = hosts_of(hosts)
    shares = {host: min(memory[rank] for rank in ranks) // len(ranks) for host, ranks in of_host.items()}
    least = min(shares, key=shares.__getitem__)
    figure = f"{shares[least] / MiB:,.0f} MiB free per rank" + (f" on {least}" if len(shares) > 1 else "")
    short = tuple(rank for rank, host in enumerate(hosts) if shares[host] < _MEMORY)
    advice = "Start fewer ranks on a host, or ask for more memory (SLURM: --mem, --mem-per-cpu)."
    found.append(Finding("memory", WARNING, figure, advice, short) if short else Finding("memory", OK, figure))
    wanted = [max(n, len(of_host[host])) for n, host in zip(cores, hosts, strict=True)]
    if held := tuple(rank for rank, quota in enumerate(quotas) if 0 < quota < wanted[rank] - 0.01):
        figure = f"{quotas[held[0]]:g} cores for {ranks_named(held, hosts)}, which would use {wanted[held[0]]}"
        advice = "Start no more ranks than the quota allows, or raise it (docker --cpus)."
        found.append(Finding("CPU quota", WARNING, figure, advice, held))
    return found


def free_memory() -> int:
    """Return the bytes that processes of this host, or of this control group, may still use together."""
    available = re.search(r"^MemAvailable: +(\d+)", text_of(Path("/proc/meminfo")), re.M)
    here = int(available[1]) * 1024 if available else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    group, _ = control_group()
    return min(here, group) if group >= 0 else here


def control_group(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> tuple[int, float]:
    """Return the bytes that the groups of this process leave free, and the cores of their quota; -1, 0 for no limit."""
    free, cores = [], []
    for line in text_of(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        top = root / controllers.split(",")[0]  # version 2 names no controller
        place = top / path.lstrip("/")
        for folder in (above for above in (place, *place.parents) if above.is_relative_to(top)):
            most, *_ = _numbers(folder, "memory.max", "memory.limit_in_bytes")
            if most and most < 1 << 60:  # version 1 calls no limit a large one
                used, *_ = _numbers(folder, "memory.current", "memory.usage_in_bytes")
                # pages of files are dropped when memory is wanted; with those of groups below, in version 1
                dropped = re.findall(r"^(?:total_)?inactive_file (\d+)", text_of(folder / "memory.stat"), re.M)
                free.append(max(0, most - used + max(map(int, dropped), default=0)))
            quota, period, *_ = _numbers(folder, "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
            if quota and period:
                cores.append(quota / period)
    return min(free, default=-1), min(cores, default=0.0)


def text_of(path: Path) -> str:
    """Return what is in a file; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _numbers(folder: Path, *names: str) -> list[int]:
    """Return the numbers in those files that there are, 0 for a word that is none, and zeros for what is missing."""
    words = " ".join(text_of(folder / name) for name in names).split()
    return [int(word) if word.isdigit() else 0 for word in (*words, "", "")]
