"""Automatic differentiation of plain NumPy code, in reverse mode: the lecture's graph, and the chain rule over it.

    import numpy as np
    from distbp.autodiff import grad

    def logistic(z):
        return 1.0 / (1.0 + np.exp(-z))

    grad(logistic)(1.5)      # logistic(1.5) * (1 - logistic(1.5))

Forwards, the function runs once as it stands, on `Traced` arguments (`tracing`), and leaves behind a graph: a node for
each primitive, which knows its arguments. Backwards, the nodes are visited from the result to the arguments. When a
node's turn comes, all that depends on it has been visited, so its gradient g = dC/d(node) is complete, and the *rules*
of its primitive (`tables`) say what that means for each argument,

    dC/d(argument) += rule(g, node, arguments)

The delta recursion of `network` is this walk for one particular graph: each node is visited once, whatever the number
of paths through it, so that all derivatives together cost a small multiple of the function (Baur & Strassen 1983;
Griewank & Walther 2008, section 3.3). Rules are plain NumPy too: where the derivative of a derivative is wanted, they
run on traced numbers, and leave behind a graph of their own.
"""

from collections.abc import Callable
from functools import partial
from operator import getitem
from typing import Any

import numpy as np

from distbp.autodiff.indexing import add_at
from distbp.autodiff.scipy import load_scipy
from distbp.autodiff.selection import without_left_out
from distbp.autodiff.tables import COMPLEX, RULES, Array, NotDifferentiable
from distbp.autodiff.tracing import Node, Traced, as_traced, value_of
from distbp.trees import Tree, leaves_of, like


def _backward(
    order: list[Node], grads: dict[int, Array], variables: set[int], closed: bool, *, careful: bool = False
) -> dict[int, Array]:
    """Apply the chain rule, node by node: gradients of the variables, by number, from those of the results.

    `order` and `closed` are what `_graph` gives. With `careful` numbers that `np.where` left out have no gradient, also
    where the derivative of what they were computed by is infinite or not a number.
    """
    left_out: dict[int, Array] = {}
    on_the_way = {node.serial for node in order}
    ours: set[int] = set()  # gradients that nobody else holds: sums are taken in place
    for node in order:
        if node.serial in variables or node.function is None or (g := grads.pop(node.serial, None)) is None:
            continue  # without a function: a variable of a derivative in this function, which is done
        # g is complete: all that depends on the node has been visited
        function, args, result = node.function, node.args, node.result
        rules = RULES[function]
        if closed:
            given, ans = [a.value if type(a) is Traced else a for a in args], node if result is None else result
        else:  # the derivative will be differentiated, too: the rules run on traced numbers
            given, ans = list(args), as_traced(node)
        if (is_complex := g.dtype.kind == "c") and function not in COMPLEX:
            raise NotDifferentiable(f"{function.__name__} of complex numbers: no rule is known")
        for k, a in enumerate(args):
            below = a.node if type(a) is Traced else a
            if type(below) is not Node or (s := below.serial) not in on_the_way:
                continue
            if s in ours and function is getitem and type(g) is not Traced:
                add_at(grads[s], args[1], g)
                continue
            if isinstance(rules, tuple):
                rule = rules[k] if k < len(rules) else None
            else:
                rule = partial(rules, k)
            if rule is None:
                raise NotDifferentiable(f"{function.__name__}: no derivative is known by argument {k}")
            part = rule(g, ans, *given, **node.kwargs)
            if careful:
                part = without_left_out(node, k, part, left_out, below)
            if part.shape != below.shape:
                part = _unbroadcast(part, below.shape)
            if is_complex and below.dtype.kind != "c":
                part = np.real(part)
            if s not in grads:
                grads[s] = part
                if function is getitem and type(part) is np.ndarray:
                    ours.add(s)
            elif s in ours and type(part) is not Traced and part.dtype == grads[s].dtype:
                grads[s] += part
            else:
                grads[s] = grads[s] + part
                if type(grads[s]) is np.ndarray:
                    ours.add(s)
    return grads


def _graph(results: list[Node], variables: list[Node]) -> tuple[list[Node], bool]:
    """Return the nodes between results and variables, each before its arguments; and whether nothing else is traced.

    Something else is where the function is part of another one that is differentiated: a derivative in a derivative.
    """
    first = min(variable.serial for variable in variables)
    found: dict[int, Node] = {}
    pending, closed = list(results), True
    while pending:
        node = pending.pop()
        if node.serial < first:
            closed = False
        elif node.serial not in found:
            found[node.serial] = node
            pending += _parents(node)
    if not closed:  # of the nodes that are as young as the variables some do not depend on them
        depends = {variable.serial for variable in variables}
        for serial in sorted(found):
            if any(parent.serial in depends for parent in _parents(found[serial])):
                depends.add(serial)
        found = {serial: node for serial, node in found.items() if serial in depends}
    return [found[serial] for serial in sorted(found, reverse=True)], closed  # a node is younger than its arguments


def _parents(node: Node) -> list[Node]:
    """Return the nodes of the arguments."""
    return [a.node if isinstance(a, Traced) else a for a in node.args if isinstance(a, (Traced, Node))]


def _unbroadcast(g: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient of what was broadcast from that shape: the sum over its copies."""
    lead = g.ndim - len(shape)
    copied = tuple(i for i, n in enumerate(g.shape) if i < lead or shape[i - lead] != n)
    return np.reshape(np.sum(g, copied), shape)


def _variable(path: str, x: Any) -> Traced:
    """Trace a leaf of the arguments, by which derivatives are taken."""
    if type(x) is Traced:
        return Traced(x)
    if type(x) is int:
        x = float(x)
    array = np.asarray(x)
    if array.dtype.kind == "c":
        raise NotDifferentiable(f"argument {path}: complex numbers; give real and imaginary part as two arguments")
    if array.dtype.kind != "f":
        raise NotDifferentiable(
            f"argument {path}: a derivative is taken by floating-point numbers, and this is {array.dtype}"
            " (x.astype(float), or another argnum)"
        )
    return Traced(array if array.ndim else array[()])


# --- what one asks for -----------------------------------------------------------------------------------


def vjp(f: Callable[..., Tree], *args: Tree, **kwargs: Any) -> tuple[Tree, Callable[[Tree], tuple[Tree, ...]]]:
    """Return the value of ``f(*args)``, and a function that pulls a gradient of it back to the arguments.

    Parameters
    ----------
    f : callable
        Of trees of float arrays, made of NumPy's functions; it gives an array or a tree of arrays.
    *args, **kwargs
        Its arguments; derivatives are taken by the positional ones.

    Returns
    -------
    value : array or tree
    pull : callable
        ``pull(g)``, where `g` is like `value`, gives a tuple with a gradient like each of `args`: the product of `g`
        with the Jacobian matrix. It can be called any number of times.

    Raises
    ------
    NotDifferentiable
        Where there is no derivative, or none that is known.
    """
    load_scipy()
    leaves = [leaf for i, arg in enumerate(args) for leaf in leaves_of(arg, str(i) if len(args) > 1 else "")]
    variables = [_variable(path or "0", x) for path, x in leaves]
    if not variables:
        raise NotDifferentiable("there is no argument to take a derivative by")
    traced = iter(variables)
    inputs = [like(arg, traced) for arg in args]
    try:
        result = f(*inputs, **kwargs)
    except NotDifferentiable:
        if not load_scipy():  # which the function may have imported itself
            raise
        result = f(*inputs, **kwargs)
    outputs, roots = [x for _, x in leaves_of(result)], [x.node for x in variables]
    order, closed = _graph([x.node for x in outputs if type(x) is Traced], roots)
    reached, numbers = {node.serial for node in order}, {node.serial for node in roots}

    def pull(g: Tree) -> tuple[Tree, ...]:
        seeds = [x for _, x in leaves_of(g)]
        if len(seeds) != len(outputs):
            raise ValueError(f"the gradient has {len(seeds)} parts, the value {len(outputs)}")
        grads: dict[int, Array] = {}
        for out, seed in zip(outputs, seeds, strict=True):
            if type(out) is not Traced or (serial := out.node.serial) not in reached:
                continue  # it does not depend on the arguments
            if type(seed) is not Traced:
                seed = np.asarray(seed, out.dtype)[()]
            if seed.shape != out.shape:
                raise ValueError(f"a gradient of shape {seed.shape} for a value of shape {out.shape}")
            grads[serial] = seed if serial not in grads else grads[serial] + seed
        found = _backward(order, dict(grads), numbers, closed)
        if any(np.isnan(np.sum(value_of(x))) for x in found.values()):  # 0 times inf, on a branch that was not taken?
            found = _backward(order, grads, numbers, closed, careful=True)
        finished = iter(_finished([found.get(node.serial) for node in roots], variables))
        return tuple(like(arg, finished) for arg in args)

    values = iter(x.value if type(x) is Traced and closed else x for x in outputs)
    return like(result, values), pull


def _finished(grads: list[Any], variables: list[Traced]) -> list[Any]:
    """Return gradients in the precision of the variables, in arrays of their own; zeros where there is none."""
    out, seen = [], set[int]()
    for g, variable in zip(grads, variables, strict=True):
        x = variable.value
        if g is None:
            g = np.zeros_like(x)[()]
        elif g.dtype != x.dtype:
            g = g.astype(x.dtype)
        if type(g) is np.ndarray:
            if not g.flags.writeable or g.base is not None or id(g) in seen:
                g = np.array(g)
            seen.add(id(g))
        out.append(g)
    return out


def _seed_of_number(value: Any, name: str) -> Any:
    several = isinstance(value, (tuple, list, dict))
    if several or np.size(value) != 1:
        what = "several arrays" if several else f"an array of shape {np.shape(value)}"
        raise NotDifferentiable(f"{name} wants a function whose value is one number, and this is {what}: vjp, jacobian")
    return np.ones(np.shape(value), value.dtype)[()] if hasattr(value, "dtype") else 1.0


def value_and_grad(f: Callable[..., Any], argnum: int | tuple[int, ...] = 0) -> Callable[..., tuple[Any, Tree]]:
    """Return a function that gives the value of `f`, one number, and its gradient; see `grad`."""
    several = isinstance(argnum, tuple)
    numbers = argnum if isinstance(argnum, tuple) else (argnum,)

    def value_and_gradient(*args: Any, **kwargs: Any) -> tuple[Any, Tree]:
        def of_chosen(*chosen: Any) -> Any:
            all_args = list(args)
            for k, x in zip(numbers, chosen, strict=True):
                all_args[k] = x
            return f(*all_args, **kwargs)

        value, pull = vjp(of_chosen, *[args[k] for k in numbers])
        grads = pull(_seed_of_number(value, "grad"))
        return value, grads if several else grads[0]

    return value_and_gradient


def grad(f: Callable[..., Any], argnum: int | tuple[int, ...] = 0) -> Callable[..., Tree]:
    """Return the gradient of a function whose value is one number, as a function.

    Parameters
    ----------
    f : callable
        Made of NumPy's functions.
    argnum : int or tuple of int
        The positional argument, or arguments, by which the derivative is taken: arrays, or trees of arrays.

    Returns
    -------
    callable
        Takes the arguments of `f`, gives the gradient, which is like the argument, or a tuple of gradients.

    Examples
    --------
    >>> import numpy as np
    >>> grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> float(grad(grad(np.exp))(0.0))
    1.0
    """
    both = value_and_grad(f, argnum)

    def gradient(*args: Any, **kwargs: Any) -> Tree:
        return both(*args, **kwargs)[1]

    return gradient
