"""Tables as people have them, through the front doors: each stands for its kind."""

import json

import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import Model, UserError, load
from distbp.data.table.formats import TableOptions

INCH = '"7 inch'
ONE = ("--epochs", "1", "--hidden", "4")


@pytest.fixture
def trained(here, tmp_path):
    """Write a table and train on it: what was said, or the error."""

    def run(rows, *options, name="t.csv", fails=False):
        (tmp_path / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        done = here(*TRAIN, "--data", name, "--run-dir", "run", *ONE, *options)
        assert done.returncode == (1 if fails else 0), done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture
def predicted(here, tmp_path):
    """Predict rows of a text: the lines printed, and what is said beside."""

    def run(text, *options):
        (tmp_path / "new.csv").write_text(text)
        done = here(*PREDICT, "run", "new.csv", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines(), done.stderr

    return run


def test_a_whole_number_of_its_own_in_each_row_is_a_regression(trained):
    assert "regression of 'price'" in trained(["area,price", *(f"{20 + i},{70000 + 1311 * i}" for i in range(50))])


def test_a_class_that_is_called_none(trained):
    rows = ["dose,effect", *(f"{i},{('none', 'weak', 'strong')[i % 3]}" for i in range(90))]
    said = trained(rows, fails=True)
    assert "the target 'effect' is missing: '0,none'" in said and "where that text is a class: --missing ''" in said
    assert "into 3 classes" in trained(rows, "--missing", "", "--run-dir", "other")


def test_a_column_of_mixed_kinds(trained):
    rows = ["code,age,y", *(f"{f'B/{i}' if i % 4 == 0 else i},{i % 50},{i % 2}" for i in range(1, 91))]
    assert "where they are no numbers: --categorical code, or --ignore code" in trained(rows, fails=True)


def test_an_ignored_column_may_be_bad(trained):
    rows = ["note,a,y", *(f"{'see p. 3' if i == 30 else i},{i % 7},{i % 2}" for i in range(80))]
    assert "56 rows to train, 8 to validate, 16 to test" in trained(rows, "--ignore", "note")


@pytest.mark.parametrize("labels", [("1_1", "1_2"), ("007", "008"), ("9007199254740993", "9007199254740992")])
def test_labels_come_back_as_they_stood(trained, predicted, labels):
    trained(["a,well", *(f"{i % 2},{labels[i % 2]}" for i in range(90))])
    lines, _ = predicted("a\n0\n1\n")
    assert set(lines[0].split(",")[1:]) == {f"p({label})" for label in labels}


def test_quotes_that_do_not_end_are_inches(trained):
    rows = [
        "name\tyear\tlabel",
        *(f"{INCH if i == 9 else 'disc'}\t{i}\tg{i % 2}" for i in range(300)),
    ]
    said = trained(rows, name="d.tsv")
    assert "quotes are taken as part of the text" in said and "210 rows to train, 30 to validate, 60 to test" in said


def test_the_row_numbers_of_a_frame_are_left_out(trained, predicted):
    rows = [",x,label", *(f"{i},{i % 17},{'pq'[i // 300]}" for i in range(600))]
    assert "left out: column 0, which has no name and numbers the rows" in trained(rows)
    lines, _ = predicted("x\n3\n4\n")
    assert len(lines) == 3


def test_a_header_of_numbers_is_remembered(trained, predicted):
    said = trained(["2021,2022,2023", *(f"{i % 9},{i % 7},{i % 9 + i % 7}.5" for i in range(80))])
    assert "the first line, 2021,2022,2023, is the header" in said and "regression of '2023'" in said
    assert len(predicted("2021,2022\n1,1\n2,2\n")[0]) == 3


@pytest.fixture
def two_classes(trained):
    trained(["x,y", *(f"{i},{i % 2}" for i in range(90))])


@pytest.mark.parametrize(
    ("text", "judged"), [("x,y\n3,\n4,1\n5,\n", "1 of 3"), ("x,y\n3,0\n4,7\n", "1 of 2"), ("x,y\n3,\n4,\n", "")]
)
def test_a_prediction_for_each_row_whatever_its_target(two_classes, predicted, text, judged):
    lines, said = predicted(text)
    assert len(lines) == text.count("\n")
    assert (f"the figures are of the {judged} rows" in said) == bool(judged) == ("accuracy" in said)


def test_a_bad_row_has_an_empty_prediction(two_classes, predicted, tmp_path):
    lines, said = predicted("x\n3\nbroken\n5\n6,7\n8\n", "--bad-rows", "skip")
    assert [line == ",," for line in lines[1:]] == [False, True, False, True, False]
    assert "dropped 2 bad rows, the first line 3" in said
    predicted("x\n3\nbroken\n5\n", "--bad-rows", "skip", "--out", str(tmp_path / "p.npy"))
    assert np.isnan(np.load(tmp_path / "p.npy")).all(axis=1).tolist() == [False, True, False]


def test_categories_that_training_did_not_know(trained, predicted):
    trained(["zone,y", *(f"z{i % 3},k{i % 3}" for i in range(150))])
    _, said = predicted("zone\nz1\nz7\n")
    assert "column 'zone': 1 of 2 values ('z7'; 1 rows) were not, or hardly, in the training data" in said


def test_the_table_of_the_training_with_an_ignored_column(trained, predicted):
    rows = ["ref,x,y", *(f"R-{i},{i % 9},{i % 9}.5" for i in range(1200))]
    assert "left out: ref (different in every row)" in trained(rows)
    assert len(predicted("\n".join(rows) + "\n")[0]) == 1201


def test_a_target_of_free_text_writes_no_large_file(trained, tmp_path):
    trained(["a,word", *(f"{i % 97},w{i}" for i in range(3000))])
    results = tmp_path / "run" / "results.json"
    assert results.stat().st_size < 1e6 and "confusion" not in json.loads(results.read_text())


def test_fewer_rows_than_the_default_batch(trained):
    assert "the batch is all 28 training rows, not 32" in trained(["a,y", *(f"{i},{i % 2}" for i in range(40))])


@pytest.mark.parametrize("options", [("--ignore", "id,w"), ("--sample-weight", "w", "--ignore", "id")])
def test_a_test_file_without_what_is_not_an_input(trained, tmp_path, options):
    (tmp_path / "test.csv").write_text("x,y\n" + "".join(f"{i},{i % 3}\n" for i in range(9)))
    rows = ["id,w,x,y", *(f"{i},1,{i % 9},{i % 3}" for i in range(90))]
    assert "9 to test" in trained(rows, *options, "--test-data", "test.csv")


@pytest.mark.parametrize("name", ["ZO.CSV", "zo, 2026.csv", "zo.tab"])
def test_names_of_files(trained, name):
    assert "classification of 'y'" in trained(["a,y", *(f"{i},{i % 2}" for i in range(90))], "--target", "y", name=name)


def test_one_hot_targets_are_classes(here, tmp_path, rng):
    np.savez(tmp_path / "oh.npz", X=rng.normal(size=(300, 4)), y=np.eye(10)[rng.integers(0, 10, 300)])
    assert "into 10 classes" in here(*TRAIN, "--data", "oh.npz", "--run-dir", "run", *ONE).stdout


def test_idx_pairs_of_other_names(here, tmp_path):
    def idx(name, shape, values):
        head = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        (tmp_path / "pics" / name).write_bytes(head + bytes(values))

    (tmp_path / "pics").mkdir()
    for part, n in ("train", 600), ("test", 100):
        idx(f"emnist-letters-{part}-images-idx3-ubyte", (n, 2, 2), (i % 251 for i in range(4 * n)))
        idx(f"emnist-letters-{part}-labels-idx1-ubyte", (n,), (i % 3 for i in range(n)))
    assert "540 rows to train, 60 to validate, 100 to test" in here(*TRAIN, "--data", "pics", *ONE).stdout
    idx("emnist-digits-test-images-idx3-ubyte", (3, 2, 2), range(12))
    idx("emnist-digits-test-labels-idx1-ubyte", (3,), range(3))
    assert "name a pair, --data IMAGES,LABELS" in here(*TRAIN, "--data", "pics", *ONE).stderr


def test_from_python_with_paths_lists_and_objects(trained, tmp_path):
    trained(["x,z,y", *(f"{i},{i % 5},{i % 2}" for i in range(90))])
    assert load(tmp_path / "t.csv").train.n_rows == 63
    model = Model.load(tmp_path / "run")
    expected = model.predict_outputs(np.array([[1.0, 2.0]]))
    assert np.array_equal(model.predict_outputs([[1, 2]]), expected)
    assert np.array_equal(model.predict_outputs(np.array([[1.0, 2.0]], object)), expected)
    for bad, says in (
        ([[1.0]], r"shape \(1, 1\): the model was trained on 2 columns"),
        ([["a", "b"]], "held numbers in training and holds text here"),
    ):
        with pytest.raises(UserError, match=says):
            model.predict_outputs(bad)


def test_a_configuration_with_a_byte_order_mark(here, tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbfsteps = 2\n")
    assert "2 steps in" in here(*TRAIN, "--config", "bom.toml").stdout


def test_predictions_of_computed_rows(here, tmp_path):
    data = "synthetic:blobs,rows=200,classes=3"
    assert here(*TRAIN, "--data", data, "--run-dir", "run", *ONE).returncode == 0
    done = here(*PREDICT, "run", data)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 201 and "accuracy" in done.stderr


def test_the_weights_of_a_test_file_by_the_number_of_their_column(tmp_path):
    for name, weight in ("a.csv", "1"), ("b.csv", "3"):
        (tmp_path / name).write_text("x,w,y\n" + "".join(f"{i},{weight},{i % 2}\n" for i in range(20)))
    data = load(tmp_path / "a.csv", options=TableOptions(weight="1"), test_data=tmp_path / "b.csv")
    assert data.test.take(np.arange(20))[2].tolist() == [3.0] * 20


def test_columns_are_passed_through(trained, predicted, tmp_path):
    trained(["name,x,y", *(f"n{i},{i % 9},{i % 2}" for i in range(90))])
    lines, said = predicted('name,x\nu,1\nv,oops\n\n"w, 1",2\n', "--bad-rows", "skip", "--id", "name,x")
    assert lines[0].split(",")[:3] == ["name", "x", "y"] and "line 3: column 'x' is numeric" in said
    assert lines[1].startswith("u,1,") and lines[2] == "v,oops,,," and lines[3].startswith('"w, 1",2,')


def test_what_training_had_not_is_said(trained, predicted):
    trained(["c,x,z,y", *(f"{'pq'[i % 2]},{i % 9},{i % 5},{i % 2}" for i in range(90))])
    lines, said = predicted("c,x,z\np,1e6,1\n,,1\nr,3,2\n")
    assert len(lines) == 4
    expected = """column 'x': 1 values are missing; in the training data none was
column 'c': 1 values are missing; in the training data none was
column 'x': 1 values lie far outside of those of the training data
1 of 2 values ('r'; 1 rows) were not, or hardly, in the training data"""
    for text in expected.splitlines():
        assert text in said
    assert "'z'" not in said


def test_predict_reads_as_training_did(trained, predicted, here):
    trained(["x,c,y", *(f"{i % 9},{('none', 'some')[i % 2]},{i % 2}" for i in range(90))], "--missing", "")
    lines, said = predicted("x,c\n1,none\n2,some\n")
    assert not said
    again, said = predicted("x,c\n1,none\n2,some\n", "--missing", "none")
    assert "column 'c': 1 values are missing" in said and again[2] == lines[2] != again[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "nowhere/p.csv"), "cannot write nowhere/p.csv: there is no folder nowhere"),
        (("--out", "p.txt"), "a name that ends in .csv or .npy"),
        (("--out", "p.npy", "--id", "x"), "a .npy file holds numbers alone"),
        (("--id", "q"), "no column 'q'"),
    ],
)
def test_what_cannot_be_written_is_found_first(trained, here, tmp_path, options, message):
    trained(["x,y", *(f"{i % 9},{i % 2}" for i in range(90))])
    done = here(*PREDICT, "run", "t.csv", *options)
    assert done.returncode in (1, 2) and message in done.stderr and not done.stdout


def test_a_table_is_shown(here, tmp_path):
    rows = "".join(f"r{i},{i % 9},{('yes', 'no', '')[i % 3]},2024-01-{1 + i % 30:02d},{i % 2}\n" for i in range(90))
    (tmp_path / "t.csv").write_text("id,x,flag,when,y\n" + rows)
    done = here("-m", "distbp.data", "t.csv")
    assert done.returncode == 0, done.stderr
    words = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.split()}
    assert words["x"][:4] == ["number", "9", "0", "8"] and words["flag"][:3] == ["boolean", "30", "2"]
    assert words["when"][:4] == ["date", "30", "2024-01-01", "2024-01-30"] and words["id"][:2] == ["left", "out"]
    target = "classification of 'y' into 2 classes: 0 (45), 1 (45); where they are a quantity: --task regression"
    assert target in done.stdout
    assert here("-m", "distbp.data").returncode == 2 and here("-m", "distbp.data", "digits").returncode == 1


def test_predict_reads_dates_and_numbers_as_training_did(trained, predicted):
    rows = [f"{1 + i % 28}/02/2024;{i % 7},{i % 9}5;{i % 2}" for i in range(90)]
    trained(["when;x;y", *rows])
    text = "".join(f"{row}\n" for row in rows[1:5])  # days up to 5, which could be months
    lines, said = predicted("when;x;y\n" + text + "2/02/2024;1,234;0\n")
    whole, _ = predicted("when;x;y\n" + "".join(f"{row}\n" for row in rows))
    assert lines[1:5] == whole[2:6] and "far outside" not in said
