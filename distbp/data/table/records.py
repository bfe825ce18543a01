"""A converted table: its rows as records of compact numbers, in a file that all ranks of a host map.

A folder holds ``rows.npy``, a record a row (its columns of the same type side by side, then the target and the
weight), and ``table.json``, what they mean. A missing number is NaN, a missing category the one behind the last.
"""

import contextlib
import io
import itertools
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.host import memory_available
from distbp.data.dataset import Column, Raw, Target
from distbp.errors import UserError

Array = NDArray[Any]

IN_MEMORY_BYTES = 32 << 20
"""A table of more is prepared as its rows are taken; one of less once, on each rank."""


@dataclass(frozen=True)
class Meaning:
    """Say what the records of a table mean.

    Attributes
    ----------
    source : str
        Name of the file, for messages.
    columns : tuple of Column
        Inputs, in the order of the file.
    places : tuple of (str, int)
        Field of the record, and place in it, of each input.
    target : Target or None
        Field ``y`` holds the number of the class, -1 for one that is not known, or values.
    remarks : list of str
        What the user may want to know.
    summary : str
        A line that says what the columns are.
    left_out : dict of str to str
        Columns that are no inputs, and why.
    notations : dict of str to list
        How columns are written, where that is not plain: see `notation_of`.
    slots : int
        Rows of the file, bad ones with them; field ``slot`` has the place of each row where some were bad.
    """

    source: str
    columns: tuple[Column, ...]
    places: tuple[tuple[str, int], ...]
    target: Target | None
    remarks: list[str] = field(default_factory=list)
    summary: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    notations: dict[str, list[Any]] = field(default_factory=dict)
    slots: int = 0

    def as_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "Meaning":
        """Return what `as_json` gave."""
        d = json.loads(text)
        columns = tuple(Column(one["name"], one["categories"] and tuple(one["categories"])) for one in d["columns"])
        target = d["target"] and Target.of_dict(d["target"])
        places = tuple((name, place) for name, place in d["places"])
        return cls(**(d | {"columns": columns, "places": places, "target": target}))


def layout(dtypes: Sequence[str], more: Sequence[tuple[str, str, int]]) -> tuple[np.dtype[Any], list[tuple[str, int]]]:
    """Return the type of a record with columns of `dtypes`, and the field and the place in it of each.

    `more` are name, type and width of further fields. Fields of larger numbers come first: all are aligned.
    """
    widths: dict[str, int] = {}
    places = []
    for dtype in dtypes:
        places.append((dtype, widths.get(dtype, 0)))
        widths[dtype] = places[-1][1] + 1
    fields = [(name, name, width) for name, width in widths.items()] + list(more)
    fields.sort(key=lambda one: -np.dtype(one[1]).itemsize)
    return np.dtype([(name, dtype, (width,)) for name, dtype, width in fields], align=True), places


_BATCH = 4096
"""Rows of a batch are never neighbours; what is taken of more rows may be a part of the table."""


class CannotWrite(OSError):
    """There is no room, or no right, to write a converted table."""


def write(folder: Path, meaning: Meaning, dtype: np.dtype[Any], n_rows: int, parts: Iterable[Array]) -> None:
    """Write a converted table; `parts` are its records, in order."""
    header = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n_rows,)}
    np.lib.format.write_array_header_2_0(header, about)
    rows = (part.view(np.uint8).data for part in parts)
    _write(folder / "rows.npy", itertools.chain([header.getbuffer()], rows))
    _write(folder / "table.json", [memoryview(meaning.as_json().encode())])


def _write(path: Path, parts: Iterable[memoryview]) -> None:
    """Write a file and flush it to the disk, part by part: while one is on its way the next one is computed."""
    from concurrent.futures import ThreadPoolExecutor  # by who converts alone, as all that is slow to import

    def put(part: memoryview) -> int:
        n = stream.write(part)
        stream.flush()
        os.fsync(stream.fileno())
        return n

    with writing():
        stream = open(path, "wb")  # noqa: SIM115
    with stream, ThreadPoolExecutor(1) as pool:
        pending = pool.submit(int)
        for part in parts:
            with writing():
                pending.result()
            pending = pool.submit(put, part)
        with writing():
            pending.result()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn what goes wrong in writing into `CannotWrite`."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(*error.args) from error


class TableDataset:
    """Give rows of a converted table.

    Parameters
    ----------
    records : ndarray
        Of a type of `layout`, in memory or mapped.
    meaning : Meaning
        What they mean.
    """

    def __init__(self, records: Array, meaning: Meaning) -> None:
        self._records, self._places = records, meaning.places
        self._read_ahead: _ReadAhead | None = None
        self.n_rows, self.source, self.columns = len(records), meaning.source, meaning.columns
        self.summary, self.left_out, self.notations = meaning.summary, meaning.left_out, meaning.notations
        self.target, self.in_memory = meaning.target, records.nbytes <= IN_MEMORY_BYTES
        self._fields = self._fields_of_inputs()
        texts = [(i, column.categories) for i, column in enumerate(self.columns)]
        self._categories = [(i, len(names)) for i, names in texts if names is not None]
        exact = all(name in ("f4", "u1", "u2", "i1", "i2") for name, _ in meaning.places)
        self._dtype = np.float32 if exact else np.float64
        """Of inputs, which it holds without rounding."""
        names = records.dtype.names or ()
        self._has_target, self._has_weights = self.target is not None and "y" in names, "w" in names
        self.slots = (meaning.slots, records["slot"][:, 0].astype(np.int64)) if "slot" in names else None
        """Rows of the file, good and bad, and the place of each row among them; None where none was bad."""
        self.folder: Path | None = None
        """Where the table lies in a cache."""

    @classmethod
    def open(cls, folder: Path) -> tuple["TableDataset", list[str]]:
        """Map a converted table; return it, and its remarks."""
        meaning = Meaning.of_json((folder / "table.json").read_text(encoding="utf-8"))
        path = folder / "rows.npy"
        table = cls(np.load(path, mmap_mode="r"), meaning)
        if path.stat().st_size > memory_available() // 2 and hasattr(os, "posix_fadvise"):
            table._read_ahead = _ReadAhead(path, table._records)
        return table, meaning.remarks

    def _fields_of_inputs(self) -> list[tuple[str, Any]]:
        """Return each field that holds inputs, and the inputs that it holds."""
        found: dict[str, list[int]] = {}
        for i, (name, _) in enumerate(self._places):
            found.setdefault(name, []).append(i)
        return [(name, _as_slice(inputs)) for name, inputs in found.items()]

    def take(self, rows: Array) -> Raw:
        """Return inputs, target and weights of `rows`; see `Dataset.take`."""
        if self._read_ahead is not None:
            self._read_ahead(rows)
        records = self._records[_neighbours(rows)]
        if len(self._fields) == 1 and not self._categories:
            X = records[self._fields[0][0]]
            X = X if X.dtype.kind == "f" else X.astype(np.float64)
        else:
            X = np.empty((len(rows), len(self.columns)), self._dtype)
            for name, inputs in self._fields:
                X[:, inputs] = records[name]
            for i, n in self._categories:
                name, k = self._places[i]
                if (holes := records[name][:, k] == n).any():
                    X[holes, i] = np.nan
        w = records["w"][:, 0] if self._has_weights else None
        return X, self._target_of(records), w

    def take_target(self, rows: Array) -> Array | None:
        """Return the target of `rows`; see `Dataset.take_target`."""
        return self._target_of({"y": self._records["y"][rows]}) if self._has_target else None

    def _target_of(self, records: Any) -> Array | None:
        if not self._has_target or self.target is None:
            return None
        y = records["y"]
        if self.target.kind != "classes":
            return np.asarray(y, np.float64)
        codes: Array = y[:, 0].astype(np.int64)
        if len(codes) and codes.min() < 0:
            raise UserError(f"{self.source}: a target is none of the classes")
        return codes

    def values(self, i: int) -> Array:
        """Return the numbers of an input as they are stored, of all rows."""
        name, k = self._places[i]
        return np.ascontiguousarray(self._records[name][:, k])

    def judged(self) -> Array:
        """Return the rows whose target is known: a class of the training, or a number."""
        if not self._has_target or self.target is None:
            return np.zeros(0, np.int64)
        y = self._records["y"]
        known = y[:, 0] >= 0 if self.target.kind == "classes" else np.isfinite(y).all(axis=1)
        return np.flatnonzero(known)

    def without_target(self) -> "TableDataset":
        """Return the inputs alone."""
        other = TableDataset.__new__(TableDataset)
        vars(other).update(vars(self), _has_target=False, target=None)
        return other


def _neighbours(rows: Array) -> Any:
    """Return a slice where rows stand one below another, which needs no copy; else the rows."""
    if len(rows) > _BATCH and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _as_slice(places: Sequence[int]) -> Any:
    """Return an index of some places; a slice, where they are neighbours, is faster."""
    first, last = places[0], places[-1] + 1
    return slice(first, last) if last - first == len(places) else np.array(places)


class _ReadAhead:
    """Let the pages of some rows be read together, of a file that the memory may not hold.

    A page that is missing is read alone, not with its neighbours, which other rows would need another time.
    """

    def __init__(self, path: Path, records: Array) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self._first, self._size = records.offset, records.dtype.itemsize  # type: ignore[attr-defined]
        records._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]

    def __call__(self, rows: Array) -> None:
        first = (self._first + rows * self._size) // mmap.PAGESIZE
        last = (self._first + (rows + 1) * self._size - 1) // mmap.PAGESIZE
        for page in np.union1d(first, last).tolist():
            os.posix_fadvise(self._file.fileno(), page * mmap.PAGESIZE, mmap.PAGESIZE, os.POSIX_FADV_WILLNEED)
