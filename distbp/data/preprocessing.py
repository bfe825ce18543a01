"""Preprocessing: from raw rows to inputs of a network, fitted on the training rows only.

Numeric columns are standardised or brought to [0, 1], holes are filled, and told of by an input of their own where
they are not rare. Categories become one-hot columns: those that few rows have share one, which unseen ones get too,
and a missing one has its own. Where a column has many, its input is a code in place of a one-hot row, for an embedding
(`distbp.network.embedding`); codes come last. A regression target is standardised. Everything that was fitted goes into
the model file, and `predict` applies it.

`fitting` has how it is fitted.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.data.dataset import Column
from distbp.data.encoding import Bins
from distbp.errors import UserError

Array = NDArray[Any]

_FAR = 20.0
"""Deviations from the mean beyond which a number is strange."""


@dataclass
class Preprocessor:
    """Transform raw rows by what was fitted to the columns of the training rows.

    Attributes
    ----------
    columns : list of [name, categories or None]
        Input columns in the order of the raw data.
    shift, scale : list of float
        A numeric column becomes ``(x - shift) * scale``.
    fill : list of float
        What stands for a number that is missing or infinite, in raw units.
    blank : list of str
        Columns that have an input that is 1 where the value is missing.
    others : list of str
        Columns that have an input for all categories that are not named.
    complete : list of str
        Columns of which no training row lacked the value.
    coded : list of str
        Columns that are given as codes.
    edges : list of list of float
        Of the bins of each numeric column; [] where none has any: see `encoding`.
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
    blank: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    complete: list[str] = field(default_factory=list)
    target_shift: list[float] = field(default_factory=list)
    target_scale: list[float] = field(default_factory=list)
    class_weight: list[float] = field(default_factory=list)
    weight_scale: float = 1.0
    coded: list[str] = field(default_factory=list)
    edges: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        numeric = [i for i, (_, texts) in enumerate(self.columns) if texts is None]
        self._all_numeric, self._n_numeric = len(numeric) == len(self.columns), len(numeric)
        together = numeric == [*range(self._n_numeric)]
        self._numeric: Any = slice(self._n_numeric) if together else numeric  # of a slice NumPy makes no copy
        self._shift, self._scale, self._fill = np.array(self.shift), np.array(self.scale), np.array(self.fill)
        blank = set(self.blank)
        self._indicated = [i for i in numeric if self.columns[i][0] in blank]
        self.code_values = tuple(
            len(texts) + 1 + (name in blank) for name, texts in self.columns if texts is not None and name in self.coded
        )
        """Codes of each column that is given as one: of each category, of those not named, of a missing value."""
        one_hot = [(name, texts) for name, texts in self.columns if name not in self.coded]
        own = sum((1 if texts is None else len(texts)) + (name in blank) for name, texts in one_hot)
        beside = sum(name in self.others for name, _ in one_hot)
        self._bins = Bins(self.edges)
        self._plain = own + beside + self._bins.n
        places = enumerate(i for i, (name, _) in enumerate(self.columns) if name in self.coded)
        self._place_of_code = {i: self._plain + j for j, i in places}
        self.n_inputs = self._plain + len(self.coded)
        """Inputs of the network: numbers, holes, bins, categories and those not named and missing ones; codes."""
        self._bound: tuple[tuple[Column, ...], dict[int, Array]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all that was fitted, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "edges" or value}

    def match(self, columns: tuple[Column, ...], source: str) -> list[int]:
        """Return the place of each fitted column in other data: by name, else by position."""
        order = self._places([column.name for column in columns], source)
        for i, (name, texts) in zip(order, self.columns, strict=True):
            if (texts is None) != (columns[i].categories is None):
                was, here = ("numbers", "text") if texts is None else ("categories", "numbers")
                raise UserError(f"{source}: column {name!r} held {was} in training and holds {here} here")
        return order

    def _places(self, there: list[str], source: str) -> list[int]:
        wanted = [name for name, _ in self.columns]
        place = {name: i for i, name in enumerate(there)}
        if set(wanted) <= set(there):
            return [place[name] for name in wanted]
        # columns without names are called by their places; beside a target some are left out
        places = all(name.isdigit() and int(name) < 2 * len(wanted) for name in wanted)
        unnamed = there == [*map(str, range(len(there)))] or (places and not any(name.isdigit() for name in there))
        if unnamed and len(there) == len(wanted):
            return list(range(len(wanted)))
        missing = [name for name in wanted if name not in place]
        trained = f"the model was trained on {len(wanted)} columns"
        raise UserError(f"{source}: {trained}; without {_few(missing)} here are {len(there)}: {_few(there)}")

    def transform(self, X: Array, columns: tuple[Column, ...], dtype: DTypeLike, out: Array | None = None) -> Array:
        """Return network inputs (n, n_inputs), in `out` if it is given, from raw rows (n, n_columns) of `columns`."""
        numbers = X if self._all_numeric else X[:, self._numeric]
        if numbers.dtype.kind == "f" and not (there := np.isfinite(numbers)).all():
            numbers = np.where(there, numbers, self._fill)
        out = np.empty((len(X), self.n_inputs), dtype) if out is None else out
        k = self._n_numeric
        np.multiply(numbers - self._shift, self._scale, out=out[:, :k], casting="same_kind")
        if self._indicated:
            out[:, k : k + len(self._indicated)] = ~np.isfinite(X[:, self._indicated])
        k += len(self._indicated)
        if self._bins.n:
            self._bins.encode(numbers, out[:, k : k + self._bins.n])
        if not self._all_numeric:
            out[:, k + self._bins.n : self._plain] = 0.0
            for i, inputs in self.inputs_of(columns).items():
                codes = X[:, i]
                if (holes := np.isnan(codes)).any():
                    codes = np.where(holes, len(inputs) - 1, codes)
                hot = inputs[codes.astype(np.int64)]
                if i in self._place_of_code:
                    out[:, self._place_of_code[i]] = hot
                    continue
                rows = np.flatnonzero(hot >= 0)
                out[rows, hot[rows]] = 1.0
        return out

    def strange(self, X: Array) -> Array:
        """Count in raw rows, for each column (2, n_columns), values that are missing, and numbers far outside.

        Missing ones count where no training row lacked the value; a number is far outside `_FAR` deviations, or that
        many times the range.
        """
        found, complete = np.zeros((2, len(self.columns)), np.int64), set(self.complete)
        lacks = ~np.isfinite(X).all(axis=0) if X.dtype.kind == "f" else np.zeros(X.shape[1], bool)
        for i in np.flatnonzero(lacks):
            found[0, i] = np.isnan(X[:, i]).sum() if self.columns[i][0] in complete else 0
        far = np.abs((X[:, self._numeric] - self._shift) * self._scale) > _FAR
        found[1, self._numeric] = far.sum(axis=0)
        return found

    def inputs_by_column(self) -> list[Array]:
        """Return for each column the places of the inputs that come from it."""
        found: list[list[int]] = [[] for _ in self.columns]
        numeric = [i for i, (_, texts) in enumerate(self.columns) if texts is None]
        owners = [*numeric, *self._indicated]
        owners += [i for i, edges in zip(numeric, self.edges, strict=False) for _ in edges[1:]]
        for i, (name, texts) in enumerate(self.columns):
            if texts is not None and name not in self.coded:
                owners += [i] * (len(texts) + (name in self.others) + (name in self.blank))
        for place, i in enumerate([*owners, *self._place_of_code]):
            found[i].append(place)
        assert len(owners) == self._plain
        return [np.array(places, int) for places in found]

    def inputs_of(self, columns: tuple[Column, ...]) -> dict[int, Array]:
        """Return for each column of categories the input of each code, -1 for none; the last is that of a hole.

        Where it is given as a code itself, that is another code; 0 is that of a category that is not named.
        """
        bound = self._bound  # another thread may bind others meanwhile
        if bound is not None and bound[0] is columns:
            return bound[1]
        found, blank, others = dict[int, Array](), set(self.blank), set(self.others)
        k = self._n_numeric + len(self._indicated) + self._bins.n
        for i, (name, texts) in enumerate(self.columns):
            if texts is None:
                continue
            start, rest = k, k + len(texts)
            unseen = rest if name in others else -1
            hole = rest + (name in others) if name in blank else unseen
            k = rest + (name in others) + (name in blank)
            if name in self.coded:
                start, unseen, k = 1, 0, start
                hole = 1 + len(texts) if name in blank else unseen
            places = {text: start + j for j, text in enumerate(texts)}
            found[i] = np.array([*(places.get(text, unseen) for text in columns[i].categories or ()), hole])
        self._bound = columns, found
        return found

    def affine(self, dtype: DTypeLike) -> tuple[Array, Array]:
        """Return shift and scale of each column, all of which are numeric."""
        assert self._all_numeric
        return self._shift.astype(dtype), self._scale.astype(dtype)

    def transform_target(self, y: Array, dtype: DTypeLike) -> Array:
        """Return the target in the units of the network."""
        if y.ndim == 1:
            return y
        if self.target_shift:
            y = (y - np.array(self.target_shift)) * np.array(self.target_scale)
        return y.astype(dtype)

    def target_in_units(self, y: Array) -> Array:
        """Return values in the units of the target, from those of the network: what `transform_target` did, undone."""
        return y / np.array(self.target_scale) + np.array(self.target_shift) if self.target_shift else y

    def weights(self, y: Array | None, w: Array | None, dtype: DTypeLike) -> Array | None:
        """Return the weight of each row, of mean 1 over the training rows; None when all are equal."""
        if self.class_weight and y is not None:
            by_class = np.array(self.class_weight)[y]
            w = by_class if w is None else w * by_class
        return None if w is None else (w * self.weight_scale).astype(dtype)


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
