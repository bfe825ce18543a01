"""The network and the delta recursion: the page to read beside the lecture.

Notation. Rows are examples, n of them; layer l has weights ``W_l`` (fan_in, fan_out) and a bias
``b_l`` (fan_out,); g is the activation function, the last layer has none (the loss owns the link).

    forward     a_0 = X
                z_l = a_{l-1} W_l + b_l                    pre-activation, (n, fan_out)
                a_l = g(z_l)                               activation

    backward    delta_L = dC/dz_L                          from the loss
                delta_l = (delta_{l+1} W_{l+1}^T) * g'(z_l)
                dW_l    = a_{l-1}^T delta_l                (fan_in, fan_out)
                db_l    = sum over rows of delta_l         (fan_out,)

(Rumelhart, Hinton & Williams 1986, equations 4 to 7, for a batch as a matrix.) The lecture's sum over the units t of
the layer above is the matrix product with ``W^T``; the sum over the examples of a batch hides in ``a^T delta``. Its
delta is with respect to a, this one to z: docs/backpropagation.md.

Memory. All parameters are one flat vector `theta`, their gradient one flat vector `grad`, in the order
W_1 b_1 W_2 b_2 ...; ``W``, ``b``, ``dW``, ``db`` of each layer are views of them. The backward pass fills `grad` from
its end, so whatever lies behind a layer is final when the layer is done. Tables of embeddings lie apart, since a batch
has few of their rows: see `embedding`. The weights of a unit lie side by side (``W``
in column order), and so do the activations of a unit (see `Tape`): the order in which the three products of a layer are
fastest (docs/performance.md has the measurement).
"""

import operator
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distbp.network.activations import activation_named
from distbp.network.dropout import DropoutMasks
from distbp.network.embedding import WIDTH, gradients, look_up
from distbp.network.flat import Flat, Layer
from distbp.network.initialisation import INITIALISATIONS, draw_embeddings, initialise
from distbp.network.tape import Tapes
from distbp.network.work import OwnPasses, Pass, leaf_sums, ones

Array = NDArray[Any]


class Network(Flat):
    """Run the recursion of a dense feed-forward network.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, units of each hidden layer, outputs: ``[784, 256, 10]``.
    activation : str
        Of the hidden layers; see `distbp.network.activations`.
    init : str
        ``he_``, ``glorot_`` or ``lecun_`` with ``normal`` or ``uniform``; ``auto`` suits the activation.
    dropout : float
        Fraction of hidden activations that a training step drops (Srivastava et al. 2014); the kept
        ones are divided by the fraction kept.
    dtype : data-type
        float32 or float64.
    seed : int
        Of the initial weights and of the dropout masks.
    embeddings : sequence of int
        The last inputs are codes of so many values each, whose embeddings are learnt; see `distbp.network.embedding`.

    Attributes
    ----------
    theta, grad : ndarray of shape (n_parameters,)
        Parameters and gradient, flat.
    layers : list of Layer
        In forward order.
    embeddings : list of ndarray of shape (values, width)
        The tables that are looked up.
    dembeddings : list of (ndarray of shape (k,), ndarray of shape (k, width))
        Their gradient, of the values of a batch alone, where a backward pass is on its own.
    own_pass : OwnPasses
        Passes in memory of the network's own: ``own_pass(X)``, and in training ``own_pass(X, step=, masked=)``.
    part : Pass
        Of the last `forward`, with its tape.

    Examples
    --------
    >>> import numpy as np
    >>> net = Network([2, 3, 1], "tanh", dtype=np.float64)
    >>> z = net.forward(np.ones((5, 2)))
    >>> net.backward(z - 1.0)
    >>> z.shape, net.grad.shape
    ((5, 1), (13,))
    """

    dense = True
    """Whether ranks can share rows and units of it."""

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        *,
        init: str = "auto",
        dropout: float = 0.0,
        dtype: DTypeLike = np.float32,
        seed: int = 0,
        embeddings: Sequence[int] = (),
    ) -> None:
        self.sizes = tuple(operator.index(size) for size in sizes)
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"a network needs inputs and outputs, at least 1 each: {self.sizes}")
        self.plain = self.sizes[0] - len(embeddings)
        """Inputs that are no codes."""
        if self.plain < 0 or min(embeddings, default=1) < 1:
            raise ValueError(f"codes of so many values do not fit {self.sizes[0]} inputs: {tuple(embeddings)}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout must lie in [0, 1), not {dropout}")
        if init not in INITIALISATIONS:
            raise ValueError(f"unknown initialisation {init!r}: one of {', '.join(INITIALISATIONS)}")
        self.activation = activation_named(activation)
        self.dropout, self.seed, self.dtype = dropout, seed, np.dtype(dtype)
        self.output_shape = self.sizes[-1:]
        self.layers = []
        start = 0
        for fan_in, fan_out in pairwise((self.plain + WIDTH * len(embeddings), *self.sizes[1:])):
            self.layers.append(Layer(fan_in, fan_out, start))
            start = self.layers[-1].bias.stop
        self.n_parameters = start
        self.bind_parameters(np.zeros(start, self.dtype))
        self.bind_gradient(np.zeros(start, self.dtype))
        self.embeddings = [np.zeros((values, WIDTH), self.dtype) for values in embeddings]
        self.dembeddings: list[tuple[Array, Array]] = []
        self.own_pass: OwnPasses
        self.part: Pass
        self.release()
        self._mask = DropoutMasks(dropout, seed, self.sizes[1:], self.dtype)
        initialise([layer.W for layer in self.layers], init, self.activation.init, seed)
        draw_embeddings(self.embeddings, seed)

    @property
    def parts(self) -> list[tuple[str, slice]]:
        """Return the names of the arrays of parameters, and where they lie in `theta`."""
        return [
            (f"layer {i} ({kind})", place)
            for i, layer in enumerate(self.layers)
            for kind, place in (("weights", layer.weights), ("biases", layer.bias))
        ]

    def tensors(self) -> dict[str, Array]:
        """Return views of the parameters under the names and in the shapes of ``torch.nn.Sequential``."""
        pairs = [((f"{2 * i}.weight", layer.W.T), (f"{2 * i}.bias", layer.b)) for i, layer in enumerate(self.layers)]
        tables = ((f"embeddings.{j}.weight", table) for j, table in enumerate(self.embeddings))
        return dict(tensor for pair in (*pairs, tables) for tensor in pair)

    def architecture(self) -> dict[str, Any]:
        """Return what a model file says besides the parameters."""
        tables = {"embeddings": [len(table) for table in self.embeddings]} if self.embeddings else {}
        return {"sizes": self.sizes, "activation": self.activation.name, **tables}

    def describe(self) -> str:
        """Return sizes and activation, for people."""
        hidden = f" ({self.activation.name})" if len(self.layers) > 1 else ""
        return f"network {'-'.join(map(str, self.sizes))}{hidden}"

    def table(self) -> list[str]:
        """Return a line for each layer: its size, and what a row costs in a step."""
        lines = [f"{'layer':<8}{'inputs':>8}{'outputs':>9}{'parameters':>12}{'flop/row (step)':>17}"]
        for i, layer in enumerate(self.layers):
            n = layer.W.size + layer.b.size
            passes = 2 if i == 0 else 3  # the first layer passes no delta on
            lines.append(f"{i:<8}{layer.fan_in:>8}{layer.fan_out:>9}{n:>12,}{2 * passes * layer.W.size:>17,}")
        for j, table in enumerate(self.embeddings):
            lines.append(f"{f'table {j}':<8}{len(table):>8}{WIDTH:>9}{table.size:>12,}")
        return lines

    def group_squares(self, part: Pass) -> tuple[Array, int]:
        """Return ``n |g|^2`` summed over groups of rows, here single ones, leaf by leaf, and the number of groups.

        The gradient of a row is an outer product in each layer, ``dW = a delta^T``, so its squared norm is
        ``|a|^2 |delta|^2`` (Goodfellow 2015, "Efficient per-example gradient computations"); the bias adds
        ``|delta|^2``, embeddings ``|delta_0|^2``. Deltas were divided by the batch size B: those of the rows' own
        losses are B^2 times as large.
        """
        rows = part.tape.rows
        squares: Any = 0.0
        for a, delta in zip(part.tape.inputs, part.tape.deltas, strict=True):
            a, delta = a[rows], delta[rows]
            squares = squares + np.einsum("nk,nk->n", delta, delta) * (np.einsum("nk,nk->n", a, a) + 1.0)
        if self.embeddings:
            squares = squares + np.einsum("nk,nk->n", part.tape.delta_0, part.tape.delta_0)
        return leaf_sums(part.work, squares), len(squares)

    def kept_per_row(self) -> int:
        """Count the activations and deltas that are kept of a row."""
        embedded = self.plain + 2 * WIDTH * len(self.embeddings) if self.embeddings else 0
        return embedded + sum(self.sizes[1:]) * (2 + self.activation.from_z + 2 * (self.dropout > 0))

    @property
    def weight_slices(self) -> list[slice]:
        """Return where each ``W`` lies in `theta`: what weight decay and layer-wise rates apply to."""
        return [layer.weights for layer in self.layers]

    def tapes(self, rows: int, **shared: Any) -> Tapes:
        """Make the memory for the passes of up to `rows` rows; see `Tapes` for where ranks share it."""
        return Tapes(
            self.sizes, self.dtype, rows, keep_z=self.activation.from_z, keep_a=self.dropout > 0,
            embedded=WIDTH * len(self.embeddings), plain=self.plain, **shared,
        )  # fmt: skip

    def forward(self, X: Array, part: Pass | None = None) -> Array:
        """Compute the logits of a batch; the activations are kept for `backward`.

        Parameters
        ----------
        X : ndarray of shape (n, n_inputs)
            The batch, of the network's dtype; ``part.X``, where a part is given.
        part : Pass, optional
            Where to keep the activations and which of them to compute; all of them, in memory of the network's own, by
            default. Its ``step`` and ``masked`` fix the dropout masks, which only training has.

        Returns
        -------
        ndarray of shape (n, n_outputs)
            A buffer that the next call overwrites.
        """
        part = self.part = self.own_pass(X) if part is None else part
        tape, work = part.tape, part.work
        a = X
        if self.embeddings:
            look_up(self.embeddings, X, a := tape.inputs[0])
        for i, (layer, units) in enumerate(zip(self.layers, work.units, strict=True)):
            z = work.product(i, work.input(i, a), layer.W[:, units], tape.z[i])
            z += layer.b[units]
            if layer is self.layers[-1]:
                return z
            a = tape.a[i]
            self.activation.value(z, a)
            if self.dropout:
                tape.mask[i] = mask = None if part.step is None else self._mask(part.step, i, part.masked, units)
                a = np.multiply(a, 1.0 if mask is None else mask, out=tape.out[i])
        raise AssertionError("a network has a last layer")

    def backward(self, delta: Array, part: Pass | None = None, ready: Callable[[int, Any], None] | None = None) -> None:
        """Run the delta recursion: fill `grad` from the end towards 0.

        Parameters
        ----------
        delta : ndarray of shape (n, n_outputs)
            dC/dz of the last layer; ``part.delta``, where a part is given.
        part : Pass, optional
            That of `forward`; of the last `forward` by default.
        ready : callable
            ``ready(i, part)`` is called for each layer i, from the last to the first, when its delta is there. By
            default dW and db are computed; a `GradientReducer` does that and sends them on their way.
        """
        part = self.part if part is None else part
        ready = self.gradient if ready is None else ready
        tape, work = part.tape, part.work
        if delta is not tape.delta[-1]:
            np.copyto(tape.delta[-1], delta)
            delta = tape.delta[-1]
        for i in range(len(self.layers) - 1, 0, -1):
            ready(i, part)
            below = i - 1
            delta = work.product(below, work.delta(i, delta), self.layers[i].W[work.units[below]].T, tape.delta[below])
            if (mask := tape.mask[below]) is not None:
                delta *= mask
            kept = tape.z if self.activation.from_z else tape.a
            self.activation.times_derivative(delta, kept[below])
        work.delta(0, delta)
        if self.embeddings:
            work.product(0, delta, self.layers[0].W[self.plain :].T, tape.delta_0)
        ready(0, part)

    def gradient(self, i: int, part: Pass) -> None:
        """Compute ``dW = a^T delta`` and ``db = 1^T delta`` of layer i."""
        layer, a, delta = self.layers[i], part.tape.inputs[i], part.tape.deltas[i]
        np.matmul(a.T, delta, out=layer.dW)
        np.matmul(ones(len(delta), delta.dtype), delta, out=layer.db)
        if i == 0:
            self.dembeddings = gradients(part.tape.X[:, self.plain :], part.tape.delta_0)

    def release(self) -> None:
        """Let go of what passes have kept."""
        self.own_pass = OwnPasses(self.tapes, len(self.layers))
        self.part = self.own_pass(np.zeros((0, self.sizes[0]), self.dtype))
