"""The trained model as a file: network, preprocessing and classes in one ``model.safetensors``.

Tensors carry the names and shapes of ``torch.nn.Sequential(Linear, activation, Linear, ...)``:
``0.weight`` (fan_out, fan_in), ``0.bias``, ``2.weight``, ...; ``embeddings.0.weight`` (values, width) is that of an
``Embedding``; those of a `FunctionModel` are called by their places. What PyTorch does not need stands as JSON in the
header; functions of the user's by name, never as code. Tensors of an ensemble's member k begin with
``members.k.``. Nothing in the file depends on the ranks, the time or the host.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.dataset import ArrayDataset, Column, Dataset, Target
from distbp.data.inmemory import is_in_memory, is_row, rows_of
from distbp.data.loading import open_dataset, paths_of
from distbp.data.prepared import Prepared
from distbp.data.preprocessing import Preprocessor
from distbp.data.splitting import Subset
from distbp.data.table.formats import FORMATS, TableOptions, suffix_of
from distbp.errors import UserError
from distbp.files import DamagedFile, atomic_write, content_of, read_content
from distbp.markup import card
from distbp.network.dense import Network
from distbp.network.flat import chosen
from distbp.network.function_model import FunctionModel
from distbp.network.losses import Loss, make_loss
from distbp.network.mixture import Mixture

_AT_ONCE = 4032
"""Rows that are prepared together."""
_BLOCKS = (192, 48, 8, 1)
"""Rows that pass the network together, the first number for which a row's place among them changes no bit."""


def linked(outputs: NDArray[Any], loss: Loss, target: Target | None, preprocessor: Preprocessor) -> NDArray[np.float64]:
    """Return what outputs of a network mean: probabilities, or values in the units of the target."""
    out = loss.link(outputs).astype(np.float64)
    kind = "values" if target is None else target.kind
    if kind == "classes" and out.shape[1] == 1:
        return np.hstack([1.0 - out, out])
    return np.asarray(preprocessor.target_in_units(out)) if kind == "values" else out


@dataclass(repr=False)
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

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, in the order of the probabilities; numbers or truth values where all of them are."""
        return self.target.class_values()

    def save(self, path: str | Path) -> None:
        """Write ``model.safetensors``."""
        atomic_write(Path(path), self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return what `save` writes."""
        state = {
            "format": "distbp-model-1",
            **self.network.architecture(),
            "loss": self.loss.name,
            "loss_parameters": {k: v for k, v in vars(self.loss).items() if isinstance(v, (int, float))},
            "target": self.target.as_dict(),
            "preprocessing": self.preprocessor.as_dict(),
            **({"reading": self.reading} if self.reading else {}),
            **({"errors": self.errors} if self.errors else {}),
            **({} if self.network.decision is None else {"decision": self.network.decision.tolist()}),
        }
        return content_of(self.network.tensors(), state)

    def __reduce__(self) -> tuple[Any, ...]:
        return Model.of_bytes, (self.to_bytes(),)

    @classmethod
    def load(cls, path: str | Path) -> "Model":
        """Read a ``model.safetensors``, or that of a run directory; raises `DamagedFile`, `FileNotFoundError`.

        A model of the user's own functions needs their module; `UserError` names it, where it is missing.
        """
        path = Path(path)
        path = path / "model.safetensors" if path.is_dir() else path
        return cls.of_bytes(path.read_bytes(), path)

    @classmethod
    def of_bytes(cls, content: bytes, path: object = "the model") -> "Model":
        """Return the model of what `to_bytes` gave; messages call it `path`."""
        tensors, state = read_content(content, path)
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
        return cls(
            network,
            loss,
            Target.of_dict(state["target"]),
            Preprocessor(**state["preprocessing"]),
            state.get("reading", {}),
            state.get("errors", []),
        )

    def prepare(self, dataset: Dataset) -> Prepared:
        """Raw data as this network sees it."""
        return Prepared(Subset(dataset), self.preprocessor, self.network.dtype)

    def predict(self, data: Any) -> NDArray[Any]:
        """Predict the target of raw rows, as they stand in a file.

        Parameters
        ----------
        data : array_like of shape (n, n_columns), data frame, dict of columns, list of dicts, str or Path, or Dataset
            The columns of the training data: by name where they have names, in their order in an array of numbers,
            where a category is the number of its place. A target among them is not looked at.

        Returns
        -------
        ndarray of shape (n,), or (n, k) of k labels or values
            Classes of `classes_`; zeros and ones; or values in the units of the target.
        """
        found = self.predict_outputs(data)
        if self.target.kind == "classes":
            return self.classes_[self.decide(found)]
        if self.target.kind == "labels":
            return (found > 0.5).astype(np.int64)
        return found[:, 0] if found.shape[1] == 1 else found

    def predict_proba(self, data: Any) -> NDArray[np.float64]:
        """Predict the probability of each class, or label, (n, n_classes), of raw rows; see `predict`."""
        if self.target.kind == "values":
            raise UserError(f"a {self.target} has no probabilities: predict")
        return self.predict_outputs(data)

    def predict_outputs(self, data: Any) -> NDArray[np.float64]:
        """Predict probabilities (n, n_classes) or (n, n_labels), or values (n, n_values), of raw rows."""
        dataset, _ = self.open(data)
        rows = self.prepare(dataset.without_target() if hasattr(dataset, "without_target") else dataset)
        return self.predict_rows(rows, np.arange(rows.n_rows))

    def open(self, data: Any, *, comm: Communicator | None = None, **asked: Any) -> tuple[Dataset, list[str]]:
        """Open raw rows as the training data was read; return them, and remarks.

        `asked` are fields of `TableOptions`, in place of those of the training.
        """
        if hasattr(data, "take_target"):
            return cast(Dataset, data), []
        data = [data] if is_row(data) else data
        if is_in_memory(data) and isinstance(data := rows_of(data), np.ndarray):
            if int(np.prod(data.shape[1:])) != len(self.columns):
                wanted = f"the model was trained on {len(self.columns)} columns"
                raise UserError(f"an array of shape {data.shape}: {wanted}, so (rows, {len(self.columns)})")
            return ArrayDataset(data, columns=self.columns), []
        dataset, remarks = open_dataset(data, self.options(data, **asked), comm=comm)
        assert dataset is not None
        return dataset, remarks

    def options(self, data: Any, **asked: Any) -> TableOptions:
        """Return how `open` reads a table."""
        table = is_in_memory(data) or suffix_of(paths_of(data)[0]) in FORMATS
        how = (self.reading if table else {}) | asked
        # compact numbers would be chosen by all rows, and round some
        return TableOptions(like=self.target, columns_like=self.columns, blank_target=True, compact=False, **how)

    def predict_rows(self, rows: Prepared, positions: NDArray[np.int64]) -> NDArray[np.float64]:
        """Predict some rows of what `prepare` gave; what a row gets depends, to the last bit, on that row alone."""
        n, block = len(positions), self._block
        found = np.zeros((n, self.target.n_outputs))
        for lo in range(0, n, _AT_ONCE):
            X = rows.take(positions[lo : lo + _AT_ONCE])[0]
            more = -len(X) % block
            outputs = self.network.predict(np.vstack([X, np.zeros((more, X.shape[1]), X.dtype)]) if more else X, block)
            found[lo : lo + _AT_ONCE] = self.linked(outputs[: len(X)])
        return found

    @cached_property
    def _block(self) -> int:
        """Return of how many rows a block may be.

        The kernels of a BLAS treat rows of a product in groups, which may add up in different orders: here they are
        tried with numbers by chance in other places.
        """
        rng = np.random.default_rng(0)
        codes = len(self.preprocessor.code_values)
        for block in _BLOCKS:
            X = rng.standard_normal((block, self.network.sizes[0])).astype(self.network.dtype)
            X[:, X.shape[1] - codes :] = 0.0
            expected = self.network.predict(X, block)
            orders = [np.arange(block)[::-1], *(rng.permutation(block) for _ in range(3))]
            if all(np.array_equal(self.network.predict(X[order], block), expected[order]) for order in orders):
                return block
        return _BLOCKS[-1]

    def decide(self, predictions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of the class (n,) that is chosen, from probabilities (n, n_classes)."""
        return chosen(predictions, self.network.decision)

    def linked(self, outputs: NDArray[Any]) -> NDArray[np.float64]:
        """Return what outputs of the network mean; see `linked`."""
        return linked(outputs, self.loss, self.target, self.preprocessor)

    def __repr__(self) -> str:
        return f"Model({self.network.describe()}: {self.target}, {len(self.columns)} columns)"

    def _repr_html_(self) -> str:
        kinds = [
            (c.name, "number" if c.categories is None else f"{len(c.categories)} categories") for c in self.columns
        ]
        return card(repr(self), kinds[:20], ("column", "kind"))
