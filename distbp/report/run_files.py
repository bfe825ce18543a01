"""What a run directory holds, for all that look into one: the options of the run, and its logs."""

import tomllib
from pathlib import Path
from typing import Any


def options_in(path: Path) -> dict[str, Any]:
    """Return the options of a ``config.toml`` by their flags, whatever group each stands in.

    Raises `OSError` where it cannot be read, `ValueError` where it is not TOML.
    """
    flat: dict[str, Any] = {}
    for key, value in tomllib.loads(path.read_text(encoding="utf-8")).items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat


def logs_in(run_dir: Path) -> list[Path]:
    """Return the log of a run; of an ensemble those of its members, ``members/K/metrics.jsonl``, by their number."""
    own = run_dir / "metrics.jsonl"
    return [own] if own.exists() else sorted(run_dir.glob("members/*/metrics.jsonl"), key=member_of)


def member_of(log: Path) -> int:
    """Return the number of the member whose log this is."""
    return int(log.parent.name)
