"""How long is it from a file to a model that is so good? Whole processes, beside what a user would run instead.

    scripts/environment .venv mpi,fast
    scripts/environment .venv-bench bench   # and lightgbm, pandas, pyarrow; pytabkit where it shall be compared
    .venv/bin/python scripts/benchmark_runs.py FOLDER --tables TABLES --mnist FOLDER [--repetitions 3] [--json FILE]

The digits, 10,000 images of MNIST, the tables of TABLES (train.csv, a sixth of which validates) and a generated one of
1,000,000 rows of 28 numbers with a class that a network can learn, as CSV and as Parquet (the shape of HIGGS). Files
are made in FOLDER. A run begins with its process and ends with it: it reads, trains until its figure on the
validation rows is as good as GOALS says, and writes its model. `distbp.train` runs on two ranks by its recipe, without
a report, which nobody else makes; the others are those of `run_peers.py`. In turns; medians of seconds, and the peak
of the proportional memory (PSS) of all processes of a run. A run that did not get there is marked.

``--minutes M``: trains on the generated table for so long, and compares memory and samples a second of its first and
its last fifth.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from benchmark_tables import ENVIRONMENT, MPIRUN, PYTHON, ROOT

GOALS = {
    "digits": ("classes", 0.97), "mnist": ("classes", 0.96), "phoneme": ("classes", 0.86),
    "penbased": ("classes", 0.99), "diamonds": ("values", 570.0), "taxis": ("values", 4.2), "wine": ("values", 0.70),
    "california": ("values", 55_000.0), "higgs.csv": ("classes", 0.80), "higgs.parquet": ("classes", 0.80),
}  # fmt: skip
"""What all but the weakest reach on rows of the training files that were held out."""
PEERS = ("PyTorch", "DDP", "JAX", "scikit-learn MLP", "LightGBM", "RealMLP-TD-S")
LIMIT = 300.0


def make(folder, tables, mnist):
    """Make the files that are not there; return {name: (training file, validation file, target)}."""
    files = {"digits": arrays(folder / "digits", digits), "mnist": arrays(folder / "mnist", lambda: images(mnist))}
    for name, about in json.loads((tables / "tables.json").read_text()).items():
        files[name] = (*parts_of(tables / name / "train.csv", folder / name), about["target"])
    for kind in ("csv", "parquet"):
        files[f"higgs.{kind}"] = higgs(folder / "higgs", kind)
    return files


def arrays(folder, rows):
    """Make the two parts of inputs and labels: a fifth, by chance, validates."""
    if not folder.exists():
        X, y = rows()
        order = np.random.default_rng(0).permutation(len(X))
        folder.mkdir(parents=True)
        for part, chosen in (("validation", order[: len(X) // 5]), ("train", order[len(X) // 5 :])):
            np.savez(folder / f"{part}.npz", X=X[chosen], y=y[chosen])
    return folder / "train.npz", folder / "validation.npz", "y"


def digits():
    """Return the digits of the package."""
    with np.load(ROOT / "distbp" / "data" / "digits.npz") as rows:
        return rows["X"], rows["y"]


def images(folder):
    """Return images and labels of idx files."""
    import gzip

    def numbers(pattern, header):
        with gzip.open(next(folder.glob(pattern))) as stream:
            return np.frombuffer(stream.read(), np.uint8, offset=header)

    return numbers("*images*", 16).reshape(-1, 784), numbers("*labels*", 8)


def parts_of(path, folder):
    """Cut a table in two: each sixth line validates."""
    if not folder.exists():
        folder.mkdir(parents=True)
        head, *lines = path.read_text().splitlines(keepends=True)
        (folder / "validation.csv").write_text(head + "".join(lines[::6]))
        (folder / "train.csv").write_text(head + "".join(line for i, line in enumerate(lines) if i % 6))
    return folder / "train.csv", folder / "validation.csv"


def higgs(folder, kind):
    """Make 1,000,000 rows, and 20,000 to validate, of 28 numbers and a class: a random network's, with noise."""
    files = [folder / f"{part}.{kind}" for part in ("train", "validation")]
    if not all(file.exists() for file in files):
        import duckdb

        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        A = rng.standard_normal((28, 12)) / 28**0.5
        for file, n in zip(files, (10**6, 20_000), strict=True):
            X = rng.standard_normal((n, 28)).astype(np.float32).round(4)
            u = np.tanh(2 * X @ A)
            z = 3 * (u[:, :6] * u[:, 6:]).sum(axis=1) + u.sum(axis=1)
            columns = {f"x{k}": X[:, k] for k in range(28)}
            columns["y"] = (z + rng.logistic(size=n) > 0).astype(np.int64)
            table = duckdb.from_query("SELECT * FROM columns")
            table.write_csv(str(file)) if kind == "csv" else table.write_parquet(str(file))
    return *files, "y"


def command(name, files, goal, folder, python):
    """Return the command line of a run."""
    train, validation, target = files
    kind, level = goal
    if name != "distbp":
        launch = [python]
        if name == "DDP":
            launch = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        model = folder / "model"
        return [*launch, ROOT / "scripts" / "run_peers.py", name, train, validation, target, kind, str(level), model]
    figure = f"accuracy/val>={level}" if kind == "classes" else f"rmse/val<={level}"
    of_table = ["--target", target] if train.suffix != ".npz" else []
    if kind == "values":
        of_table += ["--task", "regression"]
    return [
        MPIRUN, "-n", "2", PYTHON, "-m", "distbp.train", "--data",
        train, "--validation-data", validation, "--test-fraction", "0", *of_table, "--target-metric", figure,
        "--report", "none", "--run-dir", folder / "run", "--cache", folder / "cache",
        *(("--eval-every", "500") if train.parent.name == "higgs" else ()),
    ]  # fmt: skip


def memory_of(first):
    """Return the proportional memory of a process and of all that it started."""
    children, total = {}, 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            children.setdefault(int(stat.read_text().rpartition(")")[2].split()[1]), []).append(int(stat.parent.name))
    left = [first]
    while left:
        process = left.pop()
        left += children.get(process, [])
        with suppress(OSError, StopIteration):  # it has ended
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def run(name, files, goal, folder, python):
    """Return seconds, peak of memory, and whether it got there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    began, peak, done = time.perf_counter(), 0, threading.Event()
    process = subprocess.Popen(
        list(map(str, command(name, files, goal, folder, python))), env=ENVIRONMENT, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def look():
        nonlocal peak
        while not done.wait(0.1):
            peak = max(peak, memory_of(process.pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        output, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return LIMIT, peak, False
    finally:
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{name}: {errors[-2000:]}")
    if name == "distbp":
        got = json.loads((folder / "run" / "results.json").read_text())["outcome"] == "target"
    else:
        found, (kind, level) = float(output.split()[-1]), goal
        got = found >= level if kind == "classes" else found <= level
    return seconds, peak, got


def keep_on(files, folder, minutes):
    """Train for some minutes; print memory and speed of the first and the last fifth."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    line = [*map(str, command("distbp", files, ("classes", 1.0), folder, None)), "--epochs", "100000"]
    line += ["--log-every", "500", "--schedule", "constant"]
    process = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.DEVNULL)
    metrics, memory, began = folder / "run" / "metrics.jsonl", [], None
    while began is None or time.monotonic() - began < 60 * minutes:
        time.sleep(2.0)
        if began is None and metrics.exists():
            began = time.monotonic()
        if began is not None:
            memory.append(memory_of(process.pid) / 1e6)
    process.terminate()
    process.wait(60)
    clocks = [(r["seconds"], r["examples"]) for r in map(json.loads, metrics.read_text().splitlines())]
    fifth, n = len(memory) // 5, len(clocks) // 5
    speeds = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in ((clocks[0], clocks[n]), (clocks[-1 - n], clocks[-1]))]
    means = [statistics.median(part) for part in (memory[fifth : 2 * fifth], memory[-fifth:])]
    print(f"{minutes:g} minutes, {clocks[-1][1]:,} rows")
    print(f"memory {means[0]:.1f} MB in the second fifth, {means[1]:.1f} in the last")
    print(f"samples/s {speeds[0]:,.0f} in the first fifth, {speeds[1]:,.0f} in the last: {speeds[1] / speeds[0]:.3f}")


def show(found):
    """Print a table of seconds, one of memory."""
    names = [name for name in ("distbp", *PEERS) if any(name in of for of in found.values())]
    for title, column, form in (("seconds", 0, "{:.2f}"), ("MB", 1, "{:.0f}")):
        print(f"\n| {title} | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
        for of, turns in found.items():
            cells = []
            for name in names:
                if not (of_name := turns.get(name)):
                    cells.append("")
                    continue
                value = statistics.median(turn[column] for turn in of_name) / (1 if column == 0 else 1e6)
                cells.append(form.format(value) + ("" if all(turn[2] for turn in of_name) else " (not reached)"))
            print(f"| {of} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tables", type=Path, required=True)
    parser.add_argument("--mnist", type=Path, required=True)
    parser.add_argument("--python", default=ROOT / ".venv-bench" / "bin" / "python", help="that of the peers")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", default=",".join(GOALS), help="names of the data, with commas between")
    parser.add_argument("--names", default=",".join(("distbp", *PEERS)), help="contenders, with commas between")
    parser.add_argument("--minutes", type=float, help="train for so long, and nothing else")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    files, found = make(options.folder.resolve(), options.tables, options.mnist), {}
    if options.minutes:
        keep_on(files["higgs.parquet"], options.folder.resolve() / "one", options.minutes)
        return 0
    for of in options.only.split(","):
        for _ in range(options.repetitions):
            for name in options.names.split(","):
                turns = found.setdefault(of, {}).setdefault(name, [])
                if turns and not turns[-1][2]:
                    continue  # it did not get there, and will not
                turns.append(run(name, files[of], GOALS[of], options.folder.resolve() / "one", options.python))
                print(
                    f"{of:14} {name:18} {turns[-1][0]:8.2f} s {turns[-1][1] / 1e6:8.0f} MB", *turns[-1][2:], flush=True
                )
        if options.json:
            options.json.write_text(json.dumps(found, indent=1))
    show(found)


if __name__ == "__main__":
    sys.exit(main())
