"""Does a large data set cost memory or time? A mapped .npy from 10^4 to 10^8 rows on two ranks.

    .venv/bin/python scripts/benchmark_scaling.py [--rows 100000000] [--folder /tmp] [--json FILE]

Writes synthetic rows of 15 float32 columns (10^8 of them are 6 GB), cuts the smaller files from it, and
starts itself on two ranks. Prints for each size the time of opening and fitting the preprocessing, the
median time of a step with its ratio to the smallest size (the sizes take turns), and the most memory of
its own (RssAnon, above what the imports need) that a rank had. The page cache is not counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

import distbp
from distbp.run.blas import limited_blas

COLUMNS, BATCH, BLOCK = 15, 256, 1 << 17
ROUNDS, STEPS = 9, 150


def fill(path: str, lo: int, hi: int) -> None:
    """Rows lo to hi of the large file: inputs and, last, the target of a teacher network."""
    rows = np.lib.format.open_memmap(path, mode="r+")
    data = distbp.SyntheticDataset("teacher", rows=len(rows), columns=COLUMNS - 1, seed=1)
    X, y, _ = data.take(np.arange(lo, hi))
    rows[lo:hi, :-1], rows[lo:hi, -1:] = X, y


def write_files(folder: Path, n_rows: int) -> list[Path]:
    sizes = [10**k for k in range(4, 12) if 10**k <= n_rows]
    paths = [folder / f"distbp-scaling-{size}.npy" for size in sizes]
    large = paths[-1]
    if not large.exists():
        part = large.with_suffix(".part")
        np.lib.format.open_memmap(part, mode="w+", dtype=np.float32, shape=(sizes[-1], COLUMNS))
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            jobs = [pool.submit(fill, part, lo, min(lo + BLOCK, sizes[-1])) for lo in range(0, sizes[-1], BLOCK)]
            for job in jobs:
                job.result()
        part.rename(large)
    rows = np.load(large, mmap_mode="r")
    for path, size in zip(paths[:-1], sizes[:-1], strict=True):
        np.save(path, rows[:size])
    return paths


def own_memory() -> int:
    """Anonymous resident memory of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("no RssAnon in /proc/self/status: this benchmark needs Linux")


class Peak(threading.Thread):
    """The most memory seen, sampled every 2 ms."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes, self.on = 0, True
        self.start()

    def run(self) -> None:
        while self.on:
            self.bytes = max(self.bytes, own_memory())
            time.sleep(0.002)


def work(paths: list[str]) -> None:
    comm = distbp.communicator()
    base = own_memory()
    trainers, openings, peaks, times = {}, {}, {}, {path: [] for path in paths}
    with limited_blas(comm):
        for path in paths:
            peak, start = Peak(), time.perf_counter()
            # no evaluation: it is not what is measured
            data = distbp.load(path, comm=comm, validation_fraction=0.0, test_fraction=0.05)
            network = distbp.Network([COLUMNS - 1, 64, 64, 1], seed=1)
            trainers[path] = distbp.Trainer(
                network, distbp.SquaredError(), distbp.Adam(), data.train, comm=comm, batches=BATCH
            )
            openings[path] = time.perf_counter() - start
            trainers[path].fit_until(steps=3000)
            peak.on = False
            peaks[path] = peak.bytes - base
        for _ in range(ROUNDS):
            for path in paths:
                comm.barrier()
                start = time.perf_counter()
                trainers[path].fit_until(steps=trainers[path].position.step + STEPS)
                times[path].append((time.perf_counter() - start) / STEPS)
    everyone = comm.allgather_obj([peaks[path] for path in paths])
    if not comm.is_root:
        return
    first = statistics.median(times[paths[0]])
    print(f"{'rows':>12}{'file MB':>10}{'open s':>9}{'us/step':>10}{'ratio':>8}{'own MB/rank':>13}")
    table = []
    for i, path in enumerate(paths):
        step = statistics.median(times[path])
        row = {
            "rows": trainers[path].train.n_rows,
            "file_mb": os.path.getsize(path) / 1e6,
            "open_s": openings[path],
            "us_per_step": step * 1e6,
            "ratio": step / first,
            "own_mb": max(peaks[i] for peaks in everyone) / 1e6,
        }
        table.append(row)
        print(
            "{rows:>12,}{file_mb:>10,.1f}{open_s:>9.2f}{us_per_step:>10.0f}{ratio:>8.2f}{own_mb:>13.0f}".format(**row)
        )
    if "DISTBP_JSON" in os.environ:
        Path(os.environ["DISTBP_JSON"]).write_text(json.dumps(table, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10**8)
    parser.add_argument("--folder", type=Path, default=Path("/tmp"))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker)
        return 0
    start = time.perf_counter()
    paths = write_files(options.folder, options.rows)
    print(f"files written in {time.perf_counter() - start:.0f} s", flush=True)
    hush = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NVPL_BLAS_DEBUG_CPU_TYPE")
    environment = {k: v for k, v in os.environ.items() if k not in hush}
    if options.json:
        environment["DISTBP_JSON"] = str(Path(options.json).absolute())
    mpirun = Path(sys.executable).with_name("mpirun")
    command = [mpirun, "-n", "2", sys.executable, __file__, "--worker", *paths]
    try:
        return subprocess.run(command, env=environment, timeout=540).returncode
    finally:
        for path in paths if not options.keep else []:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
