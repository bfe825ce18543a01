"""The command line as a user meets it: what is typed, and what a run leaves."""

import json
from pathlib import Path

TRAIN = ("-m", "distbp.train")
PREDICT = ("-m", "distbp.predict")
QUICK = ("--recipe", "plain", "--hidden", "16", "--epochs", "2", "--run-dir", "run")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def our_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("distbp:")]
