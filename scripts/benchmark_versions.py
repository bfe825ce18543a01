"""Is this version slower than another? Steps, exact steps and derivatives of two checkouts, in turns.

    git worktree add ../before COMMIT; scripts/environment .venv mpi,test,fast
    .venv/bin/python scripts/benchmark_versions.py ../before [--launches 5] [--only TEXT] [--json FILE]

Both run in this checkout's virtual environment, on two ranks, with the settings of `benchmark.py` (plain) and
`benchmark_exact.py` (a number of leaves), and with the problems of `benchmark_autodiff.py`, each checkout by its own
`contenders.py` and `benchmark_autodiff.py`. A ratio is after / before: this one's time over the other's, the median of
the ratios of neighbouring turns. Where a process lies in memory moves a small step by several percent for as long as
it lives, so that both are launched anew several times over; the spread is that of the medians of the launches.
The other one takes part a second time, as a version of its own: how far its ratio to itself is from 1 is how far a
ratio of this machine can be trusted.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import benchmark
import benchmark_exact
from benchmark import CONTENDERS, ROOT, label

# kind: (processes, arguments of contenders.py, networks, batch sizes)
KINDS = {
    "plain": (2, ["distbp"], benchmark.NETS, benchmark.BATCHES),
    "one process": (1, ["distbp"], benchmark.NETS, benchmark.BATCHES),
} | {
    f"{v} leaves": (2, ["distbp", f"leaves={v}"], benchmark.NETS[1:], benchmark_exact.BATCHES)
    for v in benchmark_exact.LEAVES
}


def ratios(turns):
    """[(after / before, itself / before), ...] of the turns of the versions."""
    return [(a / b, i / b) for a, b, i in zip(*(turns[name] for name in ("after", "before", "itself")), strict=True)]


def steps(kind, roots, options):
    """{setting: ratios of neighbouring turns} of one launch of all versions."""
    processes, arguments, nets, batches = KINDS[kind]
    CONTENDERS[kind] = (".venv", processes, arguments)
    settings = [{"sizes": s, "batch": b, "optimizer": o} for s in nets for b in batches for o in benchmark.OPTIMIZERS]
    found, contenders = {}, []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        try:
            for name, root in roots.items():
                contenders.append(benchmark.start(kind, ROOT, listener, root))
                contenders[-1].name = name
            for setting in settings:
                if options.only in f"{kind} {label(setting)}":
                    turns = benchmark.measure(contenders, setting, options.turns, options.seconds, pause=0.01)
                    found[f"{kind} {label(setting)}"] = ratios(turns)
        finally:
            for contender in contenders:
                contender.end()
    return found


def derivatives(roots, options):
    """{problem: ratios} of a run of each version; what slows the machine slows their peer, too."""
    times = {}
    for name, root in roots.items():
        with tempfile.TemporaryDirectory() as folder:
            command = [ROOT / ".venv/bin/python", root / "scripts/benchmark_autodiff.py", "--json", f"{folder}/rows"]
            env = benchmark.environment(PYTHONPATH=str(root))
            subprocess.run([*command, "--repetitions", "5"], env=env, stdout=subprocess.DEVNULL, check=True)
            rows = json.loads(Path(folder, "rows").read_text())
        times[name] = {f"{row['problem']}, {row['derivative']} derivative": 1 / row["ratio"] for row in rows}
    problems = [problem for problem in times["before"] if options.only in problem]
    return {problem: ratios({name: [times[name][problem]] for name in times}) for problem in problems}


def table(kind, settings):
    """As Markdown: a line a setting, then geometric mean and most."""
    columns = "after / before | of the launches | itself / before | of the launches"
    print(f"\n| {kind} | {columns} |\n|---|---|---|---|---|")
    medians = []
    for name, launches in settings.items():
        cells = []
        for which in range(2):
            each = [statistics.median(pair[which] for pair in pairs) for pairs in launches]
            middle = statistics.median(pair[which] for pairs in launches for pair in pairs)
            cells.append((middle, f"{middle:.3f} | {min(each):.2f} to {max(each):.2f}"))
        medians.append([middle for middle, _ in cells])
        print(f"| {name.removeprefix(kind + ' ')} | {' | '.join(text for _, text in cells)} |")
    means = (f"{benchmark.geometric(column):.3f} | most {max(column):.3f}" for column in zip(*medians, strict=True))
    print(f"| geometric mean | {' | '.join(means)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--launches", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5, help="of each setting in a launch")
    parser.add_argument("--seconds", type=float, default=0.1, help="of one turn")
    parser.add_argument("--kinds", default=",".join([*KINDS, "derivatives"]), help="a comma-separated choice")
    parser.add_argument("--only", default="", help="settings and problems whose name has this text")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    other, launches = options.before.resolve(), {}
    roots = {"before": other, "after": ROOT, "itself": other}
    for launch in range(options.launches):
        k = launch % len(roots)  # nobody is always the first
        order = dict([*list(roots.items())[k:], *list(roots.items())[:k]])
        for kind in options.kinds.split(","):
            found = derivatives(order, options) if kind == "derivatives" else steps(kind, order, options)
            for name, pairs in found.items():
                launches.setdefault(kind, {}).setdefault(name, []).append(pairs)
        print(f"launch {launch + 1} of {options.launches}", file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps({"machine": benchmark.machine(), "ratios": launches}, indent=1))
    print(json.dumps(benchmark.machine()))
    for kind, settings in launches.items():
        table(kind, settings)
    return 0


if __name__ == "__main__":
    sys.exit(main())
