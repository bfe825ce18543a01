"""Fourier transforms, in terms of the one along one axis."""

from typing import Any

import numpy as np

from distbp.autodiff.tables import COMPOSITIONS, Array, composes, defvjp, linear
from distbp.autodiff.tracing import record

# F is symmetric, so what goes back is conj(F conj(g))
defvjp(np.fft.fft, lambda g, ans, x, n=None, axis=-1, norm=None: np.conj(np.fft.fft(np.conj(g), n, axis, norm)))
defvjp(np.fft.ifft, lambda g, ans, x, n=None, axis=-1, norm=None: np.conj(np.fft.ifft(np.conj(g), n, axis, norm)))
linear(np.fft.fft, np.fft.ifft)


def _resized(x: Array, n: int | None, axis: int) -> Array:
    """Return `x`, cut or padded with zeros to `n` elements along an axis."""
    have = x.shape[axis]
    if n is None or n == have:
        return x
    if n < have:
        return x[(slice(None),) * (axis % x.ndim) + (slice(0, n),)]
    return np.pad(x, tuple((0, n - have) if i == axis % x.ndim else (0, 0) for i in range(x.ndim)))


def _transform(function: Any) -> Any:
    return lambda a, n=None, axis=-1, norm=None, out=None: record(function, (_resized(a, n, axis), None, axis, norm))


_fft, _ifft = _transform(np.fft.fft), _transform(np.fft.ifft)
COMPOSITIONS[np.fft.fft], COMPOSITIONS[np.fft.ifft] = _fft, _ifft


@composes(np.fft.rfft)
def _rfft(a: Array, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Array:
    full = _fft(a, n, axis, norm)
    return full[(slice(None),) * (axis % a.ndim) + (slice(0, full.shape[axis] // 2 + 1),)]


@composes(np.fft.irfft)
def _irfft(a: Array, n: int | None = None, axis: int = -1, norm: Any = None, out: Any = None) -> Array:
    n = 2 * (a.shape[axis] - 1) if n is None else n
    half = np.moveaxis(_resized(a, n // 2 + 1, axis), axis, -1)
    times = np.full(n // 2 + 1, 2, a.dtype)  # with the mirror image, whose part of the result is the conjugate
    times[[0, -1] if n % 2 == 0 else 0] = 1
    return np.moveaxis(np.real(_ifft(half * times, n, -1, norm)), -1, axis)


_OPPOSITE = {None: "forward", "backward": "forward", "ortho": "ortho", "forward": "backward"}
COMPOSITIONS[np.fft.hfft] = lambda a, n=None, axis=-1, norm=None, out=None: _irfft(np.conj(a), n, axis, _OPPOSITE[norm])
COMPOSITIONS[np.fft.ihfft] = lambda a, n=None, axis=-1, norm=None, out=None: np.conj(_rfft(a, n, axis, _OPPOSITE[norm]))


def _along_axes(first: Any, last: Any, default: Any) -> Any:
    """Compose a transform along several axes: `last` along the last one, which is real, `first` along the others."""

    def composed(a: Array, s: Any = None, axes: Any = default, norm: Any = None, out: Any = None) -> Array:
        if axes is None:
            axes = range(a.ndim) if s is None else range(-len(s), 0)
        pairs = list(zip(axes, [None] * len(axes) if s is None else s, strict=True))
        steps = list(zip([first] * (len(pairs) - 1) + [last], pairs, strict=False))  # of no axes: none
        for transform, (axis, n) in steps if last is _irfft else reversed(steps):
            a = transform(a, n, axis, norm)
        return a

    return composed


for _dims, _axes in (("n", None), ("2", (-2, -1))):
    COMPOSITIONS[getattr(np.fft, f"fft{_dims}")] = _along_axes(_fft, _fft, _axes)
    COMPOSITIONS[getattr(np.fft, f"ifft{_dims}")] = _along_axes(_ifft, _ifft, _axes)
    COMPOSITIONS[getattr(np.fft, f"rfft{_dims}")] = _along_axes(_fft, _rfft, _axes)
    COMPOSITIONS[getattr(np.fft, f"irfft{_dims}")] = _along_axes(_ifft, _irfft, _axes)
