"""Rows in memory: arrays, data frames, lists of dicts; their target is a column, or stands beside them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.arrayfiles import of_arrays, of_matrix
from distbp.data.dataset import ArrayDataset, Dataset, Raw, Target
from distbp.data.table.formats import TableOptions
from distbp.data.table.records import TableDataset
from distbp.errors import UserError

Array = NDArray[Any]


class Beside:
    """Give the rows of a table with a target, or weights, that stand beside it.

    Parameters
    ----------
    inputs : TableDataset
        The table.
    beside : ArrayDataset
        Target and weights of all rows that the table had, bad ones with them.
    """

    def __init__(self, inputs: TableDataset, beside: ArrayDataset) -> None:
        self._inputs, self._beside = inputs, beside
        self._rows = None if inputs.slots is None else inputs.slots[1]
        self.n_rows, self.columns, self.source, self.slots = inputs.n_rows, inputs.columns, inputs.source, inputs.slots
        self.summary, self.notations, self.in_memory = inputs.summary, inputs.notations, inputs.in_memory
        self.target: Target | None = beside.target

    def take(self, rows: Array) -> Raw:
        """Return inputs, target and weights of `rows`; see `Dataset.take`."""
        _, y, w = self._beside.take(self._place(rows))
        return self._inputs.take(rows)[0], y, w

    def take_target(self, rows: Array) -> Array | None:
        """Return the target of `rows`; see `Dataset.take_target`."""
        return self._beside.take_target(self._place(rows))

    def _place(self, rows: Array) -> Array:
        return rows if self._rows is None else self._rows[rows]


def is_in_memory(data: Any) -> bool:
    """Return whether data is no name or path, and no list of paths."""
    files = (
        isinstance(data, list) and data and all(isinstance(each, str) or hasattr(each, "__fspath__") for each in data)
    )
    return not (files or isinstance(data, str) or hasattr(data, "__fspath__"))


def is_row(data: Any) -> bool:
    """Return whether data is one row: a dict of names and values."""
    return (
        isinstance(data, Mapping) and bool(data) and all(value is None or np.isscalar(value) for value in data.values())
    )


def open_in_memory(X: Any, y: Any, weights: Any, options: TableOptions) -> tuple[Dataset, list[str]]:
    """Open rows in memory; return the data, and remarks.

    Parameters
    ----------
    X : array_like of shape (n_rows, ...), data frame, dict of columns, or list of dicts
        Inputs; with the target in a column where there is no `y`.
    y : array_like of shape (n_rows,) or (n_rows, k), or None
        The target.
    weights : array_like of shape (n_rows,), or None
        The weight of each row.
    options : TableOptions
        What is asked for.
    """
    X = rows_of(X)
    w = None if weights is None else np.asarray(weights)
    meaning: dict[str, Any] = {"task": options.task, "like": options.like}
    if isinstance(X, np.ndarray):
        if y is not None:
            values, names = _target(y)
            return of_arrays(X, values, "the array", names=names, weights=w, **meaning), []
        if options.target is None and options.like is None:
            raise UserError("an array has no target: give it beside, load(X, y), or target=NUMBER of its column")
        return of_matrix(X, options.target, "the array", weights=w, **meaning), []
    from distbp.data.table.conversion import read_table  # which is not needed for numbers

    if y is None and w is None:
        return read_table(X, options)
    if y is None:
        raise UserError("weights in an array want the target in one, too: load(X, y, sample_weight=w)")
    table, remarks = read_table(X, replace(options, target="", like=None))
    values, names = _target(y)
    n_rows = table.n_rows if table.slots is None else table.slots[0]
    if len(values) != n_rows:
        raise UserError(f"{table.source}: {n_rows} rows of inputs but {len(values)} targets")
    nothing = np.zeros((n_rows, 1), np.uint8)
    return Beside(table, of_arrays(nothing, values, table.source, names=names, weights=w, **meaning)), remarks


def rows_of(X: Any) -> Any:
    """Return rows as an array of numbers, a frame, or a dict of columns; raise `UserError` for what has no rows.

    A list of dicts and an array of texts or objects become columns.
    """
    if isinstance(X, Mapping):
        return {str(name): _column(values) for name, values in X.items()}
    if isinstance(X, Sequence) and X and all(isinstance(row, Mapping) for row in X):
        names = dict.fromkeys(name for row in X for name in row)
        return {str(name): _column([row.get(name) for row in X]) for name in names}
    if hasattr(X, "toarray"):
        raise UserError("a sparse matrix: rows must be dense, X.toarray()")
    if hasattr(X, "columns") or hasattr(X, "__arrow_c_stream__"):
        return _plain(X) if hasattr(X, "iloc") else X
    try:
        array = np.asarray(X)
    except (TypeError, ValueError) as error:
        raise UserError(f"rows must be a table or an array (rows, columns): {error}") from None
    if array.dtype.kind == "c":
        raise UserError("complex numbers are no inputs: give real and imaginary parts as columns")
    if not array.ndim:
        raise UserError(f"a {type(X).__name__} is no table: a path, a frame, or an array (rows, columns) is one")
    if array.ndim < 2:
        raise UserError(
            f"an array of shape {array.shape}: rows (rows, columns) are needed; one row is x.reshape(1, -1)"
        )
    if not array.shape[0]:
        raise UserError(f"an array of shape {array.shape} has no rows: 0 samples")
    if array.dtype.kind in "biuf":
        return array
    flat = array.reshape(len(array), -1)
    return {str(i): _column(flat[:, i]) for i in range(flat.shape[1])}


def _plain(frame: Any) -> Any:
    """Return a frame of pandas whose columns of objects are numbers or texts, which the library would guess."""
    objects = [i for i, dtype in enumerate(frame.dtypes) if str(dtype) == "object"]
    if not objects:
        return frame
    found = {}
    for i, name in enumerate(frame.columns):
        column = frame.iloc[:, i]
        found[str(name)] = _column(column.tolist() if i in objects else np.asarray(column))
    return found


def digest(data: Any, y: Any) -> int:
    """Return a number that tells whether ranks have the same arrays, as far as they are arrays of numbers."""
    found = 0
    for one in (data, y):
        array = one if isinstance(one, np.ndarray) else np.zeros(0)
        if array.dtype.kind in "biuf":
            found = zlib.crc32(np.ascontiguousarray(array).data.cast("B") if array.size else b"", found)
    return found


def _column(values: Any) -> Array:
    """Return a column as numbers or texts, where None is missing."""
    array = np.asarray(values)
    if not array.ndim:
        raise UserError("a dict is no table unless it holds columns, with a value for each row")
    if array.dtype.kind in "US" and array.ndim == 1:  # of which the library would make categories, whatever they say
        return array.astype(str).astype(object)
    if array.dtype.kind != "O" and array.ndim == 1:
        return array.astype("M8[us]") if array.dtype.kind == "M" else array
    holes = [value is None or (isinstance(value, float) and np.isnan(value)) for value in values]
    there = [value for value, hole in zip(values, holes, strict=True) if not hole]
    if any(isinstance(value, list | tuple | dict | np.ndarray) for value in there):
        raise UserError("a column of lists or arrays is no column: give each number a column of its own")
    if all(isinstance(value, int | float | np.number) for value in there):
        return np.array([np.nan if hole else float(value) for value, hole in zip(values, holes, strict=True)])
    found = np.empty(len(holes), object)
    found[:] = [None if hole else str(value) for value, hole in zip(values, holes, strict=True)]
    return found


def _target(y: Any) -> tuple[Array, tuple[str, ...] | None]:
    """Return a target as an array, and the names of its columns where it has some."""
    names = getattr(y, "columns", None)
    one = getattr(y, "name", None)
    found = tuple(map(str, names)) if names is not None else (str(one),) if one is not None else None
    array = np.asarray(y)
    if array.dtype.kind != "O":
        return array, found
    values = array.reshape(-1).tolist()
    missing = [i for i, value in enumerate(values) if value is None or value != value]
    if missing:
        raise UserError(f"the target of row {missing[0] // (array.size // len(array))} (from 0) is missing")
    same = {type(value) for value in values}
    if same <= {bool} or (same <= {int, float} and bool not in same):
        return np.array(array.tolist()), found
    return array.astype(str), found
