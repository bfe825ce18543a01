"""The file format of ONNX, as far as it is written here: nested messages of Protocol Buffers, without a library.

A message is a sequence of fields: a key, which is 8 times the number of the field plus the kind of what follows, then
a number in groups of seven bits, or a length and so many bytes ("Encoding", the manual of Protocol Buffers). The
numbers of the fields are those of ``onnx.proto``, version 10 of the intermediate representation.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

TYPES = {"float32": 1, "int64": 7, "str": 8, "bool": 9, "float64": 11}
"""Numbers of ONNX's types."""
_VARINT, _LENGTH, _FIXED = 0, 2, 5
_FLOAT, _INT, _STRING, _TENSOR, _FLOATS, _INTS, _STRINGS = 1, 2, 3, 4, 6, 7, 8


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative ones are those of 64 bits
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(place: int, value: int | float | str | bytes) -> bytes:
    """Return a field of a message: a whole number, a float of 32 bits, a text, or the bytes of a message."""
    if isinstance(value, int):
        return _number(place << 3 | _VARINT) + _number(value)
    if isinstance(value, float):
        return _number(place << 3 | _FIXED) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return _number(place << 3 | _LENGTH) + _number(len(content)) + content


def tensor(name: str, array: Array) -> bytes:
    """Return a TensorProto."""
    dims = b"".join(field(1, n) for n in array.shape)
    if array.dtype.kind in "UO":
        texts = b"".join(field(6, str(text)) for text in array.ravel().tolist())
        return dims + field(2, TYPES["str"]) + texts + field(8, name)
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    return dims + field(2, TYPES[array.dtype.name]) + field(8, name) + field(9, raw)


def attribute(name: str, value: Any) -> bytes:
    """Return an AttributeProto: of a number, a text, an array, or a sequence of the first."""
    match value:
        case int():
            return field(1, name) + field(3, value) + field(20, _INT)
        case float():
            return field(1, name) + field(2, value) + field(20, _FLOAT)
        case str():
            return field(1, name) + field(4, value) + field(20, _STRING)
        case np.ndarray():
            return field(1, name) + field(5, tensor("", value)) + field(20, _TENSOR)
    kind, place = {int: (_INTS, 8), float: (_FLOATS, 7), str: (_STRINGS, 9)}[type(value[0])]
    return field(1, name) + b"".join(field(place, one) for one in value) + field(20, kind)


def node(
    operator: str, inputs: Iterable[str], outputs: Iterable[str], domain: str, attributes: dict[str, Any]
) -> bytes:
    """Return a NodeProto."""
    links = b"".join(field(1, name) for name in inputs) + b"".join(field(2, name) for name in outputs)
    about = b"".join(field(5, attribute(name, value)) for name, value in attributes.items())
    return links + field(4, operator) + about + (field(7, domain) if domain else b"")


def value_info(name: str, kind: str, width: int | None) -> bytes:
    """Return a ValueInfoProto of a tensor (rows, width), or (rows,)."""
    dims = [field(2, "rows"), *([] if width is None else [field(1, width)])]
    shape = b"".join(field(1, dim) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, TYPES[kind]) + field(2, shape)))


def model(graph: bytes, versions: dict[str, int], producer: tuple[str, str], about: dict[str, str]) -> bytes:
    """Return a ModelProto; `versions` of the sets of operators by domain, `about` are pairs of texts."""
    sets = b"".join(field(8, field(1, domain) + field(2, version)) for domain, version in versions.items())
    pairs = b"".join(field(14, field(1, key) + field(2, value)) for key, value in about.items())
    return field(1, 10) + sets + field(2, producer[0]) + field(3, producer[1]) + field(7, graph) + pairs


def graph(
    name: str, nodes: Sequence[bytes], constants: dict[str, Array], inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> bytes:
    """Return a GraphProto."""
    return (
        b"".join(field(1, one) for one in nodes)
        + field(2, name)
        + b"".join(field(5, tensor(key, array)) for key, array in constants.items())
        + b"".join(field(11, one) for one in inputs)
        + b"".join(field(12, one) for one in outputs)
    )
