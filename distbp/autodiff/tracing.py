"""Tracing: how plain NumPy code leaves behind the graph of what it computed.

A `Traced` array holds a value, and a `Node` that remembers how it came about: which function gave it, of which
arguments. NumPy itself hands every call that sees one over to it, ufuncs by ``__array_ufunc__`` and all other functions
by ``__array_function__`` (NEP 13 and NEP 18), so the code that is differentiated imports nothing but NumPy.

    x = Traced(np.float64(1.5))
    y = 1.0 / (1.0 + np.exp(-x))

makes four nodes, negative, exp, add and divide, each of which points to what it was computed from. Nodes are numbered
in the order in which they are made: a node has a greater number than its arguments. A node keeps the values that the
rules of its function (`tables`) ask for and no others: what else the program lets go is gone.
"""

import inspect
import itertools
import math
import operator
import sys
from collections.abc import Mapping, Sequence
from functools import wraps
from math import prod
from operator import attrgetter
from types import FrameType
from typing import Any, cast

import numpy as np

from distbp.autodiff.tables import (
    COMPOSITIONS,
    CONSTANT,
    KEEPS,
    METHODS,
    RULES,
    Function,
    NotDifferentiable,
    refusal,
    refuse_out,
    ufunc_options,
)

NO_KEYWORDS: Mapping[str, Any] = {}
_new = object.__new__
_count = itertools.count(1).__next__


class Node:
    """A value in the graph: of which function, of which arguments."""

    __slots__ = ("args", "dtype", "function", "kwargs", "result", "serial", "shape")

    function: Any  # the primitive that gave it; None of a variable
    args: Sequence[Any]  # traced arrays; nodes, of those whose values nobody asks for; and what is not traced
    kwargs: Mapping[str, Any]
    result: Any  # the value, where a rule asks for it
    serial: int  # number in the order of making
    shape: tuple[int, ...]  # of the value, as dtype is
    dtype: Any

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: prod(self.shape))


class Traced:
    """An array, or number, that remembers how it was computed.

    It has the attributes, operators and methods of an array, but it cannot be written into, and it does not turn into
    a plain array or float by accident: that would lose the derivative.

    Parameters
    ----------
    value : ndarray, number or Traced
        What it stands for; of a `Traced` it is a copy that points to it.
    """

    __slots__ = ("node", "value")

    node: Node
    astype: Any  # the operators and methods of arrays are in `operators`
    shape = property(attrgetter("value.shape"))
    ndim = property(attrgetter("value.ndim"))
    size = property(attrgetter("value.size"))
    dtype = property(attrgetter("value.dtype"))

    def __init__(self, value: Any) -> None:
        self.value: Any = value
        if type(value) is Traced:
            self.value, self.node = value.value, make_node(identity, (value,), NO_KEYWORDS, value.value)
        else:
            self.node = make_node(None, (), NO_KEYWORDS, value)

    # --- what NumPy calls -----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__":
            if not kwargs and ufunc in RULES and ufunc not in COMPOSITIONS:
                return record(ufunc, inputs)
            kwargs = ufunc_options(ufunc, kwargs)
            if kwargs and ufunc in RULES:
                raise NotDifferentiable(f"np.{ufunc.__name__} of a traced array: without {', '.join(kwargs)}=")
            return call(ufunc, inputs, kwargs)
        reduction = METHODS.get((ufunc, method))
        if reduction is None and method == "outer" and len(inputs) == 2:
            a, b = inputs
            return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b, **kwargs)
        if reduction is None:
            raise NotDifferentiable(f"np.{ufunc.__name__}.{method} of a traced array: no rule is known")
        if "axis" not in kwargs and len(inputs) == 1:
            kwargs["axis"] = 0
        return reduction(*inputs, **ufunc_options(ufunc, kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return call(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if name := _library():
            raise NotDifferentiable(f"{name} of a traced array: {_UNKNOWN}")
        raise NotDifferentiable(
            "something makes a plain array of a traced one, which would lose the derivative: autodiff.array([...]) in"
            " place of np.array([...]), np.where or np.concatenate in place of writing into an array, functions of"
            " NumPy and SciPy in place of those of other libraries; autodiff.value_of(x), where the derivative is not"
            " wanted"
        )

    # --- what Python calls ------------------------------------------------------------------------------

    def __float__(self) -> float:
        if name := _library():
            raise NotDifferentiable(f"{name} of a traced number: {_UNKNOWN}")
        raise NotDifferentiable(
            "float(x) of a traced number would lose the derivative: leave it out, use np.exp(x) in place of"
            " math.exp(x), autodiff.array([...]) in place of np.array([...]); autodiff.value_of(x), where it is not"
            " wanted"
        )

    __complex__ = __float__

    def __int__(self) -> int:
        return int(self.value)  # a step has the derivative 0

    __trunc__ = __int__

    def __floor__(self) -> int:
        return int(math.floor(self.value))

    def __ceil__(self) -> int:
        return int(math.ceil(self.value))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise NotDifferentiable(
            "a traced array cannot be written into: make a new one with np.where, np.concatenate or np.stack"
        )

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Any:
        return record(operator.getitem, (self, value_of(index)))


_UNKNOWN = "no rule is known; write it with other functions, or give one: autodiff.primitive and defvjp"


def _library() -> str:
    """Return the function of SciPy that is at work on what the program gave it, "" where none is."""
    found, frame = "", cast("FrameType | None", sys._getframe(2))
    while frame is not None and (module := frame.f_globals.get("__name__", "")).startswith(("scipy.", "numpy")):
        wrapped = frame.f_locals.get("f") if module.startswith("scipy._lib") else None
        if wrapped is not None:  # what looks at arguments in place of a function
            found = f"{'.'.join(wrapped.__module__.split('.')[:2])}.{wrapped.__name__}"
        elif module.startswith("scipy.") and not module.startswith("scipy._lib"):
            found = f"{'.'.join(module.split('.')[:2])}.{frame.f_code.co_name}"
        frame = frame.f_back
    return found


def record(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] = NO_KEYWORDS) -> Traced:
    """Call a primitive on the values, and make a node of the result."""
    traced = _new(Traced)
    traced.value = value = function(*[a.value if type(a) is Traced else a for a in args], **kwargs)
    traced.node = make_node(function, args, kwargs, value)
    return traced


def make_node(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Node:
    """Make a node that keeps what the rules of the function ask for."""
    node = _new(Node)
    node.function, node.kwargs, node.serial = function, kwargs, _count()
    node.shape, node.dtype, node.result = value.shape, value.dtype, None
    keeps = KEEPS.get(function)
    if keeps == "shapes" or (keeps == "others" and [type(a) for a in args].count(Traced) < 2):
        node.args = [a.node if type(a) is Traced else a for a in args]
    elif keeps == "arguments" or keeps == "others":
        node.args = args
    elif keeps == "result":
        node.args, node.result = [a.node if type(a) is Traced else a for a in args], value
    elif keeps == "divisor":
        x, y = args
        node.args, node.result = (x.node if type(x) is Traced else x, y), value if type(y) is Traced else None
    else:
        node.args, node.result = args, value
    return node


def as_traced(node: Node) -> Any:
    """Return the result that a node has kept, traced; the node itself, which has its shape, where it kept none."""
    if node.result is None:
        return node
    traced = _new(Traced)
    traced.node, traced.value = node, node.result
    return traced


def call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] = NO_KEYWORDS) -> Any:
    """Call any function of NumPy, given that some argument is traced, or something in a list that is an argument."""
    if (composed := COMPOSITIONS.get(function)) is not None:
        return composed(*args, **kwargs)
    if function in RULES:
        refuse_out(kwargs.get("out"))
        if any(type(a) is Traced for a in kwargs.values()):
            args, kwargs = _positional(function, args, kwargs)
        return record(function, args, kwargs) if any(type(a) is Traced for a in args) else function(*args, **kwargs)
    if function in CONSTANT:
        return function(*[value_of(a) for a in args], **{k: value_of(a) for k, a in kwargs.items()})
    raise refusal(function)


def value_of(x: Any) -> Any:
    """Return the plain value, whose trace ends here: no derivative is taken through it. Lists go by elements."""
    while type(x) is Traced:
        x = x.value
    if type(x) in (tuple, list):
        return type(x)(map(value_of, x))
    if isinstance(x, dict):
        return {k: value_of(v) for k, v in x.items()}
    return x


def primitive(function: Function) -> Function:
    """Make a primitive of a function of plain arrays: traced calls make one node, whose rules `defvjp` gives."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for a in args:
            if type(a) is Traced:
                if wrapper not in RULES:
                    raise NotDifferentiable(f"{function.__name__} has no rules: autodiff.defvjp gives them")
                return record(wrapper, args, kwargs)
        return function(*args, **kwargs)

    return wrapper


@primitive
def identity(x: Any) -> Any:
    """Return `x` itself, as a node of its own."""
    return x


def _positional(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return the arguments, by position as far as possible; of those by keyword only a condition may be traced."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise NotDifferentiable(f"{function.__name__} of a traced array: {error}") from None
    for name, a in bound.kwargs.items():
        if type(a) is Traced and name != "where":
            raise NotDifferentiable(f"{function.__name__} with a traced {name}=: no derivative is known by it")
    return bound.args, {name: value_of(a) for name, a in bound.kwargs.items()}
