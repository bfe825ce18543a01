"""What the estimators have in common: they train as the command does, on all ranks of ``mpirun``.

Their parameters are options of the command, where None is what the recipe says; `options` takes any other. Under MPI
each rank calls `fit` with the same data; a search must not start processes of its own there (``n_jobs=1``).
"""

import contextlib
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.dataset import Target
from distbp.model import Model
from distbp.run.fit import History, Run, fit_with, world
from distbp.run.job import Job
from distbp.run.next_step import IN_MEMORY
from distbp.run.recipes import recipe_of_rows

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.class_weight import compute_sample_weight
    from sklearn.utils.validation import (
        _check_sample_weight,
        check_array,
        check_consistent_length,
        check_is_fitted,
        validate_data,
    )
except ImportError as error:
    raise ImportError(
        f"the estimators need scikit-learn 1.6 or newer: pip install 'distbp[estimators]' ({error})"
    ) from error
try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand in for callbacks that are not there."""

    def with_callbacks(method: Any) -> Any:
        """Return the method."""
        return method


Array = NDArray[Any]


class Estimator(CallbackSupportMixin, MultiOutputMixin, BaseEstimator):  # type: ignore[misc]
    """Train, and predict by the model that is left; `Classifier` and `Regressor` say what a target is."""

    classes_: Array
    multilabel_: bool

    def __init__(
        self,
        *,
        recipe: str = "auto",
        hidden: Any = None,
        activation: str | None = None,
        dropout: float | None = None,
        optimizer: str | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        early_stopping: int | None = None,
        validation_fraction: float = 0.1,
        ensemble: int = 1,
        exact: bool = False,
        warm_start: bool = False,
        random_state: Any = 0,
        verbose: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.recipe, self.hidden, self.activation, self.dropout = recipe, hidden, activation, dropout
        self.optimizer, self.lr, self.weight_decay, self.batch_size = optimizer, lr, weight_decay, batch_size
        self.epochs, self.early_stopping, self.validation_fraction = epochs, early_stopping, validation_fraction
        self.ensemble, self.exact, self.warm_start = ensemble, exact, warm_start
        self.random_state, self.verbose, self.options = random_state, verbose, options

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = True
        tags.non_deterministic = False
        return tags

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Self:
        """Train on rows.

        Parameters
        ----------
        X : array_like or data frame of shape (n_samples, n_features)
            Numbers and texts; missing ones may be missing.
        y : array_like of shape (n_samples,) or (n_samples, n_outputs)
            Classes, labels as zeros and ones, or values.
        sample_weight : array_like of shape (n_samples,), optional
            The weight of each row.
        validation_data : (X, y), optional
            Rows that tell which epoch is best; else a part of `X` does.

        Returns
        -------
        self
        """
        start = getattr(self, "model_", None) if self.warm_start else None
        given, comm = self._given(X, y, sample_weight, start), world()
        X = given["data"]
        if validation_data is not None:
            given["validation_data"] = self._rows(validation_data[0], reset=False), self._coded(validation_data[1])
        self._keep(self._fitted(given, self._options(X, comm), comm, self._listener(X, y)))
        return self

    def _fitted(self, given: dict[str, Any], options: dict[str, Any], comm: Communicator, listen: Any = None) -> Run:
        return fit_with(given, options, comm, verbose=self.verbose, steady=True, listen=listen)

    def _given(self, X: Any, y: Any, sample_weight: Any, start: Model | None, *, known: bool = False) -> dict[str, Any]:
        """Return arguments of `load`: rows and targets, checked; classes may be `known` from before."""
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        rows = self._rows(X, reset=start is None)
        if len(rows) < 2:
            raise ValueError(f"n_samples = {len(rows)}: at least two rows are needed to train")
        y = check_array(y, ensure_2d=False, dtype=None, input_name="y")
        check_consistent_length(np.zeros(len(rows)), y)
        target, coded = self._target(y, known or start is not None)
        given: dict[str, Any] = {"data": rows, "y": coded, "like": target}
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, np.zeros((len(rows), 1)), dtype=np.float64)
        if isinstance(by_class := getattr(self, "class_weight", None), dict):
            weights = compute_sample_weight(by_class, y) * (1.0 if weights is None else weights)
        given |= {} if weights is None else {"sample_weight": weights}
        return given | ({} if start is None else {"start": start})

    def _options(self, X: Any, comm: Communicator) -> dict[str, Any]:
        """Return the parameters as options of a run."""
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = comm.bcast_obj(int(check_random_state(seed).randint(2**31 - 1)))
        names = (
            "hidden activation dropout optimizer lr weight_decay batch_size epochs early_stopping"
            " validation_fraction ensemble exact"
        )
        mine = {name: getattr(self, name) for name in names.split()}
        mine |= {"seed": int(seed), "recipe": recipe_of_rows(X) if self.recipe == "auto" else self.recipe}
        mine |= {"data": IN_MEMORY, "test_fraction": 0.0, "class_weight": self._class_weight()}
        return mine | (self.options or {})

    def _class_weight(self) -> str | None:
        asked: Any = getattr(self, "class_weight", None)
        return None if isinstance(asked, dict) else asked

    def _keep(self, run: Run) -> None:
        """Keep what a training left."""
        self.model_: Model = run.model
        self.history_: History = run.history
        self.results_: dict[str, Any] = run.results
        self.n_iter_ = int(max((record["epoch"] for record in run.history), default=0))
        self.loss_curve_ = [record["loss/train"] for record in run.history if "loss/train" in record]
        self.n_outputs_ = self.model_.target.n_outputs

    def _listener(self, X: Any, y: Any) -> Callable[[Job, dict[str, Any]], None] | None:
        """Return what tells scikit-learn's callbacks of each epoch, None where there are none."""
        if not getattr(self, "_skl_callbacks", None):
            return None
        context = self._init_callback_context(max_subtasks=None).call_on_fit_task_begin(estimator=self, X=X, y=y)

        def listen(job: Job, record: dict[str, Any]) -> None:
            if "loss/train" not in record:
                return
            t = job.trainer
            now = Model(t.network, t.loss, job.data.target, job.data.preprocessor)
            about = {"estimator": self, "X": X, "y": y, "reconstruction_attributes": {"model_": now}}
            part = context.subcontext(task_name=f"epoch {record['epoch']:g}")
            part.call_on_fit_task_begin(estimator=self, X=X, y=y)
            if part.call_on_fit_task_end(**about):
                t.request_stop()

        return listen

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on these rows, from where the last call ended.

        Scaling, bins and categories are those of the first call. `classes` are all that will come, in the first call.
        """
        start = getattr(self, "model_", None)
        if start is None and classes is not None:
            self.classes_ = np.unique(classes)
        given, comm = self._given(X, y, sample_weight, start, known=start is not None or classes is not None), world()
        once = {
            "epochs": 1,
            "schedule": "constant",
            "validation_fraction": 0.0,
            "keep_model": "last",
            "calibrate": False,
        }
        options = self._options(given["data"], comm) | once
        options["seed"] += getattr(self, "n_iter_", 0)  # another order of the rows
        before = getattr(self, "n_iter_", 0), getattr(self, "loss_curve_", [])
        self._keep(self._fitted(given, options, comm))
        self.n_iter_, self.loss_curve_ = before[0] + 1, before[1] + self.loss_curve_
        return self

    def predict(self, X: Any) -> Array:
        """Predict classes (n_samples,), labels, or values of rows."""
        return self._decoded(self._outputs(X))

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self, "model_")
        return self.model_.predict_outputs(self._rows(X, reset=False))

    def _rows(self, X: Any, *, reset: bool) -> Any:
        """Return rows, checked: a frame, or an array of numbers or objects."""
        if hasattr(X, "columns") and hasattr(X, "shape"):
            validate_data(self, X, skip_check_array=True, reset=reset)
            if not X.shape[0]:
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
            return X
        numbers = np.asarray(X).dtype.kind in "biufc" if not hasattr(X, "toarray") else True
        kind: Any = "numeric"
        if not numbers:
            with contextlib.suppress(TypeError, ValueError):
                numbers = np.asarray(X, np.float64).dtype.kind == "f"
            kind = "numeric" if numbers else None
        finite = "allow-nan" if numbers else False
        return validate_data(self, X, dtype=kind, ensure_all_finite=finite, reset=reset, allow_nd=True)

    def _target(self, y: Array, known: bool) -> tuple[Target, Array]:
        raise NotImplementedError

    def _coded(self, y: Any) -> Array:
        raise NotImplementedError

    def _decoded(self, outputs: Array) -> Array:
        raise NotImplementedError
