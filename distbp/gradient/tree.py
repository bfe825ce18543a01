"""The order in which leaves are added up: one binary tree, whoever has computed them.

The left child of a *node* has the largest power of two of its leaves. For five leaves,

    (((l0 + l1) + (l2 + l3)) + l4)

(Villa et al. 2009 name the trouble; a fixed tree is the reproducible reduction of Demmel & Nguyen 2015, section 2,
without their wider sums.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Node = tuple[int, int]
"""Leaves lo to hi - 1."""
Operation = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments."""
Operations = list[tuple[list[Operation], int | None]]
"""What is done in a row, each time with the parameter from which on the gradient is then complete and can be sent."""


def children(node: Node) -> tuple[Node, Node]:
    """Return the left and right half of a node of at least two leaves."""
    lo, hi = node
    middle = lo + (1 << ((hi - lo - 1).bit_length() - 1))
    return (lo, middle), (middle, hi)


def nodes(leaves: Node, within: Node) -> list[Node]:
    """Return the fewest nodes below `within` that are the leaves `leaves` together, in their order."""
    lo, hi = max(leaves[0], within[0]), min(leaves[1], within[1])
    if lo >= hi:
        return []
    if (lo, hi) == within:
        return [within]
    return [node for child in children(within) for node in nodes((lo, hi), child)]


def add_up(given: Mapping[Node, Array], node: Node, out: Array | None = None) -> Array:
    """Return the sum of the leaves of `node` from nodes that are `given`: in `out`, else one of these or a new array.

    `out` is written last, and may be one of them.
    """
    if node not in given:
        left, right = (add_up(given, child) for child in children(node))
        return np.add(left, right, out=out)
    if out is None:
        return given[node]
    out[...] = given[node]
    return out


def additions(
    given: Mapping[Node, Array], node: Node, out: Array, scratch: Sequence[tuple[Array, Array]]
) -> Iterator[Operation]:
    """Yield the operations that write the sum of `node`, which is not given, to `out`, as `add_up` does.

    `scratch` has two arrays for each level of the tree that is not given, as long as `out` at least.
    """
    both = []
    for child, room in zip(children(node), scratch[0], strict=True):
        if child not in given:
            yield from additions(given, child, room[: len(out)], scratch[1:])
        both.append(given.get(child, room[: len(out)]))
    yield np.add, (*both, out)
