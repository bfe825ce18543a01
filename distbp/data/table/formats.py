"""Which files are tables, and the options of how they are read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distbp.data.dataset import Column, Target

TEXTS = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat", ".psv")
RELATIONS = {
    ".parquet": "read_parquet({})", ".pq": "read_parquet({})", ".jsonl": "read_json({})", ".ndjson": "read_json({})",
    ".json": "read_json({})",
}  # fmt: skip
FORMATS = (*TEXTS, *RELATIONS)
"""Ends of the names of files that are tables."""


@dataclass(frozen=True)
class TableOptions:
    """Say how to read a table; what does not concern its format is ignored.

    `target` names or numbers the target columns (None: the last one, or those of `like` where they are there; ``""``:
    there is none), `task` is auto, classification or regression; `like` and `columns_like` are target and columns of
    the training data or of a trained model, for data that is read later, and `notations` say how they were written;
    with `blank_target` the target of a row may be missing; `inputs` and `targets` name arrays of a file of arrays;
    fractions become float32 where `compact`.
    """

    header: str = "auto"
    bad_rows: str = "error"
    weight: str | None = None
    ignore: str | None = None
    categorical: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    missing: str | None = None
    keep_columns: str | None = None
    target: str | None = None
    task: str = "auto"
    like: Target | None = None
    columns_like: tuple[Column, ...] = ()
    blank_target: bool = False
    notations: Mapping[str, Any] = field(default_factory=dict)
    inputs: str | None = None
    targets: str | None = None
    compact: bool = True


def suffix_of(path: Path | str) -> str:
    """Return the end of a file's name that tells its format, in lower case, without that of a compression."""
    name = str(path).lower()
    for compression in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(compression)
    return Path(name).suffix
