"""How the work of a gradient grows: stopwatch, fitted laws, and the lecture's product graphs.

Times are medians of repeated runs. Laws are fitted by least squares to logarithms: ``time ~ factor^depth`` is a
straight line of log time over depth, ``time ~ depth^exponent`` one of log time over log depth.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distbp.autodiff import grad

_REPEAT_SECONDS = 0.02  # after which work is not repeated any more


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` gives, and its seconds."""
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def stopwatch(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `work` gives, and its seconds: the median of the runs of about 20 ms, behind one to warm up."""
    result, first = timed(work)
    times = [first] if first > _REPEAT_SECONDS else []
    while sum(times) < _REPEAT_SECONDS:
        times.append(timed(work)[1])
    return result, statistics.median(times)


def factor(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit the f of ``seconds ~ f^size``."""
    return float(np.exp(np.polyfit(sizes, np.log(seconds), 1)[0]))


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit the p of ``seconds ~ size^p``."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


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


def _squared(w: Any, times: int) -> Any:
    return _squared(w * w, times - 1) if times else w


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
    functions: tuple[tuple[str, Callable[[Any], Any], float, int], ...] = (
        ("w^32, a chain of 32 products", lambda w: math.prod([w] * 32), 1.1, 32),
        ("w^32, squared 5 times", lambda w: _squared(w, 5), 1.1, 32),
        ("w^(2^32) at w = 1, squared 32 times", lambda w: _squared(w, 32), 1.0, 2**32),
    )
    return [Graph(name, *graph_size(f), float(grad(f)(w)), n * w ** (n - 1)) for name, f, w, n in functions]
