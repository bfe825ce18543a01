"""The estimator of classes and labels: what is chosen, and with which probability."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d

from distbp.data.dataset import Target
from distbp.estimators.base import Estimator

Array = NDArray[Any]


class Classifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """Classify rows by a feed-forward network; a multi-label classifier where `y` has several columns.

    Parameters
    ----------
    recipe : {"auto", "table", "image", "plain"}
        What stands for parameters that are None: docs/recipes.md.
    hidden : sequence of int, optional
        Units of the hidden layers.
    activation, dropout, optimizer, lr, weight_decay, batch_size, epochs
        As those of the command.
    early_stopping : int, optional
        End after so many epochs without improvement.
    validation_fraction : float
        Part of the rows that tells which epoch is best.
    ensemble : int
        Networks whose mean prediction is the model's.
    class_weight : {"balanced"} or dict of class to weight, optional
        Let each class count the same, or so much.
    exact : bool
        The same bits on any number of ranks.
    warm_start : bool
        Go on from the last `fit`.
    random_state : int, RandomState or None
        The seed of everything.
    verbose : bool
        Print what the command prints.
    options : dict, optional
        Any other option of the command.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted; of labels their numbers.
    model_ : Model
        What is saved, exported, and used without scikit-learn.
    history_, results_
        As those of a `Run`.
    loss_curve_ : list of float
        The loss on the training rows, of each epoch.
    n_features_in_, feature_names_in_, n_iter_, n_outputs_
        As usual.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((300, 2))
    >>> y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    >>> Classifier(epochs=20).fit(X, y).predict([[2.0, 1.0], [2.0, -1.0]])
    array(['same', 'other'], dtype='<U5')
    """

    def __init__(
        self, *, recipe: str = "auto", hidden: Any = None, activation: str | None = None, dropout: float | None = None,
        optimizer: str | None = None, lr: float | None = None, weight_decay: float | None = None,
        batch_size: int | None = None, epochs: int | None = None, early_stopping: int | None = None,
        validation_fraction: float = 0.1, ensemble: int = 1, class_weight: Any = None, exact: bool = False,
        warm_start: bool = False, random_state: Any = 0, verbose: bool = False, options: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            recipe=recipe, hidden=hidden, activation=activation, dropout=dropout, optimizer=optimizer, lr=lr,
            weight_decay=weight_decay, batch_size=batch_size, epochs=epochs, early_stopping=early_stopping,
            validation_fraction=validation_fraction, ensemble=ensemble, exact=exact, warm_start=warm_start,
            random_state=random_state, verbose=verbose, options=options,
        )  # fmt: skip
        self.class_weight = class_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _target(self, y: Array, known: bool) -> tuple[Target, Array]:
        check_classification_targets(y)
        if type_of_target(y).startswith("multilabel"):
            self.multilabel_, self.classes_ = True, np.arange(y.shape[1])
            return Target("labels", tuple(f"label {k}" for k in range(y.shape[1]))), np.asarray(y)
        if y.ndim == 2:
            y = column_or_1d(y, warn=True)
        if not known:
            self.classes_ = np.unique(y)
        self.multilabel_ = False
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class only, {self.classes_[0]!r}: two are needed")
        return Target("classes", ("target",), tuple(self._names())), self._coded(y)

    def _names(self) -> list[str]:
        names = [str(name) for name in self.classes_.tolist()]
        return names if len(set(names)) == len(names) else [f"{i}: {name}" for i, name in enumerate(names)]

    def _coded(self, y: Any) -> Array:
        """Return classes as the texts that the model calls them by."""
        y = np.asarray(y)
        if self.multilabel_:
            return np.asarray(y)
        codes = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        if (unknown := self.classes_[codes] != y).any():
            raise ValueError(f"y has a class that is none of {self.classes_}: {y[unknown][0]!r}")
        texts: Array = np.array(self._names())[codes]
        return texts

    def _decoded(self, outputs: Array) -> Array:
        if self.multilabel_:
            return np.asarray(outputs > 0.5, np.int64)
        return np.asarray(self.classes_[self.model_.decide(outputs)])

    def predict_proba(self, X: Any) -> Array:
        """Predict the probability of each class, or label, (n_samples, n_classes)."""
        found: Array = self._outputs(X)
        return found
