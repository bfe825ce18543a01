"""The records of a run for programs that show them: TensorBoard, MLflow, Weights & Biases, Trackio; without a network.

Each adapter takes the options of the run and then its records, one after another. A new one is a class with `record`
and `close`, and a line in `TRACKERS`.
"""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from distbp.errors import UserError

_NO_FIGURES = ("step", "examples", "member")


class Tracker(Protocol):
    """Takes the records of one run."""

    def record(self, record: dict[str, Any]) -> None:
        """Take a record, a dict of figures with its `step`."""

    def close(self) -> None:
        """Bring what it has to the disk."""


def figures_of(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a record, by their slash names."""
    front = f"member {record['member']}/" if "member" in record else ""
    return {front + k: float(v) for k, v in record.items() if isinstance(v, int | float) and k not in _NO_FIGURES}


class _TensorBoard:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder / "tensorboard"))

    def record(self, record: dict[str, Any]) -> None:
        values = [self._summary.Value(tag=k, simple_value=v) for k, v in figures_of(record).items()]
        summary = self._summary(value=values)
        self._writer.add_event(self._event(wall_time=time.time(), step=record["step"], summary=summary))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').absolute()}")
        mlflow.start_run(run_name=name)
        mlflow.log_params(config)

    def record(self, record: dict[str, Any]) -> None:
        self._mlflow.log_metrics(figures_of(record), step=record["step"])

    def close(self) -> None:
        self._mlflow.end_run()


class _WandB:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(project="distbp", name=name, config=config, dir=str(folder), mode=mode)

    def record(self, record: dict[str, Any]) -> None:
        self._run.log(figures_of(record), step=record["step"])

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    def __init__(self, folder: Path, name: str, config: dict[str, Any]) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))
        import trackio

        self._trackio = trackio
        trackio.init(project="distbp", name=name, config=config)

    def record(self, record: dict[str, Any]) -> None:
        self._trackio.log(figures_of(record), step=record["step"])

    def close(self) -> None:
        self._trackio.finish()


TRACKERS: dict[str, Callable[[Path, str, dict[str, Any]], Tracker]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _WandB,
    "trackio": _Trackio,
}


def tracker(kind: str, folder: Path, config: dict[str, Any]) -> Tracker:
    """Return an adapter for the run in `folder`, named after it; `UserError` where its library is not installed."""
    try:
        return TRACKERS[kind](folder, folder.name, {k: v for k, v in config.items() if v is not None})
    except ImportError as error:
        package = {"mlflow": "mlflow-skinny"}.get(kind, kind)
        raise UserError(f"{kind}: {error}: pip install {package}") from error


def replay(kind: str, folder: Path, config: dict[str, Any], records: Iterable[dict[str, Any]]) -> int:
    """Give all records of a run to a tracker; return their number."""
    to, n = tracker(kind, folder, config), 0
    for record in records:
        to.record(record)
        n += 1
    to.close()
    return n
