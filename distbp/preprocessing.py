"""Preprocessing: from raw rows to what a network eats, fitted on the training rows only.

Numeric columns are standardised or brought to [0, 1], holes are filled, categories become one-hot
columns; a regression target is standardised too. Everything that was fitted goes into the model file,
and `predict` applies it.

The fit is exact on any number of ranks: the rows are cut in blocks that depend on the data alone, each
rank summarises some of them, and all ranks combine all summaries in the order of the blocks.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.communicator import Communicator
from distbp.datasets import Column, Dataset, Target
from distbp.errors import UserError
from distbp.sampling import block_bounds
from distbp.splitting import Subset

__all__ = ["SCALINGS", "Prepared", "Preprocessor", "fit_preprocessor"]

Array = NDArray[Any]

SCALINGS = ("auto", "standardize", "minmax", "none")
_BLOCK_ELEMENTS = 1 << 22
_MATERIALISE_BYTES = 2 << 30


@dataclass
class Preprocessor:
    """What was learnt from the training rows about their columns.

    Attributes
    ----------
    columns : list of [name, categories or None]
        Input columns in the order of the raw data.
    shift, scale : list of float
        A numeric column becomes ``(x - shift) * scale``.
    fill : list of float
        What stands for a missing number, in raw units.
    target_shift, target_scale : list of float
        A value is learnt as ``(y - shift) * scale``.
    class_weight : list of float
        Weight of each class; empty when all are 1.
    weight_scale : float
        Brings the mean weight of the training rows to 1.
    """

    columns: list[tuple[str, list[str] | None]]
    shift: list[float]
    scale: list[float]
    fill: list[float]
    target_shift: list[float] = field(default_factory=list)
    target_scale: list[float] = field(default_factory=list)
    class_weight: list[float] = field(default_factory=list)
    weight_scale: float = 1.0

    def __post_init__(self) -> None:
        self._numeric = [i for i, (_, texts) in enumerate(self.columns) if texts is None]
        self._all_numeric = len(self._numeric) == len(self.columns)
        self._shift, self._scale = np.array(self.shift), np.array(self.scale)
        self._fill = np.array(self.fill)

    @property
    def n_inputs(self) -> int:
        """Inputs of the network: one for a number, one for each category."""
        return sum(1 if texts is None else len(texts) for _, texts in self.columns)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def match(self, columns: tuple[Column, ...], source: str) -> list[int]:
        """Where each of the fitted columns stands in other data: by name, else by position."""
        there = [column.name for column in columns]
        wanted = [name for name, _ in self.columns]
        if set(wanted) <= set(there):
            return [there.index(name) for name in wanted]
        if len(there) == len(wanted) and (_unnamed(there) or _unnamed(wanted)):
            return list(range(len(wanted)))
        missing = [name for name in wanted if name not in there]
        raise UserError(
            f"{source}: the model was trained on {len(wanted)} columns; here are {len(there)},"
            f" without {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''}"
        )

    def transform(self, X: Array, columns: tuple[Column, ...], dtype: DTypeLike) -> Array:
        """Network inputs (n, n_inputs) from raw rows (n, n_columns) of `columns`."""
        numbers = X if self._all_numeric else X[:, self._numeric]
        holes = np.isnan(numbers) if numbers.dtype.kind == "f" else None
        if holes is not None and holes.any():
            numbers = np.where(holes, self._fill, numbers)
        out = np.empty((len(X), self.n_inputs), dtype)
        k = len(self._numeric)
        scaled = np.subtract(numbers, self._shift)
        np.multiply(scaled, self._scale, out=out[:, :k], casting="same_kind")
        for i, (_, texts) in enumerate(self.columns):
            if texts is None:
                continue
            out[:, k : k + len(texts)] = 0.0
            # a category unknown in training, or missing, is all zeros
            here = columns[i].categories or ()
            place = np.array([texts.index(t) if t in texts else -1 for t in here] + [-1])
            codes = np.where(np.isnan(X[:, i]), len(here), X[:, i]).astype(np.int64)
            hot = place[codes]
            rows = np.flatnonzero(hot >= 0)
            out[rows, k + hot[rows]] = 1.0
            k += len(texts)
        return out

    def transform_target(self, y: Array, dtype: DTypeLike) -> Array:
        """The target in the units of the network."""
        if y.ndim == 1:
            return y
        if self.target_shift:
            y = (y - np.array(self.target_shift)) * np.array(self.target_scale)
        return y.astype(dtype)

    def weights(self, y: Array | None, w: Array | None, dtype: DTypeLike) -> Array | None:
        """Weight of each row, of mean 1 over the training rows; None when all are equal."""
        if self.class_weight and y is not None:
            by_class = np.array(self.class_weight)[y]
            w = by_class if w is None else w * by_class
        return None if w is None else (w * self.weight_scale).astype(dtype)


def _unnamed(names: list[str]) -> bool:
    return all(name.isdigit() for name in names)


class Prepared:
    """A subset as a network sees it: the last station of the data.

    Data that is in memory anyway is transformed once; all other, row by row as it is taken.

    Parameters
    ----------
    subset : Subset
        Raw rows.
    preprocessor : Preprocessor
        Fitted.
    dtype : data-type
        Of the network.
    """

    def __init__(self, subset: Subset, preprocessor: Preprocessor, dtype: DTypeLike) -> None:
        self.subset, self.preprocessor, self.dtype = subset, preprocessor, np.dtype(dtype)
        self.n_rows = subset.n_rows
        self.target: Target | None = subset.dataset.target
        self._columns = subset.dataset.columns
        self._order = preprocessor.match(self._columns, "data")
        self._in_order = self._order == list(range(len(self._columns)))
        self._ready: tuple[Array, Array | None, Array | None] | None = None
        size = self.n_rows * preprocessor.n_inputs * self.dtype.itemsize
        if subset.dataset.in_memory and size <= _MATERIALISE_BYTES:
            self._ready = self._prepare(np.arange(self.n_rows))

    def take(self, positions: Array) -> tuple[Array, Array | None, Array | None]:
        """Inputs (n, n_inputs), target, and weights (n,) or None, of rows of the subset."""
        if self._ready is None:
            return self._prepare(positions)
        X, y, w = self._ready
        return (
            X[positions],
            None if y is None else y[positions],
            None if w is None else w[positions],
        )

    def _prepare(self, positions: Array) -> tuple[Array, Array | None, Array | None]:
        X, y, w = self.subset.dataset.take(self.subset.rows(positions))
        columns = self._columns
        if not self._in_order:
            X, columns = X[:, self._order], tuple(columns[i] for i in self._order)
        w = self.preprocessor.weights(y, w, self.dtype)
        target = None if y is None else self.preprocessor.transform_target(y, self.dtype)
        return self.preprocessor.transform(X, columns, self.dtype), target, w


def fit_preprocessor(
    train: Subset,
    comm: Communicator,
    *,
    scaling: str = "auto",
    impute: str = "mean",
    scale_target: bool = True,
    class_weight: str = "none",
) -> Preprocessor:
    """Learn the preprocessing from the training rows, each rank from its share of the blocks.

    Parameters
    ----------
    train : Subset
        Training rows.
    comm : Communicator
        All its ranks take part.
    scaling : {"auto", "standardize", "minmax", "none"}
        Of numeric columns; ``auto`` is minmax for 8-bit images and standardize for all else.
    impute : {"mean", "zero"}
        What stands for a missing number.
    scale_target : bool
        Whether a regression target is standardised.
    class_weight : {"none", "balanced"}
        ``balanced`` weighs class c by ``n / (n_classes n_c)``.
    """
    if scaling not in SCALINGS:
        raise ValueError(f"unknown scaling {scaling!r}: one of {', '.join(SCALINGS)}")
    columns, target = train.dataset.columns, train.dataset.target
    if scaling == "auto":
        sample = train.dataset.take(np.zeros(1, np.int64))[0]
        scaling = "minmax" if sample.dtype == np.uint8 else "standardize"
    totals = _summarise(train, comm)
    numeric = [i for i, column in enumerate(columns) if column.categories is None]
    mean, low, high = (totals[name][numeric] for name in ("mean", "low", "high"))
    deviation = totals["deviation"][numeric]
    empty = totals["count"][numeric] == 0
    mean, low, high = (np.where(empty, 0.0, values) for values in (mean, low, high))
    shift = {"standardize": mean, "minmax": low}.get(scaling, np.zeros_like(mean))
    spread = {"standardize": deviation, "minmax": high - low}.get(scaling, np.ones_like(mean))
    spread = np.where(empty | ~(spread > 0), 1.0, spread)  # a constant column becomes 0
    described: list[tuple[str, list[str] | None]] = []
    for i, column in enumerate(columns):
        if column.categories is None:
            described.append((column.name, None))
        else:
            seen = totals["categories"][i]
            texts = [text for text, n in zip(column.categories, seen, strict=True) if n]
            described.append((column.name, texts))
    fitted = Preprocessor(
        described,
        shift=shift.tolist(),
        scale=(1.0 / spread).tolist(),
        fill=(mean if impute == "mean" else np.zeros_like(mean)).tolist(),
    )
    if not fitted.n_inputs:
        raise UserError("the training rows have no usable input column")
    if target and target.kind == "values" and scale_target:
        spread = totals["y deviation"]
        fitted.target_shift = totals["y mean"].tolist()
        fitted.target_scale = (1.0 / np.where(spread > 0, spread, 1.0)).tolist()
    _fit_weights(fitted, totals, target, train.n_rows, class_weight)
    return fitted


def _fit_weights(
    fitted: Preprocessor, totals: dict[str, Any], target: Target | None, n: int, class_weight: str
) -> None:
    if class_weight == "balanced":
        if target is None or target.kind != "classes":
            raise UserError("class weights need a target of classes; leave out --class-weight")
        counts = totals["class count"]
        fitted.class_weight = (n / (len(counts) * np.maximum(counts, 1))).tolist()
    total = totals["class weight"] if target and target.kind == "classes" else totals["weight"]
    total = float((total * np.array(fitted.class_weight or 1.0)).sum())
    if not total > 0:
        raise UserError("the sample weights of the training rows sum to zero")
    fitted.weight_scale = n / total


def _summarise(train: Subset, comm: Communicator) -> dict[str, Any]:
    """Moments of columns and target over the training rows: the same bits on any number of ranks."""
    data = train.dataset
    d, k, classes, values = _shape(data)
    block = max(256, _BLOCK_ELEMENTS // max(1, d))
    n_blocks = -(-data.n_rows // block)
    table = np.zeros((n_blocks, 5 * d + 3 * k + 1))
    counts = np.zeros((2, max(1, classes)))
    categories = {
        i: np.zeros(len(column.categories), np.int64)
        for i, column in enumerate(data.columns)
        if column.categories is not None
    }
    weight_of_class = np.zeros((n_blocks, max(1, classes)))
    for b in range(*block_bounds(n_blocks, comm.rank, comm.size)):
        rows = train.rows_between(b * block, min((b + 1) * block, data.n_rows))
        X, y, w = data.take(rows)
        parts = [_moments(X), np.zeros((0, 1)), np.zeros((0, 1))]
        if values and y is not None:
            parts[1] = _moments(y)[:3]
        weights = np.ones(len(rows)) if w is None else w
        table[b] = np.concatenate([parts[0].ravel(), parts[1].ravel(), [weights.sum()]])
        if classes and y is not None:
            counts[0] += np.bincount(y, minlength=classes)
            weight_of_class[b] = np.bincount(y, weights, minlength=classes)
        for i, seen in categories.items():
            codes = X[:, i]
            seen += np.bincount(codes[~np.isnan(codes)].astype(np.int64), minlength=len(seen))
    for array in (table, counts, weight_of_class, *categories.values()):
        comm.allreduce(array)
    inputs = _combine(table[:, : 5 * d].reshape(n_blocks, 5, d))
    outputs = _combine(table[:, 5 * d : 5 * d + 3 * k].reshape(n_blocks, 3, k))
    return {
        **inputs,
        "categories": categories,
        "y mean": outputs["mean"],
        "y deviation": outputs["deviation"],
        "weight": table[:, -1].sum(),
        "class count": counts[0],
        "class weight": weight_of_class.sum(axis=0),
    }


def _shape(data: Dataset) -> tuple[int, int, int, bool]:
    target = data.target
    values = target is not None and target.kind == "values"
    classes = target.n_outputs if target and target.kind == "classes" else 0
    return len(data.columns), (target.n_outputs if values and target else 0), classes, values


def _moments(X: Array) -> Array:
    """Of each column: count, mean, sum of squared deviations, least, greatest; NaN left out."""
    X = X.astype(np.float64, copy=False)
    there = ~np.isnan(X)
    count = there.sum(axis=0).astype(np.float64)
    full = bool(there.all())
    clean = X if full else np.where(there, X, 0.0)
    mean = clean.sum(axis=0) / np.maximum(count, 1.0)
    centred = X - mean if full else np.where(there, X - mean, 0.0)
    low = np.where(there, X, np.inf).min(axis=0, initial=np.inf)
    high = np.where(there, X, -np.inf).max(axis=0, initial=-np.inf)
    return np.stack([count, mean, np.einsum("nd,nd->d", centred, centred), low, high])


def _combine(table: Array) -> dict[str, Array]:
    """Merge the moments of blocks, in order (Chan, Golub & LeVeque 1983, equation 2.1)."""
    count, mean, square = (np.zeros(table.shape[2]) for _ in range(3))
    for n, m, s, *_ in table:
        total = np.maximum(count + n, 1.0)
        gap = m - mean
        mean = mean + gap * (n / total)
        square = square + s + gap * gap * (count * n / total)
        count = count + n
    out = {"count": count, "mean": mean, "deviation": np.sqrt(square / np.maximum(count, 1.0))}
    if table.shape[1] == 5:
        filled = table[:, 0] > 0
        out["low"] = np.where(filled, table[:, 3], np.inf).min(axis=0, initial=np.inf)
        out["high"] = np.where(filled, table[:, 4], -np.inf).max(axis=0, initial=-np.inf)
    return out
