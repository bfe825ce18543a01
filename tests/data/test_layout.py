"""How a table of text is laid out, and what its columns are."""

import gzip

import numpy as np
import pytest

from distbp import UserError
from distbp.data.table.conversion import read_table
from distbp.data.table.dates import Dates
from distbp.data.table.kinds import Dress, kind_of
from distbp.data.table.layout import encoding_of, find_layout, is_header

TABLE = "a,b,y\n1,2.5,u\n3,4.5,v\n5,6.5,u\n"


def layout(head, **options):
    found = find_layout(head, "t.csv", **options)
    return found.delimiter, found.names, found.skipped


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (TABLE, (",", ("a", "b", "y"), 1)),
        (TABLE.replace(",", ";").replace(".", ","), (";", ("a", "b", "y"), 1)),
        (TABLE.replace(",", "\t"), ("\t", ("a", "b", "y"), 1)),
        (TABLE.replace(",", "|"), ("|", ("a", "b", "y"), 1)),
        (TABLE.replace(",", "   "), (" ", ("a", "b", "y"), 1)),
        ("  1.5   1  2\n  2.5   0  1\n", (" ", ("0", "1", "2"), 0)),
        ("sep=;\n" + TABLE.replace(",", ";"), (";", ("a", "b", "y"), 2)),
        ("\n \n" + TABLE, (",", ("a", "b", "y"), 3)),
        ("# exported 2026-01-01\n" + TABLE, (",", ("a", "b", "y"), 2)),
        ("A report\nof two lines\n\n" + TABLE, (",", ("a", "b", "y"), 4)),
        ('"len, m";"cost, EUR"\n1,5;2,5\n', (";", ("len, m", "cost, EUR"), 1)),
        ('a, t, y\n1, "p, q", 0\n', (",", ("a", "t", "y"), 1)),
        (",x,y\n0,1.5,p\n1,2.5,q\n", (",", ("0", "x", "y"), 1)),
        ("y\n1\n2\n", (",", ("y",), 1)),
    ],
)
def test_what_the_first_lines_say(head, expected):
    assert layout(head) == expected


@pytest.mark.parametrize(
    ("first", "rows", "target", "header"),
    [
        ("a,b", ["1,2", "3,4"], None, True),
        ("1,2", ["3,4", "5,6"], None, False),
        ("2021,2022,2023", ["1,2,3.5", "4,5,9.5"], None, True),
        ("0,1", ["5,7", "8,9"], None, True),
        ("1,2", ["1,0", "2,1"], "2", True),
        ("Letter,1,2,3", ["A,4,5,6", "B,7,8,9"], None, True),
        ("red,1.5,yes", ["blue,2.5,no", "red,1,yes"], None, False),
        ("colour,size", ["red,big", "blue,small"], None, True),
        ("red,big", ["blue,small", "red,big"], None, False),
        ("5.1,3.5,setosa", ["4.9,3.0,setosa", "6.3,3.3,virginica"], None, False),
        ("5.1,3.5,setosa", ["4.9,3.0,setosa"], "setosa", True),
    ],
)
def test_whether_the_first_line_is_a_header(first, rows, target, header):
    assert is_header(first.split(","), [row.split(",") for row in rows], target) == header


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ("1 2.5 -3e4 .5", "number"), ("1 x 2", "number"), ("x y 1", "text"), ("007 008", "text"), ("1_1 1_2", "text"),
        ("0 0.5 10", "number"), ("1,5 2,25", Dress(",")), ("1,234 12,345", Dress(".", ",")), ("k1 k2", "text"),
        ("1.234,5 2", Dress(",", ".")), ("$1,200.50 $3", Dress(".", ",", "$")), ("12% 5.5%", Dress(around="%")),
        ("12kg 3kg", Dress(around="kg")), ("12kg 3lb", "text"), ("2020-01-01 2020-1-2T03:04:05Z", Dates()), 
        ("12:30 1:02:03", Dates(("%H:%M:%S", "%H:%M"), clock=True)),
        ("31.12.2024 1.2.2024", Dates(("%d.%m.%Y",))), ("1/2/2024 3/4/2024", Dates(("%m/%d/%Y",))),
        ("1/2/2024 13/4/2024", Dates(("%d/%m/%Y",))), ("5-Jan-2024", Dates(("%d-%b-%Y",))), ("31.31.2024", "text"),
        ("10A", "text"),
        ("'12 '3", Dress()), ("-5\u20ac 3\u20ac", Dress(around="\u20ac")), ("1,500 2,75", Dress(",")),
    ],
)  # fmt: skip
def test_what_a_column_is(texts, kind):
    assert kind_of(texts.split()) == kind


@pytest.mark.parametrize(
    ("texts", "numbers", "says"),
    [
        ("1.234,5|-12.000,25|+7", [1234.5, -12000.25, 7], "a decimal comma and '.' between thousands"),
        ("$1,200.50|$3|$0.5", [1200.5, 3, 0.5], "$ around them and ',' between thousands"),
        ("12 %|5.5 %|", [12, 5.5, np.nan], "% around them"),
        ("'12|'3|'-4", [12, 3, -4], "signs around"),
        ("1 000,5|20|n/a", [1000.5, 20, np.nan], "a decimal comma and ' ' between thousands"),
    ],
)
def test_numbers_in_a_dress_are_read_and_named(tmp_path, texts, numbers, says):
    rows = "".join(f"{text};{i % 2}\n" for i, text in enumerate(texts.split("|")))
    (tmp_path / "t.csv").write_text("a;y\n" + rows, encoding="utf-8")
    dataset, remarks = read_table(tmp_path / "t.csv")
    X = dataset.take(np.arange(3))[0]
    assert np.array_equal(X[:, 0], numbers, equal_nan=True)
    assert remarks == [f"t.csv: the numbers of 'a' have {says}"]


def test_a_decimal_that_the_user_names():
    assert kind_of(["1,234", "5,678"], decimal=",") == Dress(",")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252", "latin-1"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV"])
def test_encodings(tmp_path, encoding, name):
    content = "h\u00f6he;y\n1,5;0\n2,5;1\n".encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    wanted = encoding if encoding in ("cp1252", "latin-1") else None
    dataset, _ = read_table(tmp_path / name, encoding=wanted)
    assert dataset.columns[0].name == "h\u00f6he" and dataset.take(np.arange(2))[0].tolist() == [[1.5], [2.5]]


def test_another_encoding_is_named_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,y\n1,x\n2,h\u00f6he\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"t.csv, line 3 is not in UTF-8 \(byte 0xf6\).*--encoding cp1252"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(UserError, match="--encoding nonsense: Python knows no such encoding"):
        encoding_of(b"", "nonsense")


def test_another_encoding_far_below(tmp_path):
    lines = [f"{i},x\n".encode() for i in range(400_000)]
    lines[300_000] = b"5,h\xf6he\n"
    (tmp_path / "t.csv").write_bytes(b"a,y\n" + b"".join(lines))
    with pytest.raises(UserError, match="t.csv, line 300002 is not in UTF-8"):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("delimiter", ["semicolon", ";"])
def test_a_delimiter_that_the_user_names(tmp_path, delimiter):
    (tmp_path / "t.csv").write_text("a,1;b;y\n1,2;3;4\n5,6;7;9\n")
    dataset, _ = read_table(tmp_path / "t.csv", delimiter=delimiter)
    assert [column.name for column in dataset.columns] == ["a,1", "b"]
    with pytest.raises(UserError, match="--delimiter 'ab': one character, or comma, semicolon"):
        read_table(tmp_path / "t.csv", delimiter="ab")


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("h\u00f6he;y\n\u00e41;0\n\u00e42;1\nx;y;z\n\u00e43;1\n".encode("cp1252"), {"encoding": "cp1252"}),
        ("h\u00f6he;y\n\u00e41;0\n\u00e42;1\nx;y;z\n\u00e43;1\n".encode("utf-16"), {}),
        (b"  a     y\n  1  0\n 2       1\n  x  y   z\n", {}),
    ],
)
def test_a_bad_row_of_a_file_that_is_copied_to_be_read(tmp_path, content, options):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(UserError, match="t.txt, line 4: 3 fields where the header has 2: 'x.+y.+z'"):
        read_table(tmp_path / "t.txt", **options)
    dataset, remarks = read_table(tmp_path / "t.txt", bad_rows="skip", **options)
    assert "dropped 1 bad rows, the first line 4" in remarks[0]
    n_slots, slots = dataset.slots
    assert n_slots == dataset.n_rows + 1 and 2 not in slots


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_bad_row_far_below_and_behind_texts_of_several_lines(tmp_path, name):
    rows = [f'{i},"two\nlines",{i % 2}' for i in range(5000)]
    rows[4000] = "oops"
    content = ("a,t,y\n" + "\n".join(rows) + "\n").encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(UserError, match=f"{name}, line 8002: 1 fields where the header has 3: 'oops'"):
        read_table(tmp_path / name)


def test_a_class_that_training_had_not_is_said(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,u\n2,v\n")
    target = read_table(tmp_path / "t.csv")[0].target
    (tmp_path / "s.csv").write_text('a,y\n"1",u\n\n2,w\n')
    dataset, remarks = read_table(tmp_path / "s.csv", like=target)
    assert "1 rows have a class that training has not ('w')" in remarks[0] and dataset.judged().tolist() == [0]
    with pytest.raises(UserError, match="none of the classes"):
        dataset.take(np.arange(2))


@pytest.mark.parametrize("closes", [102, 200])
def test_a_quote_that_closes_in_another_row_swallows_none(tmp_path, closes):
    rows = [f"{i},name {i % 5},{i % 2}" for i in range(300)]
    rows[100], rows[closes - 1] = '100,"open,0', f'{closes},closed",1'
    (tmp_path / "t.csv").write_text("a,n,y\n" + "\n".join(rows) + "\n")
    dataset, remarks = read_table(tmp_path / "t.csv")
    assert dataset.n_rows == 300 and remarks == ["t.csv: quotes are taken as part of the text: some do not end"]
    rows[7] = '7,"a, b",1'  # quotes that are wanted
    (tmp_path / "t.csv").write_text("a,n,y\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match="t.csv, line 102: a quote opens here and closes in another row"):
        read_table(tmp_path / "t.csv")


def test_ends_of_lines_of_all_kinds_in_one_file(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"a,y\r\n1,0\n2,1\r\n3,0\r4,1\n" + b"5,1\r\n6,0\n" * 50)
    assert read_table(tmp_path / "t.csv")[0].n_rows == 104


def test_blanks_of_all_kinds_around_a_text(tmp_path):
    (tmp_path / "t.csv").write_text('a,y\n"t\n",0\n\u00a0t\t,1\n" \u3000",0\nt,1\n', encoding="utf-8")
    dataset, _ = read_table(tmp_path / "t.csv")
    assert dataset.columns[0].categories == ("t",)
    assert np.array_equal(dataset.take(np.arange(4))[0][:, 0], [0, 0, np.nan, 0], equal_nan=True)


def test_spaces_alone_are_no_row(tmp_path):
    (tmp_path / "t.csv").write_text("a,y\n1,0\n   \n2,1\noops,1\n3,0\n  \n")
    with pytest.raises(UserError, match="line 5: column 'a' is numeric"):
        read_table(tmp_path / "t.csv")
    dataset, _ = read_table(tmp_path / "t.csv", bad_rows="skip")
    assert dataset.n_rows == 3 and (dataset.slots[0], dataset.slots[1].tolist()) == (4, [0, 1, 3])


@pytest.mark.parametrize(
    "rows",
    [
        ["395\t2023-11-16\ta", "1135\t2013-03-09\tb", "1682\t2024-08-24\ta"],
        ["2016-04-25,1652,b", "2026-02-02,677,a", "2016-04-15,748,b"],
        ["118|-|a", "1671|2|a", "17||b"],
        ["1855|True|b", "303|FALSE|a", "1341|FALSE|b"],
        ["12:30,b", "9:45,b", "23:00,a"],
    ],
)
def test_a_first_row_as_the_others_is_no_header(rows):
    assert find_layout("\n".join(rows) + "\n", "t.csv").header == ()


@pytest.mark.parametrize("names", ["class1,class2", "item1,item2"])
def test_numbered_names_above_values_of_their_kind_are_a_header(names):
    assert find_layout(f"{names}\n" + "class3,class4\nitem5,item4\n" * 5, "t.csv").header == tuple(names.split(","))


def test_decimal_commas_in_two_columns_of_a_damaged_table_do_not_part_it():
    rows = [f"{i},5|{i},25|{i}|word|{'ab'[i % 2]}" for i in range(20)]
    layout = find_layout("a|b|c|d|y\n" + "\n".join([*rows, "3,5|1,2|", "4|a", "5|b"]) + "\n", "t.csv")
    assert layout.delimiter == "|" and layout.names == ("a", "b", "c", "d", "y")
