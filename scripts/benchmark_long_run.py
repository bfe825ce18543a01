"""Does a long run become slower, or larger? The last tenth of a million steps, beside the first of the same run anew.

    .venv/bin/python scripts/benchmark_long_run.py [--steps 1000000] [--ranks 1] [--python .venv/bin/python]

A run of small steps that logs, evaluates and writes checkpoints goes on until a tenth of it is left. Then the same run
is started a second time, and the end of the one and the beginning of the other take turns, 1,000 steps each, so that a
machine that changes changes both. Printed are the median of the ratios of such a pair with its 95 % interval, of each
rank the memory, the open files and the threads in its first and its last tenth (medians), and the files of the run
directory. What the start costs (the first 20,000 steps) is not compared; Numba, where it is installed, is loaded at
once.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from benchmark import ROOT, environment, machine

TURN, APART = 1_000, 20_000
OPTIONS = (
    "--recipe plain --hidden 32 --batch-size 32 --optimizer adam --log-every 500 --eval-every 1000"
    " --checkpoint-every 10000 --keep 2 --quiet"
)


def train(folder, begin, steps):
    """Train as a rank of a run, with a note of every turn; from step `begin` on a turn waits for the word."""
    from distbp.optim.optimizer import Optimizer
    from distbp.train import main as train_main
    from distbp.trainer.trainer import Trainer

    rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))
    words = open(folder / "words", "rb", buffering=0) if rank == 0 else None  # as long as somebody can write
    notes = open(folder / f"rank-{rank}.jsonl", "w", buffering=1)
    took, since = Trainer.step, time.perf_counter()

    def step(self):
        nonlocal since
        took(self)
        at = self.position.step
        if at % TURN == 0:
            seconds = time.perf_counter() - since
            status = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]
            handles, threads = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            found = {"step": at, "seconds": seconds, "kB": int(status), "handles": handles, "threads": threads}
            notes.write(json.dumps(found) + "\n")
            if words and at >= begin and not words.read(1):
                os._exit(0)  # nobody gives words any more
            since = time.perf_counter()

    Trainer.step, Optimizer.compile_after = step, 0.0
    return train_main([*OPTIONS.split(), "--steps", str(steps), "--run-dir", str(folder / "run")])


class Run:
    """A training in processes of its own, whose turns are given from here."""

    def __init__(self, options, folder, begin):
        self.folder, self.taken = folder, begin // TURN
        folder.mkdir()
        os.mkfifo(folder / "words")
        python = Path(options.python).absolute()
        launch = [python.with_name("mpirun"), "-n", options.ranks] if options.ranks > 1 else []
        command = [*launch, python, __file__, "--train", folder, "--begin", begin, "--steps", options.steps]
        self.process = subprocess.Popen(list(map(str, command)), env=environment(PYTHONPATH=str(ROOT)))
        self.words = open(folder / "words", "wb", buffering=0)

    def notes(self, rank=0):
        return [json.loads(line) for line in (self.folder / f"rank-{rank}.jsonl").read_text().splitlines()]

    def wait(self, turns, pause=1.0):
        """Wait until so many turns are noted."""
        path = self.folder / "rank-0.jsonl"
        while not path.exists() or path.read_bytes().count(b"\n") < turns:
            assert self.process.poll() is None, f"the run ended with code {self.process.returncode}"
            time.sleep(pause)

    def turn(self):
        """Let it take a turn; return the seconds."""
        self.words.write(b".")
        self.taken += 1
        self.wait(self.taken, 0.01)
        return self.notes()[-1]["seconds"]

    def end(self):
        self.words.close()
        self.process.wait(60)


def ratio(pairs, draws=2000):
    """Return the median of the ratios of pairs, and its 95 % interval by the bootstrap."""
    ratios = np.array([a / b for a, b in pairs])
    drawn = np.median(np.random.default_rng(0).choice(ratios, (draws, len(ratios))), axis=1)
    return np.median(ratios), *np.quantile(drawn, (0.025, 0.975))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the whole run")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--python", default=sys.executable, help="whose distbp, with what it has installed")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--begin", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train(options.train, options.begin, options.steps)
    tenth = options.steps // 10
    with tempfile.TemporaryDirectory() as top:
        old = Run(options, Path(top) / "old", options.steps - tenth)
        old.wait((options.steps - tenth) // TURN)
        new = Run(options, Path(top) / "new", APART)
        new.wait(APART // TURN)
        pairs = []
        for turn in range((tenth - APART) // TURN):
            order = (old, new) if turn % 2 else (new, old)  # who comes second finds the caches of the first
            seconds = {run: run.turn() for run in order}
            pairs.append((seconds[old], seconds[new]))
        middle, low, high = ratio(pairs)
        print(f"{machine()['cpu']}, {options.ranks} ranks, {options.steps:,} steps")
        print(f"the last tenth over the first: {middle:.4f} (95 %: {low:.4f} to {high:.4f}; {len(pairs)} pairs)")
        print(f"a step: {1e6 * statistics.median(a for a, _ in pairs) / TURN:.1f} us at the end")
        for rank in range(options.ranks):
            notes = old.notes(rank)
            first, last = notes[APART // TURN : tenth // TURN], notes[-len(pairs) :]
            for what in ("kB", "handles", "threads"):
                a, b = (statistics.median(note[what] for note in part) for part in (first, last))
                print(f"rank {rank}, {what}: {a:,.0f} in the first tenth, {b:,.0f} in the last")
        files = [path for path in old.folder.joinpath("run").rglob("*") if path.is_file()]
        print(f"the run directory: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")
        old.end()
        new.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
