"""What each ingredient of the recipe for tables is worth: left out of it, and alone beside the plain values.

    .venv/bin/python scripts/ablate_recipes.py TABLES [--seeds 5] [--jobs 2] [--on NAMES] [--json FILE] [--markdown]

TABLES is a folder as for benchmark_recipes.py. Only its train.csv are looked at: by each seed a sixth of the rows is
held out, and an eighth of the others validates. Shown is, for each table, by how many per cent the error on the rows
that were held out (1 - accuracy, or RMSE) is larger than that of the whole recipe, and smaller than that of the plain
values: medians over seeds of ratios of the same split and seed, and from where to where they go.
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
PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NVPL_BLAS_DEBUG_CPU_TYPE")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in PINS}
CORES = queue.SimpleQueue()
"""Those that no training has."""
TABLE = ("--recipe", "table")
PLAIN = ("--recipe", "plain")


def ingredients():
    """Return what leaves each ingredient out of the recipe, and what adds it to the plain values."""
    sys.path.insert(0, str(ROOT))
    from distbp.run.build import with_usual
    from distbp.run.options import TrainConfig
    from distbp.run.recipes import RECIPES

    def flags(names, values):
        return [text for name in names for text in flag(name.replace("_", "-"), values[name])]

    def flag(name, value):
        return [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]

    plain = {name: getattr(with_usual(TrainConfig()), name) for name in RECIPES["table"]}
    groups = {
        "quantile bins": ("bins",), "gelu": ("activation",), "a wide second layer": ("hidden",),
        "dropout": ("dropout",), "decoupled weight decay": ("optimizer", "weight_decay"), "cosine": ("schedule",),
        "label smoothing": ("label_smoothing",), "larger batch and rate": ("batch_size", "lr"),
        "best epoch kept": ("keep_model",),
    }  # fmt: skip
    assert {name for names in groups.values() for name in names} == set(plain) - {
        "calibrate",
        "report",
        "checkpoint_async",
    }, "each value that changes a prediction belongs to an ingredient"
    out, alone = {}, {}
    for ingredient, names in groups.items():
        given = {name: plain[name] for name in names if name != "optimizer"}  # adam's is that without decay
        if "lr" in given:
            given["lr"] = 1e-3  # that of adam
        out[ingredient] = flags(given, given)
        alone[ingredient] = flags(names, RECIPES["table"])
    return out, alone


def error(options, folder, target, kind, seed):
    """Return the error on the rows that are held out, of a training with a core of its own."""
    core = CORES.get()
    with tempfile.TemporaryDirectory() as run:
        command = [
            str(PYTHON), "-m", "distbp.train", "--data", f"{folder}/train.csv", "--target", target, "--seed", str(seed),
            "--test-fraction", str(1 / 6), "--validation-fraction", str(5 / 48), "--run-dir", f"{run}/run", "--cache",
            run, "--report", "none", *(["--task", "regression"] if kind == "values" else []), *options,
        ]  # fmt: skip
        done = subprocess.run(
            command, capture_output=True, text=True, env=ENVIRONMENT, timeout=3600,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
        CORES.put(core)
        if done.returncode:
            raise SystemExit(done.stderr)
        results = json.loads(Path(run, "run", "results.json").read_text())
    return 1.0 - results["accuracy/test"] if kind == "classes" else results["rmse/test"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--on", metavar="TABLES", help="names of tables, with commas between")
    parser.add_argument("--json", type=Path, help="errors; those that are there are not computed again")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    about = json.loads((options.tables / "tables.json").read_text())
    tables = options.on.split(",") if options.on else list(about)
    out, alone = ingredients()
    epochs = ("--epochs", "60")  # alike for all
    ways = {"the recipe": TABLE, "plain": (*PLAIN, *epochs)}
    ways |= {f"without {name}": (*TABLE, *flags) for name, flags in out.items()}
    ways |= {f"{name} alone": (*PLAIN, *epochs, *flags) for name, flags in alone.items()}
    found = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}

    def run(seed, table, way):
        name = f"{way}/{table}/{seed}"
        if name not in found:
            of = options.tables / table, about[table]["target"], about[table]["kind"], seed
            found[name] = error(ways[way], *of)
            print(f"{table:12} seed {seed} {way:34} {found[name]:.5g}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(found, indent=1))

    for core in sorted(os.sched_getaffinity(0))[: options.jobs]:
        CORES.put(core)
    with ThreadPoolExecutor(options.jobs) as pool:
        tasks = [(seed, table, way) for seed in range(options.seeds) for table in tables for way in ways]
        list(pool.map(lambda task: run(*task), tasks))
    bar = " | " if options.markdown else "  "
    print("\n" + bar.join([f"{'':34}", *(f"{table:>18}" for table in tables)]))
    for way in ways:
        base = "plain" if way.endswith("alone") or way == "the recipe" else "the recipe"
        cells = []
        for table in tables:
            ratios = [found[f"{way}/{table}/{s}"] / found[f"{base}/{table}/{s}"] - 1 for s in range(options.seeds)]
            cells.append(f"{statistics.median(ratios):+.1%} ({min(ratios):+.0%} {max(ratios):+.0%})")
        print(bar.join([f"{way:34}", *(f"{cell:>18}" for cell in cells)]))


if __name__ == "__main__":
    sys.exit(main())
