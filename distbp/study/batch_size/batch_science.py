"""Trials in the layout of the measurements that Shallue et al. (2019) published, so that theirs and ours fit one plot.

    DATASET/MODEL/OPTIMIZER/BATCH_SIZE/study.json
    DATASET/MODEL/OPTIMIZER/BATCH_SIZE/TRIAL/metadata.json
    DATASET/MODEL/OPTIMIZER/BATCH_SIZE/TRIAL/measurements.csv

(README of google-research/batch_science). Errors are shares of wrong classes; for values, which they have none of, the
root of the mean squared error stands in their place.
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

from distbp.study.experiment import read_study
from distbp.study.trials import read_results

__all__ = ["write_measurements"]

_STATUS = {"complete": "COMPLETE", "diverged": "INFEASIBLE"}
_COLUMNS = {
    f"{theirs}": ours
    for part in ("train", "val", "test")
    for theirs, ours in (
        (f"{part}/cross_entropy_error", f"loss/{part}"), (f"{part}/classification_error", f"error/{part}"),
    )
}  # fmt: skip


def write_measurements(folder: Path) -> Path:
    """Write ``batch_science/`` beside the trials of a study; the folder of its workload."""
    study, results = read_study(folder), read_results(folder)
    network = re.sub(r"[^\w.-]+", "_", study["network"]).strip("_")
    dataset = re.sub(r"[^\w.-]+", "_", Path(study["data"]).name.split(".")[0])
    workload = folder.joinpath("batch_science", dataset, network, study["config"]["optimizer"])
    for b, steps in zip(study["batch_sizes"], study["steps"], strict=True):
        about = {
            "batch_size": b, "dataset": dataset, "early_stopping": study["halving"], "model": network,
            "optimizer": study["config"]["optimizer"],
            "parameter_configs": {"learning_rate": {"feasible_points": study["rates"], "type": "DISCRETE"}},
            "train_steps": steps,
        }  # fmt: skip
        _write_json(workload / str(b) / "study.json", about)
        mine = [result for result in results.values() if result["batch_size"] == b]
        for i, result in enumerate(sorted(mine, key=lambda r: (r["rate"], r["seed"], r["steps"]))):
            _write_trial(workload / str(b) / str(i), i, result, steps)
    return workload


def _write_trial(folder: Path, i: int, result: dict[str, Any], steps: int) -> None:
    status = _STATUS[result["status"]] if result["steps"] >= steps else "INCOMPLETE"
    found = result["marks"]
    about = {
        "parameters": {"learning_rate": result["rate"]}, "seed": result["seed"], "status": status,
        "steps": found[-1]["step"] if found else 0, "trial_id": i,
    }  # fmt: skip
    _write_json(folder / "metadata.json", about)
    columns = {theirs: ours for theirs, ours in _COLUMNS.items() if found and ours in found[0]}
    with open(folder / "measurements.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["step", *columns])
        writer.writerows([mark["step"], *(mark[ours] for ours in columns.values())] for mark in found)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
