"""How fast, and in how much memory, a table becomes a training: beside the libraries that read tables.

    scripts/environment .venv mpi,test,fast
    .venv/bin/python scripts/benchmark_tables.py FOLDER [--peers PYTHON] [--repetitions 5] [--large] [--json FILE]

It makes a table of 1,000,000 rows of 28 numbers, 2 categories and a target in FOLDER, as CSV and as Parquet, and times
whole processes in turns: DuckDB's own read into arrays with all cores, the same of pandas, polars and pyarrow and a
pipeline of scikit-learn where ``--peers`` names a Python that has them, and `distbp.train` on 1, 2 and 4 ranks, from
its start to the line of its first step: with an empty cache, and with what the first start has left there. Memory is
the proportional one (PSS) of all ranks in training, less what the same ranks have with a table of 1,000 rows, over the
bytes of the converted table. ``--large``: a directory of Parquet files of 10,000,000 rows, its step beside that of
100,000 rows, and its memory. ``--categories``: 28 numbers and a category of 50,000 values in 1,000,000 rows, its step
beside that of the table without it, with NumPy's updates at first and with Numba's later. Ratios are medians of those
of neighbouring turns.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MPIRUN, PYTHON = ROOT / ".venv" / "bin" / "mpirun", ROOT / ".venv" / "bin" / "python"
PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NVPL_BLAS_DEBUG_CPU_TYPE", "PYTHONDONTWRITEBYTECODE")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in PINS}
PLAIN = ("--recipe", "plain", "--batch-size", "256")
"""Of which steps and memory are; starts are those of a user who gives no option."""
TABLE = """
SELECT {numbers}, 'k' || (hash(i) % 9)::VARCHAR AS k, 'm' || (hash(i + 7) % 40)::VARCHAR AS m,
       (hash(i + 3) % 3)::INTEGER AS y FROM range({rows}) t(i)
"""
READERS = {
    "duckdb": "import duckdb; duckdb.sql(\"SELECT * FROM '{0}'\").fetchnumpy()",
    "pandas": "import pandas; t = pandas.read_{1}('{0}'); [t[c].to_numpy() for c in t]",
    "polars": "import polars; t = polars.read_{1}('{0}'); [t[c].to_numpy() for c in t.columns]",
    "pyarrow": """import pyarrow.csv, pyarrow.parquet
[c.to_numpy() for c in pyarrow.{1}.read_{2}('{0}').columns]""",
    "scikit-learn": """import pandas; from sklearn.compose import make_column_transformer as m
from sklearn.preprocessing import OneHotEncoder, StandardScaler
t = pandas.read_{1}('{0}'); n = [c for c in t if c[0] == 'n']
m((StandardScaler(), n), (OneHotEncoder(sparse_output=False), ['k', 'm'])).fit_transform(t)""",
}


def make(folder):
    """Make the tables where they are not there; return their paths."""
    import duckdb

    numbers = ", ".join(
        f"round(sqrt(-2 * ln((hash(i * 64 + {k}) % 999983 + 1) / 999984.0)), 4)::DOUBLE AS n{k}" for k in range(28)
    )
    csv, parquet, small = folder / "million.csv", folder / "million.parquet", folder / "small.csv"
    for path, rows, how in ((csv, 10**6, "csv"), (parquet, 10**6, "parquet"), (small, 1000, "csv")):
        if not path.exists():
            duckdb.execute(f"COPY ({TABLE.format(numbers=numbers, rows=rows)}) TO '{path}' (FORMAT {how})")
    return csv, parquet, small


def make_large(folder):
    """Make the directory of 10,000,000 rows, and a table of 100,000; return their paths."""
    import duckdb

    numbers = ", ".join(
        f"sqrt(-2 * ln((hash(i * 64 + {k}) % 999983 + 1) / 999984.0))::FLOAT AS n{k}" for k in range(28)
    )
    large, part = folder / "large", folder / "part.parquet"
    large.mkdir(exist_ok=True)
    for k in range(10):
        path = large / f"part-{k}.parquet"
        if not path.exists():
            rows = f"SELECT {numbers}, (hash(i + 3) % 2)::INTEGER AS y FROM range({k}000000, {k + 1}000000) t(i)"
            duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    if not part.exists():
        duckdb.execute(f"COPY (FROM '{large}/part-0.parquet' LIMIT 100000) TO '{part}' (FORMAT parquet)")
    return large, part


def make_categories(folder):
    """Make the table of 1,000,000 rows and a category of 50,000 values; return its path."""
    import duckdb

    numbers = ", ".join(f"((hash(i * 64 + {k}) % 999983) / 999983.0)::FLOAT AS n{k}" for k in range(28))
    path = folder / "categories.parquet"
    if not path.exists():
        more = "'k' || hash(i) % 50000 AS city, (hash(i + 3) % 2)::INTEGER AS y"
        rows = f"SELECT {numbers}, {more} FROM range(1000000) t(i)"
        duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    return path


def reader(python, name, path):
    """Return the seconds of a process that reads a table into arrays."""
    kind = path.suffix[1:]
    code = READERS[name].format(path, kind, {"csv": "csv", "parquet": "table"}[kind])
    began = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, env=ENVIRONMENT, timeout=300)
    return time.perf_counter() - began


def command(ranks, path, folder, *options):
    """Return the command line of a training."""
    launch = [str(MPIRUN), "-n", str(ranks)] if ranks > 1 else []
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    return [
        *launch, str(PYTHON), "-m", "distbp.train", "--data", str(path), "--run-dir", str(run), "--cache",
        str(folder / "cache"), "--validation-fraction", "0", "--test-fraction", "0", "--log-every", "1", *options,
    ]  # fmt: skip


def start(ranks, path, folder):
    """Return the seconds from the start of a training to its first step."""
    began, found = time.perf_counter(), None
    with subprocess.Popen(
        command(ranks, path, folder, "--steps", "1"), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        for line in process.stdout:
            if line.startswith("step ") and found is None:
                found = time.perf_counter() - began
        if process.wait(300) or found is None:
            raise SystemExit(f"{path} on {ranks} ranks: no step")
    return found


def memory(ranks, path, folder, steps="100000", after=3.0, options=()):
    """Return the bytes (PSS; of them anonymous) of all ranks in training, some seconds after the first step."""
    lines = command(ranks, path, folder, *PLAIN, "--steps", steps, *options)
    with subprocess.Popen(lines, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        next(line for line in process.stdout if line.startswith("step "))
        os.set_blocking(process.stdout.fileno(), False)
        time.sleep(after)
        total = own = 0
        for status in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if b"distbp.train" not in status.read_bytes() or b"mpirun" in status.read_bytes():
                    continue
                text = (status.parent / "smaps_rollup").read_text()
            except OSError:
                continue
            sizes = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
            total, own = total + sizes["Pss"] * 1024, own + (sizes["Pss_Anon"] + sizes["Pss_Shmem"]) * 1024
        process.terminate()
        process.communicate(timeout=60)
    return total, own


def median(pairs):
    """Return the median of the ratios of neighbouring turns."""
    return statistics.median(a / b for a, b in pairs)


def million(options, folder):
    """Time and memory of the million rows; return the figures."""
    csv, parquet, small = make(folder)
    figures = {}
    for path in (csv, parquet):
        names = list(READERS) if options.peers else ["duckdb"]
        times = {name: [] for name in [*names, *((n, k) for n in options.ranks for k in ("first", "second"))]}
        for _ in range(options.repetitions):
            for name in names:
                times[name].append(reader(options.peers or str(PYTHON), name, path))
            for ranks in options.ranks:
                shutil.rmtree(folder / "cache", ignore_errors=True)
                for k in ("first", "second"):
                    times[ranks, k].append(start(ranks, path, folder))
        base = times["duckdb"]
        print(f"\n{path.name}, {path.stat().st_size / 1e6:.0f} MB: whole processes\n")
        for name, seconds in times.items():
            label = name if isinstance(name, str) else f"distbp, {name[0]} ranks, {name[1]} start"
            ratio = median(zip(seconds, base, strict=True))
            print(f"  {label:32} {statistics.median(seconds):6.2f} s   {ratio:5.2f} of DuckDB")
            figures[f"{path.suffix[1:]} {label}"] = [statistics.median(seconds), ratio]
    (entry,) = (folder / "cache").glob("million-*")
    compact = (entry / "rows.npy").stat().st_size
    for ranks in options.ranks:
        more = memory(ranks, parquet, folder)[0] - memory(ranks, small, folder)[0]
        figures[f"memory {ranks}"] = more / compact
        print(f"  memory of {ranks} ranks: {more / 1e6:.0f} MB, {more / compact:.2f} of the converted table")
    return figures


def large(folder):
    """Time of a step and memory of 10,000,000 rows; return the figures."""
    path, part = make_large(folder)
    figures = {}
    seconds = {}
    for name, data in (("10,000,000 rows", path), ("100,000 rows", part)):
        began = start(2, data, folder)
        again = start(2, data, folder)
        total, own = memory(2, data, folder, after=20.0)
        times = []
        for _ in range(5):
            lines = command(2, data, folder, *PLAIN, "--steps", "4000")
            lines[lines.index("--log-every") + 1] = "1000"
            out = subprocess.run(lines, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
            rates = [line.split()[-2] for line in out.splitlines() if line.startswith("step ")]
            times.append(256 / float(rates[-1].replace(",", "")))
        seconds[name] = statistics.median(times)
        print(
            f"  {name:16} first start {began:.1f} s, second {again:.2f} s; step {seconds[name] * 1e6:.0f} us;"
            f" memory of all ranks {total / 1e6:.0f} MB, without the mapped file {own / 1e6:.0f} MB"
        )
        figures[name] = [began, again, seconds[name], total, own]
    ratio = seconds["10,000,000 rows"] / seconds["100,000 rows"]
    print(f"  a step of the large one takes {ratio:.2f} of that of the small one")
    return figures | {"step": ratio}


def categories(options, folder):
    """Time of a step with and without a category of 50,000 values; return the figures."""
    path, figures = make_categories(folder), {}
    for ranks in options.ranks:
        for more in ((), ("--exact",)):
            times = {}
            for _ in range(options.repetitions):
                for name, ignored in (("without", ("--ignore", "city")), ("with", ())):
                    lines = command(
                        ranks, path, folder, *PLAIN, "--steps", "24000", "--eval-every", "0", *ignored, *more
                    )  # fmt: skip
                    lines[lines.index("--log-every") + 1] = "4000"
                    out = subprocess.run(lines, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
                    rates = [line.split()[-2] for line in out.splitlines() if line.startswith("step ")]
                    for when, rate in (("at first", rates[0]), ("later", rates[-1])):
                        times.setdefault((name, when), []).append(256 / float(rate.replace(",", "")))
            for when in ("at first", "later"):
                here = times["with", when], times["without", when]
                ratio = median(zip(*here, strict=True))
                label = f"{ranks} ranks{' exact' * bool(more)}, {when}"
                us = [1e6 * statistics.median(seconds) for seconds in here]
                print(f"  {label:26} {us[0]:5.0f} us with it, {us[1]:5.0f} without, ratio {ratio:.2f}")
                figures[label] = [*us, ratio]
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", metavar="PYTHON", help="a Python with duckdb, pandas, polars, pyarrow, scikit-learn")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--ranks", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4])
    parser.add_argument("--large", action="store_true", help="the 10,000,000 rows instead")
    parser.add_argument("--categories", action="store_true", help="the category of 50,000 values instead")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if options.categories:
        figures = categories(options, folder)
    else:
        figures = large(folder) if options.large else million(options, folder)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
