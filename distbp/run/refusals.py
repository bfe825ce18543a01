"""What is refused, and what is remarked on: options that do not go together, and options that do nothing."""

from pathlib import Path

from distbp.data.dataset import Target
from distbp.data.prepared import Data
from distbp.errors import UsageError, UserError
from distbp.network.user_functions import is_function_name
from distbp.report.run_files import options_in
from distbp.run.options import TrainConfig, flag
from distbp.run.recipes import RECIPES
from distbp.trainer.trainer import Trainer

SUITABLE_LOSS = {"classes": "softmax-cross-entropy", "labels": "binary-cross-entropy", "values": "squared-error"}
"""What ``--loss auto`` is, by the kind of the target."""
_UNSUITABLE = {"labels": ("softmax-cross-entropy",), "values": ("softmax-cross-entropy", "binary-cross-entropy")}


def refuse_members(config: TrainConfig) -> None:
    """Refuse what does not go with several networks, before any data is read."""
    if config.folds and (config.ensemble > 1 or config.validation_data):
        no = "--ensemble" if config.ensemble > 1 else "--validation-data"
        raise UsageError(f"--folds and {no} do not go together: each fold validates, and its network is a member")
    if config.init_from and (config.has_members or config.model):
        no = "--model" if config.model else "--folds" if config.folds else "--ensemble"
        raise UsageError(f"--init-from and {no} do not go together: it goes on from one network of distbp's own")


def refuse_mixtures(config: TrainConfig, n: int) -> None:
    """Refuse options that do not go together, or not with `n` training rows."""
    if config.compress != "none" and config.dtype != "float32":
        raise UsageError(f"--compress {config.compress} needs --dtype float32")
    if config.exact and config.compress != "none":
        raise UsageError(f"--compress {config.compress}: what it rounds depends on the ranks; leave it out, or --exact")
    if config.batch_size is not None and config.batch_size > n:
        cure = f"give --batch-size {n} (the full batch) or less"
        raise UserError(f"a batch size of {config.batch_size} is above the {n} training rows: {cure}")


def refuse_threshold(config: TrainConfig, target: Target) -> None:
    """Refuse a threshold where there is no second of two classes, with its probability."""
    if config.threshold == "none":
        return
    if target.kind != "classes" or len(target.classes) != 2:
        raise UsageError(f"--threshold {config.threshold} is for two classes: this is a {target}")
    if is_function_name(config.loss):
        raise UsageError(f"--threshold {config.threshold} needs probabilities, which --loss {config.loss} has not")


def refuse_loss(name: str, target: Target) -> None:
    """Refuse a loss that does not suit the target."""
    if name in _UNSUITABLE.get(target.kind, ()):
        raise UserError(f"--loss {name} does not suit a {target}; {SUITABLE_LOSS[target.kind]} does")


def other_length(before: Path, config: TrainConfig) -> list[str]:
    """Return a remark where a run that is resumed ends at another time than its schedule was made for.

    `before` is the ``config.toml`` of the run so far.
    """
    if config.schedule != "cosine":
        return []
    run = options_in(before)
    was, now = (_length(run.get("epochs"), run.get("steps")), _length(config.epochs, config.steps))
    if not run or was == now:
        return []
    cure = f"its model is better after {was}, or begin anew with --init-from"
    return [f"--schedule cosine was to end after {was} and ends after {now} now: the rate jumps; {cure}"]


def _length(epochs: int | None, steps: int | None) -> str:
    return f"{epochs} epochs" if epochs is not None else f"{steps} steps" if steps is not None else "its own"


def idle_options(config: TrainConfig, data: Data, trainer: Trainer) -> list[str]:
    """Return a remark for each option that was given and does nothing in this run."""
    loss, reducer, elastic = trainer.loss.name, trainer.reducer, trainer.comm.elastic
    schedule = config.schedule
    used = {
        **dict.fromkeys(("hidden", "activation", "init", "dropout"), (config.model is None, "--model")),
        "momentum": (config.optimizer in ("momentum", "nesterov", "lars"), f"--optimizer {config.optimizer}"),
        "label_smoothing": (loss == "softmax-cross-entropy", f"--loss {loss}"),
        "huber_threshold": (loss == "huber", f"--loss {loss}"),
        "leaves": (config.exact, "no --exact"),
        "mixed_hosts": (config.exact, "no --exact"),
        "noise_scale": (
            trainer.network.dense or trainer.crew.comm.size > 1 or config.exact or config.micro_batch is not None,
            "a model of your own on one rank, which gives one gradient (--exact gives one of each leaf)",
        ),
        "elastic": (elastic or not config.elastic, "one process"),
        "oversubscribe": (trainer.comm.crowded and not elastic, "a core for each rank, or ranks that may be lost"),
        "least_ranks": (elastic, "ranks that cannot go on without the others"),
        "bucket_mb": (reducer.in_buckets, "a gradient that is not sent in buckets"),
        "compress": (reducer.sends, "a gradient that is not sent"),
        "compress_rank": (reducer.sends and config.compress == "low-rank", f"--compress {config.compress}"),
        "decay": (schedule in ("step", "exponential", "plateau"), f"--schedule {schedule}"),
        "decay_every": (schedule in ("step", "exponential", "inverse"), f"--schedule {schedule}"),
        "decay_patience": (schedule == "plateau", f"--schedule {schedule}"),
        "lr_floor": (schedule != "constant", f"--schedule {schedule}"),
        "lr_scaling_base": (config.lr_scaling != "none", "--lr-scaling none"),
        "scale_target": (data.target.kind == "values", f"a {data.target}"),
        "monitor": (trainer.judge.keep_best, "--keep-model last, and no --early-stopping"),
        "keep_model": (data.validation is not None, "no rows to validate on: the last model is kept"),
        "threshold": (data.validation is not None, "no rows to validate on"),
        "validation_fraction": (config.validation_data is None, "--validation-data"),
        "test_fraction": (config.test_data is None, "--test-data"),
    }
    default = TrainConfig(**RECIPES[config.recipe])
    return [
        f"warning: --{flag(name)} does nothing with {why}"
        for name, (is_used, why) in used.items()
        if not is_used and getattr(config, name) != getattr(default, name)
    ]
