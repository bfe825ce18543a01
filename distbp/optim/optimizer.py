"""The optimiser: one walk over the parameters, whatever the rule.

Every rule (see `rules`) works in place on the flat vector `theta` and keeps its memory as named flat arrays in
`state`, so that a checkpoint is a dictionary and a resume is bit-identical. Rate and step count are
plain numbers: `lr` is set before each step by the schedule, `t` counts the updates.

Two kinds of weight decay, both on the weights alone and never on the biases: added to the gradient
(L2, the coupled kind) everywhere but in `adamw` and `lamb`, where it shrinks the weights directly
(Loshchilov & Hutter 2019). It enters after the reduction, once: it depends neither on the batch size
nor on the number of ranks.
"""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distbp.optim.compiled import compiled_update
from distbp.optim.norms import clip_by_global_norm, squared_norm

Array = NDArray[Any]

BLOCK = 32768
"""Elements handled at a time: the operands of one block stay in the cache between its passes."""
_BLOCK_OF_ROWS = 16384
"""The same where rows are gathered from memory."""
_COST_OF_ROWS = 40
"""What Numba saves for a number of such a row, for one of a long vector: 18 us of 128 rows of 8 with Adam."""
_ABOVE_TINY = 1e8
"""Times the least normal number: what is smaller is nothing beside a gradient that moves a parameter."""
_FIRST = np.zeros(1, np.intp)


@lru_cache
def _steps_to_tiny(factor: float) -> int:
    """Return how often what shrinks by a factor in each step is to be looked at; 0: never."""
    return max(1, int(math.log(_ABOVE_TINY) / -math.log(factor))) if factor > 0.0 else 0


class Optimizer:
    """Update a flat vector of parameters by its gradient; the base of every rule.

    Parameters
    ----------
    lr : float
        Learning rate.
    weight_decay : float
        Coefficient lambda of the L2 term ``lambda/2 |W|^2`` (or of the decoupled decay).
    layers : sequence of slice
        Where each weight matrix lies in `theta`, its bias behind it up to the next one. Without it
        the whole vector counts as one weight.
    clip_norm : float, optional
        Largest norm of the gradient.
    """

    lr_default: ClassVar[float] = 0.1
    buffers: ClassVar[tuple[str, ...]] = ()
    decoupled: ClassVar[bool] = False
    compiled: ClassVar[str] = ""
    """Name in `compiled` of the update that this class itself has; it is not inherited."""
    compile_after: float = 1.5e9
    """Numbers of parameters and state that NumPy updates before Numba is loaded: what that takes (0.5 to 1 s) is
    saved by then. Both give the same bits."""

    def __init__(
        self,
        lr: float | None = None,
        *,
        weight_decay: float = 0.0,
        layers: Sequence[slice] = (),
        clip_norm: float | None = None,
    ) -> None:
        self.lr = self.lr_default if lr is None else float(lr)
        if not (np.isfinite(self.lr) and self.lr >= 0):
            raise ValueError(f"the learning rate must be a number of at least 0, not {self.lr}")
        if not (np.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"the weight decay must be at least 0, not {weight_decay}")
        self.weight_decay, self.clip_norm = float(weight_decay), clip_norm
        self.layers = tuple(layers)
        self._uncut: tuple[slice, ...] = ()
        self._of: weakref.ref[Any] | None = None
        self.t = 0
        self.state: dict[str, Array] = {}
        self._updated = 0
        self._scratch: Array = np.empty(0, bool)
        self._total: Callable[[Array], None] = lambda numbers: None
        self._norm_blocks: list[list[slice]] = []
        self._rows: Array = np.empty((0, 0, 0))
        self._row_arrays: list[list[Array]] = []
        self.table_state: dict[str, Array] = {}

    def begin(self, network: Any) -> None:
        """Refuse a network other than the one that this optimiser has updated, whose gradients it remembers."""
        if self._of is not None and self._of() is not network:
            raise ValueError(
                "this optimizer has updated another network, and remembers its gradients: give each its own"
            )
        self._of = weakref.ref(network)
        self.layers = self._uncut or self.layers or tuple(network.weight_slices)

    def assign_shard(self, shard: slice, total: Callable[[Array], None], norm_blocks: Sequence[slice] = ()) -> None:
        """Restrict this optimiser to the shard of the parameters that this rank updates.

        Parameters
        ----------
        shard : slice
            A range of the parameters: `theta`, `grad` and `state` hold these alone from now on, and `layers` are cut to
            it. The shards of all ranks together cover the parameters.
        total : callable
            ``total(numbers)`` replaces an array by its sum over all shards, on every rank: some rules scale the step
            of a layer by norms of the whole layer.
        norm_blocks : sequence of slice, optional
            Ranges of parameters, each within one layer and one shard, that are the same for any number of ranks: with
            them the norm of a layer is added up block by block, and has the same bits on any number of ranks. Without
            them the part of a layer that lies in a shard is one.
        """

        def cut(s: slice) -> slice:
            lo, hi = max(s.start, shard.start), min(s.stop, shard.stop)
            return slice(lo - shard.start, max(lo, hi) - shard.start)

        self._uncut = layers = self._uncut or self.layers or (slice(0, shard.stop),)
        self._norm_blocks = [[cut(b) for b in norm_blocks if s.start <= b.start < s.stop] for s in layers]
        self.layers = tuple(cut(s) for s in layers)
        self._total = total

    def step(self, theta: Array, grad: Array, norm: float | None = None) -> None:
        """Update `theta` in place; `grad` (n_parameters,) is used up as scratch.

        Where `norm`, that of the whole gradient, is given, it is clipped to `clip_norm`.
        """
        if norm is not None and self.clip_norm is not None:
            clip_by_global_norm(grad, self.clip_norm, norm)
        for name in self.buffers:
            if name not in self.state:
                self.state[name] = np.zeros_like(theta)
        self.t += 1
        if self.weight_decay:
            for weights in self.layers or (slice(None),):
                self._decay(theta[weights], grad[weights])
        self._update(theta, grad)
        self._flush()

    def assign_tables(self, tables: Sequence[Array], allocate: Callable[[Array], Array]) -> None:
        """Have `step_rows` update `tables` (values, width) of embeddings.

        ``allocate(table)`` gives zeros of its shape, where what `buffers` name is kept: in `table_state`, which ranks
        may share.
        """
        for name in self.buffers:
            for j, table in enumerate(tables):
                array = allocate(table)
                if (before := self.table_state.get(f"{j}/{name}")) is not None:
                    array[...] = before
                self.table_state[f"{j}/{name}"] = array
        of_table = [[self.table_state[f"{j}/{name}"] for name in self.buffers] for j in range(len(tables))]
        self._row_arrays = [[table, *state] for table, state in zip(tables, of_table, strict=True)]

    def own_tables(self) -> None:
        """Keep what is remembered of tables in memory of its own; they are updated no more."""
        self._row_arrays, self.table_state = [], {name: array.copy() for name, array in self.table_state.items()}

    def step_rows(self, rows: Iterable[tuple[int, Array, Array]], norm: float | None = None) -> None:
        """Update rows of the tables, after `step`; all others stay as they are, and so does their state.

        As the field has it (``SparseAdam`` of PyTorch): neither momentum nor weight decay moves a row that a batch has
        not. `lars` and `lamb` take the plain step here, as for biases.

        Parameters
        ----------
        rows : iterable of (int, ndarray of shape (k,), ndarray of shape (k, width))
            Number of a table, its rows, and their gradient, which is used up as scratch.
        norm : float, optional
            That of the whole gradient, which is clipped to `clip_norm`.
        """
        for j, values, gradient in rows:
            if norm is not None and self.clip_norm is not None:
                clip_by_global_norm(gradient, self.clip_norm, norm)
            table, *state = self._row_arrays[j]
            self._updated += _COST_OF_ROWS * gradient.size * (1 + len(state))
            plain = not self.weight_decay and self._updated > self.compile_after
            if plain and (update := self._compiled(gradient.dtype)):
                update(values, table, gradient, *state, *map(gradient.dtype.type, self._numbers()))
                continue
            self._update_rows(values, gradient, (table, *state))

    def _update_rows(self, values: Array, gradient: Array, arrays: Sequence[Array]) -> None:
        """Update rows of a table and its state, block by block."""
        step = max(1, _BLOCK_OF_ROWS // gradient.shape[1])
        if self._rows.shape[1:] != (step, gradient.shape[1]):
            self._rows = np.empty((1 + len(arrays), step, gradient.shape[1]), gradient.dtype)
        for lo in range(0, len(values), step):
            here, g = values[lo : lo + step], gradient[lo : lo + step]
            change, theta, *state = self._rows[:, : len(here)]
            for array, kept in zip(arrays, (theta, *state), strict=True):
                array.take(here, axis=0, out=kept, mode="clip")
            if self.weight_decay:
                Optimizer._decay(self, theta, g)
            self._change(change, g, *state)
            theta -= change
            for array, kept in zip(arrays, (theta, *state), strict=True):
                array[here] = kept

    def _decay(self, weights: Array, grad: Array) -> None:
        if self.decoupled:
            weights *= 1.0 - self.lr * self.weight_decay
        else:
            grad += self.weight_decay * weights

    def _update(self, theta: Array, grad: Array) -> None:
        self._updated += len(theta) * (1 + len(self.buffers))
        if self._updated > self.compile_after and (update := self._compiled(theta.dtype)):
            arrays = (theta, grad, *(self.state[name] for name in self.buffers))
            update(_FIRST, *(array[None] for array in arrays), *map(theta.dtype.type, self._numbers()))
            return
        if self._scratch.dtype != theta.dtype:
            self._scratch = np.empty(BLOCK, theta.dtype)
        for block, state in self._blocks(len(theta)):
            t = theta[block]
            change = self._scratch[: len(t)]
            self._change(change, grad[block], *state)
            t -= change

    def _factors(self) -> dict[str, float]:
        """Return by which factor a step shrinks what is remembered of gradients, for each buffer."""
        return {}

    def _flush(self) -> None:
        """Set to zero what will have shrunk to subnormal numbers when this is done again.

        A processor takes a hundred times as long for these, and rounding keeps them from ever being zero: where many
        units had died, with a gradient of zero, a step took twice its time.
        """
        for name, factor in self._factors().items():
            often = _steps_to_tiny(factor)
            if often and self.t % often == 0 and name in self.state:
                array = self.state[name]
                array[np.abs(array) < _ABOVE_TINY * np.finfo(array.dtype).tiny] = 0.0

    def _compiled(self, dtype: np.dtype[Any]) -> Callable[..., None] | None:
        return compiled_update(vars(type(self)).get("compiled", ""), dtype)

    def _blocks(self, n: int) -> Iterator[tuple[slice, list[Array]]]:
        """Yield blocks of `n` parameters, each with its part of the state."""
        state = [self.state[name] for name in self.buffers]
        for lo in range(0, n, BLOCK):
            block = slice(lo, lo + BLOCK)
            yield block, [array[block] for array in state]

    def _layer_norms(self, theta: Array, grad: Array) -> Iterable[tuple[slice, list[float]]]:
        """Give this rank's part of each layer, and the norms of all its weights and gradient, whoever holds them."""
        layers = self.layers or (slice(None),)
        of_layers = [blocks or [s] for blocks, s in zip(self._norm_blocks or [[]] * len(layers), layers, strict=True)]
        squares = np.zeros((len(layers), max(map(len, of_layers)), 2))
        for i, blocks in enumerate(of_layers):
            for k, block in enumerate(blocks):
                squares[i, k] = squared_norm(theta[block]), squared_norm(grad[block])
        self._total(squares)
        return zip(layers, np.sqrt(squares.sum(axis=1)).tolist(), strict=True)

    def _numbers(self) -> tuple[float, ...]:
        """Return the numbers that the compiled update takes behind the arrays."""
        raise AssertionError("an optimiser has an update")

    def _change(self, out: Array, g: Array, *state: Array) -> None:
        """Write what is subtracted from a block of parameters, which stays in the cache meanwhile."""
        raise AssertionError("an optimiser has an update")
