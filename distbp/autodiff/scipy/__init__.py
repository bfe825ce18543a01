"""Functions of SciPy: how programs that import them are differentiated as they stand.

Ufuncs, as most of scipy.special, are handed over by NumPy like its own: `special` has their rules. The others are plain
Python and never ask who their arguments are, so the modules beside this one say what they are in terms of functions
that have rules, and the first derivative that is taken after a module of SciPy has been loaded gives its functions a
front, that looks at their arguments: with a traced one it calls what is written here, else the function itself.

It is the code of a function that is exchanged, not a name in a module: ``from scipy.special import logsumexp`` of long
ago is the same object, and every thread sees it before or after, and nothing in between. It stays: a look takes a
microsecond. SciPy is not imported for any of it.
"""

import inspect
import sys
import threading
import types
from collections.abc import Callable
from importlib import import_module
from typing import Any

from distbp.autodiff.tables import Function
from distbp.autodiff.tracing import Traced

_MODULES = {
    "scipy.special": "special", "scipy.stats": "stats", "scipy.linalg": "linalg", "scipy.signal": "signal",
    "scipy.integrate": "integrate",
}  # fmt: skip
"""Modules of SciPy, and which one here knows their functions."""
FRONTS: dict[Function, Function] = {}
"""Functions that have a front, and what they are called on traced arrays."""
_pending = dict(_MODULES)
_lock = threading.Lock()


def load_scipy() -> bool:
    """Let functions of the modules of SciPy that are loaded, and were not before, see traced arrays; were there any?"""
    found = False
    for name in tuple(_pending):
        module: Any = sys.modules.get(name)
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            with _lock:
                if name in _pending:
                    import_module(f"{__name__}.{_MODULES[name]}").load(module)
                    del _pending[name]
                    found = True
    return found


def front(function: Any, traced: Callable[..., Any]) -> None:
    """Call `traced` in place of a function of SciPy, with the same arguments, where one of them is traced."""
    original = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = function.__kwdefaults__
    signature = inspect.signature(function)

    def look(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if any(map(_is_traced, args)) or any(map(_is_traced, kwargs.values())):
            return traced(*args, **kwargs)
        return original(*args, **kwargs)

    def shown(*args: Any, __look: Any, **kwargs: Any) -> Any:
        return __look(args, kwargs)

    code = function.__code__
    function.__signature__ = signature
    # defaults for both codes: another thread may be between the two lines
    function.__kwdefaults__ = {**(function.__kwdefaults__ or {}), "__look": look}
    function.__code__ = shown.__code__.replace(
        co_freevars=code.co_freevars, co_name=code.co_name, co_qualname=code.co_qualname
    )
    FRONTS[function] = traced


def _is_traced(a: Any) -> bool:
    return type(a) is Traced or (type(a) in (tuple, list) and any(map(_is_traced, a)))
