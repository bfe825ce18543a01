"""The trained model as a file: network, preprocessing and classes in one ``model.safetensors``.

Tensors carry the names and shapes of ``torch.nn.Sequential(Linear, activation, Linear, ...)``:
``0.weight`` (fan_out, fan_in), ``0.bias``, ``2.weight``, ...; ``embeddings.0.weight`` (values, width) is that of an
``Embedding``; those of a `FunctionModel` are called by their places. What PyTorch does not need stands as JSON in the
header; functions of the user's by name, never as code. Tensors of an ensemble's member k begin with
``members.k.``. Nothing in the file depends on the ranks, the time or the host.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from distbp.data.dataset import ArrayDataset, Column, Dataset, Target
from distbp.data.prepared import Prepared
from distbp.data.preprocessing import Preprocessor
from distbp.data.splitting import Subset
from distbp.errors import UserError
from distbp.files import DamagedFile, read_file, write_file
from distbp.network.dense import Network
from distbp.network.flat import chosen
from distbp.network.function_model import FunctionModel
from distbp.network.losses import Loss, make_loss
from distbp.network.mixture import Mixture

_BLOCK = 4096


def linked(outputs: NDArray[Any], loss: Loss, target: Target | None, preprocessor: Preprocessor) -> NDArray[np.float64]:
    """Return what outputs of a network mean: probabilities, or values in the units of the target."""
    out = loss.link(outputs).astype(np.float64)
    kind = "values" if target is None else target.kind
    if kind == "classes" and out.shape[1] == 1:
        return np.hstack([1.0 - out, out])
    return np.asarray(preprocessor.target_in_units(out)) if kind == "values" else out


@dataclass
class Model:
    """A network with all that is needed to use it on raw data."""

    network: Network | FunctionModel | Mixture
    loss: Loss
    target: Target
    preprocessor: Preprocessor
    reading: dict[str, Any] = field(default_factory=dict)
    """How its table was read: ``missing``, ``decimal``, ``thousands`` where they were asked for, and ``notations``."""

    errors: list[list[float]] = field(default_factory=list)
    """Absolute errors on the validation rows, of each value: see `distbp.trainer.calibration`."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns that it was trained on."""
        described = self.preprocessor.columns
        return tuple(Column(name, None if texts is None else tuple(texts)) for name, texts in described)

    def save(self, path: str | Path) -> None:
        """Write ``model.safetensors``."""
        state = {
            "format": "distbp-model-1",
            **self.network.architecture(),
            "loss": self.loss.name,
            "loss_parameters": {k: v for k, v in vars(self.loss).items() if isinstance(v, (int, float))},
            "target": asdict(self.target),
            "preprocessing": self.preprocessor.as_dict(),
            **({"reading": self.reading} if self.reading else {}),
            **({"errors": self.errors} if self.errors else {}),
            **({} if self.network.decision is None else {"decision": self.network.decision.tolist()}),
        }
        write_file(Path(path), self.network.tensors(), state)

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Read a ``model.safetensors``, or that of a run directory; raises `DamagedFile`, `FileNotFoundError`.

        A model of the user's own functions needs their module; `UserError` names it, where it is missing.
        """
        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        tensors, state = read_file(path)
        if state.get("format") != "distbp-model-1":
            raise DamagedFile(f"{path}: not a model of distbp")
        dtype, loss = next(iter(tensors.values())).dtype, make_loss(state["loss"], **state["loss_parameters"])

        def build() -> Network | FunctionModel:
            if "model" in state:
                return FunctionModel.named(state["model"], *state["sizes"], dtype=dtype)
            return Network(state["sizes"], state["activation"], dtype=dtype, embeddings=state.get("embeddings", ()))

        n = state.get("members")
        network = (
            Mixture([build() for _ in range(n)], loss, state["sharpness"], state.get("offset", ())) if n else build()
        )
        if "decision" in state:
            network.decision = np.array(state["decision"])
        own = network.tensors()
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in tensors.items()}:
            if "model" not in state:
                raise DamagedFile(f"{path}: its parameters are not those of a network {network.sizes}")
            raise UserError(f"{path}: its parameters are others than those of {state['model']}, which has changed")
        for name, tensor in own.items():
            tensor[...] = tensors[name]
        target = state["target"]
        return cls(
            network,
            loss,
            Target(target["kind"], tuple(target["names"]), tuple(target["classes"])),
            Preprocessor(**state["preprocessing"]),
            state.get("reading", {}),
            state.get("errors", []),
        )

    def prepare(self, dataset: Dataset) -> Prepared:
        """Raw data as this network sees it."""
        return Prepared(Subset(dataset), self.preprocessor, self.network.dtype)

    def predict(self, data: Dataset | ArrayLike) -> NDArray[np.float64]:
        """Predictions for raw rows, as they stand in a file.

        Parameters
        ----------
        data : Dataset or array_like of shape (n, n_columns)
            The columns of the training data, by name in a data set and in their order in an array, where a category is
            the number of its place.

        Returns
        -------
        ndarray of shape (n, n_classes), (n, n_labels) or (n, n_values)
            Probabilities, or values in the units of the target.
        """
        rows = self.prepare(self._dataset(data))
        return self.predict_rows(rows, np.arange(rows.n_rows))

    def _dataset(self, data: Dataset | ArrayLike) -> Dataset:
        """Return rows as a data set; an array of another width, or of texts, is a `UserError`."""
        if hasattr(data, "take_target"):
            return cast(Dataset, data)
        try:
            X = np.asarray(data, None if np.asarray(data).dtype.kind in "biuf" else np.float64)
        except (TypeError, ValueError):
            raise UserError("rows to predict must be numbers: a matrix (rows, columns)") from None
        if X.ndim < 2 or int(np.prod(X.shape[1:])) != len(self.columns):
            wanted = f"the model was trained on {len(self.columns)} columns"
            raise UserError(f"an array of shape {X.shape}: {wanted}, so (rows, {len(self.columns)})")
        return ArrayDataset(X, columns=self.columns)

    def predict_rows(self, rows: Prepared, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predictions for some rows of what `prepare` gave, block by block."""
        blocks = [positions[lo : lo + _BLOCK] for lo in range(0, len(positions), _BLOCK)]
        parts = [self.linked(self.network.predict(rows.take(block)[0])) for block in blocks]
        return np.concatenate(parts) if parts else np.zeros((0, self.target.n_outputs))

    def decide(self, predictions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the class (n,) that is chosen, from probabilities (n, n_classes)."""
        return chosen(predictions, self.network.decision)

    def linked(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return what outputs of the network mean; see `linked`."""
        return linked(outputs, self.loss, self.target, self.preprocessor)
