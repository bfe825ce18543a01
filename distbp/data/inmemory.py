"""Rows in memory: arrays, data frames, lists of dicts; their target is a column, or stands beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from numbers import Integral, Real
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
        isinstance(data, Mapping)
        and bool(data)
        and all(isinstance(value, str | bytes) or not hasattr(value, "__len__") for value in data.values())
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
    w = None if weights is None else np.asarray(_whole(weights, "weight"))
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
        return _columns(X)
    if isinstance(X, Sequence) and X and all(isinstance(row, Mapping) for row in X):
        names = dict.fromkeys(name for row in X for name in row)
        return _columns({name: [row.get(name) for row in X] for name in names})
    if hasattr(X, "toarray"):
        raise UserError("a sparse matrix: rows must be dense, X.toarray()")
    if hasattr(X, "iloc") and not hasattr(X, "columns"):
        raise UserError("a Series is no table: X.to_frame() is one with this column, X.to_frame().T one with this row")
    if hasattr(X, "columns") or hasattr(X, "__arrow_c_stream__"):
        _distinct(_names_of(X) or ())
        return _plain(X) if hasattr(X, "iloc") else X
    try:
        array = np.asarray(_unmasked(X))
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
    return {str(i): _column(flat[:, i], str(i)) for i in range(flat.shape[1])}


def _columns(given: Mapping[Any, Any]) -> dict[str, Array]:
    """Return columns by their names, of one length, as numbers or texts."""
    _distinct(given)
    found = {str(name): _column(values, str(name)) for name, values in given.items()}
    if not found:
        raise UserError("a dict without columns is no table")
    first, *others = found
    for other in others:
        if len(found[other]) != len(found[first]):
            lengths = len(found[first]), len(found[other])
            raise UserError(f"column {first!r} has {lengths[0]} values, column {other!r} has {lengths[1]}")
    return found


def _distinct(names: Iterable[Any]) -> None:
    """Refuse names that are the same: the library that reads tables does not tell apart capital and small letters."""
    seen: dict[str, str] = {}
    for name in map(str, names):
        if (other := seen.get(name.lower())) is not None:
            both = repr(name) if other == name else f"{other!r} and {name!r}"
            raise UserError(f"two columns are called {both}: give one another name")
        seen[name.lower()] = name


def _names_of(table: Any) -> list[str] | None:
    """Return the names of the columns of a frame of any library; None where there are none."""
    names = getattr(table, "column_names", None)
    names = getattr(table, "columns", None) if names is None else names
    return None if names is None else [str(name) for name in names]


def _unmasked(values: Any) -> Any:
    """Return values in which those that a masked array hides are missing."""
    if not np.ma.is_masked(values):
        return values
    if values.dtype.kind in "biuf":
        return values.astype(np.promote_types(values.dtype, np.float32)).filled(np.nan)
    return values.astype(object).filled(None)


def _whole(values: Any, what: str) -> Any:
    """Return values of which none may be missing."""
    if np.ma.is_masked(values):
        row = int(np.argwhere(np.ma.getmaskarray(values))[0, 0])
        raise UserError(f"the {what} of row {row} (from 0) is missing: it is masked")
    return values


def _plain(frame: Any) -> Any:
    """Return a frame of pandas whose columns of objects are numbers or texts, which the library would guess."""

    def is_object(dtype: Any) -> bool:
        inner = getattr(getattr(dtype, "categories", None), "dtype", "str")
        return any(
            str(each).startswith(("object", "period", "interval", "Sparse", "complex")) for each in (dtype, inner)
        )

    objects = [i for i, dtype in enumerate(frame.dtypes) if is_object(dtype)]
    if not objects:
        return frame
    columns = ((i, name, frame.iloc[:, i]) for i, name in enumerate(frame.columns))
    return _columns({name: column.tolist() if i in objects else np.asarray(column) for i, name, column in columns})


def _is_missing(value: Any) -> bool:
    """Return whether an object stands for no value: None, NaN, NaT, and pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.generic) and bool(value != value)


def _column(values: Any, name: str) -> Array:
    """Return a column as numbers or texts, where None is missing; truth values beside holes are texts."""
    try:
        array = np.asarray(values := _unmasked(values))
    except ValueError:
        array = np.empty(0, object)  # lists of several lengths
    if not array.ndim:
        raise UserError("a dict is no table unless it holds columns, with a value for each row")
    if array.dtype.kind in "US" and array.ndim == 1:  # of which the library would make categories, whatever they say
        return array.astype(str).astype(object)
    if array.dtype.kind not in "OTcV" and array.ndim == 1:
        if array.dtype.kind == "M":
            return array.astype("M8[us]")
        return array.astype(np.float64 if array.dtype == np.longdouble else array.dtype.newbyteorder("="))
    values = list(values)
    holes = [_is_missing(value) for value in values]
    there = [value for value, hole in zip(values, holes, strict=True) if not hole]
    if any(isinstance(value, list | tuple | dict | np.ndarray) for value in there):
        raise UserError(f"column {name!r} has lists or arrays, which are no column: give each number one of its own")
    if any(isinstance(value, complex | np.complexfloating) for value in there):
        raise UserError(f"column {name!r} has complex numbers: give real and imaginary parts as columns")
    if there and all(isinstance(value, bool | np.bool) for value in there):
        there = [str(value).lower() for value in there]  # as the library has columns of truth values
    elif all(isinstance(value, Real | Decimal | np.bool) for value in there):
        there = _as_floats(there, f"column {name!r}")
    else:
        there = [str(value) for value in there]
    found = np.full(len(holes), np.nan) if there and isinstance(there[0], float) else np.full(len(holes), None, object)
    found[~np.array(holes, bool)] = there
    return found


def _as_floats(values: Iterable[Any], what: str) -> list[float]:
    try:
        return [float(value) for value in values]
    except OverflowError:
        raise UserError(f"{what} has a number beyond 1e308") from None


def _target(y: Any) -> tuple[Array, tuple[str, ...] | None]:
    """Return a target as an array, and the names of its columns where it has some."""
    names, one = _names_of(y), getattr(y, "name", None)
    found = tuple(names) if names is not None else (str(one),) if one is not None else None
    array = np.asarray(_whole(y, "target"))
    if array.dtype.kind in "cmM":
        what = {"c": "complex numbers", "m": "durations", "M": "dates"}[array.dtype.kind]
        raise UserError(f"a target of {what}: give numbers or classes")
    if array.dtype.kind != "O":
        return array, found
    values = array.reshape(-1).tolist()
    missing = [i for i, value in enumerate(values) if _is_missing(value)]
    if missing:
        raise UserError(f"the target of row {missing[0] // (array.size // len(array))} (from 0) is missing")
    truths = [isinstance(value, bool | np.bool) for value in values]
    if all(truths):
        return array.astype(bool), found
    if not any(truths) and all(isinstance(value, Real | Decimal) for value in values):
        whole = all(isinstance(value, Integral) and abs(int(value)) < 1 << 63 for value in values)
        numbers = np.array(values, np.int64) if whole else np.array(_as_floats(values, "the target"))
        return numbers.reshape(array.shape), found
    if any(isinstance(value, complex | np.complexfloating) for value in values):
        raise UserError("a target of complex numbers: give numbers or classes")
    return array.astype(str), found
