"""Arrays on disk: idx (the format of MNIST), ``.npz`` and ``.npy``, and the embedded digits.

A ``.npy`` is mapped, not read: a rank touches only the rows that it takes, so the file may be far
larger than the memory.
"""

import contextlib
import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import ArrayDataset, Target, parse_columns
from distbp.data.targets import infer_target, is_one_hot
from distbp.errors import UserError

Array = NDArray[Any]

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_INPUT_KEYS = ("X", "x", "data", "images", "inputs")
_TARGET_KEYS = ("y", "target", "targets", "labels")
_DAMAGED = (
    OSError, ValueError, EOFError, KeyError, OverflowError, SyntaxError, RuntimeError, zlib.error, BadZipFile,
    TokenError,
)  # fmt: skip


@contextlib.contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn what NumPy raises at a damaged file into a `UserError`; no advice to read files that can run code."""
    try:
        yield
    except (UserError, FileNotFoundError):
        raise
    except _DAMAGED as error:
        why = "it holds Python objects, which are not read" if "allow_pickle" in str(error) else str(error)
        raise UserError(f"{path}: not a whole {what}: {why}") from error


def read_digits(*, task: str = "auto", like: Target | None = None) -> ArrayDataset:
    """Return the UCI test set of handwritten digits: 1,797 images of 8 x 8 pixels, ten classes.

    Alpaydin & Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0; the same rows, in the same
    order, as ``sklearn.datasets.load_digits``.
    """
    with np.load(Path(__file__).with_name("digits.npz")) as arrays:
        X, y = arrays["X"], arrays["y"]
    return ArrayDataset(X, y, *infer_target(y, ("digit",), "digits", task=task, like=like), source="digits")


def read_idx(path: Path) -> Array:
    """Read one idx file, plain or ``.gz``: magic number, sizes, then the elements, big-endian."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            head = stream.read(4)
            if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES or not head[3]:
                raise UserError(f"{path}: not an idx file (it begins with {head.hex() or 'nothing'})")
            sizes = stream.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise UserError(f"{path}: truncated within the header")
            shape = struct.unpack(f">{head[3]}I", sizes)
            dtype = np.dtype(_IDX_TYPES[head[2]])
            data = stream.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: damaged or truncated: {error}") from error
    expected = math.prod(shape) * dtype.itemsize
    if not expected:
        raise UserError(f"{path}: empty or damaged: its header tells of {shape} elements")
    if len(data) != expected:
        raise UserError(f"{path}: truncated or damaged: {len(data)} bytes of data, {expected} expected for {shape}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_idx_pair(images: Path, labels: Path, *, task: str = "auto", like: Target | None = None) -> ArrayDataset:
    """Read inputs from one idx file, the target from another."""
    X, y = read_idx(images), read_idx(labels)
    meaning = infer_target(y, ("label",), labels.name, task=task, like=like)
    return ArrayDataset(X.reshape(len(X), -1), y, *meaning, source=images.name)


def find_idx(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Find the pairs of a directory: ``train`` and, where there is one, ``test`` (``t10k-*``, or test in its name)."""
    pairs: dict[str, tuple[Path, Path]] = {}
    for images in sorted(folder.glob("*images*idx3*")):
        labels = folder / images.name.replace("images", "labels").replace("idx3", "idx1")
        if not labels.exists():
            raise UserError(f"{folder}: {images.name} has no {labels.name} beside it")
        part = "test" if re.search("t10k|test", images.name.partition("images")[0]) else "train"
        if part in pairs:
            both = f"{pairs[part][0].name} and {images.name}"
            raise UserError(f"{folder}: {both} are both to {part}: name a pair, --data IMAGES,LABELS")
        pairs[part] = images, labels
    if not pairs:
        raise UserError(f"{folder}: no idx files (*images*idx3*, plain or .gz) in this directory")
    if "train" not in pairs:
        pairs["train"] = pairs.pop("test")  # a lone test set is a data set of its own
    return pairs


def read_arrays(
    path: Path, part: str = "train", *, inputs: str | None = None, targets: str | None = None,
    weight: str | None = None, task: str = "auto", like: Target | None = None,
) -> ArrayDataset | None:  # fmt: skip
    """Read ``X`` and ``y`` of an ``.npz`` or HDF5 file, or ``X_train``, ``X_test`` and so on; None if absent.

    `inputs` and `targets` are other names of theirs.
    """
    ends = {"train": ("_train", ""), "validation": ("_validation", "_val")}.get(part, (f"_{part}",))
    with _open_arrays(path) as arrays:
        names = {name.lower(): name for name in reversed(arrays)}

        def find(asked: str | None, usual: tuple[str, ...]) -> str | None:
            if asked and part == "train" and asked not in arrays:
                raise UserError(f"{path}: no array {asked!r} in it; it has {', '.join(arrays) or 'none'}")
            keys = (asked.removesuffix("_train"),) if asked else usual
            wanted = (key.lower() + end for end in ends for key in keys)
            return asked if asked and part == "train" else next((names[key] for key in wanted if key in names), None)

        x_key, y_key = find(inputs, _INPUT_KEYS), find(targets, _TARGET_KEYS)
        if x_key is None:
            if part != "train":
                return None
            has = ", ".join(arrays) or "none"
            raise UserError(f"{path}: no array X in it; it has {has}: say which with --inputs NAME --targets NAME")
        if weight and weight not in arrays:
            raise UserError(f"{path}: no array {weight!r} for the sample weights")
        X, y = arrays[x_key], arrays[y_key] if y_key else None
        weights = arrays[weight] if weight and part == "train" else None
    return of_arrays(X, y, path.name, weights=weights, task=task, like=like)


class _Arrays(dict[str, Any]):
    """Arrays by name, read when they are asked for."""

    def __getitem__(self, name: str) -> Array:
        return np.asarray(super().__getitem__(name)())


@contextlib.contextmanager
def _open_arrays(path: Path) -> Iterator[_Arrays]:
    """Open the arrays of an ``.npz`` or HDF5 file."""
    if path.suffix.lower() == ".npz":
        with _reading(path, ".npz file of numbers and text"), open(path, "rb") as stream, np.load(stream) as file:
            yield _Arrays({name: partial(file.__getitem__, name) for name in file.files})
        return
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: HDF5 files need h5py: pip install h5py") from None
    with _reading(path, "HDF5 file"), h5py.File(path, "r") as file:
        found = _Arrays()

        def add(name: str, item: Any) -> None:
            if hasattr(item, "dtype"):  # else it is a group
                found[name] = partial(item.__getitem__, ())

        file.visititems(add)
        yield found


def read_npy(
    path: Path, target: str | None = None, y_path: Path | None = None, *, task: str = "auto", like: Target | None = None
) -> ArrayDataset:
    """Map a ``.npy``: a matrix with the target in a column (the last by default), or inputs alone
    with the target in a second file.
    """
    X = _map(path)
    if y_path is not None:
        return of_arrays(X, _map(y_path), path.name, task=task, like=like)
    return of_matrix(X, target, path.name, task=task, like=like)


def of_matrix(
    X: Array, target: str | None, source: str, *, weights: Array | None = None, task: str, like: Target | None
) -> ArrayDataset:
    """Return the rows of a matrix with the target in columns of it: those of `target`, or the last one."""
    if X.ndim != 2:
        raise UserError(f"{source}: shape {X.shape}: a matrix is needed, or the target beside it")
    _refuse_nothing(X, source)
    if target is None and like is not None:
        places = [int(name) for name in like.names if name.isdigit()]
        target = ",".join(map(str, places)) if places and max(places) < X.shape[1] else ""
    if target == "":
        return ArrayDataset(X, source=source)
    if X.shape[1] < 2:
        raise UserError(f"{source}: one column only: no input is left beside the target")
    places = parse_columns(target or "-1", [], source, X.shape[1])
    inputs = np.setdiff1d(np.arange(X.shape[1]), places)
    y = X[:, places[0]] if len(places) == 1 else X[:, places]
    meaning = infer_target(y, tuple(map(str, places)), source, task=task, like=like)
    return ArrayDataset(X, y, *meaning, inputs=inputs, weights=weights, source=source)


def _refuse_nothing(X: Array, source: str) -> None:
    if not X.size:
        raise UserError(f"{source}: an array of shape {X.shape} has no {'columns' if len(X) else 'rows'}")


def _map(path: Path) -> Array:
    with _reading(path, ".npy file of numbers"):
        array: Array = np.load(path, mmap_mode="r")
    if array.dtype.kind not in "biuf" or not array.ndim:
        raise UserError(f"{path}: an array of {array.dtype}: numbers are needed")
    return array


def of_arrays(
    X: Array, y: Array | None, source: str, *, names: tuple[str, ...] | None = None, weights: Array | None = None,
    task: str, like: Target | None,
) -> ArrayDataset:  # fmt: skip
    """Return the rows of `X` (n_rows, ...) with a target (n_rows,) or (n_rows, k), whose columns have `names`."""
    if X.dtype.kind not in "biuf" or X.ndim < 2:
        raise UserError(f"{source}: inputs of {X.dtype} and shape {X.shape}: numbers (rows, ...) are needed")
    _refuse_nothing(X, source)
    if y is None:
        return ArrayDataset(X, source=source)
    if y.dtype.kind == "S":
        y = np.char.decode(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if task != "regression" and is_one_hot(y) and (like is None or like.kind == "classes"):
        y = y.argmax(axis=1)
    usual = tuple(f"target {i}" for i in range(y.shape[1])) if y.ndim == 2 else ("target",)
    names = names if names and len(names) == len(usual) else usual
    meaning = infer_target(y, names, source, task=task, like=like)
    return ArrayDataset(X, y, *meaning, weights=weights, source=source)
