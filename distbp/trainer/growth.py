"""A batch that grows with the gradient noise scale, while the rate stays.

Near a minimum the gradients of the rows cancel, and what is left in the mean of a small batch is noise. Either the rate
falls, or the batch grows: both lessen the noise of a step alike, and the second takes fewer steps (Smith et al. 2018).
The noise scale says when: up to it a larger batch saves about as many steps as it costs rows (McCandlish et al. 2018).

So after each epoch the batch becomes the largest of

    LOW, 2 LOW, 4 LOW, ...        at most HIGH, and at most the noise scale

and never smaller than it was. Within an epoch it stays, so that every row still comes once in it.
"""

from distbp.trainer.noise_scale import figures

__all__ = ["next_size"]


def next_size(present: int, high: int, noise: list[float]) -> int:
    """Rows of a batch in the next epoch.

    Parameters
    ----------
    present, high : int
        Rows in this one, and at most.
    noise : list of float
        Weighted sums of tr(Sigma) and |G|^2, and the weight; see `noise_scale.averaged`. Without an estimate of |G|^2
        above 0 the batch stays as it is.
    """
    limit = min(figures(noise).get("noise_scale", 0.0), high)
    while 2 * present <= limit:
        present *= 2
    return present
