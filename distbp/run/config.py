"""From a command line and a file to the options of a run.

Precedence: defaults, then the file of ``--config``, then flags. A file may group keys in tables ([model], [data], ...)
or not.
"""

import argparse
import dataclasses
import difflib
import os
import tomllib
import typing
from pathlib import Path
from typing import Any

from distbp.errors import UsageError
from distbp.run.entry_point import Parser
from distbp.run.options import TrainConfig, flag
from distbp.run.recipes import with_recipe

_FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}
_DEFAULTS = {name: field.default for name, field in _FIELDS.items()}


def _type(field: "dataclasses.Field[Any]") -> Any:
    """The type of a field, without its None."""
    return (typing.get_args(field.type) or [field.type])[0]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m distbp.train",
        usage="[mpirun -n P] python -m distbp.train [options]",
        description="Train a feed-forward network by mini-batch backpropagation."
        " Put 'mpirun -n P' in front of it for P ranks. Defaults in brackets are those of --recipe plain; for tables"
        " and images others are taken, which --dry-run shows.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="FILE.toml", help="read options from a file; flags go before it")
    groups: dict[str, Any] = {}
    for field in _FIELDS.values():
        meta, kind = field.metadata, _type(field)
        group = groups.setdefault(meta["group"], parser.add_argument_group(meta["group"]))
        default = "" if field.default is None or kind is bool else f" [{meta['shown']}]"
        text = (meta["help"] + default).replace("%", "%%")
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if kind is not bool:
            metavar = meta["metavar"] or (None if meta["choices"] else {int: "N", float: "X"}.get(kind, "TEXT"))
            how = {"type": meta["read"] or kind, "choices": meta["choices"], "metavar": metavar}
        group.add_argument(f"--{flag(field.name)}", help=text, **how)
    return parser


def parse_train_config(arguments: list[str]) -> TrainConfig:
    """The configuration from command-line arguments.

    A `UsageError` is an unknown flag or key (the nearest known one is named), or a value that it cannot have.
    """
    found, unknown = _parser().parse_known_args(arguments)
    if unknown:
        raise UsageError(f"unknown argument {unknown[0]}{_nearest(unknown[0].split('=')[0], '--')}")
    given = vars(found)
    from_file = _read_toml(Path(given.pop("config"))) if "config" in given else {}
    return TrainConfig(**with_recipe({**from_file, **given}, _DEFAULTS))


def config_of(given: dict[str, Any], where: str) -> TrainConfig:
    """Return the configuration of options by their Python names; None is what is not given.

    A `TypeError` is an unknown one (the nearest known one is named), a `UsageError` a value that it cannot have.
    """
    values = {}
    for name, value in given.items():
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            raise TypeError(f"{where} has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if value is not None:
            plain = list(value) if isinstance(value, tuple | set) else getattr(value, "tolist", lambda v=value: v)()
            values[name] = _checked(where, name, os.fspath(plain) if hasattr(plain, "__fspath__") else plain)
    return TrainConfig(**with_recipe(values, _DEFAULTS))


def _nearest(word: str, dashes: str = "") -> str:
    near = difflib.get_close_matches(word.lstrip("-"), map(flag, _FIELDS), n=1)
    return f"; did you mean {dashes}{near[0]}?" if near else "; --help lists all"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    groups = {field.metadata["group"] for field in _FIELDS.values()}
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        flat |= value if isinstance(value, dict) and key in groups else {key: value}
    out = {}
    for key, value in flat.items():
        name = key.replace("-", "_")
        if name not in _FIELDS:
            raise UsageError(f"{path}: unknown key {key!r}{_nearest(key)}")
        out[name] = _checked(path, key, value)
    return out


def _checked(path: Path | str, key: str, value: Any) -> Any:
    """A value of a file, as its flag would take it: 256 and [256, 128] are fine for ``hidden``."""
    field = _FIELDS[key.replace("-", "_")]
    kind, choices, read = _type(field), field.metadata["choices"], field.metadata["read"]
    if read is not None and isinstance(value, str):
        try:
            value = read(value)
        except argparse.ArgumentTypeError as error:
            raise UsageError(f"{path}: {key}: {error}") from error
    if kind is str and isinstance(value, list):
        value = ",".join(map(str, value))
    if kind in (str, float) and type(value) is int:
        value = kind(value)
    if type(value) is not kind:
        raise UsageError(f"{path}: {key} = {value!r}: a value of type {kind.__name__} is needed")
    if choices and value not in choices:
        raise UsageError(f"{path}: {key} = {value!r}: one of {', '.join(choices)}")
    return value
