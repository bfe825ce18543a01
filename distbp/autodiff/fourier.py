"""Fourier transforms, in terms of the one along one axis."""

from collections.abc import Callable
from typing import Any

import numpy as np

from distbp.autodiff import derivatives as d
from distbp.autodiff.tracing import COMPOSITIONS, composes, record

__all__: list[str] = []

Array = Any


def _fitted(x: Array, n: int | None, axis: int) -> Array:
    """`x` cut, or filled up with zeros, to `n` elements along an axis."""
    have = x.shape[axis]
    if n is None or n == have:
        return x
    if n < have:
        return x[(slice(None),) * (axis % x.ndim) + (slice(0, n),)]
    return d.pad_constant(x, tuple((0, n - have) if i == axis % x.ndim else (0, 0) for i in range(x.ndim)))


def _transform(function: Any) -> Callable[..., Array]:
    return lambda a, n=None, axis=-1, norm=None, out=None: record(
        function, (_fitted(a, n, axis), None, axis, norm)
    )  # fmt: skip


_fft, _ifft = _transform(np.fft.fft), _transform(np.fft.ifft)
COMPOSITIONS[np.fft.fft], COMPOSITIONS[np.fft.ifft] = _fft, _ifft


@composes(np.fft.rfft)
def _rfft(a: Array, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Array:
    whole = _fft(a, n, axis, norm)
    return whole[(slice(None),) * (axis % a.ndim) + (slice(0, whole.shape[axis] // 2 + 1),)]


@composes(np.fft.irfft)
def _irfft(a: Array, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Array:
    n = 2 * (a.shape[axis] - 1) if n is None else n
    a = np.moveaxis(_fitted(a, n // 2 + 1, axis), axis, -1)
    ends = 2 if n % 2 == 0 else 1  # what stands only once, and whose imaginary part plays no part
    single = [a[..., :1] + np.conj(a[..., :1])]
    if ends == 2:
        single.append(a[..., -1:] + np.conj(a[..., -1:]))
    middle = a[..., 1 : a.shape[-1] - ends + 1]
    whole = np.concatenate(
        [single[0] / 2.0, middle, *(x / 2.0 for x in single[1:]), np.conj(np.flip(middle, -1))], -1
    )  # fmt: skip
    return np.moveaxis(np.real(_ifft(whole, None, -1, norm)), -1, axis)


@composes(np.fft.hfft)
def _hfft(a: Array, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Array:
    opposite = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}[norm]
    return _irfft(np.conj(a), n, axis, opposite)


@composes(np.fft.ihfft)
def _ihfft(a: Array, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Array:
    opposite = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}[norm]
    return np.conj(_rfft(a, n, axis, opposite))


def _several(first: Any, last: Any, default: Any, inverse: bool = False) -> Callable[..., Array]:
    """A transform along several axes: `last` along the last one, `first` along the others."""

    def composed(a: Array, s: Any = None, axes: Any = default, norm: Any = None, out: Any = None) -> Array:
        axes = list(range(a.ndim) if axes is None and s is None else range(-len(s), 0) if axes is None else axes)
        sizes = list(s) if s is not None else [None] * len(axes)
        pairs = list(zip(axes, sizes, strict=True))
        for i, (axis, n) in enumerate(pairs if inverse else reversed(pairs)):
            is_last = i == len(pairs) - 1 if inverse else i == 0
            a = (last if is_last else first)(a, n, axis, norm)
        return a

    return composed


for _dims, _axes in (("n", None), ("2", (-2, -1))):
    COMPOSITIONS[getattr(np.fft, f"fft{_dims}")] = _several(_fft, _fft, _axes)
    COMPOSITIONS[getattr(np.fft, f"ifft{_dims}")] = _several(_ifft, _ifft, _axes)
    COMPOSITIONS[getattr(np.fft, f"rfft{_dims}")] = _several(_fft, _rfft, _axes)
    COMPOSITIONS[getattr(np.fft, f"irfft{_dims}")] = _several(_ifft, _irfft, _axes, inverse=True)
