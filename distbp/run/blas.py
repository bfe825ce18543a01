"""The BLAS of a rank: its threads, its kernel, and what the last bits depend on.

Ranks that share a host share its cores: each gets its part of them, at least one BLAS thread.
"""

import contextlib
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator, Host
from distbp.comm.host import available_cores
from distbp.errors import UserError

_LOOKS, _BETWEEN_LOOKS = 7, 0.002
_VECTOR = ("sse", "ssse", "avx", "fma", "amx", "asimd", "sve")

# OpenBLAS kernels by the width in bits of what they add and multiply at once
_WIDTHS = {
    **dict.fromkeys(("Prescott", "Core2", "Penryn", "Nehalem", "Atom", "Barcelona", "Bobcat"), 128),
    **dict.fromkeys(("Sandybridge", "Bulldozer", "Piledriver", "Steamroller", "Excavator", "Haswell", "Zen"), 256),
    **dict.fromkeys(("SkylakeX", "Cooperlake", "SapphireRapids"), 512),
}


def blas_threads(comm: Host) -> int:
    """BLAS threads of this rank: its share of the host's cores, at least one."""
    return max(1, min(comm.host_cores // comm.host_ranks, len(available_cores())))


@contextlib.contextmanager
def limited_blas(comm: Communicator, most: int | None = None, *, steady: bool = False) -> Iterator[int]:
    """Limit the BLAS of this process to its share of the cores, and to `most` threads; gives their number.

    Cores that others keep busy are left to them, unless the number, which bits depend on, is to be `steady`. Runs in
    threads of one process share its BLAS: each gets the least that one of them wants. `UserError`, where other code of
    the process keeps it at more than `most`.
    """
    threads = min(blas_threads(comm), most or sys.maxsize, _asked())
    if threads > 1 and not steady:
        threads = max(1, min(threads, (os.cpu_count() or 1) - _busy_cores(comm)))
    with _LIMITS.kept(threads):
        pools = loaded_blas()
        found: int = pools[0]["num_threads"] or 1 if pools else threads
        if most and found > most:
            held = f"the BLAS of this process has {found} threads, held by another thread (threadpoolctl)"
            raise UserError(f"{held}, where {most} {'is' if most == 1 else 'are'} wanted: train outside of its limits")
        yield found


class _Limits:
    """The numbers of BLAS threads that runs of this process want; the least of them is set."""

    def __init__(self) -> None:
        self._lock, self._wanted = threading.Lock(), list[int]()
        self._restore: Callable[[], None]

    @contextlib.contextmanager
    def kept(self, threads: int) -> Iterator[None]:
        """Have no more than so many, until the end."""
        with self._lock:
            restore = self._set(min([threads, *self._wanted]))
            if not self._wanted:
                self._restore = restore
            self._wanted.append(threads)
        try:
            yield
        finally:
            with self._lock:
                self._wanted.remove(threads)
                if self._wanted:
                    self._set(min(self._wanted))
                else:
                    self._restore()
                    self._let_go()

    def _set(self, threads: int) -> Callable[[], None]:
        from threadpoolctl import threadpool_limits

        restore: Callable[[], None] = threadpool_limits(limits=threads, user_api="blas").restore_original_limits
        self._let_go()
        return restore

    @staticmethod
    def _let_go() -> None:
        """Let other threads set limits: threadpoolctl 3.8 silently ignores them else, until a ``with`` has ended."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(limits=None, user_api="blas"):
            pass


_LIMITS = _Limits()


def _asked() -> int:
    """Return the limit of threads that the environment sets."""
    given = (os.environ.get(name, "") for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    return min((max(1, int(text)) for text in given if text.isdigit()), default=sys.maxsize)


def _busy_cores(comm: Host) -> int:
    """Return how many cores other processes keep busy: a thread that waits for one that has no core costs all."""
    seen = []
    for _ in range(_LOOKS):
        try:
            running = Path("/proc/loadavg").read_text(encoding="utf-8").split()[3].partition("/")[0]
        except (OSError, IndexError):
            return 0
        seen.append(int(running) - comm.host_ranks)
        time.sleep(_BETWEEN_LOOKS)
    return max(0, sorted(seen)[len(seen) // 2])


def kernel_warning() -> str:
    """Return what to change where OpenBLAS runs a slower kernel than this CPU allows, or ""."""
    names = [pool.get("architecture") or "" for pool in loaded_blas() if pool["internal_api"] == "openblas"]
    return slow_kernel(names[0], _cpuinfo(), os.environ.get("OPENBLAS_CORETYPE")) if names else ""


def slow_kernel(kernel: str, cpuinfo: str, forced: str | None) -> str:
    """As `kernel_warning`, from the name of the kernel, /proc/cpuinfo and OPENBLAS_CORETYPE."""
    cpu = _fields(cpuinfo)
    flags = cpu.get("flags", "").split()
    allowed, better = 128, "Nehalem"
    if "avx2" in flags and "fma" in flags:
        allowed, better = 256, "Haswell"
    # AMD's family 25 (Zen 4) has AVX-512 in two halves: there the AVX2 kernel is as fast
    if "avx512f" in flags and not (cpu.get("vendor_id") == "AuthenticAMD" and int(cpu.get("cpu family", 0)) <= 25):
        allowed, better = 512, "SkylakeX"
    width = _WIDTHS.get(kernel, allowed)
    if width >= allowed:
        return ""
    cure = f"unset OPENBLAS_CORETYPE, which is {forced}" if forced else f"set OPENBLAS_CORETYPE={better}"
    slower = f"{kernel} kernel ({width} bits) on a CPU with {allowed} bits"
    return f"OpenBLAS runs its {slower}, at about half the speed: {cure}"


def loaded_blas() -> list[dict[str, Any]]:
    """The BLAS libraries of this process: NumPy's, then others (SciPy brings its own)."""
    from threadpoolctl import threadpool_info

    # in numpy.libs beside it, or in it; threadpoolctl knows no order
    folder = os.path.dirname(np.__file__)
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return sorted(pools, key=lambda pool: (not pool["filepath"].startswith(folder), pool["filepath"]))


def bits_depend_on() -> dict[str, str]:
    """Return what the last bits of this process' numbers depend on, besides the program: libraries and CPU."""
    fields = _fields(_cpuinfo())
    flags = fields.get("flags", fields.get("Features", "")).split()
    pools = [[str(pool.get(k)) for k in ("internal_api", "version", "architecture")] for pool in loaded_blas()]
    return {
        "numpy": np.__version__,
        "BLAS": " ".join(pools[0]) if pools else "",
        "CPU": fields.get("model name", platform.processor() or platform.machine()),
        "vector instructions": " ".join(sorted(flag for flag in flags if flag.startswith(_VECTOR))),
    }


def different_bits(
    comm: Communicator, before: dict[str, str] | None, *, exact: bool = True, mixed: bool = False
) -> list[str]:
    """Return remarks on ranks that differ in what bits depend on, or from a run that was begun elsewhere.

    The same on all ranks. `before` is `bits_depend_on` of the run that is resumed, on rank 0. In exact mode ranks that
    differ are a `UserError`, unless it is to be `mixed`; without it, a remark where their BLAS differs.
    """
    everyone: list[dict[str, str]] = comm.allgather_obj(bits_depend_on())
    texts = [(comm.names[rank], _differences(everyone[0], theirs)) for rank, theirs in enumerate(everyone)]
    others = [f"on ranks {comm.names[0]} and {name} {text}" for name, text in texts if text]
    if not exact:
        kernels = sorted({one["BLAS"] for one in everyone})
        return [f"ranks have different BLAS kernels, the slowest sets the pace: {', '.join(kernels)}"] * (
            len(kernels) > 1
        )
    remarks = [f"bits may depend on the number of ranks: {other}" for other in others[:1]]
    decisive = [{k: v for k, v in one.items() if k != "CPU"} for one in everyone]
    if not mixed and any(one != decisive[0] for one in decisive):
        cure = "give all the same (OPENBLAS_CORETYPE=Haswell sets one kernel), or --mixed-hosts to go on all the same"
        raise UserError(f"--exact: {remarks[0]}: {cure}")
    if comm.is_root and before and (text := _differences(before, everyone[0])):
        remarks.append(f"bits may differ from those of a run in one piece: before and now {text}")
    of_all: list[str] = comm.bcast_obj(remarks)
    return of_all


def _differences(one: dict[str, str], other: dict[str, str]) -> str:
    return "; ".join(f"{k} is {one[k]!r} and {other[k]!r}" for k in one if other.get(k, one[k]) != one[k])


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fields(cpuinfo: str) -> dict[str, str]:
    """The first core's lines."""
    fields = (line.partition(":") for line in cpuinfo.splitlines())
    return {name.strip(): value.strip() for name, _, value in reversed(list(fields))}
