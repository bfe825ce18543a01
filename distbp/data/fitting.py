"""Fitting the preprocessing to the training rows, by all ranks: the same to the last bit on any number of them.

See `moments` for how, and `preprocessing` for what is made of it.
"""

from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.encoding import edges_of, quantiles
from distbp.data.moments import summarise
from distbp.data.preprocessing import Preprocessor
from distbp.data.splitting import Subset
from distbp.errors import UserError

Array = NDArray[Any]

SCALINGS = ("auto", "standardize", "minmax", "none")
MOST_ONE_HOT = 256
"""Categories of a column that are inputs of their own; beyond them a code is one."""
_MOST = {True: (1 << 24) - 2, False: 1000}
"""Categories that are told apart where there are embeddings (float32 has no larger codes), and where not."""
_RARELY_MISSING = 0.01
"""Part of the rows up to which nothing is learnt from the holes of a column of numbers."""


def fit_preprocessor(
    train: Subset,
    comm: Communicator,
    *,
    scaling: str = "auto",
    impute: str = "mean",
    scale_target: bool = True,
    class_weight: str = "none",
    look_up: bool = True,
    bins: int = 0,
) -> Preprocessor:
    """Fit the preprocessing to the training rows, each rank of `comm` to its share of the blocks.

    `scaling` is that of numeric columns: standardize, minmax or none; auto is minmax for 8-bit images and standardize
    for all else. `impute` is what stands for a missing number, mean or zero. `scale_target` standardises the target of
    a regression, and the `class_weight` balanced weighs class c by ``n / (n_classes n_c)``. With `look_up` a column of
    many categories is a code. `bins` is the most that a number is encoded in, 0 for none.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"unknown scaling {scaling!r}: one of {', '.join(SCALINGS)}")
    columns, target = train.dataset.columns, train.dataset.target
    if scaling == "auto":
        sample = train.dataset.take(np.zeros(1, np.int64))[0]
        scaling = "minmax" if sample.dtype == np.uint8 else "standardize"
    totals = summarise(train, comm)
    numeric = [i for i, column in enumerate(columns) if column.categories is None]
    inputs = {name: values[numeric] for name, values in totals["inputs"].items()}
    mean, low = (np.where(inputs["count"] > 0, inputs[name], 0.0) for name in ("mean", "low"))
    shift = {"standardize": mean, "minmax": low}.get(scaling, np.zeros_like(mean))
    scale = np.ones_like(mean) if scaling == "none" else 1.0 / _spread(inputs, scaling)
    complete = [columns[i].name for i, n in zip(numeric, inputs["count"], strict=True) if n == train.n_rows]
    described: list[tuple[str, list[str] | None]] = [(column.name, None) for column in columns]
    blank = [columns[i].name for i, n in zip(numeric, inputs["count"], strict=True) if _often_missing(n, train.n_rows)]
    others, coded = [], []
    for i, counts in totals["categories"].items():
        named = _named(counts, train.n_rows, _MOST[look_up])
        name, categories = columns[i].name, columns[i].categories or ()
        described[i] = name, list(compress(categories, named))
        others += [name] * bool((counts[~named] > 0).any())
        coded += [name] * bool(look_up and named.sum() > MOST_ONE_HOT)
        complete += [name] * bool(counts.sum() == train.n_rows)
        blank += [name] * _often_missing(counts.sum(), train.n_rows, 0.0)
    fill = mean if impute == "mean" else np.zeros_like(mean)
    fitted = Preprocessor(
        described, shift.tolist(), scale.tolist(), fill.tolist(), blank, others, complete, coded=coded
    )
    if bins and numeric:
        levels = quantiles(train, numeric, np.linspace(0.0, 1.0, bins + 1), comm)
        fitted = replace(fitted, edges=[edges_of(of_column) for of_column in levels])
    if not fitted.n_inputs:
        raise UserError("the training rows have no usable input column")
    if target and target.kind == "values" and scale_target:
        fitted.target_shift = totals["targets"]["mean"].tolist()
        fitted.target_scale = (1.0 / _spread(totals["targets"], "standardize")).tolist()
    if class_weight == "balanced":
        if target is None or target.kind != "classes":
            raise UserError("class weights need a target of classes; leave out --class-weight")
        counts = totals["class count"]
        fitted.class_weight = (train.n_rows / (len(counts) * np.maximum(counts, 1))).tolist()
    total = float((totals["class weight"] * np.array(fitted.class_weight or 1.0)).sum())
    if not total > 0:
        raise UserError("the sample weights of the training rows sum to zero")
    fitted.weight_scale = train.n_rows / total
    return fitted


def _often_missing(count: float, n_rows: int, rarely: float = _RARELY_MISSING) -> bool:
    return bool(0 < count < (1 - rarely) * n_rows)


def _named(counts: Array, n_rows: int, most: int) -> Array:
    """Return which categories are told apart: the commonest, with 2 rows at least, in large tables 10."""
    named = counts >= min(max(2, n_rows // 10_000), 10)
    if named.sum() > most:
        named[:] = False
        named[np.argsort(-counts, kind="stable")[:most]] = True
    return named


def _spread(of: dict[str, Array], scaling: str) -> Array:
    """Return range or standard deviation of each column; 1 for one that is constant or empty."""
    varies = of["high"] > of["low"]  # the deviation of a constant is not always zero to the last bit
    span = np.where(varies, of["high"], 1.0) - np.where(varies, of["low"], 0.0)
    if scaling == "minmax":
        return span
    deviation = np.sqrt(of["square"] / np.maximum(of["count"], 1.0))
    return np.where(varies & (deviation > 0), deviation, 1.0)
