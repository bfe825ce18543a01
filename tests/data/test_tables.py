"""CSV files as they are found in the wild."""

import csv
import gzip

import numpy as np
import pytest
from grids import examples
from hypothesis import given
from hypothesis import strategies as st

from distbp import UserError
from distbp.data.dataset import Target
from distbp.data.table import columns, inputs
from distbp.data.table.conversion import read_table
from distbp.data.table.kinds import MISSING

PLAIN = "a,b,y\n1,2,0\n3,4,1\n5,6,0\n"


@pytest.fixture
def read(tmp_path):
    """Write a table and read it: the data set and the remarks."""

    def run(content, name="t.csv", **options):
        content = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return read_table(path, **options)

    return run


def everything(dataset):
    return dataset.take(np.arange(dataset.n_rows))


def names(dataset):
    return [column.name for column in dataset.columns]


@pytest.mark.parametrize(
    ("header", "text", "expected", "n"),
    [
        ("auto", PLAIN, ["a", "b"], 3),
        ("auto", "1,2,0\n3,4,1\n", ["0", "1"], 2),
        ("auto", "a,2,y\n1,2,0\n3,4,1\n", ["a", "2"], 2),
        ("yes", "7,8,9\n1,2,0\n3,4,1\n", ["7", "8"], 2),
        ("no", "1,2,0\n3,4,1\n", ["0", "1"], 2),
        ("no", "u,2,p\nv,4,q\n", ["0", "1"], 2),
    ],
)
def test_header(read, header, text, expected, n):
    dataset, remarks = read(text, header=header)
    assert (names(dataset), dataset.n_rows, remarks) == (expected, n, [])


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PLAIN, "t.csv"),
        (PLAIN, "t.csv.gz"),
        (PLAIN.replace(",", ";"), "t.csv"),
        (PLAIN.replace(",", "\t"), "t.tsv"),
        (PLAIN.replace("\n", "\r\n"), "t.csv"),
        (PLAIN.rstrip("\n"), "t.csv"),
        (PLAIN.replace("\n", "\n\n"), "t.csv"),
        (PLAIN.replace(",", " , "), "t.csv"),
        (PLAIN.replace("a,b", '"a","b"').replace("4", '"4"'), "t.csv"),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "t.csv"),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "t.csv.gz"),
        (b'\xef\xbb\xbf"a"' + PLAIN[1:].encode(), "t.csv"),
    ],
)
def test_every_way_to_write_the_same_table(read, content, name):
    dataset, remarks = read(content, name)
    X, y, w = everything(dataset)
    assert names(dataset) == ["a", "b"] and not remarks and w is None
    assert X.tolist() == [[1, 2], [3, 4], [5, 6]] and y.tolist() == [0, 1, 0]
    assert dataset.target == Target("classes", ("y",), ("0", "1"))


def test_quotes_hide_separators_quotes_and_line_ends(read):
    dataset, _ = read('t,y\n"x, y",0\n"say ""hi""",1\n"two\nlines",1\n')
    assert dataset.columns[0].categories == ('say "hi"', "two\nlines", "x, y")


def test_line_numbers_count_line_ends_within_quotes(read):
    with pytest.raises(UserError, match="line 4"):
        read('t,y\n"two\nlines",0\nx,1,1\n')


@pytest.mark.parametrize("text", sorted(MISSING | {word.upper() for word in MISSING} | {" ", " NaN "}))
def test_missing_values(read, text):
    dataset, _ = read(f"a,c,y\n1,u,0\n{text},{text},1\n3,v,0\n")
    X = everything(dataset)[0]
    assert np.array_equal(X, [[1, 0], [np.nan, np.nan], [3, 1]], equal_nan=True)
    assert dataset.columns[1].categories == ("u", "v")


def test_an_all_missing_column_is_numeric(read):
    assert names(read("a,b,y\n,1,0\n,2,1\n")[0]) == ["b"]
    dataset, _ = read("a,b,y\n,1,0\n,2,1\n", keep_columns="a")
    assert np.isnan(everything(dataset)[0][:, 0]).all() and dataset.columns[0].categories is None


def test_categories_are_sorted_and_numbered(read):
    dataset, _ = read("c,x,y\nred,1,0\nblue,2,1\nred,3,0\n")
    assert dataset.columns[0].categories == ("blue", "red")
    assert everything(dataset)[0][:, 0].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("target", "inputs", "of"),
    [(None, ["a", "b"], "y"), ("y", ["a", "b"], "y"), ("a", ["b", "y"], "a"), ("0", ["b", "y"], "a"),
     ("-2", ["a", "y"], "b"), ("2", ["a", "b"], "y")],
)  # fmt: skip
def test_target_by_name_or_number(read, target, inputs, of):
    dataset, _ = read(PLAIN, target=target)
    assert names(dataset) == inputs and dataset.target.names == (of,)


@pytest.mark.parametrize("target", ["a,b", "0,1", "a, -2"])
def test_several_target_columns(read, target):
    dataset, _ = read(PLAIN, target=target)
    assert dataset.target == Target("values", ("a", "b")) and names(dataset) == ["y"]
    assert everything(dataset)[1].tolist() == [[1, 2], [3, 4], [5, 6]]


def test_several_columns_of_zeros_and_ones_are_labels(read):
    assert read("x,p,q\n1,0,1\n2,1,1\n", target="p,q")[0].target.kind == "labels"


def test_without_a_target(read):
    dataset, _ = read(PLAIN, target="")
    assert dataset.target is None and everything(dataset)[1] is None and names(dataset) == ["a", "b", "y"]


def test_text_target(read):
    dataset, _ = read("a,y\n1,no\n2,yes\n3,no\n")
    assert dataset.target.classes == ("no", "yes") and everything(dataset)[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize("ignore", ["a", "0", "-3"])
def test_ignored_columns(read, ignore):
    assert names(read(PLAIN, ignore=ignore)[0]) == ["b"]


def test_categorical_columns_that_look_numeric(read):
    dataset, _ = read("zip,x,y\n10,1,0\n9,2,1\n10,3,0\n", categorical="zip")
    assert dataset.columns[0].categories == ("10", "9") and dataset.columns[1].categories is None


def test_sample_weights(read):
    dataset, _ = read("a,w,y\n1,0.5,0\n2,2,1\n", weight="w")
    assert names(dataset) == ["a"] and everything(dataset)[2].tolist() == [0.5, 2]


@pytest.mark.parametrize("value", ["-1", "", "inf", "text"])
def test_bad_sample_weight(read, value):
    with pytest.raises(UserError):
        read(f"a,w,y\n1,0.5,0\n2,{value},1\n3,1,0\n", weight="w")


def test_sample_weights_must_be_numbers(read):
    with pytest.raises(UserError, match="w"):
        read("a,w,y\n1,low,0\n2,high,1\n", weight="w")


@pytest.mark.parametrize("stray", ["b'", 'b"'])
def test_a_stray_b_before_the_header_is_removed(read, stray):
    dataset, remarks = read(stray + PLAIN)
    assert names(dataset) == ["a", "b"]
    assert remarks == [f"t.csv: removed a stray {stray} before the header"]


BAD = {
    "too few fields": ("3,4", "line 3", "2 fields where the header has 3", "'3,4'"),
    "too many fields": ("3,4,1,9", "line 3", "4 fields where the header has 3", "'3,4,1,9'"),
    "text in a numeric column": ("oops,4,1", "line 3", "column 'a' is numeric", "'oops,4,1'"),
    "no target": ("3,4,", "line 3", "the target 'y' is missing", "'3,4,'"),
    "NA as target": ("3,4,NA", "line 3", "the target 'y' is missing", "'3,4,NA'"),
    "a long row": ("3,4," + "x" * 99, "line 3", "x...'", "column 'y' is numeric"),
}


@pytest.mark.parametrize(("row", "parts"), [(v[0], v[1:]) for v in BAD.values()], ids=BAD)
def test_a_bad_row_is_an_error_that_names_line_and_content(read, row, parts):
    with pytest.raises(UserError) as caught:
        read(f"a,b,y\n1,2,0\n{row}\n5,6,0\n7,8,1\n")
    assert all(part in str(caught.value) for part in ("t.csv", "--bad-rows skip", *parts))


@pytest.mark.parametrize("row", [v[0] for v in BAD.values()], ids=BAD)
def test_bad_rows_are_dropped_and_counted_on_request(read, row):
    dataset, remarks = read(f"a,b,y\n1,2,0\n{row}\n5,6,0\n{row}\n7,8,1\n", bad_rows="skip")
    assert everything(dataset)[0].tolist() == [[1, 2], [5, 6], [7, 8]]
    assert len(remarks) == 1 and "dropped 2 bad rows, the first line 3" in remarks[0]


def test_a_row_bad_in_two_ways_counts_once(read):
    _, remarks = read("a,b,y\n1,2,0\nx,y,\n5,6,0\n7,8,1\n", bad_rows="skip")
    assert "dropped 1 bad rows" in remarks[0]


ERRORS = {
    "one class only": (b"a,y\n1,0\n2,0\n", {}, "one class only (0)"),
    "one class of text": (b"a,y\n1,no\n2,no\n", {}, "one class only (no)"),
    "unknown target": (PLAIN.encode(), {"target": "z"}, "no column 'z'; it has a, b, y"),
    "target number too large": (PLAIN.encode(), {"target": "3"}, "no column '3'"),
    "target --3": (PLAIN.encode(), {"target": "--3"}, "no column '--3'"),
    "target with a superscript": (PLAIN.encode(), {"target": "\u00b2"}, "no column '\u00b2'"),
    "unknown ignore": (PLAIN.encode(), {"ignore": "z"}, "no column 'z'"),
    "unknown categorical": (PLAIN.encode(), {"categorical": "z"}, "no column 'z'"),
    "unknown weight": (PLAIN.encode(), {"weight": "z"}, "no column 'z'"),
    "duplicate names": (b"a,a,y\n1,2,0\n", {}, "two columns are called 'a'"),
    "empty": (b"", {}, "the table is empty"),
    "blank": (b"\n  \n", {}, "every line is blank"),
    "header only": (b"a,y\n", {}, "no rows"),
    "all rows bad": (b"a,y\n1\n2\n", {"bad_rows": "skip"}, "no rows"),
    "not UTF-8": (b"a,y\n\xff\xfe,1\n", {}, "UTF-8"),
    "no input": (b"y\n1\n2\n", {}, "no input column"),
    "all ignored": (PLAIN.encode(), {"ignore": "a,b"}, "no input column"),
    "text for a regression": (b"a,y\n1,no\n2,yes\n", {"task": "regression"}, "a regression needs numbers"),
    "text in several targets": (b"a,p,q\n1,no,1\n2,yes,2\n", {"target": "p,q"}, "must be numbers"),
}


@pytest.mark.parametrize(("content", "options", "message"), ERRORS.values(), ids=ERRORS)
def test_errors_say_what_is_wrong(read, content, options, message):
    with pytest.raises(UserError) as caught:
        read(content, **options)
    assert message in str(caught.value) and "t.csv" in str(caught.value)


@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: c[:15], lambda c: b"a,y\n1,0\n"])
def test_a_damaged_gz_is_an_error(tmp_path, damage):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(damage(gzip.compress(PLAIN.encode() * 50)))
    with pytest.raises(UserError, match="not a whole table of text"):
        read_table(path)


def test_too_many_categories_are_left_out(read, monkeypatch):
    monkeypatch.setattr(inputs, "MANY", 30)
    table = "c,x,y\n" + "".join(f"p{i},{i},{i % 2}\n" for i in range(25))
    dataset, _ = read(table)
    assert names(dataset) == ["x"] and "left out: c (different in every row)" in dataset.summary
    assert names(read(table + "p1,4,0\n")[0]) == ["c", "x"]
    more = table + "".join(f"p{i},{i},{i % 2}\n" for i in range(25, 40)) + "p1,4,0\n"
    monkeypatch.setattr(columns, "MANY", 30)
    assert "left out: c (more than 30 different texts)" in read(more)[0].summary


def test_a_numeric_target_where_classes_were_text(read):
    trained, _ = read("a,y\n1,no\n2,yes\n")
    with pytest.raises(UserError, match="none of the classes.*no, yes"):
        read("a,y\n1,0\n2,1\n", like=trained.target)


TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs", "Cc"]), st.just("\n")), max_size=5).map("t".__add__)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def written_tables(draw):
    kinds = draw(st.lists(st.sampled_from([NUMBERS, TEXTS]), min_size=1, max_size=4))
    row = st.tuples(*(st.none() | kind for kind in kinds), NUMBERS)
    return [kind is TEXTS for kind in kinds], draw(st.lists(row, min_size=1, max_size=9))


@examples(150)
@given(written_tables(), st.sampled_from([",", ";", "\t"]))
def test_what_csv_writes_is_read_back(tmp_path_factory, table, separator):
    is_text, rows = table
    kept = ",".join(f"c{i}" for i in range(len(is_text)))
    path = tmp_path_factory.mktemp("table") / "t.csv"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, delimiter=separator)
        writer.writerows([[*(f"c{i}" for i in range(len(is_text))), "y"], *rows])
    dataset, remarks = read_table(path, task="regression", compact=False, keep_columns=kept)
    X, y, _ = everything(dataset)
    assert not remarks and y[:, 0].tolist() == [row[-1] for row in rows]
    for i, (column, text) in enumerate(zip(dataset.columns, is_text, strict=True)):
        back = [None if np.isnan(v) else v for v in X[:, i].tolist()]
        expected = [row[i] for row in rows]
        if text and column.categories:
            back = [None if v is None else column.categories[int(v)] for v in back]
            expected = [None if v is None else v.strip() for v in expected]
        assert back == expected


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_header_of_several_lines_is_skipped_as_a_whole(tmp_path, mark):
    """Also where a mark of the encoding stands before its quote, and where a bad row says its line."""
    rows = "".join(f"{i};{i % 3};{'ab'[i % 2]}\n" for i in range(40))
    path = tmp_path / "t.csv"
    path.write_text(f'{mark}"price\n(EUR;\n""net"")";"n\n";y\n{rows}oops;1;a\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"line 45: column 'price \(EUR; \"net\"\)' is numeric"):
        read_table(path)
    dataset, _ = read_table(path, bad_rows="skip")
    assert dataset.n_rows == 40 and dataset.take(np.arange(2))[0].tolist() == [[0, 0], [1, 1]]


def test_texts_behind_closing_quotes_are_refused(tmp_path):
    """Of two in a line the library makes a row of the file's own."""
    rows = "".join(f'"{i}";"F";"{"ab"[i % 2]}"\n' for i in range(30))
    (tmp_path / "t.csv").write_text(f'"n";"l";"y"\n{rows}"NA";"True"x;"b"-";"F";"b"\n{rows}')
    with pytest.raises(UserError, match="line 32: texts go on behind closing quotes"):
        read_table(tmp_path / "t.csv", bad_rows="skip")


def test_fields_beyond_the_limit_of_the_csv_module(tmp_path):
    row = 'x "1" ' + "z" * 140_000
    (tmp_path / "t.txt").write_text("".join(f"{i} 2 {'ab'[i % 2]}\n" for i in range(9)) + row + "\n")
    with pytest.raises(UserError, match="line 10"):
        read_table(tmp_path / "t.txt")
