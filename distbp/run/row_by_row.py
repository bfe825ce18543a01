"""Does a user's model or loss compute each row from that row alone? A try, before the first step."""

from typing import Any

import numpy as np

from distbp.data.prepared import Prepared
from distbp.network.activations import ACTIVATIONS
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import LOSSES, Loss
from distbp.randomness import key, normal

_ROWS = 8
_NEAR = {4: 1e-4, 8: 1e-9}
"""How much rounding changes, by the bytes of a number."""


def mixture_of_rows(network: Network | FunctionModel, loss: Loss, rows: Prepared) -> str:
    """Return a warning where outputs or losses of some `rows` are others when each is computed by itself, or "".

    Batch statistics, for one: then a gradient depends on how a batch is cut, and so on the number of ranks. Parameters
    are moved a little for the try: at the start many a model is all zeros.
    """
    own = isinstance(network, Network) and network.activation.name in ACTIVATIONS
    n = min(_ROWS, rows.n_rows)
    if (own and loss.name in LOSSES) or n < 2:
        return ""
    X, y, _ = rows.take(np.arange(n) * rows.n_rows // n)
    before = network.theta.copy()
    network.theta += 0.1 * normal(key(0, "row by row"), np.arange(len(before))).astype(before.dtype)

    def computed(some: slice) -> tuple[Any, Any]:
        z = np.array(network.forward(X[some]))
        return z, np.array(loss.value(z.copy(), y[some]))

    try:
        with np.errstate(all="ignore"):
            whole, alone = computed(slice(None)), [computed(slice(k, k + 1)) for k in range(n)]
    finally:
        network.theta[...] = before
        network.release()
    for together, what in zip(range(2), ("the outputs of a row depend", "the loss of a row depends"), strict=True):
        one_by_one = np.concatenate([pair[together] for pair in alone])
        scale = np.abs(whole[together]).max(initial=0.0)
        if np.isfinite(scale) and np.abs(one_by_one - whole[together]).max() > _NEAR[before.itemsize] * (1.0 + scale):
            return f"warning: {what} on the rows beside it: results depend on the number of ranks (--exact: of leaves)"
    return ""
