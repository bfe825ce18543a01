"""The report of a run: what it says is what the run found, in two languages, from its files alone."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from front_doors import TRAIN
from test_folds import table

from distbp import Model, SerialCommunicator, load, run_threads
from distbp.report import LANGUAGES, of_run, page
from distbp.run import findings
from distbp.trainer.inspection import importance, inspect

REPORT = ("-m", "distbp.report")
SHORT = ("--recipe", "plain", "--hidden", "8", "--epochs", "3", "--report", "en")
BLOBS = ("--data", "synthetic:blobs,rows=400,columns=3,classes=3")


def text_of(folder):
    return (folder / "report.md").read_text()


@pytest.fixture
def digits(here, tmp_path):
    done = here(*TRAIN, *SHORT, "--run-dir", "run", "--keep-model", "best", "--calibrate")
    assert done.returncode == 0 and "report: run/report.html" in done.stdout, done.stderr
    return tmp_path / "run"


def test_it_has_the_figures_of_the_run(digits):
    text, results = text_of(digits), json.loads((digits / "results.json").read_text())
    answer = text.split("## ")[1]
    low, high = results["intervals"]["accuracy/test"]
    for value in (results["accuracy/test"], low, high, results["baseline"]["accuracy/test"]):
        assert page.number(value, 4) in answer
    assert "tells 10 classes of `digit` apart, from 64 columns" in answer and "359 test rows" in answer
    assert f"step {results['best step']}" in text and "| 9 |" in text
    assert "python -m distbp.predict run DATA" in text
    html = (digits / "report.html").read_text()
    assert html.count("<img ") == len(re.findall(r"^!\[", text, re.M)) == 7 and "http" not in html.split("</style>")[1]


@pytest.mark.usefixtures("pictures")
def test_its_charts_are_in_the_page(digits, here):
    assert here(*REPORT, "run").returncode == 0
    names = {"confusion", "reliability", "importance", "loss", "metric", "rate", "norm"}
    assert {path.stem for path in (digits / "figures").glob("*.svg")} == names
    assert all((digits / "figures" / f"{name}.svg").read_bytes().endswith(b"</svg>\n") for name in names)


def test_it_is_made_anew_in_another_language_without_the_data(digits, here):
    before = text_of(digits)
    assert here(*REPORT, "run").returncode == 0 and text_of(digits) == before
    assert here(*REPORT, "run", "--language", "es").returncode == 0
    assert (
        "El modelo distingue 10 clases" in text_of(digits)
        and '<html lang="es">' in (digits / "report.html").read_text()
    )
    assert len(text_of(digits).splitlines()) == len(before.splitlines())


@pytest.mark.parametrize("name", ["run", "runs"])
def test_both_languages_decide_alike(name):
    templates = [(Path(page.__file__).parent / f"{name}.{language}.jinja").read_text() for language in LANGUAGES]
    one, other = (re.findall(r"^## |call chart\([^,]+|{% (?:if|elif) .*? %}|{% for", text, re.M) for text in templates)
    assert one == other and len(one) > 10


def test_a_regression_shows_values_and_errors(here, tmp_path):
    table(tmp_path)
    more = ("--data", "t.csv", "--target", "y", "--calibrate")
    assert here(*TRAIN, *SHORT, *more, "--run-dir", "run").returncode == 0
    found = json.loads((tmp_path / "run/report.json").read_text())
    (pairs,) = found["pairs"]
    true, predicted = np.array(pairs).T
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert np.sqrt(np.mean((true - predicted) ** 2)) == pytest.approx(results["rmse/test"])
    assert sum(found["residuals"]["counts"]) == found["rows"]["test"] == 30
    assert found["importance"][0][0] == "a" and found["importance"][-1][0] == "c"
    text = text_of(tmp_path / "run")
    assert "The model predicts `y`" in text and "(figures/pairs.svg)" in text and "| a | number | around" in text


@pytest.mark.parametrize(("options", "says"), [
    (("--folds", "3"), "rows out of fold, which each member left out"), (("--ensemble", "2"), "the mean of 2 networks"),
    (("--test-fraction", "0", "--validation-fraction", "0"), "There were no rows to judge it by"),
])  # fmt: skip
def test_other_ways_to_train_have_theirs(here, tmp_path, options, says):
    test = ("--test-fraction", "0") if "--folds" in options else ()
    done = here(*TRAIN, *SHORT, *BLOBS, *options, *test, "--run-dir", "run")
    assert done.returncode == 0 and done.stdout.count("report: ") == 1, done.stderr
    assert says in text_of(tmp_path / "run")
    assert not (tmp_path / "run/members/0/report.json").exists()


def test_what_speaks_against_a_model_is_in_the_answer(here, tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal():.3f},{rng.normal():.3f},{'rare' if i % 50 == 0 else 'common'}" for i in range(600)]
    (tmp_path / "t.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")
    assert here(*TRAIN, *SHORT, "--data", "t.csv", "--epochs", "20", "--run-dir", "run").returncode == 0
    answer = text_of(tmp_path / "run").split("## ")[1]
    assert "no better than that baseline" in answer
    assert "**Never predicted**: rare." in answer


def test_runs_are_compared_in_one_page(here, tmp_path):
    for hidden in ("2", "20"):
        assert here(*TRAIN, *SHORT, *BLOBS, "--hidden", hidden, "--run-dir", f"of-{hidden}").returncode == 0
    out = tmp_path / "both"
    assert here(*REPORT, "of-2", "of-20", "--out", "both").returncode == 0
    text = text_of(out)
    assert "# 2 runs beside each other" in text and "| run | hidden |" in text and "| of-20 | 20 |" in text
    assert "different targets" not in text and "different rows" not in text
    assert here(*TRAIN, *SHORT, "--seed", "1", "--run-dir", "other").returncode == 0
    assert here(*REPORT, "of-2", "other", "--out", "both").returncode == 0
    assert "different targets" in text_of(out) and "different rows" in text_of(out)


def test_what_is_no_finished_run_is_one_line(here, tmp_path, digits):
    cases = {"nothing": "no results.json", "plain": "--report none", "broken": "cannot be understood"}
    assert here(*TRAIN, *SHORT, *BLOBS, "--report", "none", "--run-dir", "plain").returncode == 0
    (tmp_path / "broken").mkdir()
    for path in digits.iterdir():
        if path.is_file():
            (tmp_path / "broken" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken/report.json").write_text('{"rows": {}}')
    for name, says in cases.items():
        done = here(*REPORT, name)
        assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and says in done.stderr


def test_a_look_into_the_model_that_fails_costs_that_alone(here, tmp_path, monkeypatch):
    monkeypatch.setattr(findings, "inspect", lambda *arguments: [][0])
    done = here(*TRAIN, *SHORT, *BLOBS, "--run-dir", "run")
    assert done.returncode == 0 and "no look into the model: IndexError" in done.stdout and "report: run" in done.stdout
    assert "## How good it is" in text_of(tmp_path / "run")


def test_a_report_that_fails_costs_the_report_alone(here, tmp_path, monkeypatch):
    monkeypatch.setattr(of_run, "figures", lambda path: 1 / 0)
    done = here(*TRAIN, *SHORT, *BLOBS, "--run-dir", "run")
    assert done.returncode == 0 and "warning: no report: ZeroDivisionError" in done.stdout


def test_without_its_libraries_it_is_said_at_the_start(here, tmp_path, monkeypatch):
    monkeypatch.setattr(findings.importlib.util, "find_spec", lambda name: None)
    done = here(*TRAIN, *SHORT, *BLOBS, "--run-dir", "run")
    assert done.returncode == 0 and not (tmp_path / "run/report.html").exists()
    lines = [i for i, line in enumerate(done.stdout.splitlines()) if "pip install 'distbp[report]'" in line]
    assert len(lines) == 1 and lines[0] < 3 and (tmp_path / "run/report.json").exists()


@pytest.mark.parametrize("bins", [0, 3])
def test_what_is_found_does_not_depend_on_the_ranks(tmp_path, bins):
    rng = np.random.default_rng(0)
    rows = [f"{'abc'[i % 3]},{rng.normal():.3f},{rng.normal() if i % 5 else ''},{i % 2}" for i in range(300)]
    (tmp_path / "t.csv").write_text("c,x,holes,y\n" + "\n".join(rows) + "\n")

    def find(comm):
        from distbp import Network, SoftmaxCrossEntropy

        data = load(tmp_path / "t.csv", comm=comm, cache="none", bins=bins)
        network, loss = Network([data.preprocessor.n_inputs, 5, 2], seed=1), SoftmaxCrossEntropy()
        return inspect(network, loss, data.test, comm), importance(network, loss, data.train, comm, seed=2)

    (alone,) = run_threads(1, find)
    assert sorted(name for name, *_ in alone[1]) == ["c", "holes", "x"]
    assert sum(n for *_, n in alone[0]["reliability"]) == 60
    assert all(of_rank == alone for of_rank in run_threads(3, find))


def test_inputs_belong_to_the_column_that_changes_them(tmp_path):
    rng = np.random.default_rng(0)
    rows = [f"{'abcd'[i % 4]},{rng.normal():.3f},{rng.normal() if i % 5 else ''},{i % 2}" for i in range(300)]
    (tmp_path / "t.csv").write_text("c,x,holes,y\n" + "\n".join(rows) + "\n")
    data = load(tmp_path / "t.csv", comm=SerialCommunicator(), cache="none", bins=3)
    of_columns = data.preprocessor.inputs_by_column()
    assert sorted(np.concatenate(of_columns).tolist()) == list(range(data.preprocessor.n_inputs))
    columns = Model(None, None, data.target, data.preprocessor).columns
    X = np.array([[0.0, 0.1, 0.2]])
    for j, other in ((0, 2.0), (1, -0.7), (2, np.nan)):
        changed = X.copy()
        changed[0, j] = other
        one, two = (data.preprocessor.transform(x, columns, np.float64)[0] for x in (X, changed))
        assert set(np.flatnonzero(one != two)) <= set(of_columns[j].tolist()) and (one != two).any()


STRANGE = ["a|b", "`c`", "**d**", "$e$ and $", "<f>", "列", "g: h", "## i"]


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("classes", [True, False])
def test_names_are_shown_as_they_are(here, tmp_path, classes):
    rng = np.random.default_rng(0)
    with open(tmp_path / "t.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*STRANGE, "$y|"])
        for i in range(160):
            x = rng.normal(size=len(STRANGE))
            writer.writerow([*(f"{v:.3f}" for v in x), STRANGE[i % 8] if classes else f"{x.sum():.3f}"])
    done = here(*TRAIN, *SHORT, "--data", "t.csv", "--calibrate", "--run-dir", "run")
    assert done.returncode == 0 and "report: run/report.html" in done.stdout and not done.stderr, done.stdout
    html = (tmp_path / "run/report.html").read_text()
    assert "<td>a|b</td>" in html and "&lt;f&gt;" in html and "<f>" not in html and "<td>列</td>" in html
    assert html.count("<h2>") == 8 + classes


def test_other_targets_and_models_have_a_report(here, tmp_path):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(200, 3)), (rng.random((200, 4)) > 0.6).astype(int)
    np.savez(tmp_path / "labels.npz", X=X, y=Y)
    np.savez(tmp_path / "values.npz", X=X, y=X @ rng.normal(size=(3, 2)))
    (tmp_path / "mine_reported.py").write_text(
        "import numpy as np\n"
        "def init(rng, n_inputs, n_outputs): return rng.standard_normal((n_inputs, n_outputs))\n"
        "def predict(W, X): return X @ W\n"
        "model = init, predict\n"
        "def loss(z, y): return np.sum((z - y) ** 4, axis=1)\n"
        "def wide(z, y): return np.sum((z[:, :2] + z[:, 2:] - y) ** 2, axis=1)\n"
        "wide.n_outputs = 4\n"
        "wide.link = lambda z: z[:, :2] + z[:, 2:]\n"
    )
    ways = {
        "labels": ("--data", "labels.npz"), "values": ("--data", "values.npz"),
        "model": ("--data", "values.npz", "--model", "mine_reported:model"),
        "loss": ("--data", "values.npz", "--loss", "mine_reported:loss"),
        "wide": ("--data", "values.npz", "--loss", "mine_reported:wide"),
        "linear": ("--data", "labels.npz", "--hidden", "none"), "empty": ("--data", "values.npz", "--epochs", "0"),
    }  # fmt: skip
    for name, options in ways.items():
        done = here(*TRAIN, *SHORT, *options, "--run-dir", name)
        assert done.returncode == 0 and f"report: {name}/report.html" in done.stdout, (name, done.stdout, done.stderr)
        assert "## How to repeat it" in text_of(tmp_path / name)
