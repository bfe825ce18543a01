"""crash_points.py: end, or fail, the writing of a checkpoint at each of its system calls, by strace.

A process writes one checkpoint, then a second one with `keep=1`. Every system call between the two marks of the second
write is once the last one before SIGKILL, and, where it can, fails once with ENOSPC, EIO, EROFS and EDQUOT. After each,
what a resume would read must be whole, and one of the two; what is written next must be readable.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from distbp import Checkpoints

WRITE = """
import os, sys
from pathlib import Path
import numpy as np
import safetensors.numpy
from distbp import Checkpoints
c = Checkpoints(Path(sys.argv[1]), keep=1)
def save(step):
    c.save(step, {"theta": np.full(1000, float(step))}, {"step": step})
save(1)
os.getppid()
try:
    save(2)
except OSError:
    os._exit(3)
os.getppid()
"""
FAILING = "openat write fsync rename unlink mkdir newfstatat getdents64 lseek fstat ioctl".split()
ERRORS = "ENOSPC EIO EROFS EDQUOT".split()


def run(folder, *inject):
    trace = folder.with_suffix(".trace")
    command = ["strace", "-qq", "-o", trace, *inject, sys.executable, "-c", WRITE, folder]
    code = subprocess.run(list(map(str, command)), stderr=subprocess.PIPE).returncode
    return code, trace.read_text(errors="replace")


def calls_between_marks(text):
    """Name and number, among the calls of that name, of each call of the second write."""
    seen, marks, found = Counter(), 0, []
    for line in text.splitlines():
        if not (match := re.match(r"(\w+)\(", line)):
            continue
        seen[match[1]] += 1
        if match[1] == "getppid":
            marks += 1
        elif marks == 1:
            found.append((match[1], seen[match[1]]))
    return found


def state(folder):
    path, arrays, said, warnings = Checkpoints(folder).newest()
    whole = path is not None and not warnings and (arrays["theta"] == said["step"]).all()
    return said["step"] if whole else None


def main():
    top = Path(tempfile.mkdtemp(prefix="crash-points-"))
    _, text = run(top / "whole")
    calls = calls_between_marks(text)
    print(f"{len(calls)} system calls: {', '.join(f'{k} {v}' for k, v in Counter(n for n, _ in calls).items())}")
    results, bad = Counter(), 0
    for i, (name, number) in enumerate(calls):
        kinds = [("killed", "signal=KILL"), *((e, f"error={e}") for e in ERRORS if name in FAILING)]
        for kind, what in kinds:
            folder = top / f"{i}-{kind}"
            code, _ = run(folder, "-e", f"inject={name}:{what}:when={number}")
            step = state(folder)
            fine = step in (1, 2) and (code != 0 if kind == "killed" else code == 3 or step == 2)
            again = Checkpoints(folder, keep=1)
            again.save(3, {"theta": np.full(10, 3.0)}, {"step": 3})
            fine = fine and state(folder) == 3 and len(list(folder.iterdir())) == 1
            results["killed" if kind == "killed" else "failed", step] += 1
            bad += not fine
            if not fine:
                print(f"{name} number {number}, {kind}: exit code {code}, step {step}: {list(folder.iterdir())}")
    for (kind, step), count in sorted(results.items(), key=str):
        print(f"{kind}: {count} times step {step} is there, whole")
    print(f"{bad} bad")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
