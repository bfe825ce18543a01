"""From raw rows to what a network eats: synthetic data, targets, splits, preprocessing, loading."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import prepared
from fits import SERIAL, fit_values, fit_weighted, mixed
from grids import examples
from hypothesis import given
from hypothesis import strategies as st
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.utils.class_weight import compute_class_weight

from distbp import (
    ArrayDataset,
    Column,
    Prepared,
    Preprocessor,
    Subset,
    SyntheticDataset,
    TableOptions,
    Target,
    UserError,
    fit_preprocessor,
    load,
    open_dataset,
    run_threads,
    split,
)
from distbp.comm import resident
from distbp.data import moments, splitting
from distbp.data import prepared as prepared_module
from distbp.data.dataset import parse_columns
from distbp.data.synthetic import read_synthetic
from distbp.data.targets import MAX_CLASSES, infer_target

REAL = Path(__file__).parents[3] / "shared" / "data"


def everything(rows):
    return rows.take(np.arange(rows.n_rows))


def members(subset):
    return subset.rows(np.arange(subset.n_rows))


def of_classes(y, X=None):
    """A data set with the classes `y`, numbered from 0."""
    y = np.asarray(y)
    k = int(y.max()) + 1
    X = np.arange(len(y), dtype=float)[:, None] if X is None else X
    target = Target("classes", ("y",), tuple(map(str, range(k))))
    return ArrayDataset(X, y, target, class_values=np.arange(k))


# synthetic data


KINDS = [
    ("teacher", {}), ("teacher", {"classes": 4}), ("blobs", {"classes": 3}), ("spirals", {}),
    ("spirals", {"classes": 5, "columns": 3}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_synthetic_rows_are_the_same_whoever_asks_and_in_any_order(kind, options, rng):
    data = SyntheticDataset(kind, rows=200, **options)
    again = SyntheticDataset(kind, rows=10**12, **options)
    X, y, w = everything(data)
    order = rng.permutation(200)
    assert w is None and X.shape == (200, len(data.columns)) and np.isfinite(X).all()
    for take in (order, order[:3], np.array([7]), np.arange(50, 60), np.zeros(0, np.int64)):
        for source in (data, again):
            X1, y1, _ = source.take(take)
            assert np.array_equal(X1, X[take]) and np.array_equal(y1, y[take])


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_synthetic_targets(kind, options):
    data = SyntheticDataset(kind, rows=500, **options)
    y = everything(data)[1]
    classes = options.get("classes", 0 if kind == "teacher" else 2)
    if classes:
        assert data.target.classes == tuple(map(str, range(classes))) and y.dtype == np.int64
        assert set(y) == set(range(classes))
    else:
        assert data.target.kind == "values" and y.shape == (500, 1)


def test_synthetic_seeds_and_noise():
    base, other = SyntheticDataset("blobs", seed=0), SyntheticDataset("blobs", seed=1)
    some = np.arange(9)
    assert not np.array_equal(base.take(some)[0], other.take(some)[0])
    X, y, _ = SyntheticDataset("blobs", rows=100, noise=0.0, classes=3).take(np.arange(100))
    assert all(len(np.unique(X[y == c], axis=0)) == 1 for c in range(3))


def test_synthetic_specification():
    data = read_synthetic("blobs,rows=1e3,columns=5,classes=3,noise=0.2,seed=1")
    assert (data.kind, data.n_rows, data.n_columns, data.classes, data.noise, data.seed) == (
        "blobs",
        1000,
        5,
        3,
        0.2,
        1,
    )
    assert read_synthetic("").kind == "teacher" and read_synthetic("spirals").classes == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rings", "kind 'rings': one of teacher, blobs, spirals"),
        ("blobs,row=5", "no 'row': one of rows, columns"),
        ("blobs,rows", "rows='' is not a number"),
        ("blobs,rows=many", "rows='many' is not a number"),
        ("blobs,rows=0", "rows >= 1"),
        ("blobs,noise=-1", "noise >= 0"),
        ("spirals,columns=1", "columns >= 2"),
        ("blobs,classes=1", "at least 2 classes"),
        ("teacher,classes=1", "at least 2 classes"),
        ("blobs,classes=0", "at least 2 classes"),
        ("blobs,rows=inf", "rows='inf' is not a number"),
        ("blobs,noise=nan", "noise"),
    ],
)
def test_wrong_synthetic_specification(text, message):
    with pytest.raises(UserError) as caught:
        read_synthetic(text)
    assert message in str(caught.value)


# targets


@pytest.mark.parametrize(
    ("y", "task", "kind", "classes"),
    [
        (["b", "a", "b"], "auto", "classes", ("a", "b")),
        ([True, False], "auto", "classes", ("False", "True")),
        ([3, 1, 3], "auto", "classes", ("1", "3")),
        ([2.0, 10.0, 2.0], "auto", "classes", ("2", "10")),
        ([0.5, 1.0], "auto", "values", ()),
        ([0.5, 1.0], "classification", "classes", ("0.5", "1")),
        ([3, 1, 3], "regression", "values", ()),
        (np.arange(5 * MAX_CLASSES) % MAX_CLASSES, "auto", "classes", tuple(map(str, range(MAX_CLASSES)))),
        (np.arange(5 * MAX_CLASSES + 5) % (MAX_CLASSES + 1), "auto", "values", ()),
        (np.arange(100) % 21, "auto", "values", ()),  # fewer than five rows of each
        (np.arange(105) % 21, "auto", "classes", tuple(map(str, range(21)))),
        (np.arange(20), "auto", "classes", tuple(map(str, range(20)))),
        (np.arange(MAX_CLASSES + 1), "classification", "classes", tuple(map(str, range(MAX_CLASSES + 1)))),
        ([[0, 1], [1, 1]], "auto", "labels", ()),
        ([[0, 1], [1, 1]], "regression", "values", ()),
        ([[0.5, 1], [1, 1]], "auto", "values", ()),
        ([[1], [2]], "auto", "classes", ("1", "2")),
    ],
)
def test_what_a_target_is(y, task, kind, classes):
    y = np.array(y)
    names = tuple("pq"[: 1 if y.ndim == 1 else y.shape[1]])
    target, _ = infer_target(y, names, "data", task=task)
    assert target == Target(kind, names, classes) and str(target)


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        ([1, 1], "auto", "one class only (1)"),
        ([], "auto", "one class only (none)"),
        ([0.0, np.nan, 1.0], "auto", "row 1 (from 0): the target is nan"),
        ([0.5, np.nan], "classification", "row 1 (from 0)"),
        (["a", "b"], "regression", "a regression needs numbers"),
        ([["a", "b"]], "auto", "must be numbers"),
        (np.zeros((2, 2, 2)), "auto", "shape (2, 2, 2)"),
        (np.zeros((2, 0)), "auto", "shape (2, 0)"),
    ],
)
def test_a_target_that_is_none(y, task, message):
    with pytest.raises(UserError) as caught:
        infer_target(np.array(y), ("y",), "data", task=task)
    assert message in str(caught.value)


def test_columns_by_name_and_number():
    assert parse_columns("b, 0,-1", ["a", "b", "c"], "f") == [1, 0, 2]
    assert parse_columns("-1", [], "f", 4) == [3]


# splits


@examples(300)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=12),
    st.sampled_from([0.0, 0.02, 0.1, 0.25, 0.5]),
    st.sampled_from([0.0, 0.02, 0.2, 1 / 3]),
    st.integers(0, 3),
)
def test_a_stratified_split_is_disjoint_complete_and_true_to_one_row(counts, validation, test, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    y = np.random.default_rng(seed).permutation(np.append(y, [0, len(counts) - 1]))
    try:
        parts = split(of_classes(y), validation=validation, test=test, seed=seed)
    except UserError:  # a part without rows
        return
    rows = [np.zeros(0, np.int64) if part is None else members(part) for part in parts]
    assert np.array_equal(np.sort(np.concatenate(rows)), np.arange(len(y)))
    for part, fraction, off in zip(rows, (1 - validation - test, validation, test), (2, 1, 1), strict=True):
        assert np.array_equal(part, np.sort(part))
        assert abs(len(part) - fraction * len(y)) < 1 + 1e-9
        wanted = fraction * np.bincount(y)
        assert (abs(np.bincount(y[part], minlength=len(wanted)) - wanted) < off + 1e-9).all()


@pytest.mark.parametrize("limit", [splitting.STRATIFY_LIMIT, 10])
def test_splits_follow_from_the_seed(monkeypatch, limit):
    monkeypatch.setattr(splitting, "STRATIFY_LIMIT", limit)
    data = of_classes(np.arange(90) % 3)
    one, same, other = (split(data, validation=0.1, test=0.2, seed=s) for s in (1, 1, 2))
    for i in range(3):
        assert np.array_equal(members(one[i]), members(same[i]))
        assert set(members(one[i])) != set(members(other[i]))


@pytest.mark.parametrize("kind", ["values", "classes beyond the limit"])
@pytest.mark.parametrize(
    ("n", "counts"), [(100, (70, 10, 20)), (101, (71, 10, 20)), (11, (8, 1, 2)), (1797, (1258, 180, 359))]
)
def test_a_split_by_permutation(monkeypatch, kind, n, counts):
    monkeypatch.setattr(splitting, "STRATIFY_LIMIT", 10)
    data = of_classes(np.arange(n) % 2)
    if kind == "values":
        data = ArrayDataset(np.zeros((n, 1)), np.linspace(0, 1, n), Target("values", ("y",)))
    parts = split(data, validation=0.1, test=0.2)
    assert tuple(part.n_rows for part in parts) == counts
    assert sorted(np.concatenate([members(part) for part in parts])) == list(range(n))


@pytest.mark.parametrize("limit", [splitting.STRATIFY_LIMIT, 10])
def test_rows_between_are_the_rows_of_the_subset_in_order(monkeypatch, limit):
    monkeypatch.setattr(splitting, "STRATIFY_LIMIT", limit)
    data = of_classes(np.arange(57) % 4)
    for part in (*split(data, validation=0.3, test=0.2), Subset(data)):
        inside = np.sort(members(part))
        for lo, hi in [(0, 57), (0, 1), (10, 10), (13, 40), (56, 57)]:
            assert np.array_equal(part.rows_between(lo, hi), inside[(inside >= lo) & (inside < hi)])


def test_without_fractions_all_rows_train():
    train, validation, test = split(of_classes([0, 1, 0]))
    assert members(train).tolist() == [0, 1, 2] and validation is None and test is None


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [(-0.1, 0.2, "at least 0"), (0.1, -0.2, "at least 0"), (0.5, 0.5, "leave something"), (1.0, 0.0, "leave something"),
     (0.001, 0.0, "validation fraction of 0.001 of 20 rows is no row"), (0.0, 0.001, "test fraction"),
     (0.49, 0.5, "no rows are left"), (float("nan"), 0.1, "fractions")],
)  # fmt: skip
def test_bad_fractions(validation, test, message):
    with pytest.raises(UserError, match=message):
        split(of_classes(np.arange(20) % 2), validation=validation, test=test)


# preprocessing


@pytest.mark.parametrize("impute", ["mean", "zero"])
@pytest.mark.parametrize("scaling", ["standardize", "minmax", "none"])
def test_preprocessing_equals_that_of_scikit_learn(scaling, impute):
    data = mixed()
    rows = np.sort(np.random.default_rng(1).permutation(300)[:200])
    fitted = fit_preprocessor(Subset(data, rows), SERIAL, scaling=scaling, impute=impute)
    ours = everything(Prepared(Subset(data), fitted, np.float64))[0]
    X = everything(data)[0]
    numbers, codes = X[:, [0, 2, 3, 5]], X[:, [1, 4]]
    fill = {"strategy": "mean"} if impute == "mean" else {"strategy": "constant", "fill_value": 0.0}
    theirs = SimpleImputer(**fill).fit(numbers[rows]).transform(numbers)
    if scaling != "none":
        scaler = StandardScaler() if scaling == "standardize" else MinMaxScaler()
        theirs = scaler.fit(numbers[rows]).transform(theirs)
    holes = MissingIndicator(features="missing-only").fit(numbers[rows]).transform(numbers)
    encoder = OneHotEncoder(categories=[[0, 1, 2, 9], [0, 1, 9]], sparse_output=False)
    hot = encoder.fit_transform(np.where(np.isnan(codes), 9, codes))
    np.testing.assert_allclose(ours, np.hstack([theirs, holes, hot]), rtol=1e-12, atol=1e-12)


def test_the_target_is_standardised_by_the_training_rows():
    data, rows = mixed(), np.arange(0, 300, 2)
    y = everything(data)[1]
    for scaled in (True, False):
        fitted = fit_preprocessor(Subset(data, rows), SERIAL, scale_target=scaled)
        ours = everything(Prepared(Subset(data), fitted, np.float64))[1]
        theirs = StandardScaler().fit(y[rows]).transform(y) if scaled else y
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_auto_is_minmax_for_images_else_standardize():
    X = np.array([[0, 10], [255, 30], [51, 20]])
    for dtype, scaler in ((np.uint8, MinMaxScaler()), (np.int32, StandardScaler()), (np.float32, StandardScaler())):
        rows = prepared(X.astype(dtype), np.array([0.1, 0.2, 0.3]), scaling="auto")
        np.testing.assert_allclose(everything(rows)[0], scaler.fit_transform(X.astype(float)), rtol=1e-12, atol=1e-12)


def test_no_rows_of_images_can_be_the_first_that_are_taken():
    """As a rank does that has none of a batch."""
    rows = prepared(np.arange(12, dtype=np.uint8).reshape(4, 3), np.array([0.1, 0.2, 0.3, 0.4]), scaling="auto")
    assert rows.take(np.zeros(0, np.int64), out=np.empty((0, 3)))[0].shape == (0, 3)


@pytest.mark.parametrize("fit", [fit_weighted, fit_values])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_fit_gives_the_same_bits_on_any_number_of_threads(monkeypatch, fit, size):
    monkeypatch.setattr(moments, "BLOCK_ELEMENTS", 1)
    one = fit(SERIAL)
    assert all(many == one for many in run_threads(size, fit))


def test_blocks_do_not_change_the_fit(monkeypatch):
    whole = fit_values(SERIAL)
    monkeypatch.setattr(moments, "BLOCK_ELEMENTS", 1)
    parts = fit_values(SERIAL)
    for key in ("shift", "scale", "fill", "target_shift", "target_scale"):
        np.testing.assert_allclose(parts[key], whole[key], rtol=1e-12)


def test_a_block_without_training_rows(monkeypatch):
    monkeypatch.setattr(moments, "BLOCK_ELEMENTS", 1)
    X = np.random.default_rng(0).normal(size=(257, 2))
    data = ArrayDataset(X, X[:, 0], Target("values", ("y",)))
    fitted = fit_preprocessor(Subset(data, np.arange(256)), SERIAL)
    np.testing.assert_allclose(fitted.shift, X[:256].mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("scaling", ["standardize", "minmax"])
@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 0.3, 1e6 + 0.1, -1e-9])
@pytest.mark.parametrize("n", [10, 100, 1000])
def test_a_constant_column_and_target_become_zero(scaling, value, n):
    data = ArrayDataset(np.full((n, 1), value), np.full(n, value), Target("values", ("y",)))
    fitted = fit_preprocessor(Subset(data), SERIAL, scaling=scaling)
    assert fitted.scale == [1.0] and fitted.target_scale == [1.0]
    X, y, _ = everything(Prepared(Subset(data), fitted, np.float64))
    np.testing.assert_allclose(np.hstack([X, y]), 0.0, atol=1e-15 * max(1.0, abs(value)))


@pytest.mark.parametrize("scaling", ["standardize", "minmax", "none"])
@pytest.mark.parametrize("impute", ["mean", "zero"])
def test_an_all_missing_column_becomes_zero(scaling, impute):
    X = np.column_stack([np.arange(4.0), np.full(4, np.nan)])
    rows = prepared(X, np.arange(4) / 3, scaling=scaling, impute=impute)
    assert everything(rows)[0][:, 1].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("impute", ["mean", "zero"])
def test_an_infinite_number_is_a_missing_one(impute):
    """It would be the loss of every row of its batch."""
    missing, infinite = np.arange(12.0).reshape(6, 2), np.arange(12.0).reshape(6, 2)
    missing[[1, 3], [0, 1]], infinite[[1, 3], [0, 1]] = np.nan, (np.inf, -np.inf)
    both = [
        everything(prepared(X, np.arange(6) / 5, scaling="standardize", impute=impute)) for X in (missing, infinite)
    ]
    assert np.array_equal(both[0][0], both[1][0]) and np.isfinite(both[1][0]).all()


@pytest.fixture
def write(tmp_path):
    """Write a table; its path."""

    def run(name, text):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return run


COLOURS = "colour,size,y\n" + "".join(f"{'red' if i % 3 else 'blue'},{i},{i % 2}\n" for i in range(30))


def as_trained(train, text, write, **options):
    """Rows of another table as a network trained on the first one sees them."""
    data = load(write("train.csv", train), **options)
    other, _ = open_dataset(write("other.csv", text), TableOptions(target=""))
    return data, everything(Prepared(Subset(other), data.preprocessor, np.float64))[0]


def test_a_category_unknown_in_training_is_all_zeros(write):
    data, X = as_trained(COLOURS, "colour,size\nred,1\ngreen,1\nblue,1\n,1\n", write)
    assert X[:, 1:].tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]] and data.preprocessor.n_inputs == 3


def test_a_category_of_the_other_parts_alone_gets_no_input():
    data = mixed(texts=("red", "green", "blue"))
    codes = everything(data)[0][:, 1]
    fitted = fit_preprocessor(Subset(data, np.flatnonzero(codes != 1)), SERIAL)
    assert fitted.columns[1] == ("c", ["red", "blue"])


def test_columns_are_matched_by_name(write):
    _, X = as_trained(COLOURS, "colour,size\nred,7\nblue,8\n", write)
    _, other = as_trained(COLOURS, "more,size,colour\n1,7,red\n2,8,blue\n", write)
    assert np.array_equal(X, other)


def test_unnamed_columns_are_matched_by_position(write):
    train = "".join(f"{i},{i * i % 7},{i % 2}\n" for i in range(20))
    _, X = as_trained(train, "p,q\n3,4\n5,6\n", write)
    _, other = as_trained(train, "3,4\n5,6\n", write)
    assert np.array_equal(X, other)


def test_missing_columns_are_an_error(write):
    with pytest.raises(UserError, match="trained on 2 columns; without colour here are 2: other, size"):
        as_trained(COLOURS, "other,size\nred,7\nblue,8\n", write)


def test_categories_that_look_numeric_are_known_again(write):
    """The model knows that they are categories; who predicts need not say so again."""
    train = "zip,size,y\n" + "".join(f"{i % 3 + 5},{i},{i % 2}\n" for i in range(30))
    data = load(write("train.csv", train), options=TableOptions(categorical="zip"))
    other, _ = open_dataset(
        write("other.csv", "zip,size\n5,1\n7,2\n9,2\n"),
        TableOptions(target="", columns_like=data.train.columns),
    )
    X = everything(Prepared(Subset(other), data.preprocessor, np.float64))[0]
    assert X[:, 1:].tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_text_where_the_training_rows_had_numbers_is_an_error(write):
    with pytest.raises(UserError, match="size"):
        as_trained(COLOURS, "colour,size\nred,small\nblue,large\n", write)


def test_balanced_class_weights_equal_those_of_scikit_learn(rng):
    y = rng.choice(4, 500, p=[0.6, 0.25, 0.1, 0.05])
    rows = prepared(rng.normal(size=(500, 2)), y, class_weight="balanced")
    w = everything(rows)[2]
    theirs = compute_class_weight("balanced", classes=np.arange(4), y=y)[y]
    np.testing.assert_allclose(w, theirs / theirs.mean(), rtol=1e-12)
    np.testing.assert_allclose([w.mean(), w[y == 3].sum()], [1.0, 125.0], rtol=1e-12)


def test_sample_weights_have_mean_one_over_the_training_rows(rng):
    given_weights = rng.uniform(0.1, 9, 200)
    for y, extra in ((rng.normal(size=200), {}), (rng.integers(0, 3, 200), {"class_weight": "balanced"})):
        w = everything(prepared(rng.normal(size=(200, 2)), y, weights=given_weights, **extra))[2]
        np.testing.assert_allclose(w.mean(), 1.0, rtol=1e-12)
    assert everything(prepared(rng.normal(size=(9, 2)), rng.normal(size=9)))[2] is None


def test_wrong_options_of_the_preprocessing():
    data = mixed()
    with pytest.raises(UserError, match="class weights need a target of classes"):
        fit_preprocessor(Subset(data), SERIAL, class_weight="balanced")
    with pytest.raises(ValueError, match="unknown scaling"):
        fit_preprocessor(Subset(data), SERIAL, scaling="log")
    with pytest.raises(UserError, match="sum to zero"):
        prepared(np.eye(3), [0, 1, 2], weights=np.zeros(3))
    nothing = ArrayDataset(np.full((3, 1), np.nan), np.arange(3.0), columns=(Column("c", ("a",)),))
    with pytest.raises(UserError, match="no usable input column"):
        fit_preprocessor(Subset(nothing), SERIAL)


def test_a_preprocessor_survives_json():
    data = mixed()
    fitted = fit_preprocessor(Subset(data), SERIAL)
    text = json.dumps(fitted.as_dict())
    back = Preprocessor(**json.loads(text))
    assert json.dumps(back.as_dict()) == text and back.n_inputs == fitted.n_inputs == 15
    one, two = (everything(Prepared(Subset(data), p, np.float32)) for p in (fitted, back))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])


def test_rows_prepared_at_once_or_as_they_are_taken_are_the_same(monkeypatch):
    data = mixed()
    fitted = fit_preprocessor(Subset(data), SERIAL)
    at_once = Prepared(Subset(data), fitted, np.float32)
    monkeypatch.setattr("distbp.data.prepared._MATERIALISE_BYTES", 0)
    later = Prepared(Subset(data), fitted, np.float32)
    some = np.array([5, 2, 9])
    for one, two in zip(at_once.take(some)[:2], later.take(some)[:2], strict=True):
        assert np.array_equal(one, two) and one.dtype == two.dtype == np.float32


# opening and loading


def idx(path, array):
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    content = head + array.astype("u1").tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def idx_folder(folder, *parts, gz=""):
    folder.mkdir()
    for part in parts:
        idx(folder / f"{part}-images-idx3-ubyte{gz}", np.arange(160).reshape(40, 2, 2))
        idx(folder / f"{part}-labels-idx1-ubyte{gz}", np.arange(40) % 2)
    return str(folder)


X40, Y40 = np.arange(160.0).reshape(40, 4), np.arange(40) % 2
CSV40 = "".join(f"{','.join(map(str, x))},{y}\n" for x, y in zip(X40.tolist(), Y40.tolist(), strict=True))


def make(form, folder):
    """The same 40 rows in each format, alone or with a test set of 40 rows."""
    match form:
        case "csv" | "data" | "txt" | "tsv":
            (folder / f"a.b.{form}").write_text(CSV40.replace(",", "\t") if form == "tsv" else CSV40)
            return str(folder / f"a.b.{form}")
        case "csv.gz":
            (folder / "a.csv.gz").write_bytes(gzip.compress(CSV40.encode()))
            return str(folder / "a.csv.gz")
        case "npy":
            np.save(folder / "a.npy", np.column_stack([X40, Y40]))
            return str(folder / "a.npy")
        case "npy pair":
            np.save(folder / "x.npy", X40)
            np.save(folder / "y.npy", Y40)
            return f"{folder / 'x.npy'},{folder / 'y.npy'}"
        case "npz":
            np.savez(folder / "a.npz", X=X40, y=Y40)
            return str(folder / "a.npz")
        case "npz with test":
            np.savez(folder / "b.npz", X_train=X40, y_train=Y40, X_test=X40, y_test=Y40)
            return str(folder / "b.npz")
        case "idx":
            return idx_folder(folder / "idx", "train")
        case "idx.gz":
            return idx_folder(folder / "idx", "t10k", gz=".gz")
        case "idx with test":
            return idx_folder(folder / "idx", "train", "t10k")
        case "idx pair":
            path = Path(idx_folder(folder / "idx", "train"))
            return f"{path / 'train-images-idx3-ubyte'},{path / 'train-labels-idx1-ubyte'}"
    raise AssertionError(form)


FORMS = ["csv", "data", "txt", "tsv", "csv.gz", "npy", "npy pair", "npz", "npz with test", "idx", "idx.gz",
         "idx with test", "idx pair"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_opened(tmp_path, form):
    name = make(form, tmp_path)
    dataset, remarks = open_dataset(name)
    X, y, _ = everything(dataset)
    assert np.array_equal(X, X40) and np.array_equal(y, Y40) and not remarks
    test, _ = open_dataset(name, part="test")
    assert (test is not None) == ("with test" in form)


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_loaded_and_split(tmp_path, form):
    data = load(make(form, tmp_path), validation_fraction=0.1, test_fraction=0.25, dtype=np.float64)
    assert data.target.classes == ("0", "1")
    expected = (36, 4, 40) if "with test" in form else (26, 4, 10)
    assert (data.train.n_rows, data.validation.n_rows, data.test.n_rows) == expected
    X, y, w = everything(data.train)
    fractions = {"validation": 0.1, "test": 0.0 if "with test" in form else 0.25}
    trained = members(split(of_classes(Y40), **fractions)[0])
    scaler = MinMaxScaler() if "idx" in form else StandardScaler()
    np.testing.assert_allclose(X, scaler.fit_transform(X40[trained]), rtol=1e-12, atol=1e-12)
    assert np.array_equal(y, Y40[trained]) and w is None


@pytest.mark.parametrize("form", FORMS)
def test_separate_files_go_before_fractions(tmp_path, form):
    (tmp_path / "other").mkdir()
    name, other = make(form, tmp_path), make(form, tmp_path / "other")
    data = load(name, validation_data=other, test_data=other)
    assert (data.train.n_rows, data.validation.n_rows, data.test.n_rows) == (40, 40, 40)
    for one, two in zip(everything(data.train)[:2], everything(data.test)[:2], strict=True):
        assert np.array_equal(one, two)


def test_synthetic_and_digits_are_loaded():
    data = load("synthetic:blobs,rows=100,columns=3,classes=4")
    assert (data.train.n_rows, data.preprocessor.n_inputs, len(data.target.classes)) == (70, 3, 4)
    data = load()
    assert (data.train.n_rows, data.validation.n_rows, data.test.n_rows) == (1258, 180, 359)
    assert everything(data.train)[0].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere.csv", "no such data: nowhere.csv"), ("digit", "no such data"), ("{}/a.pdf", "what format is this")],
)
def test_data_that_cannot_be_opened(tmp_path, name, message):
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(UserError, match=message):
        open_dataset(name.format(tmp_path))


def test_data_without_a_target_is_not_loaded(write):
    with pytest.raises(UserError, match="no target to learn"):
        load(write("a.csv", COLOURS), options=TableOptions(target=""))


def test_remarks_of_all_files_are_kept(write):
    bad = COLOURS + "red,1\n"
    options = TableOptions(bad_rows="skip")
    data = load(write("a.csv", "b'" + COLOURS), options=options, test_data=write("b.csv", bad))
    assert len(data.remarks) == 2 and "a.csv: removed" in data.remarks[0] and "b.csv: dropped 1" in data.remarks[1]


def test_a_split_without_strata_is_remarked(monkeypatch):
    from distbp.data import loading as module

    monkeypatch.setattr(module, "STRATIFY_LIMIT", 10)
    assert "without strata" in load("synthetic:blobs,rows=50").remarks[0]


# real data


def real(name):
    if not (REAL / name).exists():
        pytest.skip(f"real data is missing: shared/data/{name} beside the repository")
    return str(REAL / name)


def test_california_housing_names_its_stray_line():
    path = real("california-housing.csv")
    with pytest.raises(UserError, match='line 20642: 1 fields where the header has 10: "\'"'):
        load(path, options=TableOptions(target="median_house_value"))


def test_california_housing_without_its_stray_line():
    data = load(real("california-housing.csv"), options=TableOptions(target="median_house_value", bad_rows="skip"))
    assert data.train.n_rows + data.validation.n_rows + data.test.n_rows == 20640
    assert data.preprocessor.n_inputs == 14 and data.target == Target("values", ("median_house_value",))
    assert len(data.remarks) == 2 and "stray b'" in data.remarks[0] and "dropped 1 bad rows" in data.remarks[1]
    X, y, _ = everything(data.train)
    assert np.isfinite(X).all() and np.isfinite(y).all()


def test_mnist10k_is_split_by_classes():
    data = load(real("mnist10k"), validation_fraction=0.0, test_fraction=0.2)
    assert (data.train.n_rows, data.test.n_rows, data.validation) == (8000, 2000, None)
    X, y, _ = everything(data.train)
    whole = np.bincount(np.append(y, everything(data.test)[1]))
    assert X.shape == (8000, 784) and X.min() == 0.0 and X.max() == 1.0
    assert (abs(np.bincount(y) - 0.8 * whole) < 1).all()


def test_data_without_a_column_is_refused(tmp_path):
    np.savez(tmp_path / "z.npz", X=np.zeros((50, 0)), y=np.arange(50) % 2)
    with pytest.raises(UserError, match="has no columns"):
        load(tmp_path / "z.npz")


# rows that the ranks of a host have once


def test_ranks_of_a_host_prepare_rows_together(monkeypatch, tmp_path):
    """Each prepares some blocks; all have the rows of one process, to the bit, and once."""
    monkeypatch.setattr(resident, "FOLDER", tmp_path)
    monkeypatch.setattr(prepared_module, "_BLOCK_BYTES", 8 * 64 * 10)
    alone = load("digits", scaling="none")

    def rows(comm):
        data = load("digits", scaling="none", comm=comm)
        for mine, whole in ((data.train, alone.train), (data.validation, alone.validation), (data.test, alone.test)):
            for a, b in zip(everything(mine), everything(whole), strict=True):
                np.testing.assert_array_equal(a, b)
        comm.barrier()
        data.train._ready[0][comm.rank, 0] = 200 + comm.rank
        comm.barrier()
        return data.train._ready[0][:3, 0].tolist()

    assert run_threads(3, rows) == [[200, 201, 202]] * 3


def test_a_row_that_cannot_be_prepared_is_an_error_on_all_ranks(monkeypatch, tmp_path):
    """One rank meets it, in its blocks; the others do not wait for that rank."""
    monkeypatch.setattr(resident, "FOLDER", tmp_path)
    monkeypatch.setattr(prepared_module, "_BLOCK_BYTES", 8 * 64 * 10)
    transform = Preprocessor.transform

    def fails(self, X, *more):
        if len(X) and (X == 12345.0).any():
            raise UserError("row 1: no")
        return transform(self, X, *more)

    monkeypatch.setattr(Preprocessor, "transform", fails)
    X = np.random.default_rng(0).random((200, 64))
    X[190, 3] = 12345.0

    def errors(comm):
        with pytest.raises(UserError, match="row 1"):
            load(X, X[:, 0] > 0.5, comm=comm, validation_fraction=0.0, test_fraction=0.0)

    run_threads(3, errors)
