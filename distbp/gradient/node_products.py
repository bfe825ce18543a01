"""What computes the gradient of the leaves of a rank: node by node, section by section, while it is in the cache."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.gradient.shards import Section
from distbp.gradient.tree import Node, Operation, Operations, children
from distbp.network.tape import Tape
from distbp.network.work import compact, ones

Array = NDArray[Any]
Passed = Mapping[int, tuple[Tape, slice]]
"""Where the passes of each leaf write: tape, and rows of it."""


class NodeProducts:
    """Makes the operations that compute the gradient of nodes of leaves.

    `sections` are what one product gives, of each layer, and `vectors` where the gradient of each node goes. In `exact`
    mode the bits may not depend on where operands lie.
    """

    def __init__(
        self, sections: Sequence[Sequence[Section]], vectors: Sequence[tuple[Node, Array]], *, exact: bool
    ) -> None:
        self._sections, self._vectors, self._exact = sections, vectors, exact
        self._scratch: dict[int, Array] = {}

    def __call__(self, passed: Passed, *, accumulates: bool, sends: bool) -> list[Operations]:
        """Return what computes the gradient of each layer, section by section; each is sent where it `sends`.

        With `accumulates` it is added to what is there.
        """
        return [
            [(list(self._section(passed, i, s, accumulates)), s.lo if sends else None) for s in sections]
            for i, sections in enumerate(self._sections)
        ]

    def _section(self, passed: Passed, i: int, section: Section, accumulates: bool) -> Iterator[Operation]:
        for node, vector in self._vectors:
            out = vector[section.lo : section.hi]
            computed = self._room(-1, out) if accumulates else out
            yield from self._node(passed, node, i, section, computed)
            if accumulates:
                yield np.add, (out, computed, out)

    def _node(
        self, passed: Passed, node: Node, i: int, section: Section, out: Array, depth: int = 0
    ) -> Iterator[Operation]:
        """Yield what computes a section of the gradient of layer i over the leaves of a node."""
        if node[1] - node[0] > 1:
            left, right = children(node)
            other = self._room(depth, out)
            yield from self._node(passed, left, i, section, out, depth + 1)
            yield from self._node(passed, right, i, section, other, depth + 1)
            yield np.add, (out, other, out)
            return
        tape, rows = passed[node[0]]
        a, delta = tape.inputs[i][rows], tape.deltas[i][rows, section.units]
        if section.biases and self._exact:
            yield np.add.reduce, (delta, 0, None, out)
        elif section.biases:
            yield np.matmul, (ones(len(delta), delta.dtype), delta, out)
        else:
            dW = out.reshape(-1, a.shape[1]).T
            yield _times_vector if self._exact and 1 in dW.shape else np.matmul, (a.T, delta, dW)

    def _room(self, level: int, like: Array) -> Array:
        """Return scratch memory of the length of an array, another one for each level of the tree."""
        if level not in self._scratch:
            widest = max(s.hi - s.lo for sections in self._sections for s in sections)
            self._scratch[level] = np.empty(widest, like.dtype)
        return self._scratch[level][: len(like)]


def _times_vector(x: Array, y: Array, out: Array) -> None:
    """Multiply a matrix and a vector, with the same bits wherever they lie."""
    np.matmul(compact(x), compact(y), out=out)
