"""The gradient noise scale: how far the gradients of single examples scatter about their mean.

With G the mean gradient of the data and Sigma the covariance of the examples' gradients,

    B_simple = tr(Sigma) / |G|^2

is about the batch size up to which a larger batch saves steps (McCandlish et al. 2018, section 2). Both are estimated
from the gradients of any groups into which a batch of B rows falls, single rows, shards or leaves: with the means g_r
of R groups of n_r rows, and their mean g,

    tr(Sigma) = (sum_r n_r |g_r|^2 - B |g|^2) / (R - 1)        |G|^2 = |g|^2 - tr(Sigma) / B

(their appendix A.1, for groups of any sizes). Single rows scatter least, and backpropagation has what they take: the
gradient of row i in layer l is an outer product, so

    |g_i|^2 = sum_l |delta_l,i|^2 (|a_{l-1},i|^2 + 1)

(Goodfellow 2015). Numerator and denominator are averaged over steps, and then divided.
"""

from dataclasses import dataclass, field

from distbp.data.sampling import Epochs
from distbp.gradient.statistics import Statistics

_DECAY = 0.95


def estimate(squares: float, groups: float, batch: int, square: float) -> tuple[float, float]:
    """tr(Sigma) and |G|^2 from one batch; both without bias, so the second may be negative.

    `squares` is ``sum_r n_r |g_r|^2`` over R >= 2 `groups`, `batch` the rows B, and `square` is ``|g|^2``.
    """
    trace = (squares - batch * square) / (groups - 1.0)
    return trace, square - trace / batch


def averaged(sums: list[float], trace: float, square: float) -> list[float]:
    """Take an estimate into weighted sums of tr(Sigma), |G|^2, and the weights, which fall from one to the next."""
    return [_DECAY * old + (1.0 - _DECAY) * new for old, new in zip(sums, (trace, square, 1.0), strict=True)]


def figures(sums: list[float]) -> dict[str, float]:
    """``noise_scale``, where |G|^2 is above 0, ``noise_trace`` and ``noise_square``; nothing before the first."""
    trace, square, weight = sums
    if not weight:
        return {}
    means = {"noise_trace": trace / weight, "noise_square": square / weight}
    return means | ({"noise_scale": trace / square} if square > 0.0 else {})


@dataclass
class _State:
    sums: list[float] = field(default_factory=lambda: [0.0] * 3)


class NoiseScale:
    """Keeps the weighted sums of the estimates of a run.

    Parameters
    ----------
    every : int or Epochs
        Steps or epochs between estimates; 0 is never. Networks of your own need at least two groups of rows in a step:
        ranks, leaves, or micro-batches.
    """

    def __init__(self, every: int | Epochs = 0) -> None:
        self.every, self.state = every, _State()

    def take(self, statistics: Statistics, batch: int) -> None:
        """Take the estimate of a step with `batch` rows, where it has one."""
        if statistics.groups > 1:
            found = estimate(statistics.squares, statistics.groups, batch, statistics.square)
            self.state.sums = averaged(self.state.sums, *found)
