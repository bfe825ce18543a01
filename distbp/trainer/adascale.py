"""AdaScale: how many steps of a small batch one step of a large one is worth (Johnson et al. 2020).

A rate was found for batches of B_0 rows, and a batch has S = B / B_0 times as many. How much longer a step it allows
depends on how far the gradients scatter. With the variance of the gradient of B_0 rows and the square of its mean,

    sigma^2 = tr(Sigma) / B_0        mu^2 = |G|^2        r = (sigma^2 + mu^2) / (sigma^2 / S + mu^2)

the *gain* r lies between 1, where all rows have one gradient and a larger batch brings nothing, and S, where the mean
drowns in noise. The rate is that of the schedule times r, and the schedule and the end of the run count the sum tau of
the gains, the *scale-invariant steps*, in place of steps: about as far as a run of batches of B_0 rows would have come.

It is derived for SGD, with or without momentum: an update that is proportional to the rate and to the gradient.
Both numbers are those of `noise_scale`: of the loss without the L2 term, before clipping.
"""

__all__ = ["OPTIMIZERS", "gain"]

OPTIMIZERS = ("sgd", "momentum", "nesterov")
"""Those whose update is proportional to the gradient."""

_LEAST = 1e-200
"""Floor of sigma^2, for 0 / 0. That of the paper's code, 1e-6, would make the gain depend on the unit of the loss."""


def gain(noise: list[float], base: int, rows: int) -> float:
    """The gain r of a batch, from 1 to ``max(1, rows / base)``.

    Parameters
    ----------
    noise : list of float
        Weighted sums of tr(Sigma) and |G|^2, and the weight; see `noise_scale.averaged`.
    base : int
        B_0, rows of the batch that the rate is meant for.
    rows : int
        Rows of this batch. It may be the short last one of an epoch, with less than B_0: it counts as one of those.

    References
    ----------
    Johnson, Agrawal, Gu, Guestrin: AdaScale SGD, ICML 2020, section 3.
    """
    trace, square, weight = noise
    if not weight:
        return 1.0
    scale = max(1.0, rows / base)
    sigma2, mu2 = max(trace / weight / base, _LEAST), max(square / weight, 0.0)
    return min((sigma2 + mu2) / (sigma2 / scale + mu2), scale)
