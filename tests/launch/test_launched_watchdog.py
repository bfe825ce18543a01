"""A process that hangs, or whose launcher is gone, ends."""

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import clean_environment

from distbp.comm.processes import end_process, process_identity, process_state

HANGS = """
import sys, time
from pathlib import Path
from distbp import SerialCommunicator
from distbp.watch.watcher import Watchdog, Watcher
comm = SerialCommunicator()
Watcher().add(Watchdog(comm, Path("hang"), 0.4, lambda: 12))
for _ in range(15):
    time.sleep(0.04)
    comm.recorder.tick()
while True:
    time.sleep(0.1)
"""


def test_a_hang_ends_with_one_line(launch):
    start = time.monotonic()
    done = launch("-c", HANGS)
    assert done.returncode == 1 and 0.9 < time.monotonic() - start < 9
    assert done.stderr.startswith("distbp: rank 0 on ") and done.stderr.count("\n") == 1
    assert "did not reach the end of step 12: in <module> (<string>:12), for 0 s (--hang-timeout 0.4)" in done.stderr


@pytest.mark.parametrize("launched", [True, False])
def test_a_rank_ends_when_its_launcher_is_gone(tmp_path, launched):
    """Not so a process that nobody launched: its shell may be closed."""
    code = HANGS.replace("0.4,", "float('inf'),").replace("range(15)", "range(300)").replace("0.04", "0.1")
    code = code.replace("for _", "import os; print(os.getpid(), file=open('pid', 'w'), flush=True)\nfor _")
    launcher = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}]).wait()"],
        env=clean_environment() | ({"PMI_SIZE": "1"} if launched else {}),
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.05)
    launcher.kill()
    try:
        output = launcher.communicate(timeout=10 if launched else 2)[1]
    except subprocess.TimeoutExpired:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        output = launcher.communicate()[1]
    assert ("the launcher is gone" in output) == launched


def test_ends_of_processes():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pid, started = process_identity(child.pid)
    os.kill(pid, 19)
    time.sleep(0.2)
    assert process_state(pid) == ("T", started)
    assert end_process(pid, started + 1, 1.0) and child.poll() is None  # another process of that number
    assert end_process(pid, started, 5.0)
    assert child.wait(5) == -9
    assert end_process(pid, started, 1.0) and process_state(pid) == ("X", 0)
