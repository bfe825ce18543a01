"""The tape: what the passes of a batch keep, and who computes which part of it.

Alone, a rank computes all units of its own rows. Where ranks share memory, the tape of a rank is a part
of that of its host: the arrays hold the rows of all of them below one another. Then there is a choice,

    by rows     each rank computes all units of its rows, as if it were alone
    by units    each rank computes its share of the units of each hidden layer, for the rows of all: it
                reads its share of the weights only, which is less where a batch has few rows. The ranks
                meet before each product, to read what the others have written (Shoeybi et al. 2019,
                section 3, split products likewise; here nothing is sent)

and in both the last layer, whose loss wants all units of a row, goes by rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Tape", "Tapes", "compact"]

Array = NDArray[Any]


class Tape:
    """``z``, ``a``, ``out`` and ``delta`` of each layer, (rows, units), and where the passes find them.

    They are what this rank computes: all units of its n rows, or, by units, its share of the units of each
    hidden layer for the rows of all. `out` is what the next layer sees: `a`, or `a` times the dropout mask.
    Arrays share memory where nothing is lost: `a` with `z` where g' follows from `a`.

    ``X`` (n, n_inputs) is stored row by row. A layer is stored unit by unit where it has at least as
    many units as a rank, or its smallest leaf, has rows, and row by row otherwise: the long side in one piece makes the
    products fastest. The logits are always unit by unit, which is what softmax likes.

    ``inputs[l]`` and ``deltas[l]`` are what layer l saw and its delta, all units of them, for the rows of all
    ranks that share memory (in `whole_batch` of all ranks); ``units[l]`` are the units of layer l that this rank
    computes, ``rows`` its rows of these. ``leaves`` are those of this rank's rows that belong together in exact mode.
    """

    def __init__(self) -> None:
        self.X: Array
        self.z: list[Array] = []
        self.a: list[Array] = []
        self.out: list[Array] = []
        self.delta: list[Array] = []
        self.mask: list[Array | None] = []
        self.inputs: list[Array] = []
        self.deltas: list[Array] = []
        self.units: list[slice] = []
        self.rows = slice(None)
        self.leaves, self._starts = [slice(None)], [0]

    def product(self, a: Array, W: Array, out: Array) -> Array:
        """``a W``, in `out`."""
        return np.matmul(a, W, out=out)

    def sums(self, numbers: Array) -> Array:
        """The sum of one number for each row (n,), as (1,) float64; (leaves,), where there are several."""
        if not len(numbers):
            return np.zeros(1)
        return np.add.reduceat(numbers, self._starts).astype(np.float64)

    def whole_input(self, i: int, a: Array) -> Array:
        """What the product of layer `i` reads, given that this rank has computed `a` of it."""
        return a

    def whole_delta(self, i: int, delta: Array) -> Array:
        """The delta of layer `i` that goes to the layer below, given that this rank has computed `delta` of it."""
        return delta


class TapeByUnits(Tape):
    """A tape of ranks that compute their share of the units, for the rows of all of them."""

    def __init__(self, rows: slice, meet: Callable[[], None]) -> None:
        super().__init__()
        self.rows, self._meet = rows, meet

    def whole_input(self, i: int, a: Array) -> Array:
        """That of all ranks, once they have all come here; in the last layer, of the rows of this one."""
        self._meet()
        return self.inputs[i] if i < len(self.inputs) - 1 else self.inputs[i][self.rows]

    def whole_delta(self, i: int, delta: Array) -> Array:
        """That of all ranks, once they have all come here."""
        self._meet()
        return self.deltas[i]


class TapeOfLeaves(Tape):
    """A tape of several leaves (see `exact`) below one another.

    What is computed of each number alone is computed of all at once; but each leaf has a product of its own, since
    the bits of a product depend on its shape.
    """

    def __init__(self, ends: Sequence[int]) -> None:
        super().__init__()
        self._starts = [0, *ends[:-1]]
        self.leaves = [slice(lo, hi) for lo, hi in zip(self._starts, ends, strict=True)]

    def product(self, a: Array, W: Array, out: Array) -> Array:
        """``a W`` leaf by leaf."""
        for rows in self.leaves:
            np.matmul(a[rows] if W.shape[1] > 1 else compact(a[rows]), W, out=out[rows])
        return out


def compact(rows: Array) -> Array:
    """A copy of some rows of a matrix, without the gaps where the others lie.

    The bits of a product of a matrix and a vector depend on these gaps; those of two matrices do not.
    """
    return np.array(rows, order="K")


class Tapes:
    """The memory of tapes: made once, cut to the number of rows at hand.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each hidden layer, outputs.
    dtype : data-type
        Of the network.
    rows : int
        Most rows of this rank.
    keep_z, keep_a : bool
        Whether ``z`` and ``a`` need memory of their own: the derivative asks for ``z``, dropout for ``a``.
    host_rows : int, optional
        Most rows of all ranks of this host, where they share it; `rows` by default.
    allocate : callable, optional
        Gives the memory that is shared: ``allocate(n)`` is a flat array of n elements.
    by_units : (rank, ranks, meet), optional
        Share the units: number of this rank on its host, of how many, and a barrier among them.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        dtype: DTypeLike,
        rows: int,
        *,
        keep_z: bool,
        keep_a: bool,
        host_rows: int | None = None,
        allocate: Callable[[int], Array] | None = None,
        by_units: tuple[int, int, Callable[[], None]] | None = None,
    ) -> None:
        self.capacity, self._sizes, self._by_units = rows, tuple(sizes), by_units
        host_rows = rows if host_rows is None else host_rows
        self._ranks = max(1, host_rows // max(1, rows))

        def own(n: int) -> Array:
            return np.empty((host_rows if by_units else rows) * n, dtype)

        def joint(n: int) -> Array:
            return own(n) if allocate is None else allocate(host_rows * n)

        hidden = sizes[1:-1]
        self._X = joint(sizes[0])
        self._out = [joint(units) for units in hidden]
        self._delta = [joint(units) for units in sizes[1:]]
        self._a = [own(units) for units in hidden] if keep_a else None
        self._z = [own(units) for units in hidden] if keep_z else None
        self._logits = own(sizes[-1])
        self._cut: dict[tuple[Any, ...], Tape] = {}

    def __call__(self, n: int, first: int = 0, total: int | None = None) -> Tape:
        """The tape of `n` rows, which are rows `first` to `first + n` of the `total` rows of the host."""
        return self._kept(n, first, n if total is None else total)

    def of_leaves(self, ends: tuple[int, ...], rows: int, first: int = 0, total: int | None = None) -> Tape:
        """The same for leaves, which end at these of the `n` rows, stored as tapes of `rows` rows are."""
        return self._kept(ends[-1], first, ends[-1] if total is None else total, ends, rows)

    def _kept(self, *key: Any) -> Tape:
        if key not in self._cut:
            if len(self._cut) >= 64:
                self._cut.clear()
            self._cut[key] = self._make(*key)
        return self._cut[key]

    def _make(self, n: int, first: int, total: int, ends: Sequence[int] = (), narrow: float = 0) -> Tape:
        sizes, rows = self._sizes, slice(first, first + n)
        if ends:
            tape: Tape = TapeOfLeaves(ends)
        else:
            tape = Tape() if self._by_units is None else TapeByUnits(rows, self._by_units[2])
            narrow = total / self._ranks
        tape.rows = rows

        def cut(memory: Array, shape: tuple[int, ...], of: int) -> Array:
            """An array (rows, units) for a layer of `of` units."""
            flat = memory[: shape[0] * shape[1]]
            by_unit = of >= narrow or of == sizes[-1]
            return flat.reshape(shape[::-1]).T if by_unit else flat.reshape(shape)

        X = self._X[: total * sizes[0]].reshape(total, sizes[0])
        tape.X, tape.inputs = X[rows], [X]
        for i, units in enumerate(sizes[1:]):
            tape.deltas.append(cut(self._delta[i], (total, units), units))
            if i == len(sizes) - 2:
                tape.units.append(slice(None))
                tape.delta.append(tape.deltas[i][rows])
                tape.z.append(cut(self._logits, (n, units), units))
                break
            tape.inputs.append(cut(self._out[i], (total, units), units))
            mine = (rows, slice(None)) if self._by_units is None else (slice(None), _share(units, *self._by_units[:2]))
            tape.units.append(mine[1])
            tape.delta.append(tape.deltas[i][mine])
            tape.out.append(tape.inputs[i + 1][mine])
            own = tape.out[i].shape
            tape.a.append(cut(self._a[i], own, units) if self._a else tape.out[i])
            tape.z.append(cut(self._z[i], own, units) if self._z else tape.a[i])
            tape.mask.append(None)
        return tape


def _share(units: int, rank: int, ranks: int) -> slice:
    """The units that `rank` of `ranks` computes: a multiple of 4, the width of the products' kernels."""
    step = -(-units // (4 * ranks)) * 4
    return slice(min(rank * step, units), min((rank + 1) * step, units))
