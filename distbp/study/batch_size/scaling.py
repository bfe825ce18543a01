"""How many steps a batch size needs: a curve of two parameters, fitted with intervals.

    S(B) = S_min (1 + B_crit / B) = S_min + E_min / B

(McCandlish et al. 2018, section 2.3): many small steps or few large ones, never fewer than S_min, and never fewer
examples than E_min = S_min B_crit. At B_crit a run takes twice of both. Steps scatter by a factor, not by a sum, so the
fit is of log S: least squares in a = log S_min and c = log B_crit,

    log S = a + g(c, B)        g = log(1 + exp(c) / B)

The best a of a given c is a mean, so that one scan over c finds the best of all, and every pair that the data do not
refuse: with d degrees of freedom, those with

    RSS(a, c) <= RSS_min 0.05^(-2 / d)

(the 95 % point of the F distribution with 2 and d degrees of freedom has this closed form). The intervals are the
shadows of that region on the axes, so all three hold together in 95 of 100 studies (Scheffe 1953); they end at 0 or
infinity where the data allow it, as where the curve has no knee. Values at one batch size share its best rate: they are
one point of the curve, whose scatter about it leaves d = (batch sizes) - 2 degrees of freedom.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_BEYOND = 12.0
"""The scan goes exp(12) beyond the batch sizes; what is not refused there never will be."""
_CELLS = 6000


class Interval(NamedTuple):
    """A value with its 95 % interval; `low` may be 0, `high` infinite."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class ScalingFit:
    """The curve S(B) = S_min (1 + B_crit / B)."""

    s_min: Interval  # fewest steps
    e_min: Interval  # fewest examples
    b_crit: Interval  # the batch size between
    r2: float  # share of the variance of log S that the curve explains; NaN where S does not vary
    smallest: float  # batch size of the fit
    largest: float

    def steps(self, batch_size: Any) -> Any:
        """Return S(B), for a number or an array."""
        return self.s_min.value + self.e_min.value / batch_size

    @property
    def knee(self) -> str:
        """Tell where it is seen: "inside" the batch sizes, at "most" or at "least" some value, or "unknown"."""
        below, above = self.b_crit.low <= self.smallest / 100.0, self.b_crit.high >= 100.0 * self.largest
        if below and above:
            return "unknown"
        return "most" if below else "least" if above else "inside"


def fit_scaling(batch_sizes: Sequence[float] | Array, steps: Sequence[float] | Array) -> ScalingFit:
    """Fit the curve to steps S (n,) at batch sizes B (n,): one of each for a seed; a size may come several times.

    Raises
    ------
    ValueError
        Where there are fewer than 3 batch sizes, or a value is not a positive number.
    """
    B, S = np.asarray(batch_sizes, np.float64), np.asarray(steps, np.float64)
    if B.shape != S.shape or B.ndim != 1:
        raise ValueError(f"batch sizes {B.shape} and steps {S.shape}: one of each for a run")
    if not (np.all(np.isfinite(B)) and np.all(np.isfinite(S)) and np.all(B > 0.0) and np.all(S > 0.0)):
        raise ValueError("batch sizes and steps are finite and above 0; leave out runs that did not reach the goal")
    sizes, which, n = np.unique(B, return_inverse=True, return_counts=True)
    if len(sizes) < 3:
        raise ValueError(f"{len(sizes)} batch sizes: a curve of two parameters takes at least 3")
    y = np.bincount(which, np.log(S)) / n
    c = np.linspace(math.log(sizes[0]) - _BEYOND, math.log(sizes[-1]) + _BEYOND, _CELLS)
    for _ in range(3):  # the best c, ever more closely
        _, rss = _profile(c, sizes, y, n)
        best = int(np.argmin(rss))
        c = np.linspace(c[max(best - 1, 0)], c[min(best + 1, _CELLS - 1)], _CELLS)
    low = float(rss[best])
    tss = float(np.sum(n * (y - np.sum(n * y) / n.sum()) ** 2))
    tiny = 1e-18 * float(n.sum())  # rounding of log S, so that a perfect curve has an interval too
    s_min, e_min, b_crit = _intervals(float(c[best]), max(low, tiny), sizes, y, n)
    return ScalingFit(
        s_min, e_min, b_crit, 1.0 - low / tss if tss > tiny else math.nan, float(sizes[0]), float(sizes[-1])
    )


def _profile(c: Array, sizes: Array, y: Array, n: Array) -> tuple[Array, Array]:
    """Return the best a = log S_min for each c, and the sum of squares that it leaves."""
    residual = y - np.log1p(np.exp(c)[:, None] / sizes)
    a = residual @ n / n.sum()
    return a, (residual - a[:, None]) ** 2 @ n


def _intervals(best: float, rss: float, sizes: Array, y: Array, n: Array) -> tuple[Interval, Interval, Interval]:
    """Return the shadows of the region that the data do not refuse on log S_min, log E_min and log B_crit."""
    allowed = rss * 0.05 ** (-2.0 / (len(sizes) - 2))
    ends = math.log(sizes[0]) - _BEYOND, math.log(sizes[-1]) + _BEYOND
    c = np.union1d(np.linspace(*ends, _CELLS), best + np.concatenate([-_FINE[::-1], _FINE]))
    a, left = _profile(c, sizes, y, n)
    inside = (left <= allowed) | (np.abs(c - best) < 1e-12)
    half = np.sqrt(np.maximum(allowed - left[inside], 0.0) / n.sum())
    a, c = a[inside], c[inside]
    flat, steep = c[0] <= ends[0] + 0.1, c[-1] >= ends[1] - 0.1
    at = int(np.argmin(np.abs(c - best)))

    def interval(x: Array, half: Array, to_zero: bool, to_infinity: bool) -> Interval:
        low, high = math.exp(np.min(x - half)), math.exp(np.max(x + half))
        return Interval(0.0 if to_zero else low, math.exp(x[at]), math.inf if to_infinity else high)

    s_min, e_min = interval(a, half, steep, False), interval(a + c, half, flat, False)
    return s_min, e_min, interval(c, np.zeros_like(c), flat, steep)


_FINE = np.concatenate([[0.0], np.geomspace(1e-10, 2.0, 4000)])
"""Distances from the best c, so that narrow intervals are seen as well as wide ones."""
