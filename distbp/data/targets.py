"""What the target is: classes, labels or values."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import Target, TargetKind
from distbp.errors import UserError

Array = NDArray[Any]

MAX_CLASSES = 100
"""Whole numbers with more different values than this are taken for a regression target."""
_SOME, _ROWS = 20, 5
"""So are those with more values than the first and fewer rows for each than the second."""
_SCAN = 1 << 20


def infer_target(
    y: Array, names: tuple[str, ...], source: str, *, task: str = "auto", like: Target | None = None
) -> tuple[Target, Array | None]:
    """Infer what `y` is; return the target, and for classes the sorted raw value of each.

    Text and booleans are classes; so are whole numbers with at most `MAX_CLASSES` different values, and some rows of
    each; several columns of zeros and ones are labels; all else is a regression. `task` overrules it, and
    with `like`, the target of a trained model or of the training file, it is that one.
    """
    if y.ndim not in (1, 2) or (y.ndim == 2 and y.shape[1] < 1):
        raise UserError(f"{source}: a target of shape {y.shape}: it must be (rows,) or (rows, k)")
    text = y.dtype.kind in "USO"
    if text and task == "regression":
        raise UserError(f"{source}: the target {names[0]!r} is text: a regression needs numbers")
    if y.ndim == 2 and y.shape[1] > 1:
        if text:
            raise UserError(f"{source}: several target columns must be numbers")
        binary = all(np.isin(np.unique(part), (0, 1)).all() for _, part in _scan(y))
        kind: TargetKind = "labels" if binary and task != "regression" else "values"
        return like or Target(kind, names), None
    flat = y.reshape(len(y))
    if like is not None:
        return like, (_class_values(like, flat) if like.kind == "classes" else None)
    classes = None if task == "regression" else _distinct(flat, source, task)
    if classes is None:
        return Target("values", names), None
    labels = tuple(map(_label, classes))
    if len(labels) < 2:
        only = "".join(labels) or "none"
        raise UserError(f"{source}: the target {names[0]!r} has one class only ({only}): two are needed")
    target = Target("classes", names, labels)
    return replace(target, texts=text and target.class_values().dtype.kind != "U"), classes


def is_one_hot(y: Array) -> bool:
    """Return whether a target is a row of zeros with one 1 for each row: a class, written out."""
    if y.ndim != 2 or y.shape[1] < 3 or y.dtype.kind not in "biuf":
        return False
    return all(((part == 0) | (part == 1)).all() and (part.sum(axis=1) == 1).all() for _, part in _scan(y))


def _scan(y: Array) -> Iterator[tuple[int, Array]]:
    return ((lo, np.asarray(y[lo : lo + _SCAN])) for lo in range(0, len(y), _SCAN))


def _distinct(y: Array, source: str, task: str) -> Array | None:
    """Return the sorted different values of a target of classes; None when it looks like a regression."""
    found: Array = np.zeros(0, y.dtype)
    for row, part in _scan(y):
        values = np.unique(part)
        if y.dtype.kind == "f" and not np.isfinite(values).all():
            if task != "classification" and not _whole(values[np.isfinite(values)]):
                return None  # a regression; the bad row is named when it is taken
            bad = int(np.argmin(np.isfinite(part)))
            raise UserError(f"{source}, row {row + bad} (from 0): the target is {part[bad]}: mend or drop the row")
        found = np.union1d(found, values)
        if task == "auto" and y.dtype.kind in "iuf" and (len(found) > MAX_CLASSES or not _whole(found)):
            return None
    return None if task == "auto" and y.dtype.kind in "iuf" and scarce(len(found), len(y)) else found


def scarce(n_values: int, n_rows: int) -> bool:
    """Return whether whole numbers are too many for the rows to be classes."""
    return n_values > _SOME and n_rows < _ROWS * n_values


def _whole(values: Array) -> bool:
    return values.dtype.kind != "f" or bool((values == np.rint(values)).all())


def _label(value: Any) -> str:
    number = value.item() if isinstance(value, np.generic) else value
    return str(int(number) if isinstance(number, float) and number.is_integer() else number)


def _class_values(target: Target, y: Array) -> Array:
    """Return the raw values of known classes in data that is read later, sorted as their numbers are."""
    names = np.array(target.classes)
    if y.dtype.kind in "USO":
        return names
    if set(target.classes) == {"False", "True"}:
        return np.array([False, True])
    try:
        return names.astype(np.float64)
    except ValueError:
        few = ", ".join(target.classes[:5])
        raise UserError(f"the target is numeric here, but the classes of {target.names[0]!r} are {few}") from None
