"""Going on from a trained model on new data: its columns and what they mean, its classes, its weights.

Numbers are scaled and categories coded as they were when it was trained, whatever the new rows are like: its weights
know nothing else. Classes that are new have outputs of their own, with weights as at the start of a training.
"""

import dataclasses
from pathlib import Path
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.data.dataset import Target
from distbp.data.loading import open_dataset, paths_of
from distbp.data.table.formats import FORMATS, TableOptions, suffix_of
from distbp.errors import UserError
from distbp.model import Model
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.run.options import TrainConfig


def model_at(name: str) -> Model:
    """Return the model of a run directory or a file; what is none is a `UserError`."""
    path = Path(name).expanduser()
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.exists():
        raise UserError(f"no model {path}: give a run directory of a finished run, or a model.safetensors")
    return Model.load(path)


def start_of(config: TrainConfig) -> Model | None:
    """Return the model of ``--init-from``, if there is one."""
    if config.init_from is None:
        return None
    model = model_at(config.init_from)
    if not isinstance(model.network, Network):
        of = "an ensemble; give one of its members: RUN/members/0" if config.model is None else "a model of your own"
        raise UserError(f"--init-from {config.init_from}: this is {of}")
    return model


def options_like(model: Model, config: TrainConfig, options: TableOptions, comm: Communicator) -> TableOptions:
    """Return how new data is read, so that its columns and classes are those of the model, and new classes follow."""
    asked = {name: value for name, value in model.reading.items() if not getattr(options, name)}
    options = dataclasses.replace(options, columns_like=model.columns, **asked)
    old = model.target
    if old.kind != "classes":
        return dataclasses.replace(options, like=old)
    by_name = config.target is None and suffix_of(paths_of(config.data)[0]) in FORMATS
    named = dataclasses.replace(options, target=",".join(old.names)) if by_name else options
    dataset, _ = open_dataset(config.data, named, comm=comm, cache=config.cache)
    assert dataset is not None
    new = dataset.target
    if new is None or new.kind != "classes":
        raise UserError(f"--init-from {config.init_from}: its target is a {old}, here it is {new or 'missing'}")
    added = [name for name in new.classes if name not in old.classes]
    return dataclasses.replace(named, like=Target("classes", old.names, (*old.classes, *added)))


def suited_to_start(config: TrainConfig, model: Model) -> TrainConfig:
    """Return the configuration with the network of the model."""
    network = model.network
    assert isinstance(network, Network)
    hidden = ",".join(map(str, network.sizes[1:-1])) or "none"
    loss = model.loss.name if config.loss == "auto" else config.loss
    return dataclasses.replace(config, hidden=hidden, activation=network.activation.name, loss=loss)


def adopt(network: Network | FunctionModel, model: Model) -> None:
    """Set the parameters of a network to those of a model with as many outputs, or fewer."""
    theirs: dict[str, Any] = model.network.tensors()
    for name, tensor in network.tensors().items():
        other = theirs[name]
        if tensor.shape[1:] != other.shape[1:] or len(tensor) < len(other):
            raise UserError(f"--init-from: the model's {name} is {other.shape}, this network's is {tensor.shape}")
        tensor[: len(other)] = other
