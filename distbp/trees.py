"""Trees: nested tuples, lists and dicts of arrays, which are taken apart and put together again."""

from collections.abc import Iterator
from typing import Any

Tree = Any
"""An array or number, or tuples, lists and dicts of trees."""


def leaves_of(tree: Tree, path: str = "") -> list[tuple[str, Any]]:
    """The arrays of a tree, each with its place as text."""
    if isinstance(tree, dict):
        return [leaf for k, v in tree.items() for leaf in leaves_of(v, f"{path}.{k}" if path else str(k))]
    if isinstance(tree, (tuple, list)):
        return [leaf for k, v in enumerate(tree) for leaf in leaves_of(v, f"{path}.{k}" if path else str(k))]
    return [(path, tree)]


def like(tree: Tree, leaves: Iterator[Any]) -> Tree:
    """A tree of the same kind with other leaves, from an iterator."""
    if isinstance(tree, dict):
        return type(tree)((k, like(v, leaves)) for k, v in tree.items())
    if isinstance(tree, (tuple, list)):
        parts = [like(v, leaves) for v in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return next(leaves)
