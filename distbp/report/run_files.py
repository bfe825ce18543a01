"""What a run directory holds, for all that look into one: the options of the run, its figures, its logs.

Who looks is told what can be read: a file that is damaged, or of other hands, is as good as none.
"""

import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any


def options_in(path: Path) -> dict[str, Any]:
    """Return the options of a ``config.toml`` by their flags, whatever group each stands in; {} if it is none."""
    flat: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        for key, value in tomllib.loads(path.read_text(encoding="utf-8")).items():
            flat |= value if isinstance(value, dict) else {key: value}
    return flat


def figures_in(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds (``results.json``, ``manifest.json``, ...); {} if it is none."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def records_in(path: Path) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``; lines that are damaged are left out."""
    found = []
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
                if isinstance(record, dict) and type(record.get("step")) is int:
                    found.append(record)
    return found


def logs_in(run_dir: Path) -> list[Path]:
    """Return the log of a run; of an ensemble those of its members, ``members/K/metrics.jsonl``, by their number."""
    own = run_dir / "metrics.jsonl"
    members = [log for log in run_dir.glob("members/*/metrics.jsonl") if log.parent.name.isdecimal()]
    return [own] if own.exists() else sorted(members, key=member_of)


def member_of(log: Path) -> int:
    """Return the number of the member whose log this is."""
    return int(log.parent.name)
