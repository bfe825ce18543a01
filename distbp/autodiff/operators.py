"""Operators, attributes and methods of a traced array: those of NumPy's arrays, but for those that write."""

import operator
from typing import Any

import numpy as np

from distbp.autodiff.tables import Function
from distbp.autodiff.tracing import NO_KEYWORDS, Traced, call, identity, make_node, primitive, record, value_of

_new = object.__new__


@primitive
def astype(x: Any, dtype: Any) -> Any:
    """Return `x` in another precision."""
    return x.astype(dtype)


# --- operators ----------------------------------------------------------------------------------------


def _binary(ufunc: Any, apply: Function) -> tuple[Function, Function]:
    """Make an operator and its reflection: as `record`, without the way through NumPy, which numbers do not need."""

    def forward(self: Traced, other: Any) -> Any:
        traced = _new(Traced)
        traced.value = value = apply(self.value, other.value if type(other) is Traced else other)
        traced.node = make_node(ufunc, (self, other), NO_KEYWORDS, value)
        return traced

    def reflected(self: Traced, other: Any) -> Any:
        traced = _new(Traced)
        traced.value = value = apply(other, self.value)
        traced.node = make_node(ufunc, (other, self), NO_KEYWORDS, value)
        return traced

    return forward, reflected


def _method(function: Any) -> Function:
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
for _name in ("lt", "le", "eq", "ne", "gt", "ge", "floordiv"):  # piecewise constant: a plain value
    _apply = getattr(operator, _name)
    setattr(Traced, f"__{_name}__", lambda self, other, apply=_apply: apply(self.value, value_of(other)))
for _name, _unary in ("neg", np.negative), ("pos", np.positive), ("abs", np.absolute):
    setattr(Traced, f"__{_name}__", lambda self, ufunc=_unary: record(ufunc, (self,)))

# --- attributes and methods ---------------------------------------------------------------------------


def _item(self: Traced, *index: Any) -> Any:
    if not index and self.size != 1:
        raise ValueError("can only convert an array of size 1 to a Python scalar")
    return call(np.ravel, (self,))[index[0] if len(index) == 1 else 0] if len(index) < 2 else self[index]


def _astype(self: Traced, dtype: Any, **how: Any) -> Any:
    if np.dtype(dtype).kind not in "fc":  # whole numbers have no derivative
        return self.value.astype(dtype)
    return record(astype, (self, np.dtype(dtype)))


for _name, _get in {
    "T": lambda self: call(np.transpose, (self,)),
    "mT": lambda self: call(np.swapaxes, (self, -1, -2)),
    "real": lambda self: call(np.real, (self,)),
    "imag": lambda self: call(np.imag, (self,)),
    "flat": lambda self: iter(call(np.ravel, (self,))),
}.items():
    setattr(Traced, _name, property(_get))
_methods: dict[str, Any] = {
    "__bool__": lambda self: bool(self.value),
    "__int__": lambda self: int(self.value),  # piecewise constant
    "__index__": lambda self: operator.index(self.value),
    "__len__": lambda self: len(self.value),
    "__iter__": lambda self: (self[i] for i in range(len(self.value))),
    "__repr__": lambda self: f"Traced({self.value!r})",
    "__format__": lambda self, spec: format(self.value, spec),
    "__rfloordiv__": lambda self, other: other // self.value,
    "__matmul__": lambda self, other: call(np.matmul, (self, other)),
    "__rmatmul__": lambda self, other: call(np.matmul, (other, self)),
    "__divmod__": lambda self, other: (self // other, self % other),
    "__rdivmod__": lambda self, other: (other // self, other % self),
    "astype": _astype,
    "compress": lambda self, condition, axis=None: call(np.compress, (condition, self, axis)),
    "conj": lambda self: call(np.conjugate, (self,)),
    "copy": lambda self, order="C": record(identity, (self,)),
    "flatten": lambda self, order="C": call(np.ravel, (self,), {"order": order}),
    "item": _item,
    "reshape": lambda self, *shape, **how: call(np.reshape, (self, shape[0] if len(shape) == 1 else shape), how),
    "tolist": lambda self: [x.tolist() for x in self] if self.ndim else self,
    "transpose": lambda self, *axes: call(np.transpose, (self, axes[0] if len(axes) == 1 else axes or None)),
}
for _name, _function in _methods.items():
    _function.__name__, _function.__qualname__ = _name, f"Traced.{_name}"
    setattr(Traced, _name, _function)
for _numpy in (
    np.all, np.any, np.argmax, np.argmin, np.argsort, np.clip, np.conjugate, np.cumprod, np.cumsum,
    np.diagonal, np.dot, np.max, np.mean, np.min, np.nonzero, np.prod, np.ravel, np.repeat, np.round, np.squeeze,
    np.std, np.sum, np.swapaxes, np.take, np.trace, np.var, np.searchsorted,
):  # fmt: skip
    setattr(Traced, _numpy.__name__, _method(_numpy))
