"""From a name or a path to prepared training, validation and test rows.

digits                          the embedded images
synthetic:blobs,rows=1000       computed, see `synthetic`
FOLDER, or IMAGES,LABELS        idx files, plain or .gz
FILE.npz, .h5                   X and y; X_test and y_test are the test set
FILE.npy, or X.npy,Y.npy        mapped, not read
FILE.csv, .parquet, .jsonl      a table, or a directory of them, or a pattern; plain or compressed
an array, a frame, a list       rows in memory: see `inmemory`
"""

import difflib
import glob
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distbp.comm.agreement import require_equal
from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.arrayfiles import find_idx, read_arrays, read_digits, read_idx_pair, read_npy
from distbp.data.dataset import Dataset
from distbp.data.fitting import fit_preprocessor
from distbp.data.identity import identity
from distbp.data.inmemory import is_in_memory, open_in_memory
from distbp.data.prepared import Data, Prepared
from distbp.data.preprocessing import Preprocessor
from distbp.data.splitting import STRATIFY_LIMIT, Subset, split
from distbp.data.synthetic import read_synthetic
from distbp.data.table.cache import folder_of, read_once, remembered
from distbp.data.table.formats import FORMATS, TEXTS, TableOptions, suffix_of
from distbp.data.table.records import TableDataset
from distbp.errors import UserError


def open_dataset(
    name: Any, options: TableOptions | None = None, part: str = "train", *, comm: Communicator | None = None,
    cache: str | Path | None = None, y: Any = None, weights: Any = None,
) -> tuple[Dataset | None, list[str]]:  # fmt: skip
    """Open raw data by name or path, or rows in memory, on all ranks; `part` ``test`` is a test set in it, or None.

    The target `y` and the weights of rows in memory may stand beside them.
    """
    o = options or TableOptions()
    if is_in_memory(name):
        return open_in_memory(name, y, weights, o) if part == "train" else (None, [])
    if y is not None or weights is not None:
        raise UserError(f"{name}: its target and weights are columns of it: target=NAME, sample_weight=NAME")
    meaning: dict[str, Any] = {"task": o.task, "like": o.like}
    word, _, rest = str(name).partition(":")
    if word == "digits" and not rest or word == "synthetic":
        _refuse_unused(name, o)
    if word == "digits" and not rest:
        return (read_digits(**meaning) if part == "train" else None), []
    if word == "synthetic":
        return (read_synthetic(rest) if part == "train" else None), []
    path, *others = paths = paths_of(name)
    if odd := [each for each in paths if each.exists() and not (each.is_file() or each.is_dir())]:
        raise UserError(f"{odd[0]} is no file: what comes from a pipe or a device is read several times, save it first")
    if missing := [each for each in paths if not each.exists()]:
        raise UserError(f"no such data: {missing[0]} (a file, a directory of idx files, digits, or synthetic:...)")
    _refuse_unused(name, o)
    suffix = suffix_of(path)
    if path.is_dir():
        pairs = find_idx(path)
        return (read_idx_pair(*pairs[part], **meaning) if part in pairs else None), []
    if suffix in _ARRAYS:
        return read_arrays(path, part, inputs=o.inputs, targets=o.targets, weight=o.weight, **meaning), []
    if part != "train":
        return None, []
    if suffix == ".npy":
        return read_npy(path, o.target, others[0] if others else None, **meaning), []
    if suffix in FORMATS:
        return read_once(paths, o, comm or SerialCommunicator(), folder_of(cache))
    if len(paths) == 2:
        return read_idx_pair(*paths, **meaning), []
    known = ", ".join([*FORMATS, *_ARRAYS, ".npy"])
    raise UserError(f"{path}: what format is this? known are {known}, and idx pairs IMAGES,LABELS")


def paths_of(name: str | Path | list[Any]) -> list[Path]:
    """Return the files of a list, or those that a text names: one, whatever its name, those of a pattern or of a
    directory of tables, or several with commas between.
    """
    if isinstance(name, list):
        return [Path(each).expanduser() for each in name]
    name, whole = str(name), Path(name).expanduser()
    if whole.is_dir() and not any(whole.glob("*images*idx3*")):
        tables = [path for path in sorted(whole.rglob("*")) if suffix_of(path) in FORMATS and path.name[0] not in "._"]
        return tables or [whole]
    if whole.exists():
        return [whole]
    if any(mark in name for mark in "*?["):
        found = sorted(map(Path, glob.glob(str(whole), recursive=True)))
        if not found:
            raise UserError(f"no such data: no file is called {name}")
        return found
    return [Path(piece).expanduser() for piece in name.split(",")]


_ARRAYS = (".npz", ".h5", ".hdf5")
_TEXT_ONLY = ("encoding", "delimiter")
_APPLIES = {"weight": (*FORMATS, *_ARRAYS), "target": (*FORMATS, ".npy")} | dict.fromkeys(
    ("ignore", "categorical", "decimal", "thousands", "missing", "keep_columns"), FORMATS
) | dict.fromkeys(_TEXT_ONLY, TEXTS) | dict.fromkeys(("inputs", "targets"), _ARRAYS)  # fmt: skip


def _refuse_unused(name: Any, options: TableOptions) -> None:
    """Refuse options that a format cannot follow: who gives them believes in them."""
    given = {option: suffixes for option, suffixes in _APPLIES.items() if getattr(options, option)}
    paths = paths_of(name) if given else []
    for option, suffixes in given.items():
        pair = option == "target" and len(paths) > 1 and suffix_of(paths[0]) not in FORMATS
        if pair or suffix_of(paths[0]) not in suffixes:
            flag = "sample-weight" if option == "weight" else option.replace("_", "-")
            raise UserError(f"--{flag} means nothing for {name}: it is for {', '.join(suffixes)} files")
    if options.task == "regression" and str(name).startswith("synthetic"):
        raise UserError(f"--task means nothing for {name}: give classes=0 for a regression")


def _label(name: Any) -> str:
    """Return what messages call data."""
    return str(name) if isinstance(name, str | Path) else "the table"


def load(
    data: Any = "digits",
    y: Any = None,
    *,
    options: TableOptions | None = None,
    sample_weight: Any = None,
    comm: Communicator | None = None,
    validation_data: Any = None,
    test_data: Any = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    scaling: str = "auto",
    impute: str = "mean",
    scale_target: bool = True,
    class_weight: str = "none",
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    cache: str | Path | None = "auto",
    look_up: bool = True,
    bins: int | Callable[[int], int] = 0,
    fitted: Preprocessor | None = None,
    **reading: Any,
) -> Data:
    """Open, split and preprocess a data set, on all ranks of `comm`.

    Parameters
    ----------
    data : str, Path, list of paths, array_like, data frame, dict of columns, or list of dicts
        See `distbp.data.loading`. Rows in memory are the same on all ranks.
    y : array_like of shape (n_rows,) or (n_rows, k), or str, optional
        The target of rows in memory, or the name of its column.
    options : TableOptions, optional
        How a table is read.
    sample_weight : str or array_like of shape (n_rows,), optional
        The weight of each row, or its column.
    comm : Communicator, optional
        The ranks; this process alone by default.
    validation_data, test_data : like `data`, or a pair (data, y), optional
        They, or the test set that a format holds, go before the fractions.
    validation_fraction, test_fraction : float
        Part of the rows, by chance and `seed`.
    scaling, impute, scale_target, class_weight, dtype
        Of the preprocessing; see `fit_preprocessor`.
    cache : str or Path, optional
        Where converted tables are kept; ``auto`` is the user's folder.
    look_up : bool
        Give a column of many categories as a code, for ``Network(..., embeddings=data.preprocessor.code_values)``.
    bins : int or callable
        Quantile bins of each number, or as many as it gives for their number of columns: `distbp.data.encoding`.
    seed : int
        Of the split.
    fitted : Preprocessor, optional
        Prepare inputs as it does.
    **reading
        Single fields of `TableOptions`: ``target="price", categorical=["zip"]``.

    Examples
    --------
    >>> data = load("digits")
    >>> data.train.n_rows, data.validation.n_rows, data.test.n_rows
    (1258, 180, 359)
    >>> import numpy as np
    >>> X = np.arange(200.0).reshape(100, 2)
    >>> load(X, X[:, 0] > 50).train.n_rows
    70
    """
    comm, options = comm or SerialCommunicator(), _options(options, y, sample_weight, reading)
    y, weights = (None if isinstance(given, str) else given for given in (y, sample_weight))
    options = replace(options, compact=np.dtype(dtype).itemsize < 8)
    where: dict[str, Any] = {"comm": comm, "cache": cache}
    dataset, remarks = open_dataset(data, options, y=y, weights=weights, **where)
    assert dataset is not None
    if dataset.target is None:
        raise UserError(f"{_label(data)}: it has no target to learn")
    notations = getattr(dataset, "notations", {})
    like = replace(options, like=dataset.target, columns_like=dataset.columns, notations=notations)
    parts, in_memory = dict[str, Subset](), [dataset] * is_in_memory(data)
    for part, given in (("validation", validation_data), ("test", test_data)):
        rows, known_y = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
        there = rows is not None
        other, more = open_dataset(rows, like, y=known_y, **where) if there else open_dataset(data, like, part, **where)
        remarks += more
        if other is None:
            continue
        label = _label(rows if there else data)
        if other.target is None:
            raise UserError(f"{label}: the {part} data has no target {', '.join(dataset.target.names)!r}")
        in_memory += [other] * (there and is_in_memory(rows))
        known = other.judged() if isinstance(other, TableDataset) else None
        parts[part] = Subset(other, None if known is None or len(known) == other.n_rows else known)
        if not parts[part].n_rows:
            raise UserError(f"{label}: the {part} data has no rows")
    _agree(comm, [dataset, *(part.dataset for part in parts.values())], in_memory)
    fractions = {"validation": validation_fraction, "test": test_fraction} | dict.fromkeys(parts, 0.0)
    train, validation, test = split(dataset, **fractions, seed=seed)
    if sum(fractions.values()) and dataset.target.kind == "classes" and dataset.n_rows > STRATIFY_LIMIT:
        remarks.append(f"{_label(data)}: split without strata, beyond {STRATIFY_LIMIT:,} rows")
    numbers = sum(column.categories is None for column in dataset.columns)
    how = {"bins": bins if isinstance(bins, int) else bins(numbers), "look_up": look_up, "class_weight": class_weight}
    how |= {"scaling": scaling, "impute": impute, "scale_target": scale_target}
    preprocessor = _fitted(train, comm, how, fitted)

    def prepare(subset: Subset | None) -> Prepared | None:
        return Prepared(subset, preprocessor, dtype, comm) if subset else None

    validation, test = parts.get("validation", validation), parts.get("test", test)
    about = (
        getattr(dataset, "summary", ""),
        notations,
        partial(_row_of, train.numbering, getattr(dataset, "slots", None)),
    )
    prepared = (Prepared(train, preprocessor, dtype, comm), prepare(validation), prepare(test))
    return Data(*prepared, preprocessor, dataset.target, remarks, *about, identity=_identity(dataset, parts, comm))


def _agree(comm: Communicator, every: list[Dataset], in_memory: list[Dataset]) -> None:
    """Refuse data that ranks read, or were given, differently.

    They would train on other batches, or a mixture, or wait for each other for ever.
    """
    looks: list[Any] = [[data.n_rows, repr(data.columns), repr(data.target)] for data in every]
    looks += [identity(Subset(data), SerialCommunicator()) for data in in_memory if comm.size > 1]
    require_equal(comm, looks, "the data")


def _identity(dataset: Dataset, parts: dict[str, Subset], comm: Communicator) -> dict[str, Any]:
    """Return what the data are that a training depends on."""
    found = {"data": identity(Subset(dataset), comm)}
    if "validation" in parts:
        found["validation data"] = identity(parts["validation"], comm)
    return found


def _options(options: TableOptions | None, y: Any, weight: Any, reading: dict[str, Any]) -> TableOptions:
    """Return the options of a table, with single ones in their places; several columns may stand in a list."""
    named = {"target": y, "weight": weight}
    given = {name: value for name, value in named.items() if isinstance(value, str)} | reading
    known = [field.name for field in fields(TableOptions)]
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"load() has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if isinstance(value, list | tuple) and name not in ("columns_like",):
            given[name] = ",".join(map(str, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            given[name] = str(value)
    return replace(options or TableOptions(), **given)


def _fitted(train: Subset, comm: Communicator, how: dict[str, Any], given: Preprocessor | None) -> Preprocessor:
    """Fit the preprocessing, or remember it; where it is `given` but for the weights of rows."""
    found = remembered(
        getattr(train.dataset, "folder", None), lambda: repr(how).encode() + train.key(),
        lambda: fit_preprocessor(train, comm, **how).as_dict(), comm,
    )  # fmt: skip
    own = Preprocessor(**found)
    return own if given is None else replace(given, class_weight=own.class_weight, weight_scale=own.weight_scale)


def _row_of(numbering: Callable[[Any], Any], slots: tuple[int, Any] | None, positions: Any) -> Any:
    rows = numbering(positions)
    return rows if slots is None else slots[1][rows]  # of the file, where some are bad
