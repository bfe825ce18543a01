"""Whether probabilities and intervals mean what they say: coverage of intervals, and calibration before and after.

    scripts/environment .venv mpi,test,fast
    .venv/bin/python scripts/benchmark_calibration.py TABLES [--splits 20] [--epochs N] [--json FILE]

TABLES is a folder as for benchmark_recipes.py; its train.csv are split anew by each seed, a fifth to test. Of each
table of values: the share of the test rows that lie within the interval of 0.9, its mean over the splits and from where
to where it goes. Of each table of classes, and the digits: log loss on validation rows, and calibration error on test
rows, without calibration and with it. Trainings run on a core each, two at a time, or as many as there are cores.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = ROOT / ".venv" / "bin" / "python"
CORES = queue.SimpleQueue()
"""Those that no training has."""


def train(folder, about, seed, options):
    """Return the results of a training with a core of its own."""
    data = ["--data", "digits"]
    if about is not None:
        data = ["--data", f"{folder}/train.csv", "--target", about["target"]]
        data += ["--task", "regression"] if about["kind"] == "values" else []
    core = CORES.get()
    try:
        with tempfile.TemporaryDirectory() as run:
            command = [
                str(PYTHON), "-m", "distbp.train", *data, "--seed", str(seed), "--report", "none", "--run-dir",
                f"{run}/run", "--cache", run, *options,
            ]  # fmt: skip
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=3600, cwd=ROOT,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(done.stderr)
            return json.loads(Path(run, "run", "results.json").read_text())
    finally:
        CORES.put(core)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--epochs", help="fewer than the recipe has: what is tried holds for any model")
    parser.add_argument("--on", metavar="TABLES", help="names of tables, with commas between")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    about = json.loads((options.tables / "tables.json").read_text()) | {"digits": None}
    cores = sorted(os.sched_getaffinity(0))
    for core in cores:
        CORES.put(core)
    fewer = ["--epochs", options.epochs] if options.epochs else []
    found = {}
    with ThreadPoolExecutor(len(cores)) as pool:
        for table in options.on.split(",") if options.on else about:
            of, folder = about[table], options.tables / table
            values = of is not None and of["kind"] == "values"
            ways = [[]] if values else [["--no-calibrate"], ["--calibrate"]]
            tasks = [(folder, of, seed, [*fewer, *way]) for seed in range(options.splits) for way in ways]
            results = list(pool.map(lambda task: train(*task), tasks))
            if values:
                held = [one["values within"]["held on test rows"] for one in results]
                found[table] = held
                ends = f"{min(held):.3f} to {max(held):.3f}"
                print(f"{table:12} {statistics.mean(held):.3f} of the test rows within ({ends})", flush=True)
                continue
            before, after = results[::2], results[1::2]
            pairs = list(zip(before, after, strict=True))
            losses, errors = ([(a[k], b[k]) for a, b in pairs] for k in ("log_loss/val", "calibration_error/test"))
            found[table] = {"log_loss/val": losses, "calibration_error/test": errors}
            worse = sum(b > a for a, b in losses)
            means = [statistics.mean(one) for one in zip(*errors, strict=True)]
            print(
                f"{table:12} calibration error {means[0]:.4f} -> {means[1]:.4f};"
                f" log loss on validation rows worse in {worse} of {len(losses)} splits",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    sys.exit(main())
