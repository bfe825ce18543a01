"""From a configuration to objects: the only place below the front doors that knows its options."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.data.loading import load
from distbp.data.prepared import Data
from distbp.data.sampling import BatchSampler
from distbp.data.table.formats import TableOptions
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import FunctionLoss, Loss, make_loss
from distbp.network.user_functions import is_function_name
from distbp.optim.rules import make_optimizer
from distbp.optim.schedules import Schedule, scale_rate
from distbp.run.going_on import adopt, options_like, start_of, suited_to_start
from distbp.run.options import TrainConfig, parse_every, parse_interval
from distbp.run.recipes import ADAPTED, BATCH, RECIPES, batch_of, bins_of, decay_of, epochs_of
from distbp.run.refusals import SUITABLE_LOSS, refuse_loss, refuse_members, refuse_mixtures, refuse_threshold
from distbp.run.row_by_row import mixture_of_rows
from distbp.trainer.calibration import calibrated, threshold
from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.early_stopping import Judge, MetricTarget
from distbp.trainer.log import Log
from distbp.trainer.noise_scale import NoiseScale
from distbp.trainer.nonfinite import Nonfinite
from distbp.trainer.options import Batches, Components, Gradient
from distbp.trainer.saver import Saver
from distbp.trainer.trainer import Trainer


def load_data(config: TrainConfig, comm: Communicator, given: Mapping[str, Any] | None = None) -> Data:
    """Load training, validation and test rows as a configuration says, on all ranks.

    `given` are arguments of `load` in place of its own, for rows in memory: `data`, `y`, `validation_data`, ...; and
    `start`, a model to go on from.
    """
    refuse_members(config)
    mine = dict(given or {})
    options, model = table_options(config), mine.pop("start", None)
    start = start_of(config) if model is None else model
    if start is not None and (model is not None or "data" in mine):
        mine |= {"like": start.target, "columns_like": start.columns}
    elif start is not None:
        options = options_like(start, config, options, comm)
    arguments: dict[str, Any] = {
        "data": config.data, "validation_data": config.validation_data, "test_data": config.test_data,
        "validation_fraction": 0.0 if config.has_members else config.validation_fraction,
        "test_fraction": config.test_fraction, "scaling": config.preprocessing, "impute": config.impute,
        "scale_target": config.scale_target, "class_weight": config.class_weight, "dtype": config.dtype,
        "seed": config.seed, "cache": config.cache, "look_up": config.model is None, "bins": _bins(config),
        "fitted": None if start is None else start.preprocessor,
    }  # fmt: skip
    data = load(**(arguments | mine), options=options, comm=comm)
    data.start = start
    return data


def _bins(config: TrainConfig) -> int | Callable[[int], int]:
    """Return the number of bins, by the number of columns of numbers where nobody asked for one."""
    return partial(bins_of, config.recipe) if config.bins is None else config.bins


def table_options(config: TrainConfig) -> TableOptions:
    """Return how the tables of a configuration are read."""
    return TableOptions(
        target=config.target, task=config.task, inputs=config.inputs, targets=config.targets, header=config.header,
        bad_rows=config.bad_rows, weight=config.sample_weight, ignore=config.ignore, categorical=config.categorical,
        encoding=config.encoding, delimiter=config.delimiter, decimal=config.decimal, thousands=config.thousands,
        missing=config.missing, keep_columns=config.keep_columns, compact=config.dtype != "float64",
    )  # fmt: skip


def suited_to(data: Data, config: TrainConfig, before: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return the configuration with bins, a batch, a length and a decay that suit the data, where nobody asked for any.

    What the length decides stays as it was `before`, in the run that is resumed.
    """
    if data.start is not None:
        config = suited_to_start(config, data.start)
    n, recipe, asked = data.train.n_rows, config.recipe, config.batch_size
    if config.bins is None:
        numbers = [texts for _, texts in data.preprocessor.columns if texts is None]
        config = dataclasses.replace(config, bins=bins_of(recipe, len(numbers)))
    batch = batch_of(recipe, n) if asked is None else asked
    if asked is None and batch > n:
        data.remarks.append(f"the batch is all {n} training rows, not {batch}")
        batch = n
    config = dataclasses.replace(config, batch_size=batch)
    sampler = BatchSampler(n, min(batch, n), drop_last=config.drop_last)
    if config.epochs is None and config.steps is None:
        config = dataclasses.replace(config, epochs=epochs_of(recipe, sampler.steps_per_epoch))
    if config.weight_decay is None:
        decay = decay_of(recipe, sampler.total_steps(*run_length(config)))
        config = dataclasses.replace(config, weight_decay=decay and (before or {}).get("weight_decay", decay))
    return config


def with_usual(config: TrainConfig) -> TrainConfig:
    """Return the configuration with what its recipe says at most, where nobody asked: a study varies the rest."""
    usual = {"batch_size": BATCH, "bins": 0, "weight_decay": 0.0} | RECIPES[config.recipe]
    return dataclasses.replace(config, **{name: usual[name] for name in ADAPTED if getattr(config, name) is None})


def build_network(config: TrainConfig, data: Data) -> tuple[Network | FunctionModel, Loss]:
    """Return a network and the loss that suits the data; all ranks make the same."""
    loss, n_outputs = _loss(config, data)
    n_inputs = data.preprocessor.n_inputs
    if config.model is not None:
        return FunctionModel.named(config.model, n_inputs, n_outputs, dtype=config.dtype, seed=config.seed), loss
    network = Network(
        [n_inputs, *config.hidden_sizes(), n_outputs], config.activation,
        init=config.init, dropout=config.dropout, dtype=config.dtype, seed=config.seed,
        embeddings=data.preprocessor.code_values,
    )  # fmt: skip
    if data.start is not None:
        adopt(network, data.start)
    return network, loss


def build_trainer(
    config: TrainConfig,
    data: Data,
    comm: Communicator,
    *,
    checkpoints: Checkpoints | None = None,
    fingerprint: dict[str, Any] | None = None,
) -> Trainer:
    """Network, loss, optimiser, schedule and trainer from a configuration."""
    config = with_usual(config)
    batch, decay = config.batch_size, config.weight_decay
    assert batch is not None and decay is not None
    network, loss = build_network(config, data)
    if mixed := mixture_of_rows(network, loss, data.train):
        data.remarks.append(mixed)
    optimizer = make_optimizer(
        config.optimizer, config.lr, momentum=config.momentum, weight_decay=decay,
        layers=network.weight_slices, clip_norm=config.clip_norm,
    )  # fmt: skip
    n = data.train.n_rows
    optimizer.lr = scale_rate(optimizer.lr, config.lr_scaling, batch, config.lr_scaling_base)
    refuse_mixtures(config, n)
    refuse_threshold(config, data.target)
    sampler = BatchSampler(n, batch, drop_last=config.drop_last)
    per_epoch, total = sampler.steps_per_epoch, sampler.total_steps(*run_length(config))
    schedule = Schedule(
        config.schedule, warmup=parse_interval(config.warmup, per_epoch), total=total,
        every=parse_interval(config.decay_every, per_epoch), decay=config.decay, floor=config.lr_floor,
        patience=config.decay_patience,
    )  # fmt: skip
    gradient = Gradient(
        config.reduction, config.leaves if config.exact else None, config.micro_batch,
        int(min(config.bucket_mb, 2.0**20) * 2**20), config.compress, config.compress_rank, config.oversubscribe,
    )  # fmt: skip
    return Trainer(
        network, loss, optimizer, data.train, validation=data.validation, comm=comm,
        batches=Batches(batch, config.seed, config.drop_last), gradient=gradient,
        schedule=schedule, components=_components(config, comm, checkpoints, fingerprint),
    )  # fmt: skip


def _components(
    config: TrainConfig, comm: Communicator, checkpoints: Checkpoints | None, fingerprint: dict[str, Any] | None
) -> Components:
    """Make what is done beside the steps."""
    saver = None
    if checkpoints is not None:
        saver = Saver(
            checkpoints, comm, every=parse_every(config.checkpoint_every), fingerprint=fingerprint,
            on_error=config.on_checkpoint_error, background=config.checkpoint_async,
        )  # fmt: skip
    target = MetricTarget.parse(config.target_metric) if config.target_metric else None
    return Components(
        log=Log(parse_every(config.log_every)),
        judge=Judge(
            parse_every(config.eval_every),
            monitor=f"{config.monitor}/val" if is_function_name(config.monitor) else config.monitor,
            patience=config.early_stopping,
            target=target,
            keep_best=config.keep_model == "best",
        ),
        noise=NoiseScale(config.noise_scale),
        nonfinite=Nonfinite(config.on_nonfinite),
        saver=saver,
        audit_every=parse_every(config.audit_every),
        least_ranks=config.least_ranks,
    )


def final_network(config: TrainConfig, data: Data, trainer: Trainer) -> tuple[Network | FunctionModel, float]:
    """Return the network of a training that is done, its outputs as sharp as suits the validation rows, and the factor.

    Where classes had weights their probabilities have not, but what is chosen has. The trainer's own network stays as
    it is: ranks may share its parameters.
    """
    trained, rows = trainer.network, data.validation
    if not config.calibrate or rows is None or not isinstance(trained, Network):
        return trained, 1.0
    weight = data.preprocessor.class_weight
    beta, offset = calibrated(trained, trainer.loss, rows, trainer.comm, weight)
    network, _ = build_network(config, data)
    assert isinstance(network, Network)
    network.theta[:] = trained.theta
    for mine, table in zip(network.embeddings, trained.embeddings, strict=True):
        mine[:] = table
    network.layers[-1].W *= beta
    network.layers[-1].b *= beta
    network.layers[-1].b += offset
    network.decision = np.log(weight) if weight else None
    return network, beta


def decide(network: Any, loss: Loss, config: TrainConfig, comm: Communicator, judged: Any, rows: Any) -> float | None:
    """Choose the threshold of `network`, where one is asked for, by what `judged` says of `rows`; return it."""
    if config.threshold == "none" or rows is None:
        return None
    at = threshold(judged, loss, rows, comm, config.threshold)
    network.decision = np.array([0.0, np.log((1.0 - at) / at)])
    return at


def run_length(config: TrainConfig) -> tuple[int | None, int | None]:
    """Epochs and steps, either of which may be open."""
    return (30 if config.epochs is None and config.steps is None else config.epochs), config.steps


def _loss(config: TrainConfig, data: Data) -> tuple[Loss, int]:
    """The loss that suits the target, and how many outputs it wants."""
    kind, n = data.target.kind, data.target.n_outputs
    name = SUITABLE_LOSS[kind] if config.loss == "auto" else config.loss
    refuse_loss(name, data.target)
    loss = make_loss(name, smoothing=config.label_smoothing, threshold=config.huber_threshold)
    if isinstance(loss, FunctionLoss):
        return loss, getattr(loss.function, "n_outputs", n)
    return loss, 1 if name == "binary-cross-entropy" and kind == "classes" and n == 2 else n
