"""Prepared rows: what batches, evaluation and predictions take from.

Data that is in memory anyway is transformed once, up to 2 GiB, or 256 MiB where a number has become many, and the raw
rows are let go; all other, row by row as it is taken. The ranks of a host do it together, and have the rows once. Bytes
(8-bit images) stay bytes until they are taken: a quarter of the memory, and of what a batch reads.
"""

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator
from distbp.comm.resident import resident
from distbp.comm.serial import SerialCommunicator
from distbp.data.dataset import Target
from distbp.data.preprocessing import Preprocessor
from distbp.data.splitting import Subset
from distbp.markup import card

Array = NDArray[Any]

_MATERIALISE_BYTES, _IN_BINS = 2 << 30, 256 << 20
_BLOCK_BYTES = 1 << 20


class Prepared:
    """Give the rows of a subset as a network takes them: `preprocessor` is fitted, and `dtype` that of the network.

    All ranks of `comm` make the same one.
    """

    def __init__(
        self, subset: Subset, preprocessor: Preprocessor, dtype: DTypeLike, comm: Communicator | None = None
    ) -> None:
        self._raw = subset
        self.preprocessor, self.dtype = preprocessor, np.dtype(dtype)
        self.n_rows = subset.n_rows
        self._some: Array | None = None
        self.target: Target | None = subset.dataset.target
        columns, self.in_memory = subset.dataset.columns, subset.dataset.in_memory
        self._order = preprocessor.match(columns, getattr(subset.dataset, "source", "the data"))
        self._in_order = self._order == list(range(len(columns)))
        self.columns = columns
        self._in_their_order = columns if self._in_order else tuple(columns[i] for i in self._order)
        self._ready: tuple[Array, Array | None, Array | None] | None = None
        self._affine: tuple[Array, Array] | None = None
        self._bytes = np.zeros((0, preprocessor.n_inputs), np.uint8)
        size = self.n_rows * preprocessor.n_inputs * self.dtype.itemsize
        if self.in_memory and size <= (_IN_BINS if preprocessor.edges else _MATERIALISE_BYTES):
            self._ready = self._prepare_all((comm or SerialCommunicator()).on_host())
            del self._raw

    def take(self, positions: Array, out: Array | None = None) -> tuple[Array, Any, Array | None]:
        """Return inputs (n, n_inputs), target, and weights (n,) or None, of rows of the subset.

        The inputs are written into `out`, where it is given.
        """
        if self._some is not None:
            positions = self._some[positions]
        if self._ready is None:
            return self._prepare(positions, out=out)
        X, y, w = self._ready
        y = None if y is None else y.take(positions, axis=0)
        w = None if w is None else w.take(positions)
        # positions are rows by construction; "clip" spares NumPy a copy that makes sure
        if self._affine is None:
            return X.take(positions, axis=0, out=out, mode="clip"), y, w
        if len(positions) > len(self._bytes):
            self._bytes = np.empty((len(positions), X.shape[1]), np.uint8)
        rows = X.take(positions, axis=0, out=self._bytes[: len(positions)], mode="clip")
        shift, scale = self._affine
        out = np.empty(rows.shape, self.dtype) if out is None else out
        np.copyto(out, rows)
        if shift.any():
            out -= shift
        out *= scale
        return out, y, w

    def take_target(self, positions: Array) -> Any:
        """Return the target of rows of the subset."""
        if self._some is not None:
            positions = self._some[positions]
        if self._ready is not None:
            y = self._ready[1]
            return y if y is None else y[positions]
        y = self._raw.dataset.take_target(self._raw.rows(positions))
        return y if y is None else self.preprocessor.transform_target(y, self.dtype)

    def part(self, positions: Array) -> "Prepared":
        """Return some of these rows, which stay where they are."""
        other = copy.copy(self)
        other._some = positions if self._some is None else self._some[positions]
        other.n_rows = len(positions)
        return other

    def _prepare_all(self, here: Communicator) -> tuple[Array, Array | None, Array | None]:
        """Transform all rows, in blocks: the memory that a transformation takes in between is small."""
        step = max(1, _BLOCK_BYTES // (8 * self.preprocessor.n_inputs))
        starts = range(0, self.n_rows, step)
        like = self._prepare(np.arange(0), keep_bytes=True)
        made, together = resident(
            here, [((self.n_rows, *part.shape[1:]), part.dtype) for part in like if part is not None]
        )

        def fill(lo: int, hi: int) -> None:
            for start in starts[lo:hi]:
                rows = np.arange(start, min(start + step, self.n_rows))
                parts = (part for part in self._prepare(rows, keep_bytes=True) if part is not None)
                for out, part in zip(made, parts, strict=True):
                    out[start : start + step] = part

        if not together or _fails(fill, *block_bounds(len(starts), here.rank, here.size), here):
            fill(0, len(starts))  # what is wrong with some row is an error on all ranks
        given = iter(made)
        X, y, w = (None if part is None else next(given) for part in like)
        assert X is not None
        return X, y, w

    def _prepare(
        self, positions: Array, keep_bytes: bool = False, out: Array | None = None
    ) -> tuple[Array, Array | None, Array | None]:
        X, y, w = self._raw.dataset.take(self._raw.rows(positions))
        if not self._in_order:
            X = X[:, self._order]
        w = self.preprocessor.weights(y, w, self.dtype)
        target = None if y is None else self.preprocessor.transform_target(y, self.dtype)
        if keep_bytes and X.dtype == np.uint8 and not self.preprocessor.edges:
            self._affine = self.preprocessor.affine(self.dtype)
            return X, target, w
        return self.preprocessor.transform(X, self._in_their_order, self.dtype, out), target, w


def _fails(fill: Callable[[int, int], None], lo: int, hi: int, here: Communicator) -> bool:
    """Return whether some rank of `here` fails with its blocks; if not, all see those of all."""
    try:
        fill(lo, hi)
        failed = False
    except Exception:
        failed = True
    return any(here.allgather_obj(failed))


@dataclass(repr=False)
class Data:
    """Hold the prepared parts of a data set, and what was found out about it."""

    train: Prepared
    validation: Prepared | None
    test: Prepared | None
    preprocessor: Preprocessor
    target: Target
    remarks: list[str] = field(default_factory=list)
    summary: str = ""
    """A line that says what the columns of a table are."""
    notations: dict[str, Any] = field(default_factory=dict)
    """How its columns are written, where that is not plain."""
    row_of: Callable[[Any], Any] = np.asarray
    """Gives the rows of the file, from 0, of training rows by their positions."""
    start: Any = None
    """The model that a training goes on from."""
    identity: dict[str, Any] = field(default_factory=dict)
    """What the data are, wherever they lie: of the data and the validation data, see `distbp.data.identity`."""

    def digest(self) -> str:
        """Return one text that tells these data from others."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        rows = {"train": self.train, "validate": self.validation, "test": self.test}
        shown = ", ".join(f"{part.n_rows:,} to {name}" for name, part in rows.items() if part is not None)
        return f"Data({self.target}; rows: {shown}; {len(self.preprocessor.columns)} columns)"

    def _repr_html_(self) -> str:
        kinds = [
            (name, "number" if t is None else f"{len(t)} categories") for name, t in self.preprocessor.columns[:20]
        ]
        return card(repr(self), kinds[:20], ("column", "kind"))
