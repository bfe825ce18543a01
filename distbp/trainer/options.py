"""What a `Trainer` is told: batches, the way of the gradient, what is done beside the steps, who looks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from distbp.comm.communicator import Communicator
from distbp.data.dataset import Target
from distbp.data.loading import load
from distbp.data.prepared import Data, Prepared
from distbp.data.sampling import Epochs
from distbp.errors import UserError
from distbp.gradient.choose import BUCKET_BYTES, gradient_reducer
from distbp.gradient.reducer import GradientReducer
from distbp.network.activations import ACTIVATIONS
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import LOSSES, FunctionLoss, Loss, SoftmaxCrossEntropy
from distbp.optim.optimizer import Optimizer
from distbp.optim.rules import make_optimizer
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
    compress : {"none", "bf16", "low-rank"}
        What travels between ranks that do not share memory; see `distbp.gradient.bf16`, `distbp.gradient.low_rank`.
    compress_rank : int
        Of the matrices of ``low-rank``.
    oversubscribe : bool
        Whether ranks for which a host has no core compute, too; see `distbp.trainer.crew`.
    """

    reduction: str = "auto"
    leaves: int | None = None
    micro_batch: int | None = None
    bucket_bytes: int = BUCKET_BYTES
    compress: str = "none"
    compress_rank: int = 4
    oversubscribe: bool = False

    def reducer(self, comm: Communicator, network: Network | FunctionModel, loss: Loss, size: int) -> GradientReducer:
        """Make the reducer of a network for batches of at most `size` rows."""
        ours = isinstance(network, Network) and network.activation.name in ACTIVATIONS
        return gradient_reducer(
            comm, network, self.reduction, batch_size=size, micro_batch=self.micro_batch, leaves=self.leaves,
            bucket_bytes=self.bucket_bytes, compress=self.compress, compress_rank=self.compress_rank,
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

    def heard_by(self, observer: Observer) -> "Components":
        """Return them, after they were told who hears their remarks."""
        if self.saver is not None:
            self.saver.on_remark = observer.remark
        return self


def as_optimizer(given: Optimizer | str) -> Optimizer:
    """Return an optimiser, made with its usual rate where only its name is given."""
    return make_optimizer(given) if isinstance(given, str) else given


def as_rows(given: Any, network: Network | FunctionModel, like: Target | None = None) -> Prepared:
    """Return prepared rows, also of a pair of arrays (X, y), whose target is `like` that of other rows."""
    if isinstance(given, Data):
        raise UserError("Trainer takes the rows of a part, data.train, not all of what load gives")
    if not isinstance(given, tuple):
        return cast(Prepared, given)
    X, y = given
    parts = load(
        X, y, validation_fraction=0.0, test_fraction=0.0, scaling="none", scale_target=False, dtype=network.dtype,
        like=like,
    )  # fmt: skip
    return parts.train


def refuse_misfit(network: Network | FunctionModel, loss: Loss, train: Prepared) -> None:
    """Refuse a network that does not fit the data: their inputs, or their outputs where the loss compares these."""
    wanted, values = train.preprocessor.code_values, tuple(map(len, network.embeddings))
    if network.sizes[0] != train.preprocessor.n_inputs:
        raise ValueError(f"the network has {network.sizes[0]} inputs, the data {train.preprocessor.n_inputs}")
    if values != wanted:
        raise ValueError(f"the data has codes of {wanted} values: Network(..., embeddings={wanted}), not {values}")
    target, k = train.target, network.output_shape[-1]
    if target is None or isinstance(loss, FunctionLoss) or len(network.output_shape) > 1:
        return
    n = target.n_outputs
    fits = (
        k == n or target.kind == "classes" and (k > n if isinstance(loss, SoftmaxCrossEntropy) else k == 1 and n == 2)
    )
    if not fits:
        what = {"classes": "classes", "labels": "labels", "values": "target values"}[target.kind]
        raise ValueError(f"the network has {k} outputs, the data {n} {what}: with {loss.name} they do not fit")
