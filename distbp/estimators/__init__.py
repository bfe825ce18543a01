"""scikit-learn's door: `Classifier` and `Regressor`."""

from distbp.estimators.classifier import Classifier
from distbp.estimators.regressor import Regressor

__all__ = ["Classifier", "Regressor"]
