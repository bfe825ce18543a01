"""From a name or a path to prepared training, validation and test rows.

digits                          the embedded images
synthetic:blobs,rows=1000       computed, see `synthetic`
FOLDER, or IMAGES,LABELS        idx files, plain or .gz
FILE.npz                        X and y; X_test and y_test are the test set
FILE.npy, or X.npy,Y.npy        mapped, not read
FILE.csv                        a table, plain or .gz
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distbp.comm.agreement import require_equal
from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.arrayfiles import find_idx, read_digits, read_idx_pair, read_npy, read_npz
from distbp.data.dataset import Column, Dataset, Target
from distbp.data.prepared import Prepared
from distbp.data.preprocessing import Preprocessor, fit_preprocessor
from distbp.data.reading import TextOptions
from distbp.data.splitting import STRATIFY_LIMIT, Subset, split
from distbp.data.synthetic import read_synthetic
from distbp.data.tables import read_csv
from distbp.errors import UserError


@dataclass(frozen=True)
class TableOptions(TextOptions):
    """Say how to read a file; what does not concern its format is ignored.

    `target` names or numbers the target columns (None: the last one; ``""``: there is none), `task` is
    auto, classification or regression; `like` and `columns_like` are target and columns of the training
    data or of a trained model, for data that is read later; with `blank_target` the target of a row may be missing;
    for the others see `read_csv`.
    """

    target: str | None = None
    task: str = "auto"
    like: Target | None = None
    columns_like: tuple[Column, ...] = ()
    blank_target: bool = False


@dataclass
class Data:
    """Hold the prepared parts of a data set, and what was found out about it."""

    train: Prepared
    validation: Prepared | None
    test: Prepared | None
    preprocessor: Preprocessor
    target: Target
    remarks: list[str] = field(default_factory=list)


def open_dataset(
    name: str, options: TableOptions | None = None, part: str = "train"
) -> tuple[Dataset | None, list[str]]:
    """Open raw data by name or path; `part` ``test`` is what a format holds as its test set, or None."""
    o = options or TableOptions()
    meaning: dict[str, Any] = {"task": o.task, "like": o.like}
    _refuse_unused(name, o)
    word, _, rest = name.partition(":")
    if name == "digits":
        return (read_digits(**meaning) if part == "train" else None), []
    if word == "synthetic":
        return (read_synthetic(rest) if part == "train" else None), []
    path, *others = paths = paths_of(name)
    if missing := [each for each in paths if not each.exists()]:
        raise UserError(f"no such data: {missing[0]} (a file, a directory of idx files, digits, or synthetic:...)")
    suffix = suffix_of(path)
    if path.is_dir():
        pairs = find_idx(path)
        return (read_idx_pair(*pairs[part], **meaning) if part in pairs else None), []
    if suffix == ".npz":
        return read_npz(path, part, weight=o.weight, **meaning), []
    if part != "train":
        return None, []
    if suffix == ".npy":
        return read_npy(path, o.target, others[0] if others else None, **meaning), []
    if len(paths) == 2:
        return read_idx_pair(*paths, **meaning), []
    if suffix in _TABLES:
        return read_csv(path, **vars(o))
    known = ", ".join([*_TABLES, ".npz", ".npy"])
    raise UserError(f"{path}: what format is this? known are {known}, and idx pairs IMAGES,LABELS")


def paths_of(name: str) -> list[Path]:
    """Return the files that a text names: one, whatever its name, or several with commas between."""
    whole = Path(name).expanduser()
    return [whole] if whole.exists() else [Path(piece).expanduser() for piece in name.split(",")]


def suffix_of(path: Path | str) -> str:
    """Return the end of a file's name that tells its format, in lower case, without that of a compression."""
    name = str(path).lower()
    for compression in (".gz", ".bz2", ".xz"):
        name = name.removesuffix(compression)
    return Path(name).suffix


_TABLES = (".csv", ".tsv", ".tab", ".txt", ".data", ".dat")
_TEXT_ONLY = ("ignore", "categorical", "encoding", "delimiter", "decimal", "thousands", "missing")
_APPLIES = {"weight": (*_TABLES, ".npz"), "target": (*_TABLES, ".npy")} | dict.fromkeys(_TEXT_ONLY, _TABLES)


def _refuse_unused(name: str, options: TableOptions) -> None:
    """Refuse options that a format cannot follow: who gives them believes in them."""
    for option, suffixes in _APPLIES.items():
        pair = option == "target" and len(paths_of(name)) > 1
        if getattr(options, option) and (pair or suffix_of(name) not in suffixes):
            flag = "sample-weight" if option == "weight" else option
            raise UserError(f"--{flag} means nothing for {name}: it is for {', '.join(suffixes)} files")
    if options.task == "regression" and name.startswith("synthetic"):
        raise UserError(f"--task means nothing for {name}: give classes=0 for a regression")


def load(
    name: str | Path = "digits",
    options: TableOptions | None = None,
    *,
    comm: Communicator | None = None,
    validation_data: str | Path | None = None,
    test_data: str | Path | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    scaling: str = "auto",
    impute: str = "mean",
    scale_target: bool = True,
    class_weight: str = "none",
    dtype: DTypeLike = np.float32,
    seed: int = 0,
) -> Data:
    """Open, split and preprocess a data set, on all ranks of `comm`.

    Separate files, or the test set that a format holds, go before fractions.

    Examples
    --------
    >>> data = load("digits")
    >>> data.train.n_rows, data.validation.n_rows, data.test.n_rows
    (1258, 180, 359)
    """
    comm, options, name = comm or SerialCommunicator(), options or TableOptions(), str(name)
    dataset, remarks = open_dataset(name, options)
    assert dataset is not None
    if dataset.target is None:
        raise UserError(f"{name}: it has no target to learn")
    like = replace(options, like=dataset.target, columns_like=dataset.columns)
    parts: dict[str, Subset] = {}
    for part, path in (("validation", validation_data), ("test", test_data)):
        other, more = open_dataset(str(path), like) if path else open_dataset(name, like, part)
        remarks += more
        if other is None:
            continue
        if other.target is None:
            raise UserError(f"{path or name}: the {part} data has no target {', '.join(dataset.target.names)!r}")
        if not other.n_rows:
            raise UserError(f"{path or name}: the {part} data has no rows")
        parts[part] = Subset(other)
    # data that ranks read differently: they would train on other batches, or wait for each other for ever
    looks = [[d.n_rows, repr(d.columns), repr(d.target)] for d in (dataset, *(part.dataset for part in parts.values()))]
    require_equal(comm, looks, "the data")
    fractions = {"validation": validation_fraction, "test": test_fraction} | dict.fromkeys(parts, 0.0)
    train, validation, test = split(dataset, **fractions, seed=seed)
    if sum(fractions.values()) and dataset.target.kind == "classes" and dataset.n_rows > STRATIFY_LIMIT:
        remarks.append(f"{name}: split without strata, beyond {STRATIFY_LIMIT:,} rows")
    preprocessor = fit_preprocessor(
        train, comm, scaling=scaling, impute=impute, scale_target=scale_target, class_weight=class_weight
    )

    def prepare(subset: Subset | None) -> Prepared | None:
        return Prepared(subset, preprocessor, dtype) if subset else None

    validation, test = parts.get("validation", validation), parts.get("test", test)
    prepared = Prepared(train, preprocessor, dtype)
    return Data(prepared, prepare(validation), prepare(test), preprocessor, dataset.target, remarks)
