"""Front door: ``python -m distbp.predict RUN DATA``: what a trained model says of new rows.

There is a line of output for each row, in order; that of a bad row is empty. Under ``mpirun`` each rank predicts some
blocks of rows, which do not depend on the ranks: nor does any printed digit. Where the data has the target too, metrics
are printed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.agreement import on_root
from distbp.comm.communicator import Communicator
from distbp.comm.world import communicator
from distbp.data.dataset import ArrayDataset, Dataset
from distbp.data.loading import paths_of
from distbp.data.prepared import Prepared
from distbp.data.splitting import Subset
from distbp.data.table.formats import FORMATS, suffix_of
from distbp.data.table.records import TableDataset
from distbp.errors import DONE, UsageError, UserError
from distbp.markup import plain
from distbp.model import Model
from distbp.run.blas import limited_blas
from distbp.run.entry_point import run
from distbp.run.going_on import model_at
from distbp.run.predictions import write_predictions
from distbp.run.results import digits
from distbp.trainer.calibration import within
from distbp.trainer.evaluation import evaluate

_BLOCK = 960
_TEXT = ("encoding", "delimiter", "decimal", "thousands", "missing")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m distbp.predict", description=plain(__doc__), allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="a run directory, or a model.safetensors")
    parser.add_argument("data", metavar="DATA", help="as for distbp.train; the target may be missing")
    parser.add_argument("--out", metavar="FILE", help=".csv or .npy; standard output (CSV) by default")
    parser.add_argument("--id", metavar="COLUMNS", help="columns of the table to stand before the predictions")
    parser.add_argument("--target", metavar="COLUMN", help="its target column, for metrics; '' when it has none")
    parser.add_argument(
        "--interval", type=float, metavar="P", help="also from where to where a value lies with this probability"
    )
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto")
    parser.add_argument("--bad-rows", choices=("error", "skip"), default="error")
    for name in _TEXT:
        parser.add_argument(
            f"--{name}", metavar="TEXT", help="as for distbp.train; by default as the model was trained"
        )
    options = parser.parse_args(arguments)
    return run(lambda comm: predict(options, comm), lambda: communicator(elastic=False))


def predict(options: argparse.Namespace, comm: Communicator) -> int:
    """Predict as `options` say, on all ranks of `comm`."""
    _refuse(options, comm)
    model = model_at(options.run)
    widths = _widths(model, options.interval)
    asked = {name: getattr(options, name) for name in _TEXT if getattr(options, name) is not None}
    asked |= {"target": options.target, "header": options.header, "bad_rows": options.bad_rows}
    dataset, remarks = model.open(options.data, comm=comm, **asked)
    judged, slots = np.arange(dataset.n_rows if dataset.target else 0), None
    inputs: Dataset = dataset
    if isinstance(dataset, (ArrayDataset, TableDataset)):  # what is computed has no holes
        inputs, judged, slots = dataset.without_target(), dataset.judged(), dataset.slots
    rows = model.prepare(inputs)
    with limited_blas(comm, most=1):  # more threads would round otherwise
        predictions, strange = _predictions(model, inputs, rows, comm)
        known = Prepared(Subset(dataset, judged), model.preprocessor, model.network.dtype) if len(judged) else None
        figures = evaluate(model.network, model.loss, known, comm) if known else {}
    remarks += _remarks(model, strange)
    if slots is not None:  # a bad row has an empty line
        n_rows, places = slots
        predictions, found = np.full((n_rows, predictions.shape[1]), np.nan), predictions
        predictions[places] = found
    if figures and len(judged) < rows.n_rows:
        remarks.append(f"the figures are of the {len(judged)} of {rows.n_rows} rows whose target is known")
    predictions, names = _with_intervals(predictions, model.target.names, widths)
    where = options.out or "the standard output"
    on_root(comm, lambda: _show(predictions, names, model, options, asked, remarks), f"cannot write {where}")
    figures.pop("confusion", None)
    if figures and comm.is_root:
        print(", ".join(f"{k} {digits(v)}" for k, v in figures.items()), file=sys.stderr)
    return DONE


def _widths(model: Model, level: float | None) -> list[float]:
    """Return how far each value is off at most, with a probability; [] where none is asked for."""
    if level is None:
        return []
    if not 0.0 < level < 1.0:
        raise UsageError(f"--interval {level:g}: a probability between 0 and 1, such as 0.9")
    if not model.errors:
        raise UserError("--interval: models of values have it that were trained with --calibrate and validation rows")
    found = [within(of_one, level) for of_one in model.errors]
    if not np.isfinite(found).all():
        n = len(model.errors[0])
        raise UserError(f"--interval {level:g}: {n} validation rows do not say; at most {n / (n + 1):.3f}")
    return found


def _with_intervals(
    predictions: NDArray[np.float64], names: tuple[str, ...], widths: list[float]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return values and their names, each with from where and to where it lies behind it."""
    if not widths:
        return predictions, list(names)
    three = np.stack([predictions, predictions - widths, predictions + widths], axis=2)
    return three.reshape(len(three), -1), [f"{kind}{name}" for name in names for kind in ("", "low ", "high ")]


def _refuse(options: argparse.Namespace, comm: Communicator) -> None:
    """Refuse what could not be written, before anything is computed."""
    out = options.out and Path(options.out).expanduser()
    if out and out.suffix not in (".csv", ".npy"):
        raise UsageError(f"--out {out}: a name that ends in .csv or .npy")
    if options.id and out and out.suffix == ".npy":
        raise UsageError("--id: a .npy file holds numbers alone; write a .csv file")
    if options.id and suffix_of(paths_of(options.data)[0]) not in FORMATS:
        raise UsageError(f"--id means nothing for {options.data}: it names columns of a table")

    def may_write() -> None:
        if out and not os.access(out if out.exists() else out.parent, os.W_OK):
            what = "no right to write there" if out.parent.is_dir() else f"there is no folder {out.parent}"
            raise UserError(f"cannot write {out}: {what}")

    on_root(comm, may_write, f"cannot write {out}")


def _predictions(
    model: Model, inputs: Dataset, rows: Prepared, comm: Communicator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the predictions for all rows, and what `Preprocessor.strange` counts."""
    predictions = np.zeros((rows.n_rows, model.target.n_outputs))
    strange = np.zeros((2, len(model.columns)), np.int64)
    order = model.preprocessor.match(inputs.columns, getattr(inputs, "source", "the data"))
    for lo in range(comm.rank * _BLOCK, rows.n_rows, comm.size * _BLOCK):
        block = np.arange(lo, min(lo + _BLOCK, rows.n_rows))
        predictions[lo : lo + _BLOCK] = model.predict_rows(rows, block)
        strange += model.preprocessor.strange(inputs.take(block)[0][:, order])
    comm.allreduce(predictions)  # zeros elsewhere
    comm.allreduce(strange)
    return predictions, strange


def _remarks(model: Model, strange: NDArray[np.int64]) -> list[str]:
    """Return a line for each column with values that training had not."""
    found = []
    for column, missing, far in zip(model.columns, *strange.tolist(), strict=True):
        if missing:
            found.append(f"column {column.name!r}: {missing} values are missing; in the training data none was")
        if far:
            found.append(f"column {column.name!r}: {far} values lie far outside of those of the training data")
    return found[:20] + ([f"... and {len(found) - 20} more columns like these"] if len(found) > 20 else [])


def _show(
    predictions: NDArray[np.float64], values: list[str], model: Model, options: argparse.Namespace, asked: Any,
    remarks: Sequence[str],
) -> None:  # fmt: skip
    """Write the predictions, and say what there is to say."""
    for remark in remarks:
        print(remark, file=sys.stderr)
    ids: tuple[list[str], list[list[str]]] = [], [[]] * len(predictions)
    if options.id:
        from distbp.data.table.conversion import texts_of

        ids = texts_of(paths_of(options.data), model.options(options.data, **asked), options.id)
        assert len(ids[1]) == len(predictions), "a row of the file for each prediction"
    write_predictions(predictions, values, model, *ids, options.out and str(Path(options.out).expanduser()))


if __name__ == "__main__":
    sys.exit(main())
