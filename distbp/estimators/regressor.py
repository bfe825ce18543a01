"""The estimator of values, in the units that they have."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array, column_or_1d

from distbp.data.dataset import Target
from distbp.estimators.base import Estimator

Array = NDArray[Any]


class Regressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """Predict values by a feed-forward network; several of them where `y` has several columns.

    Parameters and attributes are those of `Classifier`, but for `class_weight` and `classes_`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).standard_normal((300, 2))
    >>> Regressor(epochs=20).fit(X, X @ [1.0, 2.0]).predict([[1.0, 1.0]]).round(0)
    array([3.])
    """

    def _target(self, y: Array, known: bool) -> tuple[Target, Array]:
        y = self._coded(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        names = ("target",) if y.ndim == 1 else tuple(f"target {k}" for k in range(y.shape[1]))
        return Target("values", names), y

    def _coded(self, y: Any) -> Array:
        return np.asarray(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"))

    def _decoded(self, outputs: Array) -> Array:
        return np.asarray(outputs[:, 0] if outputs.shape[1] == 1 else outputs)
