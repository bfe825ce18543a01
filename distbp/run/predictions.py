"""Predictions as a file: a line for each row."""

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from distbp.files import written
from distbp.model import Model


def write_predictions(
    predictions: NDArray[np.float64],
    values: list[str],
    model: Model,
    names: list[str],
    ids: list[list[str]],
    out: str | None,
) -> None:
    """Write CSV with the predicted class and probabilities, or values; ``.npy`` with the numbers alone.

    `names` and `ids` are columns that stand before them; a row of NaN has no prediction.
    """
    if out and out.endswith(".npy"):
        with written(Path(out)) as file:
            np.save(file, predictions)
        return
    target = model.target
    with _stream(out) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if target.kind == "classes":
            writer.writerow([*names, *target.names, *(f"p({name})" for name in target.classes)])
            chosen = model.decide(predictions)
            for before, row, k in zip(ids, predictions, chosen, strict=True):
                blank = np.isnan(row).all()
                best = "" if blank else target.classes[k]
                writer.writerow([*before, best, *("" if blank else f"{p:.6g}" for p in row)])
        else:
            writer.writerow([*names, *values])
            for before, row in zip(ids, predictions, strict=True):
                writer.writerow([*before, *("" if np.isnan(value) else f"{value:.8g}" for value in row)])


@contextmanager
def _stream(out: str | None) -> Iterator[TextIO]:
    """Give a stream of text into a file, or standard output."""
    if out is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with written(Path(out)) as file:
        stream = io.TextIOWrapper(file, "utf-8", newline="")
        try:
            yield stream
        finally:
            stream.detach()  # which flushes it
