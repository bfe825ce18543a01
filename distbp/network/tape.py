"""The tape: what the passes of a batch keep. It holds data and decides nothing; `work` says who computes what.

Alone, a rank has a tape of its own rows. Where ranks share units, the arrays hold the rows of all of them below one
another, and the tape of a rank is a part of that of its team.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.trees import Tree

Array = NDArray[Any]


class Tape:
    """``z``, ``a``, ``out`` and ``delta`` of each layer, (rows, units): what this rank computes.

    `out` is what the next layer sees: `a`, or `a` times the dropout mask. Arrays share memory where nothing is lost:
    `a` with `z` where g' follows from `a`.

    ``X`` (n, n_inputs) is stored row by row. A layer is stored unit by unit where it has at least as many units as the
    smallest leaf has rows, and row by row otherwise: the long side in one piece makes the products fastest. The logits
    are always unit by unit, which is what softmax likes.

    ``inputs[l]`` and ``deltas[l]`` are what layer l saw and its delta, all units of them, for the rows of the team;
    ``rows`` are this rank's of these. Where there are embeddings, ``inputs[0]`` is ``X`` with them in place of the
    codes, and ``delta_0`` (n, width of all) is their delta. ``pull`` pulls a gradient back through a `FunctionModel`.
    """

    def __init__(self, rows: slice = slice(None)) -> None:
        self.X: Array
        self.delta_0: Array = np.zeros((0, 0))
        self.rows = rows
        self.z: list[Array] = []
        self.a: list[Array] = []
        self.out: list[Array] = []
        self.delta: list[Array] = []
        self.mask: list[Array | None] = []
        self.inputs: list[Array] = []
        self.deltas: list[Array] = []
        self.pull: Callable[[Array], tuple[Tree, ...]] | None = None

    def take(self, X: Array) -> None:
        """Let the rows `X` stay where they are."""
        self.X = X
        if not self.delta_0.shape[1]:
            self.inputs[0] = X


class Tapes:
    """The memory of tapes: allocated once, cut to the number of rows at hand.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each hidden layer, outputs.
    dtype : data-type
        Of the network.
    rows : int
        Most rows of a tape, those of the team where there is one.
    plain, embedded : int
        Of the inputs of the first layer those that stand in X, and the width of the embeddings beside them; all do,
        where nothing is embedded.
    keep_z, keep_a : bool
        Whether ``z`` and ``a`` need memory of their own: the derivative asks for ``z``, dropout for ``a``.
    own : callable, optional
        ``own(n)`` is how many of the n units of a hidden layer this rank computes; all by default.
    own_rows : int, optional
        Most rows whose outputs this rank computes; `rows` by default.
    allocate : callable, optional
        Gives memory that the team shares: ``allocate(n)`` is a flat array of n elements.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dtype: DTypeLike,
        rows: int,
        *,
        plain: int = 0,
        embedded: int = 0,
        keep_z: bool,
        keep_a: bool,
        own: Callable[[int], int] | None = None,
        own_rows: int | None = None,
        allocate: Callable[[int], Array] | None = None,
    ) -> None:
        self.capacity, self._sizes = rows, tuple(sizes)

        hidden = sizes[1:-1]
        joint = allocate or (lambda n: np.empty(n, dtype))
        elements = [rows * (own(units) if own else units) for units in hidden]
        self._X = joint(rows * sizes[0])
        self._inputs, self._delta_0 = (
            np.empty((rows, width * (embedded > 0)), dtype) for width in (plain + embedded, embedded)
        )
        self._out = [joint(rows * units) for units in hidden]
        self._delta = [joint(rows * units) for units in sizes[1:]]
        self._a = [np.empty(n, dtype) for n in elements] if keep_a else None
        self._z = [np.empty(n, dtype) for n in elements] if keep_z else None
        self._logits = np.empty((rows if own_rows is None else own_rows) * sizes[-1], dtype)

    def __call__(
        self,
        n: int,
        *,
        first: int = 0,
        total: int | None = None,
        units: Sequence[slice] | None = None,
        narrow: int | None = None,
    ) -> Tape:
        """Return the tape of `n` rows.

        Parameters
        ----------
        n, first, total : int
            They are rows `first` to `first + n` of the `total` rows of the team.
        units : sequence of slice, optional
            Of each hidden layer, those that this rank computes for all rows of the team; by default it computes all
            units of its own rows.
        narrow : int, optional
            Layers of at least so many units are stored unit by unit; by default `n`.
        """
        sizes, total = self._sizes, n if total is None else total
        least = n if narrow is None else narrow
        tape = Tape(slice(first, first + n))

        def cut(memory: Array, shape: tuple[int, ...], of: int) -> Array:
            """Return an array (rows, units) for a layer of `of` units."""
            flat = memory[: shape[0] * shape[1]]
            by_unit = of >= least or of == sizes[-1]
            return flat.reshape(shape[::-1]).T if by_unit else flat.reshape(shape)

        X = self._X[: total * sizes[0]].reshape(total, sizes[0])
        tape.X, tape.inputs = X[tape.rows], [X]
        tape.delta_0 = self._delta_0[:total]
        if self._delta_0.shape[1]:
            tape.inputs = [self._inputs[:total]]
        for i, width in enumerate(sizes[1:-1]):
            mine = (tape.rows, slice(None)) if units is None else (slice(None), units[i])
            tape.deltas.append(cut(self._delta[i], (total, width), width))
            tape.inputs.append(cut(self._out[i], (total, width), width))
            tape.delta.append(tape.deltas[i][mine])
            tape.out.append(tape.inputs[i + 1][mine])
            shape = tape.out[i].shape
            tape.a.append(cut(self._a[i], shape, width) if self._a else tape.out[i])
            tape.z.append(cut(self._z[i], shape, width) if self._z else tape.a[i])
            tape.mask.append(None)
        tape.deltas.append(cut(self._delta[-1], (total, sizes[-1]), sizes[-1]))
        tape.delta.append(tape.deltas[-1][tape.rows])
        tape.z.append(cut(self._logits, (n, sizes[-1]), sizes[-1]))
        return tape
