"""The checkpoints of a run: which files there are, which stay, which one is the newest valid one."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distbp.files import DamagedFile, read_file, write_file

Array = NDArray[Any]


@dataclass
class Checkpoints:
    """The checkpoints of a run, ``step-000000123.safetensors``; rank 0 reads and writes them."""

    folder: Path
    """Where they are."""
    keep: int = field(default=2, kw_only=True)
    """How many of the newest stay; the best one stays as well."""
    before: Callable[[], None] = field(default=lambda: None, kw_only=True)
    """Called before something is written, and raises where it must not be."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        if self.keep < 1:
            raise ValueError(f"at least 1 checkpoint must be kept, not {self.keep}")

    def path(self, step: int) -> Path:
        """File of the checkpoint of `step`."""
        return self.folder / f"step-{step:09d}.safetensors"

    def save(self, step: int, arrays: dict[str, Array], state: dict[str, Any], *, best: int | None = None) -> None:
        """Write one, then remove those that need not stay; `best` is the step of the best one."""
        self.before()
        self.folder.mkdir(parents=True, exist_ok=True)
        for half in self.folder.glob(".step-*.tmp"):  # of a writer that was killed; there is one writer only
            half.unlink(missing_ok=True)
        write_file(self.path(step), arrays, state)
        # later steps are of a branch that was left: damaged, or of a run that started anew
        files, here = self.all(), self.path(step)
        for old in [p for p in files if p > here] + [p for p in files if p <= here][: -self.keep]:
            if best is None or old != self.path(best):
                old.unlink(missing_ok=True)

    def all(self) -> list[Path]:
        """Files by step, the newest last."""
        return sorted(self.folder.glob("step-*.safetensors"))

    def newest(self) -> tuple[Path | None, dict[str, Array], dict[str, Any], list[str]]:
        """The newest valid one, and a warning for each damaged one that was passed over.

        Raises
        ------
        DamagedFile
            When there are checkpoints and not one of them is valid.
        """
        warnings: list[str] = []
        for path in reversed(self.all()):
            try:
                return path, *read_file(path), warnings
            except DamagedFile as error:
                warnings.append(f"{error}; using the one before it")
        if warnings:
            raise DamagedFile(
                f"{self.folder}: every checkpoint is damaged ({len(warnings)}): start anew in another --run-dir"
            )
        return None, {}, {}, warnings
