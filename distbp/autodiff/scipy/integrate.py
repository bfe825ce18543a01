"""scipy.integrate: ordinary differential equations by their adjoint, and sums of samples.

The gradient of a solution y(t) of dy/dt = f(y, t, args) solves an equation of its own, backwards in time (Pontryagin
1962; Chen et al. 2018, "Neural ordinary differential equations", appendix B),

    d(lambda)/dt = -lambda df/dy,     d(g_args)/dt = -lambda df/d(args)

beside y itself, which is computed again; at each time that was asked for the gradient of that value is added to lambda.
"""

from typing import Any

import numpy as np

from distbp.autodiff.reverse import vjp
from distbp.autodiff.scipy import front
from distbp.autodiff.shapes import taken_apart
from distbp.autodiff.tables import RULES, Array, NotDifferentiable
from distbp.autodiff.tracing import Traced, record, value_of

m: Any = None
"""The module scipy.integrate."""


def load(module: Any) -> None:
    """Give fronts to the functions of the module."""
    global m
    m = module
    RULES[solution] = _solution_vjp
    front(m.odeint, odeint)
    front(m.trapezoid, lambda y, x=None, dx=1.0, axis=-1: np.trapezoid(y, x, dx, axis))
    front(m.cumulative_trapezoid, cumulative_trapezoid)
    front(m.solve_ivp, solve_ivp)


def odeint(func: Any, y0: Array, t: Array, args: Any = (), Dfun: Any = None, col_deriv: Any = 0,
           full_output: Any = 0, ml: Any = None, mu: Any = None, rtol: Any = None, atol: Any = None, tcrit: Any = None,
           h0: Any = 0.0, hmax: Any = 0.0, hmin: Any = 0.0, ixpr: Any = 0, mxstep: Any = 0, mxhnil: Any = 0,
           mxordn: Any = 12, mxords: Any = 5, printmessg: Any = 0, tfirst: bool = False) -> Array:  # fmt: skip
    """Integrate; what `func` depends on is among `args`: numbers or arrays."""
    if full_output or tcrit is not None:
        raise NotDifferentiable("scipy.integrate.odeint of a traced array: without full_output and tcrit")
    args = tuple(args) if isinstance(args, (tuple, list)) else (args,)
    f = (lambda y, t, *rest: func(t, y, *rest)) if tfirst else func
    y0, t = (a if type(a) is Traced else np.asarray(a, float) for a in (y0, t))
    places = [k for k, a in enumerate(args) if type(a) is Traced]  # others, whatever they are, stay what they are

    def of_traced(y: Array, t: Array, *traced: Array) -> Array:
        whole = list(args)
        for k, a in zip(places, traced, strict=True):
            whole[k] = a
        return f(y, t, *whole)

    if any(type(a) is Traced for a in (rtol, atol, h0, hmax, hmin)):
        raise NotDifferentiable("scipy.integrate.odeint of a traced array: by its tolerances there is no derivative")
    how = {"rtol": rtol, "atol": atol, "h0": h0, "hmax": hmax, "hmin": hmin, "mxstep": mxstep}
    how["known"] = []  # gradients, once they have been asked for
    return record(solution, (of_traced, y0, t, *(args[k] for k in places)), how)


def solution(f: Any, y0: Array, t: Array, *args: Array, known: Any, **how: Any) -> Array:
    """Return the solution at each time, by SciPy."""

    def plain(*inner: Any) -> Any:
        slope = f(*inner)
        if type(slope) is Traced:
            raise NotDifferentiable("scipy.integrate.odeint: the function uses a traced array that is not among args=")
        return slope

    return m.odeint(plain, y0, t, args=args, **how)


def _solution_vjp(
    k: int, g: Array, ans: Array, f: Any, y0: Array, t: Array, *args: Array, known: Any, **how: Any
) -> Array:
    """Return the gradient by the initial values (k = 1), the times (2) or an argument (3 and on)."""
    if not known or known[-1][0] is not g:  # all are found together
        known[:] = [(g, *_adjoint(g, ans, f, t, args, how))]
    _, back, of_args = known[-1]
    if k == 1:
        return back + g[0]
    if k > 2:
        return of_args[k - 3]
    slopes = [-np.sum(back * f(ans[0], t[0], *args))]
    slopes += [np.sum(g[i] * f(ans[i], t[i], *args)) for i in range(1, np.shape(t)[0])]
    return np.stack(slopes)


def _adjoint(g: Array, ans: Array, f: Any, t: Array, args: Any, how: Any) -> tuple[Array, list[Array]]:
    """Return the gradient by the value at the first time, of all later ones, and by each argument."""
    n = np.shape(ans)[1]

    def slope_of(state: Array, minus_t: Array, *args: Array) -> Array:
        y, back = state[:n], state[n : 2 * n]
        slope, pull = vjp(lambda y, *a: _as_array(f(y, -minus_t, *a)), y, *args)
        by_y, *by_args = pull(back)
        return np.concatenate([-slope, by_y, *(np.reshape(b, -1) for b in by_args)])

    back, of_args = np.zeros(n), np.zeros(sum(int(np.size(a)) for a in args))
    for i in range(np.shape(t)[0] - 1, 0, -1):
        start = np.concatenate([ans[i], back + g[i], of_args])
        times = np.stack([-t[i], -t[i - 1]])
        state = m.odeint(slope_of, start, times, args=tuple(args), **how)[1]
        back, of_args = state[n : 2 * n], state[2 * n :]
    return back, taken_apart(of_args, [np.shape(a) for a in args])


def _as_array(slope: Any) -> Array:
    return np.stack(slope) if isinstance(slope, (tuple, list)) else slope


def cumulative_trapezoid(y: Array, x: Array = None, dx: float = 1.0, axis: int = -1, initial: Any = None) -> Array:
    """Return the sums of trapezoids until each sample."""
    samples: Array = y if type(y) is Traced else np.asarray(y)
    y = np.moveaxis(samples, axis, -1)
    width = dx if x is None else np.diff(x) if np.ndim(x) == 1 else np.moveaxis(np.diff(x, axis=axis), axis, -1)
    sums = np.cumsum(width * 0.5 * (y[..., 1:] + y[..., :-1]), -1)
    if initial is not None:
        sums = np.concatenate([np.full((*np.shape(sums)[:-1], 1), value_of(initial), sums.dtype), sums], -1)
    return np.moveaxis(sums, -1, axis)


def solve_ivp(*args: Any, **kwargs: Any) -> Any:
    """Refuse."""
    raise NotDifferentiable(
        "scipy.integrate.solve_ivp of a traced array: odeint(fun, y0, t, args=(...), tfirst=True) has a derivative, by"
        " y0, t and args"
    )
