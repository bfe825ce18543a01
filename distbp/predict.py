"""Front door: ``python -m distbp.predict RUN DATA``: what a trained model says of new rows.

Under ``mpirun`` each rank predicts its share. Where the data has the target too, metrics are printed.
"""

import argparse
import csv
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.comm.world import communicator
from distbp.data.dataset import ArrayDataset, Dataset
from distbp.data.loading import open_dataset
from distbp.data.prepared import Prepared
from distbp.data.splitting import Subset
from distbp.data.table.conversion import TableOptions
from distbp.data.table.records import TableDataset
from distbp.errors import DONE, UsageError, UserError
from distbp.model import Model
from distbp.run.blas import limited_blas
from distbp.run.entry_point import run
from distbp.trainer.evaluation import evaluate


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distbp.predict", description=__doc__, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="a run directory, or a model.safetensors")
    parser.add_argument("data", metavar="DATA", help="as for distbp.train; the target may be missing")
    parser.add_argument("--out", metavar="FILE", help=".csv or .npy; standard output (CSV) by default")
    parser.add_argument("--target", metavar="COLUMN", help="its target column, for metrics; '' when it has none")
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto")
    parser.add_argument("--bad-rows", choices=("error", "skip"), default="error")
    options = parser.parse_args(arguments)
    return run(lambda comm: predict(options, comm), lambda: communicator(elastic=False))


def predict(options: argparse.Namespace, comm: Communicator) -> int:
    """Predict as `options` say, on all ranks of `comm`."""
    if options.out and not options.out.endswith((".csv", ".npy")):
        raise UsageError(f"--out {options.out}: a name that ends in .csv or .npy")
    path = Path(options.run)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.exists():
        raise UserError(f"no model {path}: give a run directory of a finished run, or a model.safetensors")
    model = Model.load(path)
    how = TableOptions(
        target=options.target, header=options.header, bad_rows=options.bad_rows,
        like=model.target, columns_like=model.columns, blank_target=True,
    )  # fmt: skip
    dataset, remarks = open_dataset(options.data, how)
    assert dataset is not None
    judged, slots = np.arange(dataset.n_rows if dataset.target else 0), None
    inputs: Dataset = dataset
    if isinstance(dataset, (ArrayDataset, TableDataset)):  # what is computed has no holes
        inputs, judged, slots = dataset.without_target(), dataset.judged(), dataset.slots
    rows = model.prepare(inputs)
    with limited_blas(comm):
        lo, hi = block_bounds(rows.n_rows, comm.rank, comm.size)
        predictions = np.zeros((rows.n_rows, model.target.n_outputs))
        predictions[lo:hi] = model.predict_rows(rows, np.arange(lo, hi))
        comm.allreduce(predictions)  # zeros elsewhere
        known = Prepared(Subset(dataset, judged), model.preprocessor, model.network.dtype) if len(judged) else None
        figures = evaluate(model.network, model.loss, known, comm) if known else {}
    if slots is not None:  # a bad row has an empty line
        n_rows, places = slots
        predictions, found = np.full((n_rows, predictions.shape[1]), np.nan), predictions
        predictions[places] = found
    if figures and len(judged) < rows.n_rows:
        remarks.append(f"the figures are of the {len(judged)} of {rows.n_rows} rows whose target is known")
    if comm.is_root:
        for remark in remarks:
            print(remark, file=sys.stderr)
        _write(predictions, model, options.out)
        figures.pop("confusion", None)
        if figures:
            print(", ".join(f"{k} {v:.4f}" for k, v in figures.items()), file=sys.stderr)
    return DONE


def _write(predictions: NDArray[np.float64], model: Model, out: str | None) -> None:
    """CSV with the predicted class and probabilities, or values; ``.npy`` with the numbers alone."""
    if out and out.endswith(".npy"):
        np.save(out, predictions)
        return
    target = model.target
    with open(out, "w", newline="", encoding="utf-8") if out else nullcontext(sys.stdout) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if target.kind == "classes":
            writer.writerow([*target.names, *(f"p({name})" for name in target.classes)])
            for row in predictions:
                blank = np.isnan(row).all()
                best = "" if blank else target.classes[int(row.argmax())]
                writer.writerow([best, *("" if blank else f"{p:.6g}" for p in row)])
        else:
            writer.writerow(target.names)
            writer.writerows(["" if np.isnan(value) else f"{value:.8g}" for value in row] for row in predictions)


if __name__ == "__main__":
    sys.exit(main())
