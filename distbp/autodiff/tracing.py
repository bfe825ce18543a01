"""Tracing: how plain NumPy code leaves behind the graph of what it computed.

A `Traced` array holds a value, and a `Node` that remembers how it came about: which function gave it, of which
arguments. NumPy itself hands every call that sees one over to it, ufuncs by ``__array_ufunc__`` and all other functions
by ``__array_function__`` (NEP 13 and NEP 18), so the code that is differentiated imports nothing but NumPy.

    x = Traced(np.float64(1.5))
    y = 1.0 / (1.0 + np.exp(-x))

makes four nodes, negative, exp, add and divide, each of which points to what it was computed from. Nodes are numbered
in the order in which they are made: a node has a greater number than its arguments. A node keeps the values that the
rules of its function ask for and no others: what else the program lets go is gone.

What NumPy can do is sorted into four tables, which `derivatives`, `special` and `compositions` fill:

    RULES         primitives: one rule for each argument gives its part of the gradient; KEEPS says of what
    COMPOSITIONS  written here in terms of others, and differentiated through them
    CONSTANT      piecewise constant or about shapes: what they give has no derivative, and is not traced
    UNSUPPORTED   the rest, each with what to do instead
"""

import inspect
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from math import prod
from typing import Any

import numpy as np

__all__ = [
    "COMPOSITIONS",
    "CONSTANT",
    "KEEPS",
    "METHODS",
    "RULES",
    "UNSUPPORTED",
    "Node",
    "NotDifferentiable",
    "Traced",
    "boxed",
    "call",
    "composes",
    "primitive",
    "record",
    "refuse_output",
    "value_of",
]

Rule = Callable[..., Any]
"""``rule(g, ans, *args, **kwargs)``: the gradient of one argument, from that of the result `ans`."""

RULES: dict[Any, tuple[Rule | None, ...] | Rule] = {}
"""A rule for each argument, None where it has no derivative; or for functions of any number of arguments one
``rule(k, g, ans, *args, **kwargs)`` for argument number k."""
KEEPS: dict[Any, str] = {}
"""The values that the rules of a function ask for, all where it is not named here: ``shapes`` (none; they see nodes in
their place, which have shape and dtype), ``result``, ``arguments``, ``others`` (each rule the other arguments), or
``divisor`` (the second argument; its own rule the result, too)."""
COMPOSITIONS: dict[Any, Callable[..., Any]] = {}
CONSTANT: set[Any] = set()
UNSUPPORTED: dict[Any, str] = {}

_NOTHING: Mapping[str, Any] = {}
_new = object.__new__
_count = itertools.count(1).__next__


class NotDifferentiable(TypeError):
    """A derivative was asked for where there is none, or none that is known; the text says what to do."""


class Node:
    """A value in the graph: of which function, of which arguments.

    Attributes
    ----------
    function : callable or None
        The primitive that gave it; None of a variable.
    args, kwargs : list and dict
        Its arguments: traced arrays; nodes, of those whose values nobody asks for; and what is not traced.
    result : ndarray or None
        The value, where a rule asks for it.
    serial : int
        Number in the order of making.
    shape, dtype
        Of the value.
    """

    __slots__ = ("args", "dtype", "function", "kwargs", "result", "serial", "shape")

    function: Any
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any
    serial: int
    shape: tuple[int, ...]
    dtype: Any

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """As of an array."""
        return prod(self.shape)


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

    def __init__(self, value: Any) -> None:
        self.value: Any = value
        if type(value) is Traced:
            self.value, self.node = value.value, _node(identity, (value,), _NOTHING, value.value)
        else:
            self.node = _node(None, (), _NOTHING, value)

    # --- what NumPy calls -----------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__":
            if not kwargs and ufunc in RULES and ufunc not in COMPOSITIONS:
                return record(ufunc, inputs)
            kwargs = _without_output(ufunc, kwargs)
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
        return reduction(*inputs, **_without_output(ufunc, kwargs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return call(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise NotDifferentiable(
            "something makes a plain array of a traced one, which would lose the derivative: np.stack([...]) in place"
            " of np.array([...]), np.where or np.concatenate in place of writing into an array, functions of NumPy in"
            " place of those of other libraries (autodiff has logsumexp, softmax and log_softmax);"
            " autodiff.value_of(x), where the derivative is not wanted"
        )

    # --- what Python calls ------------------------------------------------------------------------------

    def __float__(self) -> float:
        raise NotDifferentiable(
            "float(x) of a traced number would lose the derivative: leave it out, use np.exp(x) in place of"
            " math.exp(x), np.stack([...]) in place of np.array([...]); autodiff.value_of(x), where it is not wanted"
        )

    __complex__ = __float__

    def __setitem__(self, index: Any, value: Any) -> None:
        raise NotDifferentiable(
            "a traced array cannot be written into: make a new one with np.where, np.concatenate or np.stack"
        )

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:  # piecewise constant
        return int(self.value)

    def __index__(self) -> int:
        return operator.index(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self.value)))

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Any:
        return record(operator.getitem, (self, _index(index)))

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """As of an array."""
        return int(self.value.size)

    @property
    def dtype(self) -> Any:
        """As of an array."""
        return self.value.dtype

    @property
    def T(self) -> Any:
        """As of an array."""
        return call(np.transpose, (self,))

    @property
    def mT(self) -> Any:
        """As of an array."""
        return call(np.swapaxes, (self, -1, -2))

    @property
    def real(self) -> Any:
        """As of an array."""
        return call(np.real, (self,))

    @property
    def imag(self) -> Any:
        """As of an array."""
        return call(np.imag, (self,))

    def conj(self) -> Any:
        """As of an array."""
        return call(np.conjugate, (self,))

    @property
    def flat(self) -> Any:
        """As of an array, to read from."""
        return iter(call(np.ravel, (self,)))

    def item(self, *index: Any) -> Any:
        """The one element, traced."""
        if not index and self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return call(np.ravel, (self,))[index[0] if len(index) == 1 else 0] if len(index) < 2 else self[index]

    def astype(self, dtype: Any, **how: Any) -> Any:
        """As of an array; whole numbers are not traced."""
        if np.dtype(dtype).kind not in "fc":
            return self.value.astype(dtype)
        return record(astype, (self, np.dtype(dtype)))

    def copy(self, order: str = "C") -> Any:
        """As of an array."""
        return record(identity, (self,))

    def flatten(self, order: str = "C") -> Any:
        """As of an array."""
        return call(np.ravel, (self,), {"order": order})

    def compress(self, condition: Any, axis: int | None = None) -> Any:
        """As of an array."""
        return call(np.compress, (condition, self, axis))

    def reshape(self, *shape: Any, **how: Any) -> Any:
        """As of an array."""
        return call(np.reshape, (self, shape[0] if len(shape) == 1 else shape), how)

    def transpose(self, *axes: Any) -> Any:
        """As of an array."""
        return call(np.transpose, (self, axes[0] if len(axes) == 1 else axes or None))

    def tolist(self) -> Any:
        """Nested lists of traced numbers."""
        return [x.tolist() for x in self] if self.ndim else self


def record(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NOTHING) -> Traced:
    """Call a primitive on the values, and make a node of the result."""
    traced = _new(Traced)
    traced.value = value = function(*[a.value if type(a) is Traced else a for a in args], **kwargs)
    traced.node = _node(function, args, kwargs, value)
    return traced


def _node(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Node:
    """A node that keeps what the rules of the function ask for."""
    node = _new(Node)
    node.function, node.kwargs, node.serial = function, kwargs, _count()
    node.shape, node.dtype, node.result = value.shape, value.dtype, None
    keeps = KEEPS.get(function)
    if keeps == "shapes":
        node.args = [a.node if type(a) is Traced else a for a in args]
    elif keeps == "others":
        several = [type(a) for a in args].count(Traced) > 1
        node.args = args if several else [a.node if type(a) is Traced else a for a in args]
    elif keeps == "arguments":
        node.args = args
    elif keeps == "result":
        node.args, node.result = [a.node if type(a) is Traced else a for a in args], value
    elif keeps == "divisor":
        x, y = args
        node.args = (x.node if type(x) is Traced else x, y)
        if type(y) is Traced:
            node.result = value
    else:
        node.args, node.result = args, value
    return node


def boxed(node: Node) -> Any:
    """The result that a node has kept, traced; of one that has not the node, which has its shape."""
    if node.result is None:
        return node
    traced = _new(Traced)
    traced.node, traced.value = node, node.result
    return traced


def call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] = _NOTHING) -> Any:
    """Call any function of NumPy, given that some argument is traced, or something in a list that is an argument."""
    if (composed := COMPOSITIONS.get(function)) is not None:
        return composed(*args, **kwargs)
    if function in RULES:
        refuse_output(kwargs.get("out"))
        if any(type(a) is Traced for a in kwargs.values()):
            args, kwargs = _positional(function, args, kwargs)
        return record(function, args, kwargs) if any(type(a) is Traced for a in args) else function(*args, **kwargs)
    if function in CONSTANT:
        return function(*[value_of(a) for a in args], **{k: value_of(a) for k, a in kwargs.items()})
    known_to_numpy = getattr(np, function.__name__, None) is function
    name = getattr(function, "__module__", None) or ("numpy" if known_to_numpy else "ufunc")
    name = f"{name}.{function.__name__}".replace("numpy.", "np.").removeprefix("ufunc.")
    what = UNSUPPORTED.get(function, "no rule is known; write it with other functions, or give one: autodiff.defvjp")
    raise NotDifferentiable(f"{name} of a traced array: {what}")


def value_of(x: Any) -> Any:
    """The plain value, without the trace: what depends on it has no derivative through it. Lists go by elements."""
    while type(x) is Traced:
        x = x.value
    if type(x) in (tuple, list):
        return type(x)(map(value_of, x))
    if isinstance(x, dict):
        return {k: value_of(v) for k, v in x.items()}
    return x


def primitive(function: Callable[..., Any]) -> Callable[..., Any]:
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
    """`x` itself, as a node of its own."""
    return x


@primitive
def astype(x: Any, dtype: Any) -> Any:
    """`x` in another precision."""
    return x.astype(dtype)


KEEPS[identity] = KEEPS[astype] = "shapes"
RULES[identity] = (lambda g, ans, x: g,)
RULES[astype] = (lambda g, ans, x, dtype: g.astype(x.dtype), None)


def composes(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What is decorated stands for these functions of NumPy."""

    def register(composition: Callable[..., Any]) -> Callable[..., Any]:
        for function in functions:
            COMPOSITIONS[function] = composition
        return composition

    return register


def refuse_output(out: Any) -> None:
    """For compositions that get an argument `out`."""
    if out is not None:
        raise NotDifferentiable("out= writes into an array, and a traced value is involved: leave it out")


def _index(index: Any) -> Any:
    if type(index) is tuple:
        return tuple(value_of(i) for i in index)
    return value_of(index)


def _positional(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The same arguments, by position as far as possible; of the others only a condition may be traced."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise NotDifferentiable(f"{function.__name__} of a traced array: {error}") from None
    for name, a in bound.kwargs.items():
        if type(a) is Traced and name != "where":
            raise NotDifferentiable(f"{function.__name__} with a traced {name}=: no derivative is known by it")
    return bound.args, {name: value_of(a) for name, a in bound.kwargs.items()}


def _without_output(ufunc: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The options of a ufunc; those that write into an array are refused."""
    if any(array is not None for array in kwargs.get("out") or ()):
        raise NotDifferentiable(
            f"np.{ufunc.__name__} writes into an array (out=, or a += b), and a traced value is involved: make a new"
            " one, a = a + b"
        )
    if kwargs.get("where", True) is not True:
        if ufunc.nin == 1 or "axis" not in kwargs:
            raise NotDifferentiable(f"np.{ufunc.__name__} with where=: use np.where(condition, ..., ...)")
    return {
        k: v for k, v in kwargs.items() if k not in ("out", "order", "subok", "casting") and (k, v) != ("where", True)
    }


METHODS: dict[tuple[Any, str], Any] = {
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
    (np.add, "accumulate"): np.cumsum,
    (np.multiply, "accumulate"): np.cumprod,
}
"""What some methods of ufuncs are; others are added where they are written."""


def _binary(ufunc: Any, apply: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """An operator and its reflection: as `record`, without the way through NumPy, which numbers do not need."""

    def forward(self: Traced, other: Any) -> Any:
        traced = _new(Traced)
        traced.value = value = apply(self.value, other.value if type(other) is Traced else other)
        traced.node = _node(ufunc, (self, other), _NOTHING, value)
        return traced

    def reflected(self: Traced, other: Any) -> Any:
        traced = _new(Traced)
        traced.value = value = apply(other, self.value)
        traced.node = _node(ufunc, (other, self), _NOTHING, value)
        return traced

    return forward, reflected


def _compared(apply: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda self, other: apply(self.value, value_of(other))


def _whole(apply: Callable[[Any, Any], Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return _compared(apply), lambda self, other: apply(other, self.value)


def _method(function: Any) -> Callable[..., Any]:
    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        return call(function, (self, *args), kwargs)

    method.__name__, method.__doc__ = function.__name__, f"As ``np.{function.__name__}``."
    return method


for _name, _ufunc, _apply in (
    ("add", np.add, operator.add),
    ("sub", np.subtract, operator.sub),
    ("mul", np.multiply, operator.mul),
    ("truediv", np.divide, operator.truediv),
    ("pow", np.power, operator.pow),
    ("mod", np.remainder, operator.mod),
):
    for _prefix, _function in zip(("", "r"), _binary(_ufunc, _apply), strict=True):
        setattr(Traced, f"__{_prefix}{_name}__", _function)
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(Traced, f"__{_name}__", _compared(getattr(operator, _name)))
for _prefix, _function in zip(("", "r"), _whole(operator.floordiv), strict=True):
    setattr(Traced, f"__{_prefix}floordiv__", _function)
for _name, _unary in ("neg", np.negative), ("pos", np.positive), ("abs", np.absolute):
    setattr(Traced, f"__{_name}__", _method(_unary))
for _name, _function in {
    "matmul": lambda self, other: call(np.matmul, (self, other)),
    "rmatmul": lambda self, other: call(np.matmul, (other, self)),
    "divmod": lambda self, other: (self // other, self % other),
    "rdivmod": lambda self, other: (other // self, other % self),
}.items():
    setattr(Traced, f"__{_name}__", _function)
for _numpy in (
    np.all, np.any, np.argmax, np.argmin, np.argsort, np.clip, np.conjugate, np.cumprod, np.cumsum,
    np.diagonal, np.dot, np.max, np.mean, np.min, np.nonzero, np.prod, np.ravel, np.repeat, np.round, np.squeeze,
    np.std, np.sum, np.swapaxes, np.take, np.trace, np.var, np.searchsorted,
):  # fmt: skip
    setattr(Traced, _numpy.__name__, _method(_numpy))
