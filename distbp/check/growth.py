"""How the work of a gradient grows: stopwatch, fitted laws, and the lecture's product graphs.

Times are medians of repeated runs. Laws are fitted by least squares to logarithms: ``time ~ factor^depth`` is a
straight line of log time over depth, ``time ~ depth^exponent`` one of log time over log depth.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distbp.autodiff import grad

__all__ = ["Graph", "exponent", "factor", "graph_size", "product_graphs", "stopwatch"]

_REPEAT_SECONDS = 0.02
"""Seconds after which work is not repeated any more."""


def stopwatch(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` gives, and its seconds: the median of the runs of about 20 ms, behind one to warm up."""
    start = time.perf_counter()
    result = work()
    first = time.perf_counter() - start
    times: list[float] = [first] if first > _REPEAT_SECONDS else []
    while sum(times) < _REPEAT_SECONDS:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return result, statistics.median(times)


def _slope(x: Any, y: Any) -> float:
    return float(np.polyfit(x, y, 1)[0])


def factor(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit the f of ``seconds ~ f^size``."""
    return float(np.exp(_slope(sizes, np.log(seconds))))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit the p of ``seconds ~ size^p``."""
    return _slope(np.log(sizes), np.log(seconds))


# --- the lecture's product graph -------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """A function as a graph: its nodes, the paths through it, its derivative by autodiff, and what that should be."""

    name: str
    nodes: int
    paths: int
    derivative: float
    exact: float

    @property
    def error(self) -> float:
        """Return the relative error of the derivative."""
        return abs(self.derivative - self.exact) / abs(self.exact)


def _chain(w: Any) -> Any:
    product = 1.0
    for _ in range(32):
        product = product * w
    return product


def _squared(times: int) -> Callable[[Any], Any]:
    def power(w: Any) -> Any:
        for _ in range(times):
            w = w * w
        return w

    return power


class _Counted:
    """A number that counts in place of multiplying: the paths from it to the variable, and the nodes made so far."""

    def __init__(self, paths: int, made: Iterator[int]) -> None:
        self.paths, self.made = paths, made
        self.node = next(made)

    def __mul__(self, other: Any) -> "_Counted":
        return _Counted(self.paths + (other.paths if isinstance(other, _Counted) else 0), self.made)

    __rmul__ = __mul__


def graph_size(f: Callable[[Any], Any]) -> tuple[int, int]:
    """Count the nodes of the graph of ``f(w)``, a product of products, and the paths from its result to w."""
    result = f(_Counted(1, itertools.count()))
    return result.node, result.paths


def product_graphs() -> list[Graph]:
    """Differentiate w^32, as a chain and by repeated squaring, and 32 levels, each a product of the last.

    The derivative of w^32 is 32 w^31. The last graph has 2^32 paths in 32 nodes; at w = 1 its derivative, 2^32, has no
    rounding error.
    """
    graphs = []
    for name, f, w, power in (
        ("w^32, a chain of 32 products", _chain, 1.1, 32),
        ("w^32, squared 5 times", _squared(5), 1.1, 32),
        ("w^(2^32) at w = 1, squared 32 times", _squared(32), 1.0, 2**32),
    ):
        exact = power * w ** (power - 1)
        graphs.append(Graph(name, *graph_size(f), float(grad(f)(w)), exact))
    return graphs
