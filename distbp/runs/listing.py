"""Run directories as they are: data, recipe, state, best figure, time."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from distbp.files import take_lock
from distbp.report.run_files import figures_in, logs_in, options_in, records_in

_MAIN = ("accuracy", "exact_match", "rmse", "loss")


class Listed(NamedTuple):
    """Describe a run."""

    path: Path
    data: str
    recipe: str
    state: str
    figure: str
    epochs: float
    seconds: float
    ranks: int | None
    began: float
    """Seconds since 1970."""


def listed(folder: Path) -> list[Listed]:
    """Return the runs in a folder, or the one that it is, by when they were begun; members of ensembles are theirs."""
    if (folder / "config.toml").exists():
        return [_read(folder)]
    paths = (config.parent for config in folder.rglob("config.toml") if "members" not in config.parts)
    return sorted((_read(path) for path in paths), key=lambda one: one.began)


def _read(path: Path) -> Listed:
    config = options_in(path / "config.toml")
    results, manifest = figures_in(path / "results.json"), figures_in(path / "manifest.json")
    last = next((records[-1] for log in logs_in(path)[:1] if (records := records_in(log))), {})
    seconds, epochs = results.get("seconds") or last.get("seconds", 0.0), last.get("epoch", 0.0)
    began = (path / "config.toml").stat().st_mtime
    about = str(config.get("data", "?")), str(config.get("recipe", "?")), _state(path, results)
    return Listed(path, *about, _figure(results or last), epochs, seconds, manifest.get("size"), began)


def _state(path: Path, results: dict[str, Any]) -> str:
    if _is_locked(path / "lock"):
        return "running"
    if results:
        return "done"
    return "stopped" if any(path.glob("checkpoints/*.safetensors")) or (path / "members").is_dir() else "failed"


def _is_locked(lock: Path) -> bool:
    with suppress(OSError), open(lock) as stream:
        return not take_lock(stream, shared=True)[0]
    return False


def _figure(results: dict[str, Any]) -> str:
    for part in ("test", "val", "train"):
        for name in _MAIN:
            if isinstance(value := results.get(f"{name}/{part}"), int | float):
                return f"{name}/{part} {value:.4g}"
    return ""


def describe(runs: list[Listed]) -> str:
    """Return a table for people."""
    head = ("run", "data", "recipe", "state", "figure", "epochs", "time", "ranks")
    rows = [
        (str(r.path), _end_of(r.data), *r[2:5], f"{r.epochs:g}", _time(r.seconds), str(r.ranks or "")) for r in runs
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    )


def _end_of(data: str) -> str:
    return data if len(data) <= 32 else "..." + data[-29:]


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
