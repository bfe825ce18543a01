"""Processes of this host: who they are, how they are, and their end."""

import os
import signal
import time
from pathlib import Path

__all__ = ["end_process", "process_identity", "process_state"]


def process_identity(pid: int) -> tuple[int, int]:
    """Return a process and when it began: numbers of processes are used again."""
    return pid, process_state(pid)[1]


def process_state(pid: int) -> tuple[str, int]:
    """Return state letter and start time of a process; "X" where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])


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
