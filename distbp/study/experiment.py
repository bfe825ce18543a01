"""What an experiment is to the front door: its options, what it asks, the trainings, the figures.

The folder of a study holds ``study.json`` (what was asked), ``trials.jsonl`` (what was measured, a line for each trial)
and the report, which is made from these two alone.
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.errors import UsageError, UserError
from distbp.report.run_files import figures_in
from distbp.run.directory import data_name
from distbp.run.options import TrainConfig, flag
from distbp.study.trials import Trial

Range = tuple[float, float, float]
"""Low, middle, high."""
OWN = {"batch_size": "the batch sizes of this study are --batch-sizes", "lr": "the rates of this study are --rates"}
"""Why a study refuses options of ``distbp.train`` for which it has lists of its own."""


@dataclass(frozen=True)
class Experiment:
    """An experiment, as the front door calls it.

    `ask` says what it is going to do, for ``study.json``; a study that was begun can only be continued where this is
    the same. `run` does on all ranks what is not done; it returns the trials in the order of their results in the file.
    """

    about: str  # a line of the help
    defaults: tuple[str, ...]  # options of distbp.train that it sets, if the user does not
    add_options: Callable[[ArgumentParser], None]  # those of its own
    ask: Callable[[Namespace, TrainConfig, Data], dict[str, Any]]
    run: Callable[[dict[str, Any], TrainConfig, Data, Communicator, Path], Sequence[Trial]]
    figures: Callable[[Path], dict[str, Any]]  # of a folder: what the templates of the report are filled with
    again: bool = False  # each start does all of it anew, and replaces what is in the folder


def numbers(text: str, option: str, kind: type) -> list[Any]:
    """Return ``8,16,32`` as sorted numbers above 0."""
    try:
        values = sorted({kind(part) for part in text.split(",")})
    except ValueError:
        values = []
    if not values or not 0 < values[0] or not values[-1] < float("inf"):
        raise UsageError(f"{option} {text!r}: numbers above 0, with commas between")
    return values


def listed(options: Namespace, name: str, kind: type = int) -> list[Any]:
    """Return the `numbers` of an option; none where it was not given."""
    text = getattr(options, name)
    return [] if text is None else numbers(text, f"--{flag(name)}", kind)


def batch_sizes(options: Namespace, rows: int, default: Sequence[int]) -> list[int]:
    """Return ``--batch-sizes``, or `default`; none may be above the training rows."""
    sizes = listed(options, "batch_sizes") or list(default)
    if sizes[-1] > rows:
        raise UserError(f"--batch-sizes {sizes[-1]}: there are {rows} training rows")
    return sizes


def at_least_1(options: Namespace, *names: str) -> None:
    """Refuse options that are below 1."""
    for name in names:
        if getattr(options, name) < 1:
            raise UsageError(f"--{flag(name)} {getattr(options, name)}: at least 1")


def of_trial(config: TrainConfig, **options: Any) -> TrainConfig:
    """Return the configuration of a trial, which says and saves nothing itself, and is as long as its steps."""
    return dataclasses.replace(config, epochs=None, log_every="0", eval_every="0", checkpoint_every="0", **options)


def default_folder(data: str, experiment: str) -> Path:
    """Return ``studies/DATA-EXPERIMENT``."""
    return Path("studies", f"{data_name(data) or 'data'}-{experiment}")


def refuse(config: TrainConfig, **why: str) -> None:
    """Refuse options of ``distbp.train`` that mean nothing in a study: by name, and why."""
    for name, reason in why.items():
        if getattr(config, name) != getattr(TrainConfig, name):
            raise UsageError(f"--{flag(name)} {getattr(config, name)}: {reason}")


def read_study(folder: Path) -> dict[str, Any]:
    """Read ``study.json`` of a folder."""
    path = folder / "study.json"
    if not path.exists():
        raise UserError(f"no study in {folder}: --run-dir names the folder of one")
    if not (found := figures_in(path)):
        raise UserError(f"{path} is damaged: remove it, and begin the study again with the same options")
    return found
