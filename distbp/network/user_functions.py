"""The user's own functions, by name: ``module:function``, from the current folder or the Python path.

A model file holds such names and never code: whoever loads it needs the module.
"""

import importlib
import os
import sys
from typing import Any

from distbp.errors import UserError


def is_function_name(text: str) -> bool:
    """Return whether `text` names a function of the user's, not one of ours."""
    return ":" in text


def resolve(text: str, what: str) -> Any:
    """Import what ``module:name`` names, where both may have dots; `what` asks for it, as ``--loss`` in messages.

    Raises
    ------
    UserError
        When there is no such module or name, or the module cannot be imported. Modules of the standard library are
        refused: a model file should not be able to call them.
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise UserError(f"{what} {text!r}: write module:name")
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise UserError(f"{what} {text}: {module} is a module of Python itself; a module of your own is meant")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        problem = f"{module} needs the module {error.name!r}, which is not there"
        if f"{module}.".startswith(f"{error.name}."):
            problem = f"there is no module {error.name!r} in this folder or on the Python path (PYTHONPATH)"
        raise UserError(f"{what} {text}: {problem}") from None
    except Exception as error:
        raise UserError(f"{what} {text}: {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise UserError(f"{what} {text}: {module} has no {part!r}")
        found = getattr(found, part)
    return found
