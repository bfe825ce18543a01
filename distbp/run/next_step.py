"""Commands that are printed as the next step: they can be pasted, whatever the shell and wherever Python is."""

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

IN_MEMORY = "rows-in-memory"
"""What stands for ``--data`` where Python gave the rows."""


def resuming(config: Any, path: Path, ranks: int) -> str:
    """Return how a run in `path` that was stopped goes on."""
    if config.data == IN_MEMORY:
        return f"fit(..., run_dir={str(path)!r}, resume='auto'), with the same rows"
    return command("distbp.train", "--config", path / "config.toml", "--resume", "auto", ranks=ranks)


def command(*arguments: object, ranks: int = 1) -> str:
    """Return a command of this Python's distbp, on so many ranks, quoted for a shell."""
    python = _program("python", Path(sys.executable))
    mpirun = _program("mpirun", Path(sys.executable).with_name("mpirun"))
    front = [mpirun, "-n", str(ranks)] if ranks > 1 else []
    return shlex.join([*front, python, "-m", *map(str, arguments)])


def _program(name: str, path: Path) -> str:
    """Return how a shell in this folder finds a program: by its name, or by the shorter of its paths."""
    found = shutil.which(name)
    if not path.exists() or (found is not None and Path(found).parent.resolve() == path.parent.resolve()):
        return name
    try:
        near = os.path.relpath(path)
    except ValueError:
        return str(path)
    return near if len(near) < len(str(path)) and not near.startswith("..") else str(path)
