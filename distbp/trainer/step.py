"""One step: the lines to read beside the lecture, on any number of ranks.

Rows are taken from a permuted mini-batch, passed forward and back, and the gradient is summed over the ranks. Ranks add
sums and divide once by the global batch size, so uneven and empty parts are exact.
"""

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Prepared
from distbp.gradient.plan import Batch, Part
from distbp.gradient.reducer import GradientReducer
from distbp.gradient.statistics import Statistics
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import Loss
from distbp.optim.optimizer import Optimizer
from distbp.trainer.evaluation import hits

Array = NDArray[Any]


def step(
    rows: Prepared,
    network: Network | FunctionModel,
    loss: Loss,
    reducer: GradientReducer,
    optimizer: Optimizer,
    batch: Batch,
    count: Callable[[Part, Array, Array, Array], None],
) -> Statistics:
    """Update the parameters by the mean gradient of a batch, on all ranks; return its statistics.

    Parameters
    ----------
    rows : Prepared
        All training rows.
    network, loss : Network or FunctionModel, and Loss
        What is trained.
    reducer : GradientReducer
        That of the network, which sums over the ranks.
    optimizer : Optimizer
        Of the shard that this rank owns.
    batch : Batch
        Which rows, of all ranks together.
    count : callable
        ``count(part, losses, logits, y)`` adds up what is wanted of the rows of a part, by ``part.count``.
    """
    for part in reducer.parts(batch):  # one, unless micro-batches are asked for
        X, y, w = rows.take(part.positions, out=part.X)  # this rank's rows of the global batch, possibly none
        logits = network.forward(X, part)
        losses = loss.value(logits, y, delta=part.delta)  # and dC/dlogits of each row's own loss
        part.scale(losses, w, batch.size)  # times the rows' weights, divided by the *global* batch size
        network.backward(part.delta, part, reducer.ready)  # the gradient, from its end towards 0
        count(part, losses, logits, y)  # what is summed with the gradient
    statistics = reducer.wait()  # the gradient of the batch is in the shard that this rank owns
    if statistics.finite:
        optimizer.step(network.theta[reducer.shard], network.grad[reducer.shard], statistics.norm)
        optimizer.step_rows(reducer.rows, statistics.norm)  # of embeddings, those that the batch has
    reducer.barrier()  # the ranks of a host see each other's shards
    return statistics


class Counts:
    """Counts what is logged of the rows of a part: losses, hits, and squares of their gradients where these are due.

    Parameters
    ----------
    network, loss : Network or FunctionModel, and Loss
        What is trained.
    kind : str
        Of the metrics; see `distbp.trainer.evaluation.kind_of_metrics`.
    comm : Communicator
        Whose recorder hears that work goes on.

    Attributes
    ----------
    squares : int
        Factor of the squares, the square of the batch size; 0: they are not wanted.
    """

    def __init__(self, network: Network | FunctionModel, loss: Loss, kind: str, comm: Communicator) -> None:
        self.kind, self.squares = kind, 0
        self._network, self._loss, self._recorder = network, loss, comm.recorder

    def __call__(self, part: Part, losses: Array, logits: Array, y: Array) -> None:
        """Count the rows of a part."""
        self._recorder.tick()
        squares: Array | float = 0.0
        groups = 0
        if self.squares:
            of_groups, groups = self._network.group_squares(part)
            squares = of_groups * self.squares
        part.count(losses, hits(self._loss.scores(logits), y, self.kind), squares, groups)
