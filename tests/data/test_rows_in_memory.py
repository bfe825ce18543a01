"""What stands for a number, a truth value or nothing in rows in memory, and what is refused in one line."""

import pickle
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

import distbp
from distbp import UserError, load, run_threads
from distbp.data.inmemory import rows_of

rng = np.random.default_rng(0)
X = rng.standard_normal((120, 3))
VALUES = X @ [1.0, 2.0, 3.0]
TRUTH = rng.random(120) > 0.5


def columns(frame, y=VALUES):
    return {name: texts and tuple(texts) for name, texts in load(frame, y).preprocessor.columns}


def test_a_truth_value_is_what_it_is_whatever_is_missing_beside_it():
    how = {"epochs": 8, "hidden": [16], "verbose": False}
    model = distbp.fit({"a": X[:, 0], "s": TRUTH}, X[:, 0] + 5.0 * TRUTH, **how).model
    yes, no = model.predict([{"a": 0.0, "s": True}, {"a": 0.0, "s": False}])
    unknown = model.predict([{"a": 0.0, "s": "perhaps"}])[0]
    assert len({yes, no, unknown}) == 3
    for some in ([True, None], [True, np.nan], [np.True_, None], [1, None], [1.0, np.nan], ["TRUE", "perhaps"]):
        assert model.predict({"a": [0.0, 0.0], "s": some})[0] == yes
    assert np.array_equal(model.predict({"a": [0.0, 0.0], "s": [1, 0]}), [yes, no])
    assert np.array_equal(model.predict(np.array([[0.0, True], [0.0, False]], object)), [yes, no])
    assert np.array_equal(model.predict([{"a": 0.0, "s": False}, {"a": 0.0}])[0], no)


def test_truth_values_with_holes_are_categories_in_training_too():
    some = [None if k % 7 == 0 else bool(t) for k, t in enumerate(TRUTH)]
    assert columns({"a": X[:, 0], "s": some})["s"] == ("false", "true")
    assert columns(pd.DataFrame({"a": X[:, 0], "s": pd.Series(some, dtype=object)}))["s"] == ("false", "true")
    assert columns(pd.DataFrame({"a": X[:, 0], "s": pd.Series(some, dtype="boolean")}))["s"] == ("false", "true")


def test_what_a_masked_array_hides_is_missing():
    hidden = np.ma.masked_array(np.where(X > 1.0, 1e6, X), mask=X > 1.0)
    holes = np.where(X > 1.0, np.nan, X)
    assert np.array_equal(rows_of(hidden), holes, equal_nan=True)
    assert np.array_equal(rows_of({"a": hidden[:, 0]})["a"], holes[:, 0], equal_nan=True)
    whole = np.ma.masked_array([[3, 4], [5, 6]], mask=[[0, 1], [0, 0]])
    assert np.array_equal(rows_of(whole), [[3.0, np.nan], [5.0, 6.0]], equal_nan=True)
    first = np.ma.masked_array(VALUES, mask=np.arange(120) == 4)
    for beside in ({"y": first}, {"y": VALUES, "sample_weight": np.ma.masked_array(np.ones(120), mask=first.mask)}):
        with pytest.raises(UserError, match="of row 4 .from 0. is missing: it is masked"):
            load(X, **beside)


@pytest.mark.parametrize("of", [Decimal, Fraction, np.float64, np.float32, float], ids=lambda of: of.__name__)
def test_a_target_of_number_objects_is_one_of_numbers(of):
    y = np.empty(120, object)
    y[:] = [of(float(v)) for v in VALUES]
    target = load(X, y)
    assert target.target.kind == "values"
    assert load(X, y.tolist()).target == target.target


def test_a_target_of_whole_number_objects_has_classes():
    y = np.array([np.int64(k % 3) for k in range(120)], object)
    assert load(X, y).target.classes == ("0", "1", "2")
    assert load(X, np.array([np.bool(k % 2) for k in range(120)], object)).target.classes == ("False", "True")


@pytest.mark.parametrize("names", [("1", "10"), ("True", "False"), (1, 10), (True, False), ("no", "yes")])
def test_classes_come_back_as_they_were_given(names):
    y = np.where(TRUTH, *names)
    model = distbp.fit(X, y, epochs=2, hidden=[4], verbose=False).model
    for one in (model, pickle.loads(pickle.dumps(model))):
        assert one.classes_.dtype.kind == y.dtype.kind and set(one.predict(X)) <= set(y)


@pytest.mark.parametrize(
    ("y", "text"),
    [
        (VALUES + 1j, "a target of complex numbers"),
        ((VALUES * 1e6).astype("m8[us]"), "a target of durations"),
        (np.datetime64("2020-01-01") + np.arange(120), "a target of dates"),
        ([10**400] * 120, "beyond 1e308"),
        (pd.Series([True, None] * 60, dtype="boolean"), "the target of row 1 .from 0. is missing"),
        (pd.Series(["a", pd.NA] * 60, dtype="string"), "the target of row 1 .from 0. is missing"),
        (np.array([1j] * 120, object), "a target of complex numbers"),
    ],
)
def test_targets_that_are_none(y, text):
    with pytest.raises(UserError, match=text):
        load(X, y)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ({1: X[:, 0], "1": X[:, 1]}, "two columns are called '1'"),
        ({"a": X[:, 0], "A": X[:, 1]}, "two columns are called 'a' and 'A'"),
        (pd.DataFrame(X, columns=["a", "a", "b"]), "two columns are called 'a'"),
        (pd.DataFrame(X, columns=["a", "a", "b"]).assign(s="u"), "two columns are called 'a'"),
        ([{1: 0.0, "1": 2.0}] * 120, "two columns are called '1'"),
        ({"a": X[:, 0], "b": X[:9, 1]}, "column 'a' has 120 values, column 'b' has 9"),
        ({}, "a dict without columns"),
        ({"a": X[:, 0], "b": X[:, 1] + 1j}, "column 'b' has complex numbers"),
        ({"a": X[:, 0], "b": [10**400] * 120}, "column 'b' has a number beyond"),
        ({"a": X[:, 0], "b": [[1], [1, 2]] * 60}, "column 'b' has lists or arrays"),
        (pd.Series(X[:, 0]), "a Series is no table"),
    ],
)
def test_rows_that_are_no_table(rows, text):
    with pytest.raises(UserError, match=text):
        load(rows, VALUES)


def test_numbers_of_any_width_and_order_are_numbers():
    kinds = {"a": ">f8", "b": np.longdouble, "c": np.float16, "d": ">i4", "e": np.uint64}
    table = {name: np.round(20.0 * np.abs(X[:, 0])).astype(kind) for name, kind in kinds.items()}
    assert columns(table) == dict.fromkeys(kinds)
    frame = pd.DataFrame({"a": X[:, 0], "s": pd.arrays.SparseArray(X[:, 1]), "i": pd.cut(X[:, 2], 3)})
    assert [categories is None for categories in columns(frame).values()] == [True, True, False]


@pytest.mark.parametrize(
    ("trained", "given"), [(["2019", "2020", "2021"], ["2020", "2021", "2022"]), (["0", "1", "2"], ["1", "2", "3"])]
)
def test_columns_that_are_called_by_other_numbers_are_others(trained, given):
    model = distbp.fit(dict(zip(trained, X.T, strict=True)), VALUES, epochs=1, hidden=[4], verbose=False).model
    with pytest.raises(UserError, match="the model was trained on 3 columns; without"):
        model.predict(dict(zip(given, X.T, strict=True)))
    assert np.array_equal(model.predict(X[:5]), model.predict(dict(zip(trained, X[:5].T, strict=True))))


def test_columns_without_names_are_taken_by_their_places():
    model = distbp.fit(X, VALUES, epochs=1, hidden=[4], verbose=False).model
    assert np.allclose(model.predict(dict(zip("abc", X[:5].T, strict=True))), model.predict(X[:5]))
    beside = distbp.fit(np.column_stack([VALUES, X]), target=0, epochs=1, hidden=[4], verbose=False).model
    assert np.allclose(beside.predict(dict(zip("abc", X[:5].T, strict=True))), beside.predict(X[:5]))


def test_what_a_text_means_as_a_number_does_not_depend_on_other_rows():
    model = distbp.fit({"a": X[:, 0], "s": X[:, 1]}, VALUES, epochs=1, hidden=[4], verbose=False).model
    expected = model.predict({"a": [0.0], "s": [1.5]})
    assert model.predict({"a": [0.0, 0.0], "s": ["1.500", "2.25"]})[0] == expected
    for texts in (["1,500"], ["1,500", "1,5"], ["1.500", "1.234,5"]):
        with pytest.raises(UserError, match="column 's' is numeric"):
            model.predict({"a": [0.0] * len(texts), "s": texts})


FRAME = pd.DataFrame(X, columns=list("abc"))
WORDS = np.where(TRUTH, "yes", "no")


def with_another_value(frame):
    other = frame.copy()
    other.loc[7, "b"] += 1e-3
    return other


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"data": FRAME, "y": WORDS}, {"data": FRAME, "y": WORDS[::-1]}),
        ({"data": FRAME, "y": list(WORDS)}, {"data": FRAME, "y": list(WORDS[::-1])}),
        ({"data": FRAME, "y": VALUES}, {"data": with_another_value(FRAME), "y": VALUES}),
        ({"data": FRAME, "y": VALUES}, {"data": FRAME.sample(frac=1, random_state=1), "y": VALUES}),
        ({"data": X.tolist(), "y": VALUES}, {"data": X[::-1].tolist(), "y": VALUES}),
        (
            {"data": X, "y": VALUES, "sample_weight": np.ones(120)},
            {"data": X, "y": VALUES, "sample_weight": 1.0 + TRUTH},
        ),
        (
            {"data": X, "y": VALUES, "validation_data": (X[:9], VALUES[:9])},
            {"data": X, "y": VALUES, "validation_data": (X[:9], VALUES[1:10])},
        ),
        ({"data": FRAME.assign(y=VALUES)}, {"data": FRAME.assign(y=VALUES[::-1])}),
    ],
    ids=["texts", "lists", "one value", "shuffled", "nested lists", "weights", "validation", "column"],
)
def test_ranks_that_have_other_rows_are_named(mine, theirs):
    given = [mine, theirs]
    assert run_threads(2, lambda comm: load(comm=comm, **mine).train.n_rows)
    with pytest.raises(UserError, match="the data on rank 1 differ from rank 0's"):
        run_threads(2, lambda comm: load(comm=comm, **given[comm.rank]))


def test_what_is_the_same_on_all_ranks_is_taken_whatever_its_type():
    wide = X.astype(np.longdouble)
    assert run_threads(2, lambda comm: load(wide.copy(), VALUES, comm=comm).train.n_rows) == [84, 84]
