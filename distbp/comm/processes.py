"""Processes of this host: who they are, how they are, and their end."""

import os
import select
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

GONE = "its process is gone"
_STUCK = {
    "T": "its process is stopped",
    "t": "its process is held by a debugger",
    "D": "its process waits for a disk",
    "X": GONE,
    "Z": GONE,
}
_PROXY = "hydra_pmi_proxy"
_LOOK = 0.5


@contextmanager
def siblings_live(environ: Mapping[str, str]) -> Iterator[None]:
    """Kill this process if, meanwhile, another one that MPICH's launcher started on this host has ended.

    Before MPI_Init is done in all ranks this launcher does not mind, and the others wait in it for ever, without a
    look at signals or threads: so a process of our own looks. That the first two ranks of a host do it is enough.
    """
    proxy, expected = os.getppid(), int(environ.get("MPI_LOCALNRANKS", "0"))
    children = Path(f"/proc/{proxy}/task/{proxy}/children")
    if (
        expected < 2
        or environ.get("MPI_LOCALRANKID") not in ("0", "1")
        or _name(proxy) != _PROXY
        or not children.exists()
    ):
        yield
        return
    reading, writing = os.pipe()
    process = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: none of them is needed there
        watcher = os.fork()
    if watcher == 0:
        os.close(writing)
        _watch(reading, children, expected, process)
    os.close(reading)
    try:
        yield
    finally:
        os.close(writing)
        os.waitpid(watcher, 0)


def _watch(reading: int, children: Path, expected: int, process: int) -> None:
    """End `process` if there are fewer living children than expected, twice; end when nobody writes any more."""
    missing = 0
    try:
        while not select.select([reading], [], [], _LOOK)[0]:
            alive = [pid for pid in children.read_text().split() if process_state(int(pid))[0] not in "ZX"]
            missing = missing + 1 if len(alive) < expected else 0
            if missing == 2:
                text = "distbp: error: a rank of this host ended before all had met: see what it printed; start again\n"
                os.write(2, text.encode())
                os.kill(process, signal.SIGKILL)  # an exit the launcher would not notice
                break
    finally:
        os._exit(0)


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def process_identity(pid: int) -> tuple[int, int]:
    """Return the number of a process, and when it began: numbers are used again."""
    return pid, process_state(pid)[1]


def process_state(pid: int) -> tuple[str, int]:
    """Return the state letter and the start time of a process; "X" where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])


def describe_process(pid: int, started: int) -> str:
    """Say what keeps a process from going on; "" where the system knows of nothing."""
    state, when = process_state(pid)
    return _STUCK.get(state if when == started else "X", "")


def end_process(pid: int, started: int, patience: float) -> bool:
    """End a process of this host, if it is still that one; return whether it is gone within `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        state, when = process_state(pid)
        if state in "XZ" or when != started:
            return True
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
