"""Columns of numbers as a library hands them over: the Arrow C stream interface, read without a library for it.

Batch by batch and without a copy. Layout and life of its structures: Arrow's "C data interface" and "C stream
interface", format version 1.
"""

import ctypes as c
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = list[NDArray[Any]]

_TYPES = {b"c": "i1", b"C": "u1", b"s": "i2", b"S": "u2", b"i": "i4", b"I": "u4", b"l": "i8", b"f": "f4", b"g": "f8"}
"""NumPy's names of Arrow's formats."""


class _Schema(c.Structure):
    pass


class _Array(c.Structure):
    pass


class _Stream(c.Structure):
    pass


_Schema._fields_ = [
    ("format", c.c_char_p), ("name", c.c_char_p), ("metadata", c.c_char_p), ("flags", c.c_int64),
    ("n_children", c.c_int64), ("children", c.POINTER(c.POINTER(_Schema))), ("dictionary", c.c_void_p),
    ("release", c.c_void_p), ("private", c.c_void_p),
]  # fmt: skip
_Array._fields_ = [
    ("length", c.c_int64), ("null_count", c.c_int64), ("offset", c.c_int64), ("n_buffers", c.c_int64),
    ("n_children", c.c_int64), ("buffers", c.POINTER(c.c_void_p)), ("children", c.POINTER(c.POINTER(_Array))),
    ("dictionary", c.c_void_p), ("release", c.c_void_p), ("private", c.c_void_p),
]  # fmt: skip
_Stream._fields_ = [
    ("get_schema", c.CFUNCTYPE(c.c_int, c.POINTER(_Stream), c.POINTER(_Schema))),
    ("get_next", c.CFUNCTYPE(c.c_int, c.POINTER(_Stream), c.POINTER(_Array))),
    ("get_last_error", c.CFUNCTYPE(c.c_char_p, c.POINTER(_Stream))),
    ("release", c.c_void_p), ("private", c.c_void_p),
]  # fmt: skip


def batches(source: Any) -> Iterator[Columns]:
    """Yield the columns of each batch of an object with ``__arrow_c_stream__``; they hold until the next one is asked.

    The columns are numbers without nulls. What goes wrong on the way is an `OSError`.
    """
    capsule = source.__arrow_c_stream__()  # it ends the stream when it is let go
    pointer = c.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = c.c_void_p, [c.py_object, c.c_char_p]
    stream = _Stream.from_address(pointer(capsule, b"arrow_array_stream"))
    schema = _Schema()
    _check(stream, stream.get_schema(c.byref(stream), c.byref(schema)))
    types = [np.dtype(_TYPES[schema.children[i].contents.format]) for i in range(schema.n_children)]
    _release(schema)
    while True:
        batch = _Array()
        _check(stream, stream.get_next(c.byref(stream), c.byref(batch)))
        if not batch.release:
            return
        try:
            yield [_column(batch, i, dtype) for i, dtype in enumerate(types)]
        finally:
            _release(batch)


def _column(batch: Any, i: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    array = batch.children[i].contents
    assert array.null_count <= 0
    n = batch.length
    if not n:
        return np.zeros(0, dtype)
    start = array.buffers[1] + (array.offset + batch.offset) * dtype.itemsize
    return np.frombuffer((c.c_char * (n * dtype.itemsize)).from_address(start), dtype)


def _check(stream: Any, code: int) -> None:
    if code:
        raise OSError(code, (stream.get_last_error(c.byref(stream)) or b"").decode(errors="replace"))


def _release(structure: Any) -> None:
    c.CFUNCTYPE(None, c.c_void_p)(structure.release)(c.addressof(structure))
