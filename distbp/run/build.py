"""From a configuration to objects: the only place below the front doors that knows its options."""

from typing import Any

from distbp.comm.communicator import Communicator
from distbp.data.loading import Data, TableOptions, load
from distbp.data.sampling import BatchSampler
from distbp.errors import UsageError, UserError
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import FunctionLoss, Loss, make_loss
from distbp.optim.rules import make_optimizer
from distbp.optim.schedules import Schedule, scale_rate
from distbp.run.config import TrainConfig, parse_every, parse_interval
from distbp.trainer.early_stopping import MetricTarget
from distbp.trainer.trainer import Trainer

__all__ = ["build_trainer", "idle_options", "load_data", "run_length"]


def load_data(config: TrainConfig, comm: Communicator) -> Data:
    """Training, validation and test rows from a configuration; all ranks load them."""
    return load(
        config.data,
        TableOptions(
            target=config.target, task=config.task, header=config.header, bad_rows=config.bad_rows,
            weight=config.sample_weight, ignore=config.ignore, categorical=config.categorical,
        ),
        comm=comm, validation_data=config.validation_data, test_data=config.test_data,
        validation_fraction=config.validation_fraction, test_fraction=config.test_fraction,
        scaling=config.preprocessing, impute=config.impute, scale_target=config.scale_target,
        class_weight=config.class_weight, dtype=config.dtype, seed=config.seed,
    )  # fmt: skip


def build_trainer(config: TrainConfig, data: Data, comm: Communicator, **more: Any) -> Trainer:
    """Network, loss, optimiser, schedule and trainer from a configuration."""
    loss, n_outputs = _loss(config, data)
    n_inputs = data.preprocessor.n_inputs
    network: Network | FunctionModel
    if config.model is not None:
        network = FunctionModel.named(config.model, n_inputs, n_outputs, dtype=config.dtype, seed=config.seed)
    else:
        network = Network(
            [n_inputs, *config.hidden_sizes(), n_outputs], config.activation,
            init=config.init, dropout=config.dropout, dtype=config.dtype, seed=config.seed,
        )  # fmt: skip
    optimizer = make_optimizer(
        config.optimizer, config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
        layers=network.weight_slices,
    )  # fmt: skip
    n = data.train.n_rows
    optimizer.lr = scale_rate(optimizer.lr, config.lr_scaling, config.batch_size, config.lr_scaling_base)
    if config.compress != "none" and config.dtype != "float32":
        raise UsageError(f"--compress {config.compress} needs --dtype float32")
    if config.exact and config.compress != "none":
        raise UsageError(f"--compress {config.compress}: what it rounds depends on the ranks; leave it out, or --exact")
    if config.batch_size > n:
        raise UserError(
            f"a batch size of {config.batch_size} is above the {n} training rows:"
            f" give --batch-size {n} (the full batch) or less"
        )
    sampler = BatchSampler(n, config.batch_size, drop_last=config.drop_last)
    per_epoch, total = sampler.steps_per_epoch, sampler.total_steps(*run_length(config))
    schedule = Schedule(
        config.schedule, warmup=parse_interval(config.warmup, per_epoch), total=total,
        every=parse_interval(config.decay_every, per_epoch), decay=config.decay, floor=config.lr_floor,
        patience=config.decay_patience,
    )  # fmt: skip
    return Trainer(
        network, loss, optimizer, data.train, validation=data.validation, comm=comm,
        batch_size=config.batch_size, micro_batch=config.micro_batch, schedule=schedule,
        clip_norm=config.clip_norm, on_nonfinite=config.on_nonfinite, seed=config.seed,
        drop_last=config.drop_last,
        reduction=config.reduction, bucket_bytes=int(min(config.bucket_mb, 2.0**20) * 2**20), compress=config.compress,
        least_ranks=config.least_ranks,
        leaves=config.leaves if config.exact else None, monitor=config.monitor, patience=config.early_stopping,
        target=MetricTarget.parse(config.target_metric) if config.target_metric else None,
        noise_every=config.noise_scale, log_every=parse_every(config.log_every),
        eval_every=parse_every(config.eval_every), checkpoint_every=parse_every(config.checkpoint_every),
        checkpoint_async=config.checkpoint_async, on_checkpoint_error=config.on_checkpoint_error,
        audit_every=parse_every(config.audit_every), **more,
    )  # fmt: skip


def run_length(config: TrainConfig) -> tuple[int | None, int | None]:
    """Epochs and steps, either of which may be open."""
    return (30 if config.epochs is None and config.steps is None else config.epochs), config.steps


def _loss(config: TrainConfig, data: Data) -> tuple[Loss, int]:
    """The loss that suits the target, and how many outputs it wants."""
    kind, n = data.target.kind, data.target.n_outputs
    suits = {"classes": "softmax-cross-entropy", "labels": "binary-cross-entropy", "values": "squared-error"}
    name = suits[kind] if config.loss == "auto" else config.loss
    if (kind, name) in {
        ("values", "softmax-cross-entropy"), ("values", "binary-cross-entropy"), ("labels", "softmax-cross-entropy"),
    }:  # fmt: skip
        raise UserError(f"--loss {name} does not suit a {data.target}; {suits[kind]} does")
    loss = make_loss(name, smoothing=config.label_smoothing, threshold=config.huber_threshold)
    if isinstance(loss, FunctionLoss):
        return loss, getattr(loss.function, "n_outputs", n)
    return loss, 1 if name == "binary-cross-entropy" and kind == "classes" and n == 2 else n


def idle_options(config: TrainConfig, data: Data, trainer: Trainer) -> list[str]:
    """A remark for each option that was given and does nothing in this run."""
    loss, reducer, elastic = _loss(config, data)[0].name, trainer.reducer, trainer.comm.elastic
    schedule = config.schedule
    dense = config.model is None, "--model"
    used = {
        "hidden": dense,
        "activation": dense,
        "init": dense,
        "dropout": dense,
        "momentum": (config.optimizer in ("momentum", "nesterov", "lars"), f"--optimizer {config.optimizer}"),
        "label_smoothing": (loss == "softmax-cross-entropy", f"--loss {loss}"),
        "huber_threshold": (loss == "huber", f"--loss {loss}"),
        "leaves": (config.exact, "no --exact"),
        "noise_scale": (
            trainer.network.dense or trainer.comm.size > 1 or config.exact or config.micro_batch is not None,
            "a model of your own on one rank, which gives one gradient (--exact gives one of each leaf)",
        ),
        "elastic": (elastic or not config.elastic, "one process"),
        "least_ranks": (elastic, "ranks that cannot go on without the others"),
        "bucket_mb": (reducer.in_buckets, "a gradient that is not sent in pieces"),
        "compress": (reducer.sends, "a gradient that is not sent"),
        "decay": (schedule in ("step", "exponential", "plateau"), f"--schedule {schedule}"),
        "decay_every": (schedule in ("step", "exponential", "inverse"), f"--schedule {schedule}"),
        "decay_patience": (schedule == "plateau", f"--schedule {schedule}"),
        "lr_floor": (schedule != "constant", f"--schedule {schedule}"),
        "lr_scaling_base": (config.lr_scaling != "none", "--lr-scaling none"),
        "scale_target": (data.target.kind == "values", f"a {data.target}"),
        "monitor": (config.early_stopping is not None, "no --early-stopping"),
        "validation_fraction": (config.validation_data is None, "--validation-data"),
        "test_fraction": (config.test_data is None, "--test-data"),
    }
    default = TrainConfig()
    return [
        f"warning: --{name.replace('_', '-')} does nothing with {why}"
        for name, (is_used, why) in used.items()
        if not is_used and getattr(config, name) != getattr(default, name)
    ]
