"""Does a long run become slower, or larger? The last tenth of a million steps, beside the first.

    .venv/bin/python scripts/benchmark_long_run.py [--steps 1000000] [--ranks 1] [--repetitions 3] [--python PYTHON]

A run of small steps logs, evaluates and writes checkpoints. In its first tenth and in its last it takes turns with
another of the same kind, 1,000 steps each, which stands still meanwhile: a machine that changes changes both, and two
processes of the same program, which differ by up to 2 % all their life, are compared with themselves. Printed are the
median of the ratios of a turn to the other's, at the end over at the beginning, with its 95 % interval; of each rank
the memory, the open files and the threads in both tenths (medians), and the files of the run directory. What the start
costs (the first 20,000 steps) is left out; Numba, where it is installed, is loaded at once.
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
    " --checkpoint-every 10000 --keep 2 --hang-timeout 0 --quiet"
)


def train(folder, steps):
    """Train as a rank of a run, with a note of every turn; each waits for the word."""
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
            if words and not words.read(1):
                os._exit(0)  # nobody gives words any more
            since = time.perf_counter()

    Trainer.step, Optimizer.compile_after = step, 0.0
    return train_main([*OPTIONS.split(), "--steps", str(steps), "--run-dir", str(folder / "run")])


class Run:
    """A training in processes of its own, whose turns are given from here."""

    def __init__(self, options, folder):
        self.folder, self.turns = folder, 1  # the first begins without a word
        folder.mkdir()
        os.mkfifo(folder / "words")
        python = Path(options.python).absolute()
        launch = [python.with_name("mpirun"), "-n", options.ranks] if options.ranks > 1 else []
        command = [*launch, python, __file__, "--train", folder, "--steps", options.steps]
        self.process = subprocess.Popen(list(map(str, command)), env=environment(PYTHONPATH=str(ROOT)))
        self.words = open(folder / "words", "wb", buffering=0)

    def notes(self, rank=0):
        return [json.loads(line) for line in (self.folder / f"rank-{rank}.jsonl").read_text().splitlines()]

    def take(self, turns=1):
        """Let it take some turns; return the seconds of the last."""
        path = self.folder / "rank-0.jsonl"
        self.words.write(b"." * turns)
        self.turns += turns
        while not path.exists() or path.read_bytes().count(b"\n") < self.turns:
            assert self.process.poll() is None, f"the run ended with code {self.process.returncode}"
            time.sleep(0.01 if turns == 1 else 1.0)
        return self.notes()[-1]["seconds"]

    def end(self):
        self.words.close()
        self.process.wait(60)


def in_turns(one, other, turns):
    """Return the ratios of the seconds of two runs that take turns."""
    ratios = []
    for turn in range(turns):
        seconds = {run: run.take() for run in ((one, other) if turn % 2 else (other, one))}
        ratios.append(seconds[one] / seconds[other])
    return np.array(ratios)


def change(first, last, draws=2000):
    """Return the median of the last ratios over that of the first, and its 95 % interval by the bootstrap."""
    rng = np.random.default_rng(0)
    drawn = [np.median(rng.choice(part, (draws, len(part))), axis=1) for part in (last, first)]
    return np.median(last) / np.median(first), *np.quantile(drawn[0] / drawn[1], (0.025, 0.975))


def measure(options, top):
    start, tenth = APART // TURN, options.steps // 10 // TURN
    run, other = Run(options, top / "run"), Run(options, top / "other")
    for each in (run, other):
        each.take(start - 1)
    first = in_turns(run, other, tenth - start)
    run.take(8 * tenth + start)
    last = in_turns(run, other, tenth - start)
    print("the last tenth over the first: {:.4f} (95 %: {:.4f} to {:.4f})".format(*change(first, last)))
    for rank in range(options.ranks):
        notes = run.notes(rank)
        for what in ("kB", "handles", "threads"):
            a, b = (statistics.median(note[what] for note in part) for part in (notes[start:tenth], notes[-tenth:]))
            print(f"  rank {rank}, {what}: {a:,.0f} in the first tenth, {b:,.0f} in the last")
    files = [path for path in run.folder.joinpath("run").rglob("*") if path.is_file()]
    print(
        f"  the run directory: {len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB",
        flush=True,
    )
    run.end()
    other.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of the whole run")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--python", default=sys.executable, help="whose distbp, with what it has installed")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        return train(options.train, options.steps)
    print(f"{machine()['cpu']}, {options.ranks} ranks, {options.steps:,} steps")
    for _ in range(options.repetitions):
        with tempfile.TemporaryDirectory() as top:
            measure(options, Path(top))
    return 0


if __name__ == "__main__":
    sys.exit(main())
