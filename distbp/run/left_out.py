"""What the members of an ensemble say of the rows that they left out: an honest judgement of training rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data, Prepared
from distbp.model import Model
from distbp.run.predictions import write_predictions
from distbp.trainer.evaluation import outputs_of

Array = NDArray[Any]


class LeftOut:
    """Know the outputs for training rows, each by the first member that left it out.

    It is to an evaluation the network, and its `rows` are the data: what they give as inputs are these outputs. Rows
    that no member left out are not among them.

    Parameters
    ----------
    members : sequence of networks
        One of each part of the rows.
    train : Prepared
        All training rows.
    left_out : sequence of ndarray of int
        Positions of the rows that each member left out.
    comm : Communicator
        Its ranks share out the rows.
    """

    def __init__(self, members: Sequence[Any], train: Prepared, left_out: Sequence[Array], comm: Communicator) -> None:
        self.decision: Array | None = None
        self.output_shape = members[0].output_shape
        by = np.full(train.n_rows, len(members))
        for k, positions in enumerate(left_out):
            by[positions] = np.minimum(by[positions], k)
        self.positions = np.flatnonzero(by < len(members))
        self.by = by[self.positions]
        """The member that each row is judged by."""
        judged = train.part(self.positions)
        self.outputs = np.zeros((judged.n_rows, *self.output_shape))
        for k, member in enumerate(members):
            if len(own := np.flatnonzero(self.by == k)):
                self.outputs[own] = outputs_of(member, judged.part(own), comm)[0]
        self.rows = _Rows(self.outputs, judged)

    def forward(self, X: Array) -> Array:
        """Return the outputs of rows, which are what `rows` gives for them."""
        return X

    def write(self, path: Path, model: Model, data: Data, one: str) -> None:
        """Write a line for each of its rows, in the order of the file: number from 1, member, truth, prediction.

        A member is called `one`.
        """
        target, rows = data.target, data.row_of(self.positions)
        truth = data.train.take_target(self.positions)
        if target.kind == "values":
            truth = model.preprocessor.target_in_units(truth)
        order, predicted = np.argsort(rows, kind="stable"), model.linked(self.outputs)
        before = [
            [str(rows[i] + 1), str(self.by[i] + 1), *_texts(truth[i], target.classes, target.kind)] for i in order
        ]
        names = ["row", one, *(f"true {name}" for name in target.names)]
        write_predictions(predicted[order], list(target.names), model, names, before, str(path))


def _texts(truth: Any, classes: Sequence[str], kind: str) -> list[str]:
    return [classes[int(truth)]] if kind == "classes" else [f"{value:.8g}" for value in np.ravel(truth)]


class _Rows:
    """Give outputs that are known in place of inputs, beside target and weights."""

    def __init__(self, outputs: Array, train: Prepared) -> None:
        self._outputs, self._train = outputs, train
        self.n_rows, self.target, self.preprocessor = train.n_rows, train.target, train.preprocessor

    def take(self, positions: Array) -> tuple[Array, Any, Array | None]:
        """Return outputs, target and weights of some rows."""
        return self._outputs[positions], *self._train.take(positions)[1:]
