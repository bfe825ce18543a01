"""The options of a run: one definition gives flags, TOML keys, defaults, types and help.

``--batch-size`` and the key ``batch-size`` are the field ``batch_size``. Only front doors see this object; everything
below takes plain arguments.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distbp.data.sampling import Epochs
from distbp.errors import UsageError
from distbp.gradient.choose import BUCKET_BYTES, REDUCTIONS
from distbp.gradient.transport import COMPRESSIONS
from distbp.network.activations import ACTIVATIONS
from distbp.network.initialisation import INITIALISATIONS
from distbp.network.losses import LOSSES
from distbp.network.user_functions import is_function_name
from distbp.optim.rules import OPTIMIZERS
from distbp.optim.schedules import SCALINGS, SCHEDULES
from distbp.trainer.saver import ON_ERROR

__all__ = ["MAY_CHANGE", "TrainConfig", "flag", "parse_every", "parse_interval"]


MAY_CHANGE = frozenset(
    "epochs steps run_dir resume checkpoint_every keep eval_every log_every dry_run target_metric"
    " micro_batch reduction bucket_mb compress communicator on_nonfinite profile elastic least_ranks"
    " noise_scale hang_timeout audit_every checkpoint_async on_checkpoint_error oversubscribe".split()
)
"""Options that a resumed run may have changed: they do not touch what was computed so far."""


class _OrFunction(tuple[str, ...]):
    """Choices beside which a function of the user's may be named."""

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or is_function_name(str(value))


def _batch_size(text: str) -> int:
    """Return the number of rows that a text says; the files of earlier versions hold it as text."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a batch has one size now: a number of rows, not {text!r}") from None


def _option(
    default: Any,
    group: str,
    text: str,
    choices: Any = None,
    metavar: str | None = None,
    read: Callable[[str], Any] | None = None,
) -> Any:
    if choices and not isinstance(choices, tuple):
        choices = tuple(choices)
    meta = {"group": group, "help": text, "choices": choices, "metavar": metavar, "read": read}
    return dataclasses.field(default=default, metadata=meta)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of ``distbp.train``."""

    data: str = _option(
        "digits",
        "data",
        "digits, synthetic:KIND,rows=N,..., a directory of idx files, or a .csv, .npz, .npy file",
        metavar="NAME_OR_PATH",
    )
    target: str | None = _option(
        None, "data", "name or number (from 0) of the target column(s); the last by default", metavar="COLUMN"
    )
    task: str = _option("auto", "data", "what the target is", ("auto", "classification", "regression"))
    validation_data: str | None = _option(None, "data", "a separate file to validate on", metavar="PATH")
    test_data: str | None = _option(None, "data", "a separate file to test on", metavar="PATH")
    validation_fraction: float = _option(0.1, "data", "part of the rows to validate on")
    test_fraction: float = _option(0.2, "data", "part of the rows to test on")
    header: str = _option("auto", "data", "whether the first line of a CSV holds names", ("auto", "yes", "no"))
    bad_rows: str = _option("error", "data", "what a bad row of a CSV does", ("error", "skip"))
    categorical: str | None = _option(None, "data", "columns of a CSV to treat as categories", metavar="COLUMNS")
    ignore: str | None = _option(None, "data", "columns of a CSV to leave out", metavar="COLUMNS")
    sample_weight: str | None = _option(
        None, "data", "column of a CSV, or array of an .npz, with the weight of each row", metavar="COLUMN"
    )
    class_weight: str = _option("none", "data", "balanced: each class counts the same", ("none", "balanced"))
    preprocessing: str = _option(
        "auto",
        "data",
        "scaling of numeric columns; auto: minmax for images, else standardize",
        ("auto", "standardize", "minmax", "none"),
    )
    impute: str = _option("mean", "data", "what a missing number becomes", ("mean", "zero"))
    scale_target: bool = _option(True, "data", "standardise a regression target")

    hidden: str = _option(
        "256,128", "model", "units of the hidden layers, e.g. 256,128; none: a linear model", metavar="UNITS"
    )
    activation: str = _option(
        "relu", "model", "of the hidden layers; or module:function, a function of arrays", _OrFunction(ACTIVATIONS)
    )
    model: str | None = _option(
        None,
        "model",
        "a model of your own in place of the dense network: a pair (init, predict) of functions",
        metavar="MODULE:NAME",
    )
    init: str = _option("auto", "model", "initial weights; auto suits the activation", INITIALISATIONS)
    dropout: float = _option(0.0, "model", "fraction of hidden activations dropped in training")
    dtype: str = _option("float32", "model", "of parameters and passes", ("float32", "float64"))

    loss: str = _option(
        "auto",
        "loss",
        "auto: softmax, binary cross-entropy for labels, squared error for values; or module:function",
        _OrFunction(("auto", *LOSSES)),
    )
    label_smoothing: float = _option(0.0, "loss", "of the softmax cross-entropy")
    huber_threshold: float = _option(
        1.0, "loss", "where the huber loss turns linear, in standard deviations of the target"
    )

    optimizer: str = _option("adam", "optimisation", "how the gradient changes the parameters", OPTIMIZERS)
    lr: float | None = _option(None, "optimisation", "peak learning rate; each optimizer has its own default")
    momentum: float = _option(0.9, "optimisation", "of momentum, nesterov, lars")
    weight_decay: float = _option(0.0, "optimisation", "L2 coefficient (adamw, lamb: decoupled), weights only")
    clip_norm: float | None = _option(None, "optimisation", "largest norm of the gradient")
    schedule: str = _option("constant", "optimisation", "of the learning rate", SCHEDULES)
    warmup: str = _option("0", "optimisation", "linear warm-up before it: steps, or e.g. '2 epochs'", metavar="N")
    decay_every: str = _option(
        "10 epochs", "optimisation", "schedules step, exponential, inverse: steps or epochs", metavar="N"
    )
    decay: float = _option(0.1, "optimisation", "factor of the schedules step, exponential, plateau")
    decay_patience: int = _option(5, "optimisation", "schedule plateau: more evaluations than this without improvement")
    lr_floor: float = _option(0.0, "optimisation", "least factor of the rate")
    lr_scaling: str = _option("none", "optimisation", "scale the rate with batch size / base", SCALINGS)
    lr_scaling_base: int = _option(64, "optimisation", "the batch size that --lr is meant for")

    batch_size: int = _option(
        32, "run", "global batch size: rows of a step over all ranks", metavar="ROWS", read=_batch_size
    )
    micro_batch: int | None = _option(None, "run", "most rows that a rank passes at once: same gradient, less memory")
    drop_last: bool = _option(False, "run", "leave out the short last batch of an epoch")
    epochs: int | None = _option(None, "run", "passes over the training rows; 30 if --steps is not given")
    steps: int | None = _option(None, "run", "updates")
    seed: int = _option(0, "run", "of split, weights, permutations, dropout")
    on_nonfinite: str = _option("stop", "run", "what a loss that is not finite does", ("stop", "skip"))
    early_stopping: int | None = _option(
        None, "run", "end after N evaluations without improvement, restore the best", metavar="N"
    )
    monitor: str = _option("loss/val", "run", "the metric that early stopping watches", metavar="METRIC")
    target_metric: str | None = _option(None, "run", "end when reached, e.g. 'accuracy/val>=0.97'", metavar="CONDITION")
    communicator: str = _option("auto", "run", "auto: MPI under a launcher", ("auto", "mpi", "serial"))
    reduction: str = _option(
        "auto",
        "run",
        "shared: ranks of a host share memory; allreduce: one message; overlap: pieces during backpropagation",
        REDUCTIONS,
    )
    exact: bool = _option(False, "run", "the same bits on any number of ranks")
    leaves: int = _option(8, "run", "parts of a batch with --exact, which the ranks share out")
    elastic: bool | None = _option(
        None, "run", "go on when ranks die, with mpirun --with-ft ulfm (Open MPI 5); on where the launch has it"
    )
    least_ranks: int = _option(1, "run", "with fewer ranks, after losses, stop with a checkpoint and exit code 75")
    hang_timeout: float = _option(
        600.0, "run", "seconds without progress after which a run says where it hangs, and ends; 0: never"
    )
    oversubscribe: bool = _option(False, "run", "ranks for which a host has no core compute, too")
    compress: str = _option("none", "run", "what travels between ranks in place of float32", COMPRESSIONS)
    bucket_mb: float = _option(BUCKET_BYTES / 2**20, "run", "MiB of a piece that travels while others are computed")

    noise_scale: int = _option(
        0,
        "output",
        "steps between estimates of the gradient noise scale, which is logged; 0: never",
        metavar="N",
    )
    run_dir: str | None = _option(None, "output", "where everything goes; runs/NAME-K by default", metavar="DIR")
    resume: str = _option(
        "never", "output", "auto: continue from the newest valid checkpoint, if any", ("never", "auto")
    )
    checkpoint_every: str = _option("1 epoch", "output", "steps, or e.g. '5 epochs'; 0: only at the end", metavar="N")
    checkpoint_async: bool = _option(False, "output", "write checkpoints beside the next steps")
    on_checkpoint_error: str = _option("stop", "output", "what a checkpoint that cannot be written does", ON_ERROR)
    audit_every: str = _option(
        "0", "output", "steps or epochs between comparisons of the ranks' parameters; 0: never", metavar="N"
    )
    keep: int = _option(2, "output", "newest checkpoints that stay, besides the best")
    eval_every: str = _option(
        "1 epoch", "output", "steps or epochs between evaluations; 0: only at the end", metavar="N"
    )
    log_every: str = _option("1 epoch", "output", "steps or epochs between log records", metavar="N")
    profile: bool = _option(
        False, "output", "say where the time of a step goes; trace.json opens in Perfetto or chrome://tracing"
    )
    dry_run: bool = _option(False, "output", "print configuration, network, memory and messages; do not train")

    def __post_init__(self) -> None:
        def need(good: bool, name: str, what: str) -> None:
            if not good:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: {what}")

        need(self.batch_size >= 1, "batch_size", "at least 1 row")
        need(self.leaves >= 1, "leaves", "at least 1")
        need(self.noise_scale >= 0, "noise_scale", "at least 0")
        for name in ("epochs", "steps"):
            need((getattr(self, name) or 0) >= 0, name, "at least 0")
        for name in ("micro_batch", "early_stopping"):
            need(getattr(self, name) is None or getattr(self, name) >= 1, name, "at least 1")
        need(self.decay_patience >= 0, "decay_patience", "at least 0")
        for name in ("keep", "lr_scaling_base", "least_ranks"):
            need(getattr(self, name) >= 1, name, "at least 1")
        need(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "a number above 0")
        need(self.lr is None or 0 < self.lr < math.inf, "lr", "a number above 0")
        need(0 <= self.dropout < 1, "dropout", "a number in [0, 1)")
        need(0 <= self.momentum < 1, "momentum", "a number in [0, 1)")
        need(0 <= self.label_smoothing < 1, "label_smoothing", "a number in [0, 1)")
        need(0 <= self.weight_decay < math.inf, "weight_decay", "at least 0")
        need(0 < self.decay <= 1, "decay", "a number in (0, 1]")
        need(0 <= self.lr_floor <= 1, "lr_floor", "a number in [0, 1]")
        both = self.validation_fraction + self.test_fraction
        need(
            both < 1 or both != both, "validation_fraction", f"with --test-fraction {self.test_fraction} no row is left"
        )
        for name in ("validation_fraction", "test_fraction"):
            need(0 <= getattr(self, name) < 1, name, "a number in [0, 1)")
        need(0 <= self.hang_timeout < math.inf, "hang_timeout", "seconds, or 0 for never")
        need(self.bucket_mb > 0, "bucket_mb", "a number above 0")
        need(self.huber_threshold > 0, "huber_threshold", "a number above 0")
        for name in ("warmup", "decay_every", "checkpoint_every", "eval_every", "log_every", "audit_every"):
            parse_interval(getattr(self, name), 1, name)
        self.hidden_sizes()

    def hidden_sizes(self) -> list[int]:
        """``256,128`` as numbers; ``none`` as an empty list."""
        if self.hidden.strip().lower() in ("", "none"):
            return []
        try:
            sizes = [int(part) for part in self.hidden.split(",")]
        except ValueError:
            sizes = [0]
        if min(sizes) < 1:
            raise UsageError(f"--hidden {self.hidden!r}: write units of each layer, e.g. 256,128, or none")
        return sizes

    def to_toml(self) -> str:
        """The resolved configuration as a file that ``--config`` reads."""
        lines, group = [], ""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata["group"] != group:
                group = field.metadata["group"]
                lines.append(f"\n[{group}]")
            if value is None:
                lines.append(f"# {flag(field.name)} is not set")
            else:
                lines.append(f"{flag(field.name)} = {_toml(value)}")
        return "\n".join(lines).lstrip() + "\n"


def parse_interval(text: str, steps_per_epoch: int, name: str = "") -> int:
    """``500``, ``500 steps`` or ``2 epochs`` in steps."""
    number, _, unit = str(text).strip().partition(" ")
    if not (number.isascii() and number.isdigit()) or unit.strip() not in ("", "step", "steps", "epoch", "epochs"):
        raise UsageError(f"--{flag(name)} {text!r}: write a number of steps, or e.g. '2 epochs'")
    return int(number) * (steps_per_epoch if unit.strip().startswith("epoch") else 1)


def parse_every(text: str) -> int | Epochs:
    """``500 steps`` as a number, ``2 epochs`` as `Epochs`."""
    n = parse_interval(text, 1)
    return Epochs(n) if n and "epoch" in text else n


def _toml(value: Any) -> str:
    """A value as TOML: JSON but for infinities, and characters as they are."""
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def flag(name: str) -> str:
    """Return the flag, without its dashes, or TOML key of a field."""
    return name.replace("_", "-")
