"""Other names for options and values, which people bring along from other programs."""

from collections.abc import Sequence
from typing import Any

FLAGS = {
    "learning-rate": "lr", "learning-rate-init": "lr", "step-size": "lr", "hidden-layer-sizes": "hidden",
    "hidden-sizes": "hidden", "hidden-size": "hidden", "hidden-layers": "hidden", "layers": "hidden",
    "max-iter": "epochs", "num-epochs": "epochs", "n-epochs": "epochs", "max-epochs": "epochs", "max-steps": "steps",
    "num-steps": "steps", "bs": "batch-size", "batch": "batch-size", "wd": "weight-decay", "random-state": "seed",
    "random-seed": "seed", "label": "target", "target-column": "target", "label-column": "target",
    "val-data": "validation-data", "valid-data": "validation-data", "val-fraction": "validation-fraction",
    "validation-split": "validation-fraction", "test-split": "test-fraction", "patience": "early-stopping",
    "output-dir": "run-dir", "out-dir": "run-dir", "log-dir": "run-dir", "drop-rate": "dropout",
    "dropout-rate": "dropout", "lr-schedule": "schedule", "scheduler": "schedule", "optim": "optimizer",
    "solver": "optimizer", "grad-clip": "clip-norm", "gradient-clip": "clip-norm", "resume-from": "resume",
    "n-members": "ensemble", "cv": "folds", "precision": "dtype",
}  # fmt: skip
_SOFTMAX, _BINARY = "softmax-cross-entropy", "binary-cross-entropy"
VALUES = {
    "loss": dict.fromkeys(("mse", "l2", "mean-squared-error"), "squared-error")
    | dict.fromkeys(("ce", "crossentropy", "cross-entropy", "categorical-crossentropy", "log-loss"), _SOFTMAX)
    | dict.fromkeys(("bce", "binary-crossentropy"), _BINARY) | {"smooth-l1": "huber"},
    "activation": {"swish": "silu", "logistic": "sigmoid", "linear": "identity", "none": "identity",
                   "leakyrelu": "leaky_relu"},
    "task": {"classify": "classification", "regress": "regression"},
    "schedule": {"cos": "cosine", "cosine-annealing": "cosine", "none": "constant"},
    "optimizer": {"adam-w": "adamw", "sgd-momentum": "momentum", "nag": "nesterov"},
    "dtype": {"float": "float32", "single": "float32", "double": "float64", "fp32": "float32", "fp64": "float64"},
}  # fmt: skip


def in_our_words(arguments: Sequence[str]) -> list[str]:
    """Return a command line with our names of options: ``train.csv`` first is ``--data train.csv``."""
    found: list[str] = []
    for i, word in enumerate(arguments):
        if i == 0 and word and not word.startswith("-"):
            found += ["--data", word]
            continue
        if not word.startswith("--"):
            found.append(word)
            continue
        name, mark, value = word[2:].partition("=")
        name = name.replace("_", "-")
        if name == "tensorboard":
            found += ["--track", "tensorboard"]
            continue
        found.append(f"--{FLAGS.get(name, name)}{mark}{value}")
    return found


def value_of(name: str, value: Any, choices: Any) -> Any:
    """Return a value in our words, whatever its case, where `choices` are known."""
    if not isinstance(value, str) or choices is None or value in choices:
        return value
    small = value.lower().replace("_", "-")
    known = VALUES.get(name, {}).get(small, small)
    return next((choice for choice in choices if choice == known or choice.replace("_", "-") == known), value)
