"""Synthetic data of any size: each row is computed from the seed and its number.

No rank needs it all, none stores it, and row i is the same whoever asks. Three kinds:

``teacher``  normal inputs, the target from a random network with one tanh layer (regression, or with
             ``classes`` a classification by its largest output)
``blobs``    a normal cloud around a random centre for each class
``spirals``  interleaved arms in the first two columns, noise in the others
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.data.dataset import Column, Raw, Target
from distbp.errors import UserError
from distbp.randomness import bits, key, normal, uniform

_HIDDEN = 16
_MOST_PIECES = 2000
"""Of the arm of a spiral."""


class SyntheticDataset:
    """Compute rows from their numbers, and all of them from `seed`; see `Dataset`, and the module for the kinds.

    Parameters
    ----------
    classes : int
        Number of classes; 0 makes the teacher's target a value. 2 by default, 0 for a teacher.
    noise : float
        Standard deviation of what is added to the target (teacher) or to the inputs.
    """

    in_memory = False

    def __init__(
        self,
        kind: str = "teacher",
        *,
        rows: int = 10_000,
        columns: int = 20,
        classes: int | None = None,
        noise: float = 0.1,
        seed: int = 0,
    ) -> None:
        if kind not in ("teacher", "blobs", "spirals"):
            raise UserError(f"synthetic data of kind {kind!r}: one of teacher, blobs, spirals")
        if classes is None:
            classes = 0 if kind == "teacher" else 2
        least = 2 if kind == "spirals" else 1
        if rows < 1 or columns < least or not 0 <= noise < np.inf:
            raise UserError(f"synthetic {kind}: rows >= 1, columns >= {least}, noise >= 0 are needed")
        if classes == 1 or classes < (0 if kind == "teacher" else 2):
            raise UserError(f"synthetic {kind}: at least 2 classes are needed, not {classes}")
        self.kind, self.n_rows, self.n_columns = kind, rows, columns
        self.classes, self.noise, self.seed = classes, noise, seed
        self.columns = tuple(Column(f"x{i}") for i in range(columns))
        names = tuple(map(str, range(classes)))
        self.target: Target | None = Target("classes", ("class",), names) if classes else Target("values", ("y",))

    def take(self, rows: NDArray[np.int64]) -> Raw:
        """Return inputs and target of `rows`; see `Dataset.take`."""
        X = normal(self._key("x"), rows[:, None] * self.n_columns + np.arange(self.n_columns))
        if self.kind == "teacher":
            W = normal(self._key("W"), np.arange(self.n_columns * _HIDDEN)).reshape(-1, _HIDDEN)
            V = normal(self._key("V"), np.arange(_HIDDEN * max(1, self.classes))).reshape(_HIDDEN, -1)
            # einsum: a matrix product's last bits depend on the number of rows
            hidden = np.tanh(np.einsum("nd,dh->nh", X, W) / np.sqrt(self.n_columns))
            Y = np.einsum("nh,hk->nk", hidden, V) + self.noise * normal(self._key("noise"), rows)[:, None]
            return X, (Y.argmax(axis=1) if self.classes else Y), None
        labels = self._classes(rows)
        X *= self.noise
        if self.kind == "blobs":
            return self._centres()[labels] + X, labels, None
        X[:, :2] += _spiral(uniform(self._key("turn"), rows), labels / self.classes).T
        return X, labels, None

    def take_target(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """Return the target of `rows`: a class is drawn before its inputs, a teacher's target follows from them."""
        return self.take(rows)[1] if self.kind == "teacher" else self._classes(rows)

    def log_densities(self, X: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return log densities (n, classes) of raw inputs X (n, columns) in each class, up to a sum that classes share.

        Classes are equally likely, so these are logits of the best possible prediction. None where a density is not
        known: for a teacher, and without noise.
        """
        if self.kind == "teacher" or not self.noise:
            return None
        if self.kind == "blobs":
            distances = [((X - centre) ** 2).sum(axis=1) for centre in self._centres()]
            return -0.5 / self.noise**2 * np.stack(distances, axis=1)
        # along the arm the mean of normal densities: an integral over the turn, by the midpoint rule
        pieces = min(_MOST_PIECES, int(50 + 20 / self.noise))
        out = np.empty((len(X), self.classes))
        for c in range(self.classes):
            arm = _spiral((np.arange(pieces) + 0.5) / pieces, c / self.classes)
            for lo in range(0, len(X), 4096):
                x, y = X[lo : lo + 4096, 0, None], X[lo : lo + 4096, 1, None]
                exponent = -0.5 / self.noise**2 * ((x - arm[0]) ** 2 + (y - arm[1]) ** 2)
                out[lo : lo + 4096, c] = np.logaddexp.reduce(exponent, axis=1)
        return out

    def _centres(self) -> NDArray[np.float64]:
        numbers = np.arange(self.classes * self.n_columns)
        return normal(self._key("centre"), numbers).reshape(self.classes, -1)

    def _classes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return (bits(self._key("class"), rows) % np.uint64(self.classes)).astype(np.int64)

    def _key(self, purpose: str) -> int:
        return key(self.seed, "synthetic", *purpose.encode())


def _spiral(turn: NDArray[np.float64], start: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Return the points (2, n) of an arm that begins after a part `start` of the circle."""
    angle = 2.0 * np.pi * (1.5 * turn + start)
    return np.stack([turn * np.cos(angle), turn * np.sin(angle)])


def read_synthetic(text: str) -> SyntheticDataset:
    """Parse the words behind ``synthetic``: ``blobs,rows=1000,columns=5,classes=3,noise=0.2,seed=1``."""
    kind, *pairs = text.split(",") if text else ["teacher"]
    known = {"rows": int, "columns": int, "classes": int, "noise": float, "seed": int}
    values: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise UserError(f"synthetic data has no {name!r}: one of {', '.join(known)}, e.g. rows=1000")
        try:
            values[name] = known[name](float(value))
        except (ValueError, OverflowError):
            raise UserError(f"synthetic data: {name}={value!r} is not a number") from None
    return SyntheticDataset(kind, **values)
