"""How columns are understood: dates, booleans, categories, those from which nothing can be learnt; other formats."""

import json

import duckdb
import numpy as np
import pytest

from distbp import TableOptions, UserError, load
from distbp.data.table.conversion import read_table

ROWS = 60


@pytest.fixture
def read(tmp_path):
    """Write rows as a table and read it: the data set and the remarks."""

    def run(header, row, n=ROWS, **options):
        path = tmp_path / "t.csv"
        path.write_text("\n".join([header, *(row(i) for i in range(n))]) + "\n", encoding="utf-8")
        return read_table(path, **options)

    return run


def inputs(dataset):
    X = dataset.take(np.arange(dataset.n_rows))[0]
    return {column.name: X[:, i] for i, column in enumerate(dataset.columns)}


DATES = {
    "iso": lambda i: f"2024-02-{1 + i % 28:02d}",
    "day first": lambda i: f"{1 + i % 28}.2.2024",
    "month first": lambda i: f"02/{1 + i % 28}/2024",
    "names": lambda i: f"{1 + i % 28}-Feb-2024",
    "year first": lambda i: f"2024/02/{1 + i % 28}",
    "month name first": lambda i: f'"Feb {1 + i % 28}, 2024"',
}


@pytest.mark.parametrize("written", DATES.values(), ids=DATES)
def test_dates_become_numbers(read, written):
    dataset, _ = read("when,x,y", lambda i: f"{written(i)},{i % 7},{i % 2}")
    found = inputs(dataset)
    assert set(found) == {"when (days)", "when (weekday)", "x"}  # year, month and hour do not vary
    days = np.datetime64("2024-02-01") - np.datetime64("1970-01-01") + np.arange(ROWS) % 28
    assert found["when (days)"].tolist() == days.astype(int).tolist()
    assert found["when (weekday)"][:4].tolist() == [4, 5, 6, 7]  # Thursday to Sunday


def test_times_of_several_zones_are_one_clock(read):
    dataset, _ = read(
        "when,x,y", lambda i: f"2024-02-01T{i % 10 + 10}:30:00{'+02:00' if i % 2 else 'Z'},{i % 7},{i % 2}"
    )
    expected = [(i % 10 + 10 - 2 * (i % 2)) + 0.5 for i in range(ROWS)]
    np.testing.assert_allclose(inputs(dataset)["when (hour)"], expected)


def test_a_time_of_day(read):
    dataset, _ = read("at,x,y", lambda i: f"{i % 24}:15,{i % 7},{i % 2}")
    np.testing.assert_allclose(inputs(dataset)["at (hour)"][:3], [0.25, 1.25, 2.25])


def test_a_bad_date_is_a_bad_row(read):
    with pytest.raises(UserError, match="line 3002: column 'when' is a date: 'soon,2,0'"):
        read("when,x,y", lambda i: f"{'soon' if i == 3000 else '2024-02-01'},{i % 7 if i != 3000 else 2},{i % 2}", 3100)


def test_one_value_is_one_category_however_it_is_written(read):
    some, logical = ("1", "1.0", "2", "z"), ("TRUE", "True", "false")
    dataset, _ = read("c,b,x,y", lambda i: f"{some[i % 4]},{logical[i % 3]},{i % 7},{i % 2}", categorical="c")
    assert dataset.columns[0].categories == ("1", "2", "z") and len(dataset.columns[1].categories) == 2


LEFT_OUT = {
    "constant": lambda i: "7",
    "constant text": lambda i: "same",
    "empty": lambda i: "",
    "different in every row": lambda i: f"u{i}x",
    "the same as the target": lambda i: f"k{i % 2}",
}


@pytest.mark.parametrize("why", LEFT_OUT)
def test_columns_from_which_nothing_is_learnt_are_left_out(read, why):
    row = lambda i: f"{LEFT_OUT[why](i)},{i % 7},k{i % 2}"  # noqa: E731
    dataset, _ = read("c,x,y", row)
    assert [column.name for column in dataset.columns] == ["x"]
    assert f"left out: c ({why.removesuffix(' text')})" in dataset.summary
    assert read("c,x,y", row, keep_columns="c")[0].columns[0].name == "c"


@pytest.mark.parametrize(("name", "out"), [("id", True), ("customer_id", True), ("Unnamed: 0", True), ("area", False)])
def test_numbers_that_tell_which_row_it_is(read, name, out):
    dataset, _ = read(f"{name},x,y", lambda i: f"{i * 17 % 61},{i % 7},{i % 2}")
    assert (name in [column.name for column in dataset.columns]) is not out


def test_a_target_of_numbers_is_no_copy_by_chance(read):
    dataset, _ = read("a,x,y", lambda i: f"{i * 1.5},{i % 7},{i * 1.5 + (i == 40)}")
    assert len(dataset.columns) == 2


def test_labels_come_back_as_they_are_written_most(read):
    dataset, remarks = read("x,y", lambda i: f"{i},{('1.0', '1.0', '1', '0')[i % 4]}")
    assert dataset.target.classes == ("0", "1.0")


@pytest.fixture
def files(tmp_path):
    """The same table in several formats: a function from a suffix to a path."""

    def write(suffix):
        path = tmp_path / f"t{suffix}"
        source = (
            f"SELECT i::INT AS a, i / 7 AS b, 'k' || i % 3 AS c, i % 2 = 0 AS d, DATE '2024-01-01' + i::INT AS e,"
            f" CASE WHEN i % 5 > 0 THEN i % 4 END AS f, [i] AS g, i % 2 AS y FROM range({ROWS}) t(i)"
        )
        how = {".parquet": "parquet", ".jsonl": "json", ".json": "json, ARRAY true"}[suffix]
        duckdb.execute(f"COPY ({source}) TO '{path}' (FORMAT {how})")
        return path

    return write


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".json"])
def test_other_formats(files, suffix):
    dataset, _ = read_table(files(suffix))
    found = inputs(dataset)
    assert found["a"].tolist() == list(range(ROWS)) and np.isnan(found["f"]).sum() == ROWS // 5
    np.testing.assert_allclose(found["b"], np.arange(ROWS) / 7, rtol=1e-7)
    assert dict(dataset.left_out)["g"].endswith("no number, text or date") and "e (days)" in found
    assert dataset.target.classes == ("0", "1")
    again, _ = read_table(files(suffix), like=dataset.target, columns_like=dataset.columns)
    for name, values in inputs(again).items():
        assert np.array_equal(values, found[name], equal_nan=True)


def test_a_table_in_several_files(files, tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    content = files(".parquet").read_bytes()
    for k in range(3):
        (folder / f"part-{k}.parquet").write_bytes(content)
    data = load(folder, validation_fraction=0, test_fraction=0)
    assert data.train.n_rows == 3 * ROWS
    assert load(f"{folder}/part-[01].parquet", validation_fraction=0, test_fraction=0).train.n_rows == 2 * ROWS


def test_a_damaged_parquet_file_is_one_line(files):
    path = files(".parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{path.name}: not a whole table"):
        read_table(path)


def test_a_bad_row_of_json_is_named(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [{"x": f"{i}.5" if i != 30 else "oops", "y": i % 2} for i in range(ROWS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="row 31: column 'x' is numeric: 'oops,0'"):
        read_table(path)
    assert read_table(path, bad_rows="skip")[0].n_rows == ROWS - 1


def test_several_texts_are_one_table(tmp_path):
    for k, end in enumerate(("\n", "", "\n")):
        rows = "\n".join(f"{i + 20 * k},{i % 2}" for i in range(20))
        (tmp_path / f"part{k}.csv").write_text(f"x,y\n{rows}{end}")
    data = load(tmp_path / "part?.csv", validation_fraction=0, test_fraction=0)
    assert data.train.n_rows == 60
    assert (
        load([tmp_path / "part0.csv", tmp_path / "part2.csv"], validation_fraction=0, test_fraction=0).train.n_rows
        == 40
    )
    (tmp_path / "part2.csv").write_text("x,y\n1,0\n2,1\noops,1\n")
    with pytest.raises(UserError, match="part2.csv, line 4: column 'x' is numeric"):
        load(tmp_path)
    (tmp_path / "part1.csv").write_text("x,z\n1,0\n2,1\n")
    with pytest.raises(UserError, match="part1.csv: other columns than part0.csv: with z, without y"):
        load(tmp_path)


class Frame:
    """A table of another library, as Arrow's interface has it."""

    def __init__(self, sql):
        self._relation = duckdb.sql(sql)

    def __arrow_c_stream__(self, requested_schema=None):
        return self._relation.__arrow_c_stream__(requested_schema)


def test_a_frame_is_a_table():
    frame = Frame("SELECT i AS a, 'k' || i % 3 AS c, i % 2 AS y FROM range(60) t(i)")
    data = load(frame, options=TableOptions(target="y"))
    assert data.train.n_rows == 42 and data.summary == "2 columns: 1 category (c 3), 1 number"
    other = Frame("SELECT 'k' || i % 4 AS c, i AS a, i % 2 AS y FROM range(8) t(i)")
    assert load(frame, options=TableOptions(target="y"), test_data=other).test.n_rows == 8
    with pytest.raises(UserError, match="a dict is no table"):
        load({"a": 1})


MONEY = ('"$2,100.25"', '"($1,100.50)"')
READ = {
    "separators within fields": ("g,year,y", lambda i: f"a|b{i % 3},{1990 + i % 9},{i % 2}", {"g": 1, "year": 1991}),
    "separators within quotes": ("name,v,y", lambda i: f'"Doe; J{i % 4}","{i}; b",{i % 2}', {"name": 1}),
    "names of rows": ('"a" "b" "y"', lambda i: f'"{i + 1}" {i % 7} {i % 3} "{"nj"[i % 2]}"', {"a": 1, "b": 1}),
    "texts as names of rows": ("a\tb\ty", lambda i: f"Mazda {i}\t{i % 7}.5\t{i % 3}\t{i % 2}", {"a": 1.5, "b": 1}),
    "a separator behind each row": ("v,w,y", lambda i: f"{i},{i % 7},{i % 2},", {"v": 1, "w": 1}),
    "spaces within quotes": ("v name y", lambda i: f'{i} "New York{i % 3}" {i % 2}', {"v": 1, "name": 1}),
    "three decimals": ("kg;y", lambda i: f"0,{109 + i};{i % 2}", {"kg": 0.11}),
    "three decimals beside others": (
        "a;b;y", lambda i: f"0,{i % 9};{1 + i % 9},{125 + i};{i % 2}", {"a": 0.1, "b": 2.126},
    ),
    "thousands beside decimals": ("a;b;y", lambda i: f"{1 + i % 9}.{100 + i};{i % 5},5;{i % 2}", {"a": 2101, "b": 1.5}),
    "negative in parentheses": ("a,y", lambda i: f"{MONEY[i % 2]},{i % 2}", {"a": -1100.5}),
    "negative with a late sign": ("a,y", lambda i: f"{i}.5{'-' * (i % 2)},{i % 2}", {"a": -1.5}),
    "a minus of typesetters": ("a,y", lambda i: f"{chr(0x2212) * (i % 2)}{i}.5,{i % 2}", {"a": -1.5}),
    "day first as in the other column": (
        "a,b,y", lambda i: f"0{1 + i % 9}/02/2023,{13 + i % 9}/02/2023,{i % 2}", {"a (days)": 19390, "b (days)": 19402},
    ),
    "months in capitals": ("a,y", lambda i: f"{1 + i % 28:02d}-JAN-23,{i % 2}", {"a (days)": 19359}),
    "a name that is a value": ("sex,v,y", lambda i: f"{'MF'[i % 2]},{'abc'[i % 3]},{'yn'[i % 2]}", {"sex": 0, "v": 1}),
    "yes in any case": ("f,x,y", lambda i: f"{('Yes', 'yes', 'NO')[i % 3]},{i},{i % 2}", {"f": 1, "x": 1}),
    "identifiers": ("PassengerId,x,y", lambda i: f"{i + 1},{i % 7},{i % 2}", {"x": 1}),
    "an index without a name": (",x,y", lambda i: f"{i * 7 % 61},{i % 7},{i % 2}", {"x": 1}),
    "numbers beyond float32": ("x,y", lambda i: f"{('1e40', '2.5', 'inf')[i % 3]},{i % 2}", {"x": 2.5}),
}  # fmt: skip


@pytest.mark.parametrize(("header", "row", "second"), READ.values(), ids=READ)
def test_what_other_programs_write(read, header, row, second):
    dataset, _ = read(header, row)
    assert dataset.n_rows == ROWS and dataset.target.names == ("y",)
    found = {name: values[1] for name, values in inputs(dataset).items() if name in second or "(" not in name}
    assert found == pytest.approx(second)


def test_a_stray_quote_among_quoted_fields_is_one_bad_row(read):
    row = lambda i: f'"a{i % 4}","{i % 7}","{i % 2}"' if i != 20 else '"3" pipe","7","1"'  # noqa: E731
    with pytest.raises(UserError, match="line 22: a quote opens here"):
        read('"name","qty","y"', row)
    assert read('"name","qty","y"', row, bad_rows="skip")[0].n_rows == ROWS - 1


def test_what_a_model_without_names_predicts_has_none(tmp_path):
    (tmp_path / "t.csv").write_text("".join(f"{'pqr'[i % 3]},{'bc'[i % 2]},{'st'[i % 2]}\n" for i in range(ROWS)))
    dataset, _ = read_table(tmp_path / "t.csv", header="no")
    (tmp_path / "new.csv").write_text("e,x\nq,b\n")
    again, _ = read_table(tmp_path / "new.csv", like=dataset.target, columns_like=dataset.columns, blank_target=True)
    assert again.n_rows == 2


def test_a_target_that_cannot_be_meant(read):
    with pytest.raises(UserError, match="the target 'when' holds dates: name another one, --target COLUMN"):
        read("x,when", lambda i: f"{i},2024-01-{1 + i % 28:02d}")
    assert read("x,when", lambda i: f"{i},2024-01-{1 + i % 3:02d}", task="classification")[0].target.n_outputs == 3
    with pytest.raises(UserError, match=r"one class only .mild.: two are needed; 'None' mean a missing value"):
        read("x,y", lambda i: f"{i},{('None', 'mild')[i % 2]}")


def test_files_of_a_list_may_have_commas_in_their_names(tmp_path):
    paths = [tmp_path / "part 1, old.csv", tmp_path / "part 2, new.csv"]
    for path in paths:
        path.write_text("x,y\n" + "".join(f"{i},{i % 2}\n" for i in range(20)))
    assert load(paths, validation_fraction=0, test_fraction=0).train.n_rows == 40


@pytest.mark.parametrize("task", ["auto", "regression"])
def test_copies_of_a_target_of_numbers_are_left_out(tmp_path, task):
    """Also as fractions, and in the reverse order of the classes; one that differs in a row stays."""
    rows = [f"{i % 7},{i % 3},{i % 3}.0,{i % 3 if i != 50 else 5},{i % 3}" for i in range(90)]
    (tmp_path / "t.csv").write_text("a,b,c,d,y\n" + "\n".join(rows) + "\n")
    dataset, _ = read_table(tmp_path / "t.csv", task=task)
    assert [column.name for column in dataset.columns] == ["a", "d"]
    assert dataset.left_out == dict.fromkeys(("b", "c"), "the same as the target")
