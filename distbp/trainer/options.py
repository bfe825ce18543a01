"""What a `Trainer` is told: batches, the way of the gradient, what is done beside the steps, who looks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.data.sampling import Epochs
from distbp.gradient.choose import BUCKET_BYTES, gradient_reducer
from distbp.gradient.reducer import GradientReducer
from distbp.network.activations import ACTIVATIONS
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import LOSSES, Loss
from distbp.trainer.early_stopping import Judge
from distbp.trainer.log import Log
from distbp.trainer.noise_scale import NoiseScale
from distbp.trainer.nonfinite import Nonfinite
from distbp.trainer.saver import Saver


@dataclass(frozen=True)
class Batches:
    """Which rows are in which batch.

    Parameters
    ----------
    size : int
        Rows of a step over *all* ranks.
    seed : int
        Of the permutations.
    drop_last : bool
        Leave out the short last batch of an epoch.
    """

    size: int = 64
    seed: int = 0
    drop_last: bool = False


@dataclass(frozen=True)
class Gradient:
    """Says how the ranks' parts become one gradient; see `distbp.gradient.plan`.

    Parameters
    ----------
    reduction : {"auto", "allreduce", "overlap", "shared"}
        The way.
    leaves : int, optional
        Exact mode: the same bits on any number of ranks, with a batch cut in so many leaves. It needs one BLAS thread
        (`distbp.run.blas.limited_blas`).
    micro_batch : int, optional
        Most rows that a rank, in exact mode of a leaf, passes at once: the same gradient in less memory.
    bucket_bytes : int
        About the bytes of what travels at a time.
    compress : {"none", "bf16"}
        What travels between ranks that do not share memory.
    oversubscribe : bool
        Whether ranks for which a host has no core compute, too; see `distbp.trainer.crew`.
    """

    reduction: str = "auto"
    leaves: int | None = None
    micro_batch: int | None = None
    bucket_bytes: int = BUCKET_BYTES
    compress: str = "none"
    oversubscribe: bool = False

    def reducer(self, comm: Communicator, network: Network | FunctionModel, loss: Loss, size: int) -> GradientReducer:
        """Make the reducer of a network for batches of at most `size` rows."""
        ours = isinstance(network, Network) and network.activation.name in ACTIVATIONS
        return gradient_reducer(
            comm, network, self.reduction, batch_size=size, micro_batch=self.micro_batch, leaves=self.leaves,
            bucket_bytes=self.bucket_bytes, compress=self.compress,
            apart=not ours or loss.name not in LOSSES,  # other functions may mix the rows they are given
        )  # fmt: skip


def _ignore(*news: Any) -> None:
    """Do nothing with what happens."""


@dataclass
class Observer:
    """Looks only: called on every rank that computes (see `Gradient`), after what it hears of.

    Parameters
    ----------
    on_record : callable, optional
        With each log record, a dict with slash names; after the loss of a rank the last one may come again.
    on_step : callable, optional
        With the trainer, after each step.
    on_lost : callable, optional
        With the names of lost ranks, and the seconds that it took to go on.
    on_remark : callable, optional
        With a line about what does not end the run: a slow rank, a checkpoint that failed.
    """

    on_record: Callable[[dict[str, Any]], object] = _ignore
    on_step: Callable[[Any], object] = _ignore
    on_lost: Callable[[list[int], float], object] = _ignore
    on_remark: Callable[[str], object] = _ignore

    def replay(self, records: Sequence[dict[str, Any]]) -> None:
        """Tell of log records."""
        for record in records:
            self.on_record(record)

    def remark(self, text: str) -> None:
        """Tell what does not end the run."""
        self.on_remark(f"warning: {text}")


@dataclass
class Components:
    """Holds what a run does beside its steps; of one trainer, since they remember.

    Parameters
    ----------
    log, judge, noise, nonfinite
        See `Log`, `Judge`, `NoiseScale`, `Nonfinite`.
    saver : Saver, optional
        Where checkpoints go; there are none by default.
    audit_every : int or Epochs
        Steps or epochs between comparisons of the replicas of the parameters, which are then compared before each
        checkpoint too; see `distbp.trainer.replicas`. 0 is never.
    least_ranks : int
        With fewer ranks than this the run stops, with a checkpoint.
    """

    log: Log = field(default_factory=Log)
    judge: Judge = field(default_factory=Judge)
    noise: NoiseScale = field(default_factory=NoiseScale)
    nonfinite: Nonfinite = field(default_factory=Nonfinite)
    saver: Saver | None = None
    audit_every: int | Epochs = 0
    least_ranks: int = 1
