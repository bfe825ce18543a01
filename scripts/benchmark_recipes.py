"""How good a model without an option is, and how long it takes: beside those that people use for tables.

    scripts/environment .venv mpi,test,fast
    .venv/bin/python scripts/benchmark_recipes.py TABLES [--peers PYTHON] [--seeds 5] [--only NAMES] [--json FILE]

TABLES is a folder with a folder for each table, train.csv and test.csv in it, and a tables.json that says its target
and whether that is of classes or values. `distbp.train` runs on two ranks as a whole process, with no option but the
files and the target (and the task, where whole numbers could be either), and with ``--ensemble 8``; the peers run as
whole processes with both cores, if ``--peers`` names a Python that has them: scikit-learn's multilayer perceptron, as
it is and with early stopping, its histogram gradient boosting, LightGBM, and RealMLP-TD-S and RealMLP-TD of pytabkit,
each as its own documentation has it: numbers scaled and categories one-hot for the first, categories of their own kind
for the others, missing numbers filled with the median where they take none; columns of more than 1,000 different texts,
such as dates, are left out for them.

Shown are the errors on the test rows, means over seeds: 1 - accuracy, or RMSE; then each over the least of its table,
the mean of these and of the ranks, and seconds. Nothing is chosen by test rows.
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

ROOT = Path(__file__).resolve().parents[1]
MPIRUN, PYTHON = ROOT / ".venv" / "bin" / "mpirun", ROOT / ".venv" / "bin" / "python"
PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "NVPL_BLAS_DEBUG_CPU_TYPE", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in PINS}
OURS = {
    "distbp": (), "distbp, ensemble of 8": ("--ensemble", "8"), "distbp, plain": ("--recipe", "plain"),
    "distbp, plain ensemble of 8": ("--recipe", "plain", "--ensemble", "8"),
}  # fmt: skip
LOAD = """
import json, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
folder, target, kind, seed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
train, test = (pd.read_csv(f"{folder}/{part}.csv") for part in ("train", "test"))
texts = [c for c in train if c != target and not pd.api.types.is_numeric_dtype(train[c])]
dropped = [c for c in texts if train[c].nunique() > 1000]
X, Z = (part.drop(columns=[target, *dropped]) for part in (train, test))
y, t = train[target].to_numpy(), test[target].to_numpy()
texts = [c for c in texts if c not in dropped]
"""
CATEGORIES = """
for c in texts:
    kinds = pd.CategoricalDtype(sorted(X[c].dropna().unique()))
    X[c], Z[c] = X[c].astype(kinds), Z[c].astype(kinds)
"""
FILL = """
numbers = [c for c in X if c not in texts]
X[numbers], Z[numbers] = X[numbers].fillna(X[numbers].median()), Z[numbers].fillna(X[numbers].median())
"""
SHOW = """
p = np.asarray(model.predict(Z))
wrong = p.astype(str) != t.astype(str) if kind == "classes" else (p.ravel() - t) ** 2
error = float(wrong.mean() if kind == "classes" else wrong.mean() ** 0.5)
print(json.dumps(error))
"""
MLP = """
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.compose import TransformedTargetRegressor
numbers = [c for c in X if c not in texts]
columns = ColumnTransformer([
    ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
    ("texts", OneHotEncoder(handle_unknown="ignore", sparse_output=False), texts)])
network = (MLPClassifier if kind == "classes" else MLPRegressor)(random_state=seed{0})
network = network if kind == "classes" else TransformedTargetRegressor(network, transformer=StandardScaler())
model = make_pipeline(columns, network).fit(X, y)
"""
PEERS = {
    "scikit-learn MLP": LOAD + MLP.format("") + SHOW,
    "scikit-learn MLP, early stopping": LOAD + MLP.format(", early_stopping=True") + SHOW,
    "HistGradientBoosting": LOAD + CATEGORIES + """
from sklearn.ensemble import HistGradientBoostingClassifier as C, HistGradientBoostingRegressor as R
model = (C if kind == "classes" else R)(random_state=seed, categorical_features="from_dtype").fit(X, y)
""" + SHOW,
    "LightGBM": LOAD + CATEGORIES + """
from lightgbm import LGBMClassifier as C, LGBMRegressor as R
model = (C if kind == "classes" else R)(random_state=seed, verbose=-1).fit(X, y)
""" + SHOW,
    "RealMLP-TD-S": LOAD + CATEGORIES + FILL + """
from pytabkit import RealMLP_TD_S_Classifier as C, RealMLP_TD_S_Regressor as R
model = (C if kind == "classes" else R)(device="cpu", random_state=seed, n_threads=2).fit(X, y, cat_col_names=texts)
""" + SHOW,
    "RealMLP-TD": LOAD + CATEGORIES + FILL + """
from pytabkit import RealMLP_TD_Classifier as C, RealMLP_TD_Regressor as R
model = (C if kind == "classes" else R)(device="cpu", random_state=seed, n_threads=2).fit(X, y, cat_col_names=texts)
""" + SHOW,
}  # fmt: skip


def ours(options, folder, target, kind, seed):
    """Return the error on the test rows of a training."""
    with tempfile.TemporaryDirectory() as run:
        command = [
            str(MPIRUN), "-n", "2", str(PYTHON), "-m", "distbp.train", "--data", f"{folder}/train.csv",
            "--test-data", f"{folder}/test.csv", "--target", target, "--seed", str(seed), "--run-dir", f"{run}/run",
            "--cache", run, *(["--task", "regression"] if kind == "values" else []), *options,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, timeout=1800)
        results = json.loads(Path(run, "run", "results.json").read_text())
    return 1.0 - results["accuracy/test"] if kind == "classes" else results["rmse/test"]


def peer(python, code, folder, target, kind, seed):
    """Return the error on the test rows of a peer."""
    command = [python, "-c", code, str(folder), target, kind, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=3600)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def show(found, tables):
    """Print the table of the errors, and of these over the least."""
    names = list(found)
    means = {t: {n: statistics.mean(e for e, _ in found[n][t]) for n in names if found[n].get(t)} for t in tables}
    print(f"\n{'error on the test rows':34}" + "".join(f"{t:>12}" for t in tables))
    for n in names:
        print(f"{n:34}" + "".join(f"{means[t][n]:12.5g}" if n in means[t] else f"{'-':>12}" for t in tables))
    print(f"\n{'over the least':34}" + "".join(f"{t:>12}" for t in tables) + "        mean   mean rank")
    for n in names:
        ratios = [means[t][n] / min(means[t].values()) for t in tables if n in means[t]]
        ranks = [1 + sum(other < means[t][n] for other in means[t].values()) for t in tables if n in means[t]]
        cells = "".join(f"{ratio:12.3f}" for ratio in ratios)
        print(f"{n:34}{cells}{statistics.mean(ratios):12.3f}{statistics.mean(ranks):12.2f}")
    print(f"\n{'seconds':34}" + "".join(f"{t:>12}" for t in tables))
    for n in names:
        print(
            f"{n:34}"
            + "".join(f"{statistics.median(s for _, s in found[n][t]):12.1f}" for t in tables if found[n].get(t))
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--peers", metavar="PYTHON", help="a Python with scikit-learn, lightgbm, pytabkit")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", metavar="NAMES", help="names of those to run, with semicolons between")
    parser.add_argument("--on", metavar="TABLES", help="names of tables, with commas between")
    parser.add_argument("--json", type=Path, help="errors and seconds; those that are there are not run again")
    options = parser.parse_args()
    about = json.loads((options.tables / "tables.json").read_text())
    tables = options.on.split(",") if options.on else list(about)
    names = options.only.split(";") if options.only else [*list(OURS)[:2], *(PEERS if options.peers else ())]
    found = {}
    if options.json and options.json.exists():
        found = json.loads(options.json.read_text())
    for seed in range(options.seeds):
        for t in tables:
            for name in names:
                results = found.setdefault(name, {}).setdefault(t, [])
                if len(results) > seed:
                    continue
                of = options.tables / t, about[t]["target"], about[t]["kind"], seed
                began = time.perf_counter()
                error = ours(OURS[name], *of) if name in OURS else peer(options.peers, PEERS[name], *of)
                results.append([error, time.perf_counter() - began])
                print(f"seed {seed}  {t:12} {name:34} {error:12.5g}  {results[-1][1]:8.1f} s", flush=True)
                if options.json:
                    options.json.write_text(json.dumps(found, indent=1))
    show(found, tables)


if __name__ == "__main__":
    sys.exit(main())
