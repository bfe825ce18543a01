"""The estimators keep scikit-learn's conventions, in its tools and under its callbacks."""

import contextlib
import pickle
import subprocess
import sys
import warnings
from unittest import SkipTest

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris, make_classification
from sklearn.ensemble import StackingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from distbp import Classifier, Regressor, fit
from distbp.run import blas

MINI_BATCHES = "a row that counts twice is no two rows: they are in different batches"
QUICK = {"epochs": 4, "hidden": [16]}
X, Y = load_iris(return_X_y=True)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [Classifier(), Regressor()],
    expected_failed_checks=lambda _: {"check_sample_weight_equivalence_on_dense_data": MINI_BATCHES},
)
def test_scikit_learn_checks(estimator, check):
    with contextlib.suppress(SkipTest):  # of methods that an estimator has not, and of arrays of other libraries
        check(estimator)


def test_predictions_of_a_subset_are_those_of_the_whole_to_the_last_bit():
    rng = np.random.default_rng(0)
    X, y = make_classification(700, 10, n_informative=6, random_state=0)
    for model in (Classifier(epochs=2).fit(X, y), Regressor(epochs=2, options={"dtype": "float64"}).fit(X, y * 1.5)):
        p = model._outputs(X)
        for rows in (np.array([5]), np.arange(3, 9), rng.permutation(700)[:333], np.arange(700)[::-1]):
            assert np.array_equal(model._outputs(X[rows]), p[rows])


def frame(n=120):
    rng = np.random.default_rng(1)
    f = pd.DataFrame({"a": rng.standard_normal(n), "b": rng.standard_normal(n), "c": rng.choice(["u", "v", "w"], n)})
    f.loc[3, "a"] = np.nan
    return f, np.where(f["c"] == "u", "yes", "no")


def test_frames_of_numbers_and_texts_go_in_as_they_are():
    f, y = frame()
    model = Classifier(epochs=40).fit(f, y)
    assert model.score(f, y) > 0.9 and list(model.feature_names_in_) == ["a", "b", "c"] and model.n_features_in_ == 3
    assert np.array_equal(model.predict_proba(f[["a", "b", "c"]][:7]), model.predict_proba(f)[:7])
    with pytest.raises(ValueError, match="feature names"):
        model.predict(f.rename(columns={"a": "A"}))


def test_in_a_pipeline_with_columns_and_in_a_grid():
    f, y = frame()
    columns = ColumnTransformer([("n", StandardScaler(), ["b"]), ("c", OneHotEncoder(), ["c"])])
    grid = GridSearchCV(make_pipeline(columns, Classifier(**QUICK)), {"classifier__lr": [0.001, 0.02]}, cv=2, n_jobs=1)
    assert grid.fit(f, y).best_params_["classifier__lr"] == 0.02
    assert cross_val_score(Regressor(**QUICK), X, Y * 1.5, cv=3).shape == (3,)


def test_in_calibration_stacking_and_importance():
    assert CalibratedClassifierCV(Classifier(**QUICK), cv=2).fit(X, Y).predict_proba(X).shape == (150, 3)
    stack = StackingClassifier([("a", Classifier(**QUICK)), ("b", LogisticRegression(max_iter=500))], cv=2)
    assert stack.fit(X, Y).predict(X).shape == (150,)
    model = Classifier(epochs=20).fit(X, Y)
    importance = permutation_importance(model, X, Y, n_repeats=2, random_state=0).importances_mean
    assert importance.argmax() in (2, 3)


def test_a_pickle_is_used_in_a_new_process(tmp_path):
    model = make_pipeline(StandardScaler(), Classifier(**QUICK)).fit(X, Y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "X.npy", X)
    code = "import pickle, numpy as np; m = pickle.load(open('model.pickle', 'rb'));"
    code += "np.save('p.npy', m.predict_proba(np.load('X.npy')))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=120)
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), model.predict_proba(X), atol=1e-6)


def test_labels_values_and_weights():
    both = np.stack([Y > 0, Y > 1], axis=1).astype(int)
    labels = Classifier(epochs=30).fit(X, both)
    assert labels.predict(X).shape == (150, 2) and labels.score(X, both) > 0.8
    values = Regressor(epochs=30).fit(X[:, :2], X[:, 2:])
    assert values.predict(X[:, :2]).shape == (150, 2) and values.score(X[:, :2], X[:, 2:]) > 0.7
    half = Classifier(epochs=30).fit(X, Y, sample_weight=(Y < 2).astype(float))
    assert (half.predict(X) == 2).sum() <= 2
    heavy = Classifier(epochs=30, class_weight={0: 1.0, 1: 100.0, 2: 0.01}).fit(X, Y)
    assert (heavy.predict(X) == 1).sum() >= (Y == 1).sum()
    assert Classifier(class_weight="balanced", **QUICK).fit(X, Y).classes_.tolist() == [0, 1, 2]


def test_going_on_and_a_part_at_a_time():
    model = Classifier(warm_start=True, epochs=10, options={"keep_model": "last"}).fit(X, Y)
    first = model.loss_curve_[-1]
    assert model.fit(X, Y).loss_curve_[-1] < first and model.n_iter_ == 10
    parts = Classifier()
    for _ in range(30):
        parts.partial_fit(X, Y, classes=[0, 1, 2])
    assert parts.n_iter_ == len(parts.loss_curve_) == 30 and parts.score(X, Y) > 0.85
    first_rows = Classifier().partial_fit(X[:100], Y[:100], classes=[0, 1, 2])
    assert first_rows.predict_proba(X).shape == (150, 3)
    with pytest.raises(ValueError, match="none of"):
        first_rows.partial_fit(X[:2], [0, 7])


def test_validation_data_seeds_and_classes():
    f, y = frame()
    model = Classifier(**QUICK).fit(f, y, validation_data=(f[:40], y[:40]))
    assert "loss/val" in model.history_.columns and model.classes_.tolist() == ["no", "yes"]
    same = [Classifier(random_state=3, **QUICK).fit(X, Y).predict_proba(X) for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], Classifier(random_state=4, **QUICK).fit(X, Y).predict_proba(X))
    Classifier(random_state=np.random.RandomState(0), **QUICK).fit(X, Y)
    Classifier(random_state=None, **QUICK).fit(X, Y)
    assert Classifier(ensemble=2, **QUICK).fit(X, Y).model_.network.describe().startswith("ensemble of 2")


def test_callbacks_of_scikit_learn_see_each_epoch():
    callback = pytest.importorskip("sklearn.callback")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    Classifier(epochs=5).set_callbacks(monitor).fit(X, Y)
    rows = [row for row in monitor.get_logs().data if row["task_name"].startswith("epoch")]
    assert len(rows) == 5 and rows[-1]["accuracy"] > 0.5


def test_what_cannot_be_is_one_line():
    with pytest.raises(TypeError, match="no option 'hiden'; did you mean 'hidden'"):
        Classifier(options={"hiden": 3}).fit(X, Y)
    with pytest.raises(ValueError, match="lr"):
        Classifier(lr=-1.0).fit(X, Y)
    with pytest.raises(ValueError, match="one class only"):
        Classifier().fit(X[:50], Y[:50])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Classifier(**QUICK).fit(X, Y)


def test_a_training_does_not_depend_on_what_else_the_machine_does(monkeypatch):
    X, y = load_iris(return_X_y=True)
    asked = []
    monkeypatch.setattr(blas, "_busy_cores", lambda comm: asked.append(1) or 1)
    monkeypatch.setattr(blas, "blas_threads", lambda comm: 2)
    monkeypatch.setattr(blas, "_asked", lambda: 2)
    Classifier(epochs=1, hidden=[4]).fit(X, y)
    assert not asked
    fit(X, y, epochs=1, hidden=[4], verbose=False)
    assert asked
