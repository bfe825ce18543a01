"""Any differentiable NumPy program as a model that the trainer trains.

A model is a pair of functions,

    init(rng, n_inputs, n_outputs) -> parameters       a tree: nested tuples, lists, dicts of arrays
    predict(parameters, X) -> outputs                  X (n, n_inputs), row by row; outputs (n, ...)

and its gradient is found by `autodiff`. `FunctionModel` dresses it as a `Network`: the parameters lie in one flat
vector, of which the arrays of the tree are views. For reducers, exact mode and optimisers it is a network of one
layer with one input, which is 1, and a unit for each parameter: the delta of unit j is dC/d(theta_j), and their
product a^T delta is the gradient.
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.errors import UserError
from distbp.network.flat import Flat, Layer
from distbp.network.tape import Tape
from distbp.network.user_functions import resolve
from distbp.network.work import Leaves, OwnPass, Pass
from distbp.randomness import key
from distbp.trees import Tree, leaves_of, like

Array = NDArray[Any]


class _Tapes:
    """Memory for the passes of up to `capacity` rows."""

    def __init__(self, capacity: int, n_inputs: int, output_shape: tuple[int, ...], n: int, dtype: DTypeLike) -> None:
        self.capacity = capacity
        self._X = np.empty((capacity, n_inputs), dtype)
        self._delta = np.empty((capacity, *output_shape), dtype)
        self._one, self._gradient = np.ones((1, 1), dtype), np.zeros((1, n), dtype)

    def __call__(self, n: int, **place: Any) -> Tape:
        """Return the tape of `n` rows."""
        tape = Tape()
        tape.X, tape.delta = self._X[:n], [self._delta[:n]]
        tape.inputs, tape.deltas = [self._one], [self._gradient]
        return tape


class FunctionModel(Flat):
    """A model of two functions, in the place of a `Network`.

    Parameters
    ----------
    init : callable
        ``init(rng, n_inputs, n_outputs)`` gives the initial parameters, a tree of float arrays; it is given those of
        the three arguments that it names so; where it has other names, as many as it takes. `rng` is a
        ``numpy.random.Generator``.
    predict : callable
        ``predict(parameters, X)`` gives the outputs (n, ...) of the rows `X` (n, n_inputs), each from its row alone.
    n_inputs, n_outputs : int
        Of the data. Outputs may have any shape; what they mean is up to the loss.
    dtype : data-type
        float32 or float64.
    seed : int
        Of `rng`.
    name : str
        ``module:name`` of the pair: what a model file holds in place of code.

    Attributes
    ----------
    parameters : tree
        Views of `theta`.
    function : callable
        `predict`, as it was given.
    output_shape : tuple of int
        Shape of the outputs of a row.

    Examples
    --------
    >>> import numpy as np
    >>> model = FunctionModel(
    ...     lambda rng, n_inputs: {"w": rng.standard_normal(n_inputs), "b": np.zeros(1)},
    ...     lambda p, X: np.reshape(X @ p["w"] + p["b"], (-1, 1)),
    ...     3,
    ...     1,
    ... )
    >>> model.n_parameters, model.predict(np.zeros((2, 3))).shape
    (4, (2, 1))
    """

    dropout = 0.0
    dense = False
    """Whether ranks can share rows and units of it."""

    def __init__(
        self,
        init: Callable[..., Tree],
        predict: Callable[[Tree, Array], Array],
        n_inputs: int,
        n_outputs: int,
        *,
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        name: str = "",
    ) -> None:
        self.dtype, self.seed, self.name, self.n_outputs = np.dtype(dtype), seed, name, n_outputs
        self.function, self._what = predict, f"--model {name}" if name else "the model"
        rng = np.random.Generator(np.random.Philox(key(seed, "model")))
        self._tree = _initial(init, {"rng": rng, "n_inputs": n_inputs, "n_outputs": n_outputs})
        self._shapes: list[tuple[int, ...]] = []
        self.parts: list[tuple[str, slice]] = []
        start = 0
        for path, x in leaves_of(self._tree):
            if not (isinstance(x, float) or (isinstance(x, (np.ndarray, np.floating)) and x.dtype.kind == "f")):
                raise UserError(f"{self._what}: parameter {path} is {type(x).__name__}, not an array of floats")
            self._shapes.append(np.shape(x))
            self.parts.append((path or "parameters", slice(start, start + np.size(x))))
            start += np.size(x)
        if not start:
            raise UserError(f"{self._what}: init gives no parameters")
        self.n_parameters = start
        self.layers = [Layer(1, start, 0)]
        self.layers[0].bias = slice(start, start)  # there are none
        self.bind_gradient(np.zeros(start, self.dtype))
        self.bind_parameters(np.concatenate([np.ravel(x) for _, x in leaves_of(self._tree)]).astype(self.dtype))
        self.output_shape = self._outputs(np.zeros((2, n_inputs), self.dtype)).shape[1:]
        self.sizes = (n_inputs, int(np.prod(self.output_shape, dtype=int)))
        self.part: Pass | None = None

    @classmethod
    def named(cls, name: str, n_inputs: int, n_outputs: int, **how: Any) -> "FunctionModel":
        """The model of the pair that ``module:name`` names: a tuple, or an object with `init` and `predict`."""
        pair = resolve(name, "--model")
        if not isinstance(pair, (tuple, list)):
            pair = getattr(pair, "init", None), getattr(pair, "predict", None)
        if len(pair) != 2 or not all(map(callable, pair)):
            raise UserError(f"--model {name}: a pair (init, predict) of functions is wanted, or an object with both")
        init, predict = pair
        return cls(init, predict, n_inputs, n_outputs, name=name, **how)

    @property
    def weight_slices(self) -> list[slice]:
        """Return where arrays of two and more dimensions lie: what weight decay and layer-wise rates apply to."""
        return [part for (_, part), shape in zip(self.parts, self._shapes, strict=True) if len(shape) > 1]

    def tensors(self) -> dict[str, Array]:
        """Views of the parameters by name."""
        return dict(zip((name for name, _ in self.parts), (x for _, x in leaves_of(self.parameters)), strict=True))

    def architecture(self) -> dict[str, Any]:
        """Return what a model file says besides the parameters."""
        if not self.name:
            raise UserError("a model file holds the name of a model: give FunctionModel(..., name='module:name')")
        return {"model": self.name, "sizes": [self.sizes[0], self.n_outputs]}

    def describe(self) -> str:
        """Name and sizes, for people."""
        return f"model {self.name or self.function.__qualname__}, {self.sizes[0]} inputs"

    def table(self) -> list[str]:
        """A line for each array of parameters."""
        lines = [f"{'parameter':<24}{'shape':>20}{'numbers':>12}"]
        for (name, part), shape in zip(self.parts, self._shapes, strict=True):
            lines.append(f"{name:<24}{shape!s:>20}{part.stop - part.start:>12,}")
        return lines

    def group_squares(self, part: Pass) -> tuple[Array, int]:
        """Return ``n |g|^2`` of the rows that were passed together, a group, and 1; of no rows nothing."""
        n, g = len(part.tape.X), part.tape.deltas[0][0]
        return (np.asarray([float(np.dot(g, g)) / n]), 1) if n else (np.zeros(1), 0)

    def kept_per_row(self) -> int:
        """Numbers that are kept of a row, as far as it is known: inputs and outputs."""
        return sum(self.sizes)

    def own_pass(self, X: Array) -> OwnPass:
        """Return a pass of the rows of X (n, n_inputs), after which `backward` can follow."""
        tape = self.tapes(len(X))(len(X))
        tape.X = X
        return OwnPass(tape, Leaves(1))

    def tapes(self, rows: int, **shared: Any) -> Any:
        """Memory for the passes of up to `rows` rows."""
        return _Tapes(rows, self.sizes[0], self.output_shape, self.n_parameters, self.dtype)

    def release(self) -> None:
        """Let go of what the last pass has kept."""
        self.part = None

    def bind_parameters(self, theta: Array) -> None:
        """Let `theta` (n_parameters,) be the parameters."""
        super().bind_parameters(theta)
        self.parameters = self.tree(theta)

    def tree(self, theta: Array) -> Tree:
        """A vector of numbers, one for each parameter, as a tree of views like the parameters."""
        views = (theta[part].reshape(shape) for (_, part), shape in zip(self.parts, self._shapes, strict=True))
        return like(self._tree, views)

    def forward(self, X: Array, part: Pass | None = None) -> Array:
        """Compute the outputs (n, ...) of a batch; with a part `backward` can follow. The caller may overwrite them."""
        self.part, tape = part, None if part is None else part.tape
        if len(X) == 0:  # functions need not know what to do with nothing
            if tape is not None:
                tape.pull = None
            return np.zeros((0, *self.output_shape), self.dtype)
        return self._outputs(X, tape)

    def backward(self, delta: Array, part: Pass | None = None, ready: Callable[[int, Any], None] | None = None) -> None:
        """Compute the gradient from `delta` (n, ...), dC/d(outputs), of the batch of the last `forward` with `part`."""
        part = part or self.part
        assert part is not None, "forward was given no part to keep anything in"
        tape, flat = part.tape, part.tape.deltas[0][0]
        if tape.pull is None:
            flat[:] = 0.0
        else:
            grads = tape.pull(delta)[0]
            for (_, where), (_, g) in zip(self.parts, leaves_of(grads), strict=True):
                flat[where] = np.ravel(g)
            tape.pull = None
        if ready is None:
            self.grad[:] = flat
        else:
            ready(0, part)

    def _outputs(self, X: Array, tape: Tape | None = None) -> Array:
        from distbp.autodiff import NotDifferentiable, vjp  # not before it is needed

        try:
            if tape is None:
                value = self.function(self.parameters, X)
            else:
                value, tape.pull = vjp(lambda parameters: self.function(parameters, X), self.parameters)
        except NotDifferentiable as error:
            raise UserError(f"{self._what}: {error}") from error
        outputs = np.array(value, self.dtype)  # a copy: others write into it, and the graph needs its own
        if outputs.ndim < 2 or len(outputs) != len(X):
            given = f"an array of shape {outputs.shape} for {len(X)} rows"
            raise UserError(f"{self._what}: predict gives {given}; (n, n_outputs) is wanted")
        return outputs


def _initial(init: Callable[..., Any], offered: dict[str, Any]) -> Any:
    """Return what `init` gives: of what it names it is given that, of other names as many as it must have."""
    taken = inspect.signature(init).parameters
    if taken.keys() <= offered.keys():
        return init(**{name: offered[name] for name in taken})
    needed = [one for one in taken.values() if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    if any(one.kind is one.VAR_POSITIONAL for one in needed):
        return init(*offered.values())
    return init(*list(offered.values())[: len(needed)])
