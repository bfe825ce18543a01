"""Studies: trials are done once whatever happens, results depend on nothing but what was asked, reports open."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from grids import NIGHTLY
from tiny_study import TINY, are_pictures, run_study, without_times

from distbp import SerialCommunicator, run_threads
from distbp.errors import UsageError, UserError
from distbp.report import LANGUAGES, drawing, page
from distbp.report.page import Report, compose, number, write
from distbp.study.__main__ import EXPERIMENTS, main
from distbp.study.experiment import numbers, read_study
from distbp.study.trials import Queue, groups_of, marks, read_results, sort_results, work_through

# --- trials -----------------------------------------------------------------------------------------------------------


class Named:
    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name

    def cost(self):
        return 1.0 + len(self.name)


def test_marks_grow_by_a_factor_and_end_at_the_end():
    found = marks(1000)
    assert found[:6] == [1, 2, 3, 4, 5, 6] and found[-1] == 1000
    assert found == sorted(set(found))
    assert all(b <= 1.2 * a + 1 for a, b in zip(found, found[1:], strict=False))
    assert marks(1) == [1]


def test_groups_take_each_trial_once_and_results_are_sorted(tmp_path):
    trials = [Named(f"trial {i}") for i in range(12)]
    (tmp_path / "locks").mkdir()

    def work(comm):
        group = groups_of(comm, 2)
        said = []
        work_through(trials, lambda t, g: {"by": g.size, "summary": "fine"}, group, tmp_path, said.append, "test")
        return said

    said = run_threads(4, work)
    lines = [json.loads(line) for line in (tmp_path / "trials.jsonl").read_text().splitlines()]
    assert sorted(line["trial"] for line in lines) == sorted(map(str, trials))
    assert all(line == {"trial": line["trial"], "by": 2} for line in lines)
    assert not said[1] and not said[3] and len(said[0]) + len(said[2]) == 12
    assert any("test: 12 of 12 done, about 0 s left;" in text and "fine" in text for text in said[0] + said[2])
    sort_results(tmp_path, trials)
    assert list(read_results(tmp_path)) == list(map(str, trials))


def test_the_progress_names_the_best_so_far(tmp_path, capfd):
    run_study(tmp_path, *TINY)
    said = capfd.readouterr().out
    assert "rates, all steps: 1 of 6 done, about" in said and "other seeds: 12 of 12 done, about 0 s left; B=" in said
    smallest = min(m["error/val"] for r in read_results(tmp_path).values() for m in r["marks"])
    assert f"; best so far {smallest:.4f} with B=" in said.splitlines()[-3]
    assert "--batch-size" in said.splitlines()[-2] and "distbp.train" in said.splitlines()[-2]


def test_groups_must_divide_the_ranks(tmp_path):
    with pytest.raises(UserError, match="--ranks-per-trial 2: 3 ranks do not fall into groups of that size"):
        run_study(tmp_path / "none", "--ranks-per-trial", "2", ranks=3)
    assert not (tmp_path / "none").exists()


def test_a_line_that_was_cut_off_is_none_and_is_written_over(tmp_path):
    queue = Queue(tmp_path, ["a", "b"])
    assert queue.take() == 0
    queue.finish({"trial": "a", "x": 1})
    with open(tmp_path / "trials.jsonl", "a") as stream:
        stream.write('{"trial": "b", "x')
    assert set(read_results(tmp_path)) == {"a"}
    assert queue.take() == 1
    queue.finish({"trial": "b", "x": 2})
    assert {name: result["x"] for name, result in read_results(tmp_path).items()} == {"a": 1, "b": 2}
    assert queue.take() == -1


def test_a_trial_whose_lock_is_held_is_left_to_its_holder(tmp_path):
    mine, other = Queue(tmp_path, ["a", "b"]), Queue(tmp_path, ["a", "b"])
    assert (mine.take(), other.take()) == (0, 1)
    other.release()  # as when it dies
    mine.finish({"trial": "a"})
    assert mine.take() == 1
    mine.release()


# --- the study --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tiny, tmp_path_factory):
    """A copy: its report is made anew here."""
    return shutil.copytree(tiny, tmp_path_factory.mktemp("copy") / "tiny")


@pytest.mark.parametrize("ranks, group", [(2, 1), (2, 2), (4, 2), (3, 3)] if NIGHTLY else [(2, 1), (4, 2)])
def test_results_do_not_depend_on_ranks_and_groups(tiny, tmp_path, ranks, group):
    run_study(tmp_path, *TINY, "--exact", "--leaves", "4", "--ranks-per-trial", str(group), ranks=ranks)
    assert without_times(tmp_path) == without_times(tiny)


def test_a_study_goes_on_where_it_was(tiny, tmp_path):
    lines = (tiny / "trials.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "trials.jsonl").write_text("".join(lines[1::3])[:-5])
    (tmp_path / "study.json").write_text(study := (tiny / "study.json").read_text())
    assert json.loads(study)["config"]["batch_size"] == "32"  # text, as in the studies of earlier versions
    run_study(tmp_path, *TINY, "--exact", "--leaves", "4")
    assert without_times(tmp_path) == without_times(tiny)
    before = (tmp_path / "trials.jsonl").read_bytes()
    run_study(tmp_path, *TINY, "--exact", "--leaves", "4")
    assert (tmp_path / "trials.jsonl").read_bytes() == before


def test_a_folder_holds_one_study(tiny):
    with pytest.raises(UserError, match=r"holds a study with another epochs \(2, not 3\): give another --run-dir"):
        run_study(tiny, *TINY, "--exact", "--leaves", "4", "--least-epochs", "3")


def test_a_report_is_made_anew_without_training(tiny, monkeypatch, request):
    before = (tiny / "trials.jsonl").read_bytes()
    for path in [*tiny.glob("report.*"), *tiny.glob("figures/*")]:
        path.unlink()
    monkeypatch.setattr("distbp.study.__main__.load_data", None)
    run_study(tiny, "--report-only", "--language", "es")
    assert "Pregunta" in (tiny / "report.md").read_text() and 'lang="es"' in (tiny / "report.html").read_text()
    request.getfixturevalue("pictures")
    run_study(tiny, "--report-only")
    assert "Question" in (tiny / "report.md").read_text()
    assert are_pictures(tiny / "figures")
    assert (tiny / "trials.jsonl").read_bytes() == before


def test_the_report_is_one_file_and_says_how_to_do_it_again(tiny):
    html = (tiny / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', html) and "http" not in html.replace("http-equiv", "")
    assert html.count("data:image/svg+xml") == len(list(tiny.glob("figures/*.svg"))) >= 8
    assert "<code>command</code>" in html and read_study(tiny)["machine"] in html


def test_bad_options_are_one_line(tmp_path, capfd):
    for arguments, text in {
        ("batch-size", "--batch-sizes", "4,x"): "--batch-sizes '4,x': numbers above 0, with commas between",
        ("batch-size", "--batch-sizes", "4,5000"): "--batch-sizes 5000: there are",
        ("batch-size", "--rates", "0.1,inf"): "--rates '0.1,inf': numbers above 0",
        ("batch-size", "--seeds", "0"): "--seeds 0: at least 1",
        ("batch-size", "--goal", "accuracy=3"): "--goal 'accuracy=3': loss or error of",
        ("batch-size", "--goal", "error/val=low"): "--goal 'error/val=low'",
        ("batch-size", "--lr", "0.3"): "--lr 0.3: the rates of this study are --rates",
        ("batch-size", "--epochs", "3"): "--epochs 3: every training has --least-epochs",
        ("batch-size", "--ranks-per-trial", "0"): "--ranks-per-trial 0: at least 1",
        ("batch-size", "--ranks-per-trial", "2"): "--ranks-per-trial 2: 1 ranks do not fall",
        ("batch-size", "--hiden", "3"): "did you mean --hidden",
        ("batch-size", "--report-only"): "no study in",
        ("bath-size",): "invalid choice",
    }.items():
        folder = ["--run-dir", str(tmp_path / "none")] if len(arguments) > 1 else []
        assert main([*arguments, *folder]) in (1, 2)
        err = capfd.readouterr().err
        assert text in err and "Traceback" not in err and err.count("\n") == 1, (arguments, err)


# --- pages ------------------------------------------------------------------------------------------------------------


def test_numbers_read_as_people_write_them():
    assert [number(x) for x in (0.0, 0.01234, 0.99999999, 45.67, 12345.0, 999.6, 3.2e-7, -0.5)] == [
        "0", "0.0123", "1.00", "45.7", "12,300", "1,000", "3.20e-07", "-0.500"
    ]  # fmt: skip
    assert [number(x) for x in (np.inf, -np.inf, np.nan)] == ["∞", "-∞", "-"]
    assert numbers("8,2,8", "--x", int) == [2, 8]
    with pytest.raises(UsageError, match="--x '0,1'"):
        numbers("0,1", "--x", int)


def test_texts_are_escaped_and_marked(tmp_path):
    curve = drawing.Curve(("a",), [1, 1000], [1e-6, 1e6], drawing.style(0))
    figure = drawing.draw(drawing.Plot([curve], log="xy", ticks=[1.0, 10.0, 20000.0]), "t", "x", "y", {"a": "a"})
    rows = [page._row("a|b", "c"), "| --- | ---: |", page._row("x", "<y>")]
    parts = ["a < b & **c**, `d`", "![see <this>](figures/one.svg)", "*t*", "\n".join(rows)]
    blocks = ["# <title>", "q?", "## answer", "yes", "## s", *parts, "## again", "- how: `x`: y"]
    write(Report("\n\n".join(blocks), {"one": figure}), tmp_path)
    html, markdown = ((tmp_path / name).read_text() for name in ("report.html", "report.md"))
    assert "a &lt; b &amp; <strong>c</strong>, <code>d</code>" in html and "&lt;y&gt;" in html
    assert "<title>&lt;title&gt;</title>" in html and 'alt="see &lt;this&gt;"' in html
    assert "<th>a|b</th><th>c</th>" in html and "<dt>how</dt><dd><code>x</code>: y</dd>" in html
    assert "| a\\|b | c |" in markdown and "![see <this>](figures/one.svg)" in markdown


def test_few_values_have_ticks_of_their_own_and_0_stands_at_one_half():
    curve = drawing.Curve((), [0.5, 3.0], [1.0, 2.0], drawing.style(0))
    axes = drawing.draw(drawing.Plot([curve], log="x", ticks=[0, 3]), "t", "x", "y", {}).axes[0]
    assert [(at, label.get_text()) for at, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)] == [
        (0.5, "0"), (3.0, "3"),
    ]  # fmt: skip


def test_figures_are_the_same_bytes_each_time():
    def draw():
        band = drawing.Curve(("a",), [1, 2], [(0, 1, 2), (1, 2, 3)], drawing.style(0))
        line = drawing.Curve(("b",), [1, 2], [3, 4], drawing.shade(0, 1))
        figure = drawing.draw(drawing.Plot([band, line]), "t", "x", "y", {"a": "a", "b": "b"})
        return [drawing.rendered(figure, kind) for kind in ("png", "svg")]

    assert draw() == draw()


@pytest.mark.parametrize(("name", "content", "says"), [
    ("trials.jsonl", "{}\n", "a line is damaged, '{}': remove it"), ("trials.jsonl", "[\n", "a line is damaged"),
    ("trials.jsonl", '{"trial": "a"}\n', "cannot be understood: KeyError"), ("study.json", "{", "is damaged"),
    ("study.json", '{"study": "batch-size"}', "cannot be understood: KeyError"),
])  # fmt: skip
def test_a_damaged_file_of_a_study_is_one_line(tmp_path, name, content, says):
    run_study(tmp_path / "study", *TINY)
    (tmp_path / "study" / name).write_text(content)
    with pytest.raises(UserError, match=re.escape(says)):
        run_study(tmp_path / "study", *TINY, "--report-only")


@pytest.mark.parametrize("library, action", [
    ("matplotlib", lambda: drawing.draw(drawing.Plot([]), "t", "x", "y", {})),
    ("jinja2", lambda: compose("study/plan/report", "en", {})), ("jinja2", lambda: write(Report("", {}), None)),
])  # fmt: skip
def test_a_library_that_is_missing_is_named(library, action, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=rf"a report needs {library}, .*pip install 'distbp\[report\]'"):
        action()


def test_templates_of_both_languages_decide_alike():
    for folder in (Path(page.__file__).parents[1] / "study" / name.replace("-", "_") for name in EXPERIMENTS):
        templates = [(folder / f"report.{language}.jinja").read_text() for language in LANGUAGES]
        decisions = r"^## |call chart\([^,]+|{% (?:if|elif) .*? %}|{% for"
        one, other = (re.findall(decisions, text, re.M) for text in templates)
        assert one == other
    assert LANGUAGES == ("en", "es")
    assert SerialCommunicator().split(3).size == 1
