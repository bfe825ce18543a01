"""What a data set is: rows that can be taken by number, columns, and a target.

A data set is *raw*: numbers as they stand in the file, NaN for a missing one, and for a column of
categories the number of the category. `preprocessing` turns raw rows into inputs of a network.

What the target is decides what is learnt: ``classes`` (one of several), ``labels`` (any of several,
zeros and ones) or ``values`` (numbers: regression).
"""

import re
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError

Array = NDArray[Any]
Raw = tuple[Array, Array | None, Array | None]
TargetKind = Literal["classes", "labels", "values"]

_FEW = 4
"""Values that are called by their names."""


@dataclass(frozen=True)
class Column:
    """Describe an input column; `categories` are its texts, None for a numeric one."""

    name: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Target:
    """Describe what is to be predicted: `names` of its columns, and of classes in the order of their numbers."""

    kind: TargetKind
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    texts: bool = field(default=False, repr=False)  # what it prints is in the identity of data
    """Whether classes that look like numbers or truth values are texts all the same."""

    @classmethod
    def of_dict(cls, given: dict[str, Any]) -> "Target":
        """Return what `as_dict` gave."""
        return cls(given["kind"], tuple(given["names"]), tuple(given["classes"]), given.get("texts", False))

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "texts" or value}

    def class_values(self) -> NDArray[Any]:
        """Return the classes, numbers or truth values where all of them are; or the names of labels."""
        names = self.classes if self.kind == "classes" else self.names
        if not self.texts and set(names) == {"False", "True"}:
            return np.array([name == "True" for name in names])
        whole = all(name.removeprefix("-").isdecimal() and str(int(name)) == name for name in names)
        return np.array([int(name) for name in names]) if whole and not self.texts else np.array(names)

    @property
    def n_outputs(self) -> int:
        """Count the outputs of a row: classes, labels or values."""
        return len(self.classes) if self.kind == "classes" else len(self.names)

    def __str__(self) -> str:
        names, n = ", ".join(self.names), len(self.names)
        return {
            "classes": f"classification of {names!r} into {len(self.classes)} classes",
            "labels": f"multi-label classification, {n} labels",
            "values": f"regression of {names!r}" if n <= _FEW else f"regression of {n} values",
        }[self.kind]


class Dataset(Protocol):
    """Give rows by number: what the rest of distbp asks of data."""

    n_rows: int
    columns: tuple[Column, ...]
    target: Target | None
    in_memory: bool

    def take(self, rows: Array) -> Raw:
        """Return inputs (n, n_columns), target and sample weights (n,) of `rows`.

        Classes are (n,) int64, labels and values (n, n_outputs) float64; target or weights are None
        where there are none.
        """

    def take_target(self, rows: Array) -> Array | None:
        """Return the target of `rows` alone, as `take` gives it."""


class ArrayDataset:
    """Give rows of arrays, in memory or mapped from a file.

    Parameters
    ----------
    X : ndarray of shape (n_rows, ...)
        Inputs; axes behind the first are flattened row by row.
    y : ndarray of shape (n_rows,) or (n_rows, k), optional
        Raw target.
    target : Target, optional
        What `y` means, with `class_values`, sorted, the raw value of each class.
    inputs : ndarray of int, optional
        The columns of `X` that are inputs; all by default.
    lines : ndarray of int, optional
        Line of the file of each row, for messages.
    """

    def __init__(
        self,
        X: Array,
        y: Array | None = None,
        target: Target | None = None,
        class_values: Array | None = None,
        *,
        weights: Array | None = None,
        columns: tuple[Column, ...] | None = None,
        inputs: Array | None = None,
        lines: Array | None = None,
        source: str = "data",
    ) -> None:
        self.n_rows, self.source, self.target = len(X), source, target
        self._X, self._y, self._weights = X, y, weights
        self._inputs, self._lines, self._class_values = inputs, lines, class_values
        width = len(inputs) if inputs is not None else int(np.prod(X.shape[1:]))
        self.columns = columns or tuple(Column(str(i)) for i in range(width))
        self.in_memory = not isinstance(X, np.memmap)
        self.slots: tuple[int, Array] | None = None
        """Rows of the file, good and bad, and the place of each row among them; None where none was bad."""
        if y is not None and len(y) != len(X):
            raise UserError(f"{source}: {len(X)} rows of inputs but {len(y)} targets")
        if weights is not None:
            numbers = weights.shape == (len(X),) and weights.dtype.kind in "biuf"
            if not (numbers and np.all(np.isfinite(weights) & (weights >= 0))):
                raise UserError(f"{source}: sample weights must be one number of at least 0 for each row")

    def take(self, rows: Array) -> Raw:
        """Return inputs, target and weights of `rows`; see `Dataset.take`."""
        X = self._X[rows] if self._inputs is None else self._X[rows][:, self._inputs]
        w = None if self._weights is None else self._weights[rows]
        return X.reshape(len(rows), len(self.columns)), self.take_target(rows), w

    def take_target(self, rows: Array) -> Array | None:
        """Return the target of `rows`; see `Dataset.take_target`."""
        return None if self._y is None else self._encode(self._y[rows], rows)

    def judged(self) -> Array:
        """Return the rows whose target is known: a class of the training, or a number."""
        y = self._y
        if y is None or self.target is None:
            return np.zeros(0, np.int64)
        if self._class_values is not None:
            return np.flatnonzero(np.isin(y.reshape(len(y)), self._class_values))
        return np.flatnonzero(np.isfinite(np.asarray(y, np.float64).reshape(len(y), -1)).all(axis=1))

    def without_target(self) -> "ArrayDataset":
        """Return the inputs alone."""
        return ArrayDataset(self._X, columns=self.columns, inputs=self._inputs, lines=self._lines, source=self.source)

    def _encode(self, y: Array, rows: Array) -> Array:
        if self._class_values is not None:
            y = y.reshape(len(rows))
            # sorted by value, which is not the order of the classes where numbers are read as text
            order = np.argsort(self._class_values, kind="stable")
            place = np.searchsorted(self._class_values, y, sorter=order)
            index = order[np.minimum(place, len(order) - 1)]
            known = self._class_values[index] == y
            if not known.all():
                bad = int(np.argmin(known))
                raise UserError(f"{self._place(rows[bad])}: the target {y[bad]} is none of the classes")
            return index.astype(np.int64, copy=False)
        y = np.asarray(y, np.float64).reshape(len(rows), 1 if y.ndim == 1 else y.shape[1])
        if not np.isfinite(y).all():
            bad = int(np.argmin(np.isfinite(y).all(axis=1)))
            raise UserError(f"{self._place(rows[bad])}: the target is {y[bad].tolist()}: mend or drop the row")
        return y

    def _place(self, row: int) -> str:
        return f"{self.source}, " + (f"row {row} (from 0)" if self._lines is None else f"line {self._lines[row]}")


def parse_columns(wanted: str | None, names: list[str], source: str, width: int | None = None) -> list[int]:
    """Return the numbers of the columns in `wanted`, a comma-separated list of names or numbers, if anything."""
    width = len(names) if width is None else width
    found = []
    if wanted in names:  # which may have a comma in it
        return [names.index(wanted)]
    for item in (part.strip() for part in wanted.split(",")) if wanted else ():
        if item in names:
            found.append(names.index(item))
        elif re.fullmatch(r"-?[0-9]+", item) and -width <= int(item) < width:
            found.append(int(item) % width)
        else:
            there = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
            have = f"it has {there} (numbers count from 0)" if names else f"it has columns 0 to {width - 1}"
            raise UserError(f"{source}: no column {item!r}; {have}")
    return found
