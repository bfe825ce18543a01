"""A graph of operators, built from the inputs on: what is computed has the name of where it stands."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distbp.export import protobuf

Array = NDArray[Any]

_OPERATORS, _MACHINE_LEARNING = 20, 3
"""Versions of the sets of operators, ONNX's own and ``ai.onnx.ml``."""


class Graph:
    """Collects operators, constants, inputs and outputs of an ONNX model."""

    def __init__(self) -> None:
        self._nodes: list[bytes] = []
        self._constants: dict[str, Array] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, kind: str, width: int) -> str:
        """Add an input (rows, width) of a kind: ``float64`` or ``str``."""
        self._inputs.append(protobuf.value_info(name, kind, width))
        return name

    def output(self, source: str, name: str, kind: str, width: int | None) -> None:
        """Give a result a name outside."""
        self._nodes.append(protobuf.node("Identity", [source], [name], "", {}))
        self._outputs.append(protobuf.value_info(name, kind, width))

    def constant(self, value: ArrayLike, dtype: Any = None) -> str:
        """Add a constant."""
        name = f"c{len(self._constants)}"
        self._constants[name] = np.asarray(value, dtype)
        return name

    def __call__(self, operator: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        """Add an operator; return the name of its (first) result."""
        names = [f"n{len(self._nodes)}", *(f"n{len(self._nodes)}.{k}" for k in range(1, outputs))]
        self._nodes.append(protobuf.node(operator, inputs, names, domain, attributes))
        return names[0]

    def to_bytes(self, name: str, version: str, about: dict[str, str]) -> bytes:
        """Return the file."""
        whole = protobuf.graph(name, self._nodes, self._constants, self._inputs, self._outputs)
        versions = {"": _OPERATORS, "ai.onnx.ml": _MACHINE_LEARNING}
        return protobuf.model(whole, versions, ("distbp", version), about)
