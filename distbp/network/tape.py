"""The tape: what the passes of a batch keep, and who computes which part of it.

Alone, a rank computes all units of its own rows. Where ranks share memory, the tape of a rank is a part
of that of its host: the arrays hold the rows of all of them below one another. Then there is a choice,

    by rows     each rank computes all units of its rows, as if it were alone
    by units    each rank computes its share of the units of each hidden layer, for the rows of all: it
                reads its share of the weights only, which is less where a batch has few rows. The ranks
                meet before each product, to read what the others have written (Shoeybi et al. 2019,
                section 3, split products likewise; here nothing is sent)

and in both the last layer, whose loss wants all units of a row, goes by rows. In exact mode there is a third,

    by cells    as by units, but in products of fixed shapes: of a *cell*, some units that do not depend on the ranks,
                for all rows of the batch; and in the last layer, of a fixed number of rows (see `whole_batch`)
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Tape", "Tapes", "compact", "span"]

Array = NDArray[Any]


class Tape:
    """``z``, ``a``, ``out`` and ``delta`` of each layer, (rows, units), and where the passes find them.

    They are what this rank computes: all units of its n rows, or, by units, its share of the units of each
    hidden layer for the rows of all. `out` is what the next layer sees: `a`, or `a` times the dropout mask.
    Arrays share memory where nothing is lost: `a` with `z` where g' follows from `a`.

    ``X`` (n, n_inputs) is stored row by row. A layer is stored unit by unit where it has at least as
    many units as a rank, or its smallest leaf, has rows, and row by row otherwise: the long side in one piece makes the
    products fastest. The logits are always unit by unit, which is what softmax likes; by cells all layers are.

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

    def add_layer(self, units: int, last: bool) -> tuple[slice, slice]:
        """A layer of so many units, maybe the last: which rows and units of it this rank computes."""
        self.units.append(slice(None))
        return self.rows, slice(None)

    def product(self, i: int, a: Array, W: Array, out: Array) -> Array:
        """``a W`` in `out`, which are units of layer `i`."""
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

    def __init__(self, rank: int, ranks: int, meet: Callable[[], None]) -> None:
        super().__init__()
        self._rank, self._ranks, self._meet = rank, ranks, meet

    def add_layer(self, units: int, last: bool) -> tuple[slice, slice]:
        """All rows and a share of the units: a multiple of 4, the width of the products' kernels."""
        if last:
            return super().add_layer(units, last)
        step = -(-units // (4 * self._ranks)) * 4
        self.units.append(slice(min(self._rank * step, units), min((self._rank + 1) * step, units)))
        return slice(None), self.units[-1]

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
        self._starts = [0, *ends][:-1]
        self.leaves = [slice(lo, hi) for lo, hi in zip(self._starts, ends, strict=True)]

    def product(self, i: int, a: Array, W: Array, out: Array) -> Array:
        """``a W`` leaf by leaf."""
        for rows in self.leaves:
            np.matmul(a[rows] if W.shape[1] > 1 else compact(a[rows]), W, out=out[rows])
        return out


class TapeByCells(TapeOfLeaves):
    """A tape of ranks that compute their cells, for the rows of all ranks; of the last layer their leaves, all units.

    ``cells[l]`` are those of layer l, counted from the first of ``units[l]``; after ``meet(x)`` a rank sees what all
    have written of the matrix `x`.
    """

    def __init__(self, ends: Sequence[int], cells: Callable[[int], list[slice]], meet: Callable[[Array], None]) -> None:
        super().__init__(ends)
        self._cells_of, self._meet = cells, meet
        self.cells: list[list[slice]] = []

    def add_layer(self, units: int, last: bool) -> tuple[slice, slice]:
        """All rows, and the cells of this rank; of the last layer its rows."""
        if last:
            return super().add_layer(units, last)
        cells = self._cells_of(units)
        mine = span(cells)
        self.cells.append([slice(cell.start - mine.start, cell.stop - mine.start) for cell in cells])
        self.units.append(mine)
        return slice(None), mine

    def product(self, i: int, a: Array, W: Array, out: Array) -> Array:
        """``a W`` cell by cell; in the last layer leaf by leaf."""
        if i == len(self.cells):
            return super().product(i, a, W, out)
        for cell in self.cells[i]:
            np.matmul(a, W[:, cell], out=out[:, cell])
        return out

    def whole_input(self, i: int, a: Array) -> Array:
        """That of all ranks, once they have all come here; in the last layer, of the rows of this one."""
        self._meet(self.inputs[i])
        return self.inputs[i] if i < len(self.cells) else self.inputs[i][self.rows]

    def whole_delta(self, i: int, delta: Array) -> Array:
        """That of all ranks, once they have all come here."""
        self._meet(self.deltas[i])
        return self.deltas[i]


def span(cells: Sequence[slice]) -> slice:
    """All of some cells in a row."""
    return slice(cells[0].start, cells[-1].stop) if cells else slice(0, 0)


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
        Most rows of this rank; by cells, of all.
    keep_z, keep_a : bool
        Whether ``z`` and ``a`` need memory of their own: the derivative asks for ``z``, dropout for ``a``.
    host_rows : int, optional
        Most rows of all ranks of this host, where they share it; `rows` by default.
    allocate : callable, optional
        Gives the memory that is shared: ``allocate(n)`` is a flat array of n elements.
    by_units : (rank, ranks, meet), optional
        Share the units: number of this rank on its host, of how many, and a barrier among them.
    by_cells : (cells, meet), optional
        Share the units in cells: ``cells(n)`` are those of this rank, in a row, of a layer of n units; and the `meet`
        of `TapeByCells`.
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
        by_cells: tuple[Callable[[int], list[slice]], Callable[[Array], None]] | None = None,
    ) -> None:
        self.capacity, self._sizes, self._by_units, self._by_cells = rows, tuple(sizes), by_units, by_cells
        host_rows = rows if host_rows is None else host_rows
        self._ranks = max(1, host_rows // max(1, rows))

        def own(units: int) -> Array:
            if by_cells:
                mine = span(by_cells[0](units))
                units = mine.stop - mine.start
            return np.empty((host_rows if by_units else rows) * units, dtype)

        def joint(n: int) -> Array:
            return np.empty(host_rows * n, dtype) if allocate is None else allocate(host_rows * n)

        hidden = sizes[1:-1]
        self._X = joint(sizes[0])
        self._out = [joint(units) for units in hidden]
        self._delta = [joint(units) for units in sizes[1:]]
        self._a = [own(units) for units in hidden] if keep_a else None
        self._z = [own(units) for units in hidden] if keep_z else None
        self._logits = np.empty(rows * sizes[-1], dtype)
        self._cut: dict[tuple[Any, ...], Tape] = {}

    def __call__(self, n: int, first: int = 0, total: int | None = None) -> Tape:
        """The tape of `n` rows, which are rows `first` to `first + n` of the `total` rows of the host."""
        return self._kept(n, first, n if total is None else total)

    def of_leaves(self, ends: tuple[int, ...], rows: int, first: int = 0, total: int | None = None) -> Tape:
        """The same for leaves, which end at these of the `n` rows, stored as tapes of `rows` rows are, or by cells."""
        n = ends[-1] if ends else 0
        return self._kept(n, first, n if total is None else total, ends, rows)

    def _kept(self, *key: Any) -> Tape:
        if key not in self._cut:
            if len(self._cut) >= 64:
                self._cut.clear()
            self._cut[key] = self._make(*key)
        return self._cut[key]

    def _make(self, n: int, first: int, total: int, ends: Sequence[int] = (), narrow: float = 0) -> Tape:
        sizes, rows = self._sizes, slice(first, first + n)
        tape: Tape
        if self._by_cells is not None:
            tape = TapeByCells(ends, *self._by_cells)
        elif ends:
            tape = TapeOfLeaves(ends)
        else:
            tape = Tape() if self._by_units is None else TapeByUnits(*self._by_units)
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
            last = i == len(sizes) - 2
            mine = tape.add_layer(units, last)
            tape.deltas.append(cut(self._delta[i], (total, units), units))
            if last:
                tape.delta.append(tape.deltas[i][rows])
                tape.z.append(cut(self._logits, (n, units), units))
                break
            tape.inputs.append(cut(self._out[i], (total, units), units))
            tape.delta.append(tape.deltas[i][mine])
            tape.out.append(tape.inputs[i + 1][mine])
            own = tape.out[i].shape
            tape.a.append(cut(self._a[i], own, units) if self._a else tape.out[i])
            tape.z.append(cut(self._z[i], own, units) if self._z else tape.a[i])
            tape.mask.append(None)
        return tape
