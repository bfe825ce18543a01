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
from functools import partial
from pathlib import Path
from typing import Any

from distbp.errors import UsageError
from distbp.run.aliases import FLAGS, in_our_words, value_of
from distbp.run.entry_point import Parser
from distbp.run.options import TrainConfig, flag
from distbp.run.recipes import with_recipe

_FIELDS = {field.name: field for field in dataclasses.fields(TrainConfig)}
_DEFAULTS = {name: field.default for name, field in _FIELDS.items()}


def _type(field: "dataclasses.Field[Any]") -> Any:
    """The type of a field, without its None."""
    return (typing.get_args(field.type) or [field.type])[0]


_COMMON = frozenset(
    "data target validation_data test_data task recipe hidden activation dropout optimizer lr batch_size epochs seed"
    " ensemble folds exact early_stopping class_weight run_dir resume track report quiet dry_run".split()
)
"""Options that ``--help`` shows; ``--help all`` shows all."""


def _parser(everything: bool = True) -> argparse.ArgumentParser:
    more = "" if everything else " These are the options that most people use; '--help all' shows all of them."
    parser = Parser(
        prog="distbp train",
        usage="[mpirun -n P] distbp train [DATA] [options]\n\n"
        "  distbp train houses.csv --target price\n  mpirun -n 4 distbp train digits --exact --epochs 20",
        description="Train a feed-forward network by mini-batch backpropagation."
        " Put 'mpirun -n P' in front of it for P ranks. Defaults in brackets are those of --recipe plain; for tables"
        f" and images others are taken, which --dry-run shows.{more}",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Wide,
        add_help=False,
    )
    parser.add_argument("--help", "-h", nargs="?", const="", metavar="all", help="this; with 'all', every option")
    parser.add_argument("--config", metavar="FILE.toml", help="read options from a file; flags go before it")
    groups: dict[str, Any] = {}
    for field in _FIELDS.values():
        if not everything and field.name not in _COMMON:
            continue
        meta, kind = field.metadata, _type(field)
        group = groups.setdefault(meta["group"], parser.add_argument_group(meta["group"]))
        shown = ("on" if field.default else "off") if kind is bool else meta["shown"]
        default = "" if shown is None else f" [{shown}]"
        text = (meta["help"] + default).replace("%", "%%")
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        if kind is not bool:
            metavar = meta["metavar"] or (None if meta["choices"] else {int: "N", float: "X"}.get(kind, "TEXT"))
            read = meta["read"] or (partial(_in_our_words, field.name, meta["choices"]) if meta["choices"] else kind)
            how = {"type": read, "choices": meta["choices"], "metavar": metavar}
        group.add_argument(f"--{flag(field.name)}", help=text, **how)
    return parser


class _Wide(argparse.RawDescriptionHelpFormatter):
    """Leaves the usage as it is written, and fills the description."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _in_our_words(name: str, choices: Any, text: str) -> Any:
    return value_of(name, text, choices)


def help_on(arguments: list[str]) -> str:
    """Return the help that a command line asks for, "" where it does not."""
    for i, word in enumerate(arguments):
        if word in ("--help", "-h"):
            return _parser(everything=arguments[i + 1 : i + 2] == ["all"]).format_help()
    return ""


def parse_train_config(arguments: list[str]) -> TrainConfig:
    """The configuration from command-line arguments.

    A `UsageError` is an unknown flag or key (the nearest known one is named), or a value that it cannot have.
    """
    found, unknown = _parser().parse_known_args(in_our_words(arguments))
    if unknown:
        raise UsageError(f"unknown argument {unknown[0]}{_nearest(unknown[0].split('=')[0], '--')}")
    given = vars(found)
    given.pop("help", None)
    from_file = _read_toml(Path(given.pop("config")).expanduser()) if "config" in given else _own(given)
    return TrainConfig(**with_recipe({**from_file, **given}, _DEFAULTS))


def _own(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the run that ``--resume auto --run-dir RUN`` goes on with, where this host has them.

    Who gives a new length, in epochs or steps, does not mean the old one.
    """
    if given.get("resume") != "auto" or not given.get("run_dir"):
        return {}
    path = Path(given["run_dir"]).expanduser() / "config.toml"
    own = _read_toml(path) if path.exists() else {}
    lengths = {"epochs", "steps"}
    return {name: value for name, value in own.items() if name not in lengths or not lengths & given.keys()}


def config_of(given: dict[str, Any], where: str) -> TrainConfig:
    """Return the configuration of options by their Python names; None is what is not given.

    A `TypeError` is an unknown one (the nearest known one is named), a `UsageError` a value that it cannot have.
    """
    values = {}
    for key, value in given.items():
        name = FLAGS.get(key.replace("_", "-"), key).replace("-", "_")
        if name not in _FIELDS:
            near = difflib.get_close_matches(name, _FIELDS, n=1)
            raise TypeError(f"{where} has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if name == "dtype":
            value = getattr(value, "name", getattr(value, "__name__", value))
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
        name = FLAGS.get(key.replace("_", "-"), key).replace("-", "_")
        if name not in _FIELDS:
            raise UsageError(f"{path}: unknown key {key!r}{_nearest(key)}")
        out[name] = _checked(path, flag(name), value)
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
    value = value_of(field.name, value, choices)
    if type(value) is not kind:
        raise UsageError(f"{path}: {key} = {value!r}: a value of type {kind.__name__} is needed")
    if choices and value not in choices:
        raise UsageError(f"{path}: {key} = {value!r}: one of {', '.join(choices)}")
    return value
