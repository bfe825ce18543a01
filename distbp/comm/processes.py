"""Processes of this host: who they are, how they are, and their end."""

import os
import signal
import time
from pathlib import Path

GONE = "its process is gone"
_STUCK = {
    "T": "its process is stopped",
    "t": "its process is held by a debugger",
    "D": "its process waits for a disk",
    "X": GONE,
    "Z": GONE,
}


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
