"""The options of a run: one definition gives flags, TOML keys, defaults, types and help.

``--batch-size`` and the key ``batch-size`` are the field ``batch_size``. Only front doors see this object; everything
below takes plain arguments.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from distbp.data import fitting
from distbp.data.sampling import Epochs
from distbp.errors import UsageError
from distbp.gradient.choose import BUCKET_BYTES, COMPRESSIONS, REDUCTIONS
from distbp.network.activations import ACTIVATIONS
from distbp.network.initialisation import INITIALISATIONS
from distbp.network.losses import LOSSES
from distbp.network.user_functions import is_function_name
from distbp.optim.rules import OPTIMIZERS
from distbp.optim.schedules import SCALINGS, SCHEDULES
from distbp.report import LANGUAGES
from distbp.run.recipes import BATCH, RECIPES
from distbp.run.trackers import TRACKERS
from distbp.trainer.calibration import THRESHOLDS
from distbp.trainer.saver import ON_ERROR

MAY_CHANGE = frozenset(
    "mixed_hosts data validation_data test_data recipe report track quiet keep_model calibrate threshold epochs"
    " steps run_dir early_stopping resume checkpoint_every keep eval_every dry_run log_every target_metric"
    " micro_batch reduction bucket_mb compress compress_rank communicator on_nonfinite profile elastic least_ranks"
    " noise_scale hang_timeout audit_every cache checkpoint_async on_checkpoint_error oversubscribe threads".split()
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


def _option(group: str, default: Any, text: str, choices: Collection[str] | None = None, **more: Any) -> Any:
    """Return a field; `more` are ``metavar``, ``read``, which makes a value of a text, and ``shown``: the default."""
    meta = {"group": group, "help": text, "choices": choices, "metavar": None, "read": None, "shown": default, **more}
    return dataclasses.field(default=default, metadata=meta)


_data, _model, _loss = partial(_option, "data"), partial(_option, "model"), partial(_option, "loss")
_optimisation, _run, _output = partial(_option, "optimisation"), partial(_option, "run"), partial(_option, "output")

_THRESHOLDS = ("none", *THRESHOLDS)
_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("batch_size", lambda x: x >= 1, "at least 1 row"),
    (
        "ensemble threads leaves micro_batch early_stopping keep lr_scaling_base least_ranks compress_rank",
        lambda x: x >= 1,
        "at least 1",
    ),
    ("folds", lambda x: x >= 2, "at least 2"),
    ("bins", lambda x: x == 0 or 2 <= x <= 1024, "0, or from 2 to 1024"),
    ("noise_scale epochs steps decay_patience weight_decay", lambda x: 0 <= x < math.inf, "at least 0"),
    ("lr", lambda x: 0 < x < math.inf, "a number above 0"),
    ("clip_norm bucket_mb huber_threshold", lambda x: x > 0, "a number above 0"),
    ("dropout momentum label_smoothing", lambda x: 0 <= x < 1, "a number in [0, 1)"),
    ("validation_fraction test_fraction", lambda x: 0 <= x < 1, "a number in [0, 1)"),
    ("decay", lambda x: 0 < x <= 1, "a number in (0, 1]"),
    ("lr_floor", lambda x: 0 <= x <= 1, "a number in [0, 1]"),
    ("hang_timeout", lambda x: 0 <= x < math.inf, "seconds, or 0 for never"),
)
"""Options, the range of their values where there is one, and its description."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All options of ``distbp.train``."""

    data: str = _data(
        "digits",
        "digits, synthetic:KIND,rows=N,..., a directory of idx files, or .csv, .parquet, .jsonl, .npz, .h5, .npy files",
        metavar="NAME_OR_PATH",
    )
    target: str | None = _data(
        None, "name or number (from 0) of the target column(s); the last by default", metavar="COLUMN"
    )
    inputs: str | None = _data(None, "array of an .npz or .h5 file with the inputs; else X or its like", metavar="NAME")
    targets: str | None = _data(None, "array of such a file with the target; else y, ...", metavar="NAME")
    task: str = _data("auto", "what the target is", ("auto", "classification", "regression"))
    validation_data: str | None = _data(None, "a separate file to validate on", metavar="PATH")
    test_data: str | None = _data(None, "a separate file to test on", metavar="PATH")
    validation_fraction: float = _data(0.1, "part of the rows to validate on")
    test_fraction: float = _data(0.2, "part of the rows to test on")
    header: str = _data("auto", "whether the first line of a table holds names", ("auto", "yes", "no"))
    bad_rows: str = _data("error", "what a bad row of a table does", ("error", "skip"))
    categorical: str | None = _data(None, "columns of a table to treat as categories", metavar="COLUMNS")
    ignore: str | None = _data(None, "columns of a table to leave out", metavar="COLUMNS")
    keep_columns: str | None = _data(
        None, "columns of a table to keep although nothing seems to be learnt from them", metavar="COLUMNS"
    )
    encoding: str | None = _data(None, "of a table of text; UTF-8, or what its first bytes say", metavar="NAME")
    delimiter: str | None = _data(
        None, "between the fields of a table of text, or comma, semicolon, tab, pipe, space; else found out",
        metavar="CHARACTER",
    )  # fmt: skip
    decimal: str | None = _data(None, "what begins the fraction of a number in a table of text", (".", ","))
    thousands: str | None = _data(None, "what parts the thousands of a number in a table of text", metavar="CHARACTER")
    missing: str | None = _data(
        None, "texts that mean a missing value, with commas between; '' for empty cells alone", metavar="TEXTS"
    )
    cache: str = _data(
        "auto", "where converted tables are kept: a folder, none, or auto: the user's (~/.cache/distbp)", metavar="DIR"
    )
    sample_weight: str | None = _data(None, "column, or array of an .npz, with each row's weight", metavar="COLUMN")
    class_weight: str = _data("none", "balanced: each class counts the same", ("none", "balanced"))
    preprocessing: str = _data(
        "auto", "scaling of numeric columns; auto: minmax for images, else standardize", fitting.SCALINGS
    )
    bins: int | None = _data(None, "quantile bins that each number is encoded in, piecewise linearly; 0: none", shown=0)
    impute: str = _data("mean", "what a missing number becomes", ("mean", "zero"))
    scale_target: bool = _data(True, "standardise a regression target")

    recipe: str = _model(
        "plain", "values for options that are not given; auto suits the data", ("auto", *RECIPES), shown="auto"
    )
    hidden: str = _model("256,128", "units of the hidden layers, e.g. 256,128; none: a linear model", metavar="UNITS")
    activation: str = _model(
        "relu", "of the hidden layers; or module:function, a function of arrays", _OrFunction(ACTIVATIONS)
    )
    init_from: str | None = _model(
        None, "go on from a trained model: its network, columns and classes, and weights", metavar="RUN_OR_MODEL"
    )
    model: str | None = _model(
        None,
        "a model of your own in place of the dense network: a pair (init, predict) of functions",
        metavar="MODULE:NAME",
    )
    init: str = _model("auto", "initial weights; auto suits the activation", INITIALISATIONS)
    dropout: float = _model(0.0, "fraction of hidden activations dropped in training")
    dtype: str = _model("float32", "of parameters and passes", ("float32", "float64"))

    loss: str = _loss(
        "auto",
        "auto: softmax, binary cross-entropy for labels, squared error for values; or module:function",
        _OrFunction(("auto", *LOSSES)),
    )
    label_smoothing: float = _loss(0.0, "of the softmax cross-entropy")
    huber_threshold: float = _loss(1.0, "where the huber loss turns linear, in standard deviations of the target")

    optimizer: str = _optimisation("adam", "how the gradient changes the parameters", OPTIMIZERS)
    lr: float | None = _optimisation(None, "peak learning rate; each optimizer has its own default")
    momentum: float = _optimisation(0.9, "of momentum, nesterov, lars")
    weight_decay: float | None = _optimisation(None, "L2 coefficient, weights only (adamw, lamb: decoupled)", shown=0.0)
    clip_norm: float | None = _optimisation(None, "largest norm of the gradient")
    schedule: str = _optimisation("constant", "of the learning rate", SCHEDULES)
    warmup: str = _optimisation("0", "linear warm-up before it: steps, or e.g. '2 epochs'", metavar="N")
    decay_every: str = _optimisation("10 epochs", "schedules step, exponential, inverse: steps or epochs", metavar="N")
    decay: float = _optimisation(0.1, "factor of the schedules step, exponential, plateau")
    decay_patience: int = _optimisation(5, "schedule plateau: more evaluations than this without improvement")
    lr_floor: float = _optimisation(0.0, "least factor of the rate")
    lr_scaling: str = _optimisation("none", "scale the rate with batch size / base", SCALINGS)
    lr_scaling_base: int = _optimisation(64, "the batch size that --lr is meant for")

    batch_size: int | None = _run(
        None, "global batch size: rows of a step over all ranks", metavar="ROWS", read=_batch_size, shown=BATCH
    )
    micro_batch: int | None = _run(None, "most rows that a rank passes at once: same gradient, less memory")
    drop_last: bool = _run(False, "leave out the short last batch of an epoch")
    epochs: int | None = _run(None, "passes over the training rows; without it and --steps 30, or what the recipe says")
    steps: int | None = _run(None, "updates")
    seed: int = _run(0, "of split, weights, permutations, dropout")
    on_nonfinite: str = _run("stop", "what a loss that is not finite does", ("stop", "skip"))
    ensemble: int = _run(1, "networks that are trained, from other seeds; the model is their mean prediction")
    folds: int | None = _run(None, "parts of the training rows, each of which a network leaves out and is judged by")
    early_stopping: int | None = _run(None, "end after N evaluations without improvement, restore the best")
    keep_model: str = _run("last", "the model of the best evaluation, or of the last step", ("best", "last"))
    calibrate: bool = _run(False, "make probabilities as sharp as suits the validation rows, by one factor")
    threshold: str = _run("none", "from which probability on the second of two classes is predicted", _THRESHOLDS)
    monitor: str = _run("loss/val", "metric that says which is best; or module:function of targets and predictions")
    target_metric: str | None = _run(None, "end when reached, e.g. 'accuracy/val>=0.97'", metavar="CONDITION")
    communicator: str = _run("auto", "auto: MPI under a launcher", ("auto", "mpi", "serial"))
    reduction: str = _run(
        "auto",
        "shared: ranks of a host share memory; allreduce: one message; overlap: pieces during backpropagation",
        REDUCTIONS,
    )
    exact: bool = _run(False, "the same bits on any number of ranks")
    mixed_hosts: bool = _run(False, "go on with --exact where ranks differ in BLAS or CPU, and so maybe in bits")
    leaves: int = _run(8, "parts of a batch with --exact, which the ranks share out")
    elastic: bool | None = _run(
        None, "go on when ranks die, with mpirun --with-ft ulfm (Open MPI 5); on where the launch has it"
    )
    least_ranks: int = _run(1, "with fewer ranks, after losses, stop with a checkpoint and exit code 75")
    hang_timeout: float = _run(
        600.0, "seconds without progress after which a run says where it hangs, and ends; 0: never"
    )
    threads: int | None = _run(None, "most BLAS threads of a rank; by default its share of the cores that are idle")
    oversubscribe: bool = _run(False, "ranks for which a host has no core compute, too")
    compress: str = _run("none", "what travels between ranks in place of float32", COMPRESSIONS)
    compress_rank: int = _run(4, "of the matrices of --compress low-rank")
    bucket_mb: float = _run(BUCKET_BYTES / 2**20, "MiB of a piece that travels while others are computed")

    noise_scale: int = _output(0, "steps between estimates of the gradient noise scale, which is logged; 0: never")
    run_dir: str | None = _output(None, "where everything goes; runs/NAME-K by default", metavar="DIR")
    resume: str = _output("never", "auto: continue from the newest valid checkpoint, if any", ("never", "auto"))
    checkpoint_every: str = _output("1 epoch", "steps, or e.g. '5 epochs'; 0: only at the end", metavar="N")
    checkpoint_async: bool = _output(False, "write checkpoints beside the next steps")
    on_checkpoint_error: str = _output("stop", "what a checkpoint that cannot be written does", ON_ERROR)
    audit_every: str = _output(
        "0", "steps or epochs between comparisons of the ranks' parameters; 0: never", metavar="N"
    )
    keep: int = _output(2, "newest checkpoints that stay, besides the best")
    eval_every: str = _output("1 epoch", "steps or epochs between evaluations; 0: only at the end", metavar="N")
    log_every: str = _output("1 epoch", "steps or epochs between log records", metavar="N")
    profile: bool = _output(
        False, "say where the time of a step goes; trace.json opens in Perfetto or chrome://tracing"
    )
    track: str = _output("none", "also give the records to this program, in the run directory", ("none", *TRACKERS))
    report: str = _output("none", "report.html and report.md of the run, in this language", ("none", *LANGUAGES))
    quiet: bool = _output(False, "print nothing but errors")
    dry_run: bool = _output(False, "print configuration, network, memory and messages; do not train")

    def __post_init__(self) -> None:
        part, other = self.validation_fraction, self.test_fraction
        if part + other >= 1:
            raise UsageError(f"--validation-fraction {part}: with --test-fraction {other} no row is left")
        for names, good, what in _RANGES:
            for name in names.split():
                if (value := getattr(self, name)) is not None and not good(value):
                    raise UsageError(f"--{flag(name)} {value}: {what}")
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

    @property
    def has_members(self) -> bool:
        """Whether several networks are trained."""
        return self.ensemble > 1 or self.folds is not None

    def to_toml(self) -> str:
        """The resolved configuration as a file that ``--config`` reads."""
        lines, group = [], ""
        for field in dataclasses.fields(self):
            name, value = flag(field.name), getattr(self, field.name)
            if field.metadata["group"] != group:
                group = field.metadata["group"]
                lines.append(f"\n[{group}]")
            lines.append(f"# {name} is not set" if value is None else f"{name} = {_toml(value)}")
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
