"""From Python on ranks: scikit-learn's own checks, and the same bits as alone."""

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import check_estimator

from distbp import Classifier, Regressor, SerialCommunicator, UserError, fit
from distbp.run.fit import world

X, Y = load_iris(return_X_y=True)


@pytest.mark.parametrize("estimator", [Classifier(epochs=30), Regressor(epochs=30)], ids=repr)
def test_scikit_learn_checks_on_two_ranks(comm, estimator):
    if comm.size != 2:
        return  # alone they are in tests/python, and on more they are the same and take a minute
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {one["check_name"] for one in found if one["status"] == "failed"}
    assert failed == {"check_sample_weight_equivalence_on_dense_data"} and len(found) > 50


def test_a_model_has_the_same_bits_as_alone():
    options = {"exact": True, "epochs": 3, "hidden": [16], "verbose": False}
    here = fit(X, Y, **options)
    alone = fit(X, Y, comm=SerialCommunicator(), **options)
    assert here.model.to_bytes() == alone.model.to_bytes() and here.history["loss/val"].shape == (3,)
    both = fit(X, Y, ensemble=2, **options), fit(X, Y, ensemble=2, comm=SerialCommunicator(), **options)
    assert both[0].model.to_bytes() == both[1].model.to_bytes()
    assert here.importance() == alone.importance() and here.report().parent == here.path


def test_many_fits_leave_nothing_behind():
    model = Classifier(epochs=1, hidden=[4])
    for k in range(30):
        model.set_params(random_state=k).fit(X, Y)
    assert world() is world()


def test_ranks_that_have_other_rows_are_named(comm):
    if comm.size == 1:
        return
    with pytest.raises(UserError, match="the data on rank 1 differ from rank 0's"):
        fit(X + (comm.rank == 1), Y, epochs=1, verbose=False)
    assert np.isfinite(X).all()
