"""What a report shows of a run beside its results: ``report.json``, from which it can be made anew without the data."""

import importlib.util
from pathlib import Path
from typing import Any

from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.data.preprocessing import Preprocessor
from distbp.model import Model
from distbp.trainer.inspection import importance, inspect

_MOST_COLUMNS = 100


def findings(
    model: Model, data: Data, comm: Communicator, seed: int, validated: tuple[Any, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Look into a model by its test rows, or where there are none by the validation rows; all ranks do.

    Where that fails, on all of them, there is less to show, and a warning: the model is written.
    """
    network, loss, problem = model.network, model.loss, list[str]()
    judged, rows, part = (network, data.test, "test") if data.test is not None else (*validated, "val")
    found: dict[str, Any] = {"part": part}
    if rows is not None:
        try:
            permuted = data.test or data.validation or data.train
            found |= inspect(judged, loss, rows, comm)
            found["importance"] = importance(network, loss, permuted, comm, seed=seed)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            problem.append(f"warning: the report has no look into the model: {type(error).__name__}: {error}")
    counts = {"train": data.train, "val": validated[1], "test": data.test}
    network_of = getattr(network, "members", [network])[0]
    found |= {
        "target": data.target.as_dict(),
        "rows": {name: rows.n_rows for name, rows in counts.items() if rows is not None},
        "network": network_of.describe(),
        "parameters": network.n_parameters + sum(table.size for table in network_of.embeddings),
        "loss": loss.name,
        "columns": _columns(data.preprocessor),
        "number of columns": len(data.preprocessor.columns),
        "summary": data.summary,
    }
    return found, problem


def _columns(preprocessor: Preprocessor) -> list[dict[str, Any]]:
    """Return how each column was understood, of the first ones."""
    blank, complete = set(preprocessor.blank), set(preprocessor.complete)
    numbers = iter(zip(preprocessor.shift, preprocessor.scale, strict=True))
    inputs = preprocessor.inputs_by_column()
    found = []
    for i, (name, texts) in enumerate(preprocessor.columns):
        one: dict[str, Any] = {"name": name, "inputs": len(inputs[i]), "missing": name in blank or name not in complete}
        if texts is None:
            shift, scale = next(numbers)
            one |= {"kind": "number", "shift": shift, "spread": 1.0 / scale}
        else:
            one |= {"kind": "category", "categories": len(texts), "some": texts[:4]}
        found.append(one)
    return found[:_MOST_COLUMNS]


def without_report(language: str) -> str:
    """Return why there will be no report, "" where nothing is in its way or none is wanted."""
    missing = [name for name in ("jinja2", "matplotlib") if importlib.util.find_spec(name) is None]
    if language == "none" or not missing:
        return ""
    return f"no report.html at the end: it needs {' and '.join(missing)}: pip install 'distbp[report]'"


def write_report(path: Path, language: str, comm: Communicator) -> str:
    """Write ``report.html`` and ``report.md`` of a run, on rank 0; return a line about it, there.

    Whatever goes wrong costs the report alone: the model is written.
    """
    if language == "none" or without_report(language):
        return ""
    line = ""
    if comm.is_root:
        try:
            from distbp.report.of_run import report_on  # when it is wanted: starts are light

            report_on(path, language)
            line = f"report: {path / 'report.html'}"
        except Exception as error:  # of libraries that draw and fill in: the run is done without them
            line = f"warning: no report: {type(error).__name__}: {' '.join(str(error).split())}"
    wait_quietly(comm)
    return line
