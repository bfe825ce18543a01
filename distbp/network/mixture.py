"""Several networks as one, whose prediction is the mean of theirs.

An ensemble: members that were trained from other initial weights, in another order of the rows, err in other places,
and their mean errs less (Hansen & Salamon 1990, "Neural Network Ensembles"; Lakshminarayanan et al. 2017). What is
averaged are predictions, as the loss links them to outputs: probabilities of classes and labels, values. The outputs of
the mixture are those that give the mean when they are linked:

    softmax     z = log mean_k p_k                    softmax(z) = mean p, whose rows add up to 1
    sigmoid     z = log mean_k p_k - log mean_k (1 - p_k)
    values      z = mean_k z_k

so losses, metrics and files treat it as a network.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.network.dense import Network
from distbp.network.flat import Flat
from distbp.network.function_model import FunctionModel
from distbp.network.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy

Array = NDArray[Any]


class Mixture(Flat):
    """Average the predictions of networks.

    Parameters
    ----------
    members : sequence of Network or FunctionModel
        Of the same inputs and outputs.
    loss : Loss
        Theirs, which says what is averaged.
    sharpness : float
        What the outputs are multiplied with.
    offset : sequence of float
        What is added to them then, one number each; none by default.
    """

    dense = False
    """Whether ranks can share rows and units of it: it is not trained as a whole."""

    def __init__(
        self,
        members: Sequence[Network | FunctionModel],
        loss: Loss,
        sharpness: float = 1.0,
        offset: Sequence[float] = (),
    ) -> None:
        first = members[0]
        if any(other.sizes[0] != first.sizes[0] or other.output_shape != first.output_shape for other in members):
            raise ValueError("the members of a mixture have the same inputs and outputs")
        self.members, self.loss, self.sharpness, self.offset = list(members), loss, sharpness, list(offset)
        self.sizes, self.output_shape, self.dtype = first.sizes, first.output_shape, first.dtype
        self.n_parameters = sum(member.n_parameters for member in members)

    def forward(self, X: Array, part: Any = None) -> Array:
        """Compute the outputs (n, n_outputs) that the mean prediction has."""
        outputs = np.stack([member.forward(X).astype(np.float64) for member in self.members])
        least = np.finfo(self.dtype).tiny
        match self.loss:
            case SoftmaxCrossEntropy():
                mean = np.mean([self.loss.link(z) for z in outputs], axis=0)
                z = np.log(np.maximum(mean, least))
            case BinaryCrossEntropy():
                yes, no = (np.mean([self.loss.link(sign * z) for z in outputs], axis=0) for sign in (1.0, -1.0))
                z = np.log(np.maximum(yes, least)) - np.log(np.maximum(no, least))
            case _:
                z = outputs.mean(axis=0)
        return np.asarray(self.sharpness * z + (self.offset or 0.0), self.dtype)

    def describe(self) -> str:
        """Return how many members it has, and what they are, for people."""
        return f"ensemble of {len(self.members)}: {self.members[0].describe()}"

    def tensors(self) -> dict[str, Array]:
        """Return views of the parameters: those of member k are called ``members.k.`` and as its own are."""
        return {f"members.{k}.{name}": a for k, one in enumerate(self.members) for name, a in one.tensors().items()}

    def architecture(self) -> dict[str, Any]:
        """Return what a model file says besides the parameters."""
        mean = {"members": len(self.members), "sharpness": self.sharpness}
        return self.members[0].architecture() | mean | ({"offset": self.offset} if self.offset else {})
