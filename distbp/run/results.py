"""The results of a run: how good its model is on rows that it was not trained on."""

import time
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.model import Model
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import Loss
from distbp.network.mixture import Mixture
from distbp.run.build import decide
from distbp.run.directory import RunDirectory
from distbp.run.findings import findings
from distbp.run.options import TrainConfig
from distbp.trainer.calibration import coverage, errors, within
from distbp.trainer.evaluation import evaluate
from distbp.trainer.quality import assess, doubts, per_class

AnyNetwork = Network | FunctionModel | Mixture
Validated = tuple[Any, Any]
INTERVAL = 0.9
"""Probability of the interval that a run says of values."""
_PARTS = {"val": "validation", "test": "test"}


def judge(
    network: AnyNetwork, loss: Loss, data: Data, comm: Communicator, seed: int, validated: Validated
) -> tuple[dict[str, Any], list[str]]:
    """Judge a model by the validation and the test rows, on all ranks.

    Parameters
    ----------
    network, loss, data, comm, seed
        The model, and what its run had.
    validated : (network, rows or None)
        What the validation rows judge, and these rows.

    Returns
    -------
    dict of str to Any
        For ``results.json``: figures by names as ``accuracy/test``; ``intervals``, ``baseline``, ``classes`` beside.
    list of str
        A line for each doubt.
    """
    results: dict[str, Any] = {}
    of: dict[str, Any] = {}
    beside: dict[str, dict[str, Any]] = {"intervals": {}, "baseline": {}, "classes": {}, "beats baseline": {}}
    confusions = {}
    for name, (judged, rows) in (("val", validated), ("test", (network, data.test))):
        if rows is None:
            continue
        figures = evaluate(judged, loss, rows, comm)
        quality = of[_PARTS[name]] = assess(judged, loss, rows, data.train, comm, seed=seed)
        results |= {f"{k}/{name}": v for k, v in (figures | quality.figures | figures).items()}
        beside["intervals"] |= {f"{k}/{name}": list(v) for k, v in quality.intervals.items()}
        beside["baseline"] |= {f"{k}/{name}": v for k, v in quality.baseline.items()}
        if verdict := quality.beats_baseline:
            beside["beats baseline"][name] = verdict
        if "confusion" in figures and data.target.kind == "classes":
            confusions[_PARTS[name]] = figures["confusion"]
            beside["classes"][name] = per_class(figures["confusion"], data.target.classes)
    # rows out of fold are predicted by others than test rows: these parts may differ
    apart = [of] if validated[0] is network else [{part: one} for part, one in of.items()]
    found = [doubt for parts in apart for doubt in doubts(parts, {}, data.target.classes)]
    found += doubts({}, confusions, data.target.classes)
    return results | {k: v for k, v in beside.items() if v}, [f"warning: {doubt}" for doubt in found]


def model_of(
    network: AnyNetwork, loss: Loss, data: Data, config: TrainConfig, comm: Communicator, validated: Validated
) -> Model:
    """Return the model that a training leaves, on all ranks; of values it knows how far they are off."""
    asked = {name: getattr(config, name) for name in ("missing", "decimal", "thousands")}
    about = {**asked, "notations": data.notations or None}
    model = Model(network, loss, data.target, data.preprocessor, {k: v for k, v in about.items() if v is not None})
    values = data.target.kind == "values" and network.output_shape == (data.target.n_outputs,)
    if config.calibrate and values and validated[1] is not None:
        model.errors = errors(*validated, comm)
    return model


def conclude(
    network: AnyNetwork, loss: Loss, data: Data, config: TrainConfig, comm: Communicator, directory: RunDirectory,
    about: dict[str, Any], seconds: dict[str, float], validated: Validated | None = None,
) -> tuple[dict[str, Any], list[str], Model]:  # fmt: skip
    """Judge a model, and write it and ``results.json``, which begins with `about`; return results, doubts and model.

    For a report ``report.json`` says more, with the `seconds` that each part of the run has taken.
    """
    began = time.perf_counter()
    validated = validated or (network, data.validation)
    at = decide(network, loss, config, comm, *validated)
    if network is not validated[0]:
        validated[0].decision = network.decision
    about = about if at is None else about | {"threshold": at}
    results, doubted = judge(network, loss, data, comm, config.seed, validated)
    model = model_of(network, loss, data, config, comm, validated)
    directory.save("model.safetensors", model.save)
    results = about | {"data digest": data.digest()} | results
    widths = [within(of_one, INTERVAL) for of_one in model.errors]
    if widths and data.test is not None and np.isfinite(widths).all():
        held = coverage(network, data.test, comm, widths)
        results["values within"] = {"probability": INTERVAL, "plus or minus": widths, "held on test rows": held}
    directory.write_json("results.json", results)
    if config.report != "none":
        found, problem = findings(model, data, comm, config.seed, validated)
        found |= {"seconds": seconds | {"judging": time.perf_counter() - began}}
        directory.write_json("report.json", found)
        doubted += problem
    return results, doubted, model


def digits(value: float) -> str:
    """Return a figure with as many digits as say something: 0.9916, 46134.2, 3.1e-07."""
    size = abs(value)
    if 1e3 <= size < 1e7:
        return f"{value:.1f}"
    return f"{value:.4f}" if size == 0.0 or 1e-3 <= size < 1e3 else f"{value:.3g}"


def lines_of(results: dict[str, Any]) -> list[str]:
    """Return a line of figures for the validation rows, and one for the test rows, where there are any."""
    found = {name: figures_of(results, part) for part, name in _PARTS.items()}
    lines = [f"{name}: {figures}" for name, figures in found.items() if figures]
    if interval := results.get("values within"):
        widths = ", ".join(f"{width:.4g}" for width in interval["plus or minus"])
        share, held = interval["probability"], interval["held on test rows"]
        lines.append(
            f"{share:.0%} of values should lie within ± {widths} of the prediction; {held:.1%} of the test rows do"
        )
    return lines


def figures_of(results: dict[str, Any], part: str) -> str:
    """Return the figures of a part of the rows, and of the first of them how sure it is, and what the baseline has."""
    shown = []
    for name, value in results.items():
        figure, _, of = name.partition("/")
        if of != part or not isinstance(value, float) or " " in figure:
            continue
        if figure == "loss" and f"log_loss/{part}" in results:
            continue  # the same, but for label smoothing
        shown.append(f"{figure} {digits(value)}")
        if figure in ("accuracy", "rmse") and name in results.get("intervals", {}):
            low, high = results["intervals"][name]
            baseline = results["baseline"][name]
            shown[-1] += f" (95%: {digits(low)} to {digits(high)}; baseline {digits(baseline)})"
    return ", ".join(shown)
