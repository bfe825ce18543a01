"""The stability study: twins, the bound on their distance, the control, and what the report says of them."""

import json
import math
import shutil

import numpy as np
import pytest
from conftest import prepared
from tiny_study import are_pictures, report_on

from distbp import Network, SerialCommunicator, SoftmaxCrossEntropy, UserError, run_threads
from distbp.comm.communicator import Communicator
from distbp.data.sampling import BatchSampler
from distbp.report.page import number
from distbp.run.build import load_data
from distbp.run.config import parse_train_config
from distbp.study import __main__ as front
from distbp.study.stability import run as stability
from distbp.study.stability.bound import constants, growth, largest_rate, meetings
from distbp.study.stability.results import Results, at_loss, rank_correlation, spread
from distbp.study.stability.run import Pair, pairs, run_pair
from distbp.study.stability.twins import apart, by_layer, twins

DATA = ["--data", "synthetic:blobs,rows=90,columns=4,classes=3,noise=1", "--test-fraction", "0.25"]
QUICK = [
    *DATA,
    "--batch-sizes",
    "7,20,50",
    "--rates",
    "0.1,0.2",
    "--replacements",
    "2",
    "--epochs",
    "4",
    "--hidden",
    "5",
]


def start(folder, *arguments):
    return front.main(["stability", "--run-dir", str(folder), *arguments])


def lines(folder):
    return [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study that is done; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("stability") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "write", lambda *_: None)
        assert start(folder, *QUICK) == 0
    return folder


@pytest.fixture
def changed(whole, tmp_path):
    """Give a copy of the study whose results were passed through a function, or left out where it gives None."""

    def change(edit, study=lambda study: study):
        folder = tmp_path / "changed"
        shutil.copytree(whole, folder)
        kept = [pair for pair in map(edit, lines(folder)) if pair is not None]
        (folder / "trials.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in kept))
        (folder / "study.json").write_text(json.dumps(study(json.loads((folder / "study.json").read_text()))))
        return folder

    return change


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of what is trained: a report that is made, and not drawn."""
    monkeypatch.setattr(front, "write", lambda *_: None)


def said(folder, language="en"):
    """All words of a report, charts' captions and cells of tables included, each of these in a line."""
    found = report_on(folder, "stability", language)
    lines = "\n".join([found.answer, *found.sections.values()]).splitlines()
    cells = (line[2:-2].split(" | ") if line.startswith("| ") else [line] for line in lines)
    return "\n".join(cell for line in cells for cell in line)


# --- twins -------------------------------------------------------------------------------------------------------


@pytest.fixture
def rows():
    rng = np.random.default_rng(1)
    return prepared(rng.standard_normal((40, 3)), rng.integers(0, 3, 40), weights=rng.uniform(0.5, 2.0, 40))


def test_twins_differ_in_one_row_which_neither_holds_elsewhere(rows):
    seen = []
    for which in range(6):
        one, other, place = twins(rows, 6, which, seed=3)
        assert one.n_rows == other.n_rows == 34 and np.flatnonzero(one.rows != other.rows).tolist() == [place]
        assert len(set(one.rows)) == 34 and other.rows[place] not in one.rows
        seen.append((place, other.rows[place]))
    assert len({place for place, _ in seen}) > 3 and len({row for _, row in seen}) == 6
    again = twins(rows, 6, 4, seed=3)
    assert (again[2], again[1].rows[again[2]]) == seen[4]
    assert not np.array_equal(twins(rows, 6, 4, seed=4)[0].rows, again[0].rows)


def test_a_twin_gives_the_rows_of_the_data(rows):
    one, other, place = twins(rows, 6, 2, seed=3)
    at = np.array([place, 0, 5, place])
    out = np.empty((4, 3))
    X, y, w = other.take(at, out)
    for got, wanted in zip((X, y, w), rows.take(other.rows[at]), strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert X is out and not np.array_equal(X[0], one.take(at)[0][0])
    assert (other.target, other.preprocessor, other.dtype) == (rows.target, rows.preprocessor, rows.dtype)


def test_the_control_replaces_a_row_by_itself(rows):
    one, other, place = twins(rows, 6, None, seed=3)
    assert np.array_equal(one.rows, other.rows) and place == twins(rows, 6, 0, seed=3)[2]


def test_distances_by_hand():
    assert apart(np.array([3.0, 0.0]), np.array([0.0, 4.0])) == (5.0, 1.0)
    assert apart(np.zeros(2), np.zeros(2)) == (0.0, 0.0)
    assert apart(np.float32([2.0]), np.float32([1.0])) == (1.0, pytest.approx(1 / math.sqrt(5), rel=1e-15))


def test_layers_share_out_the_parameters():
    net = Network([3, 4, 2])
    layers = by_layer(net.parts)
    assert list(layers) == ["layer 0", "layer 1"] and [len(places) for places in layers.values()] == [16, 10]
    assert sorted(np.concatenate(list(layers.values()))) == list(range(net.n_parameters))
    assert list(by_layer([("0/W", slice(0, 2)), ("0/b", slice(2, 3))])) == ["0/W", "0/b"]


# --- the bound ---------------------------------------------------------------------------------------------------


def gradient(rows, which, theta):
    """Of the loss of one row of logistic regression, by backpropagation."""
    net = Network([3, 3], dtype=np.float64)
    net.theta[:] = theta
    X, y, w = rows.take(np.array([which]))
    z = net.forward(X)
    delta = np.empty_like(z)
    SoftmaxCrossEntropy().value(z, y, delta)
    net.backward(delta * w[:, None])
    return net.grad.copy()


def biases(*values):
    """Parameters under which all rows have the same logits."""
    theta = np.zeros(12)
    theta[-3:] = values
    return theta


def test_lipschitz_constant_is_the_largest_gradient(rows):
    """It is reached where a class is believed in that is not the row's: p - y has a norm of sqrt(2)."""
    beliefs = [biases(*(50.0 * np.eye(3)[k])) for k in range(3)]
    largest = max(np.linalg.norm(gradient(rows, i, theta)) for i in range(40) for theta in beliefs)
    assert constants(rows).lipschitz == pytest.approx(largest, rel=1e-12)


def test_smoothness_is_the_largest_curvature(rows):
    """It is reached where two classes share all belief, across both: differences of gradients, to second order."""
    X, _, w = rows.take(np.arange(40))
    at = int(np.argmax(w * ((X * X).sum(1) + 1.0)))
    theta, h = biases(0.0, 0.0, -60.0), 1e-4
    direction = np.outer([1.0, -1.0, 0.0], [*X[at], 1.0])
    net = Network([3, 3], dtype=np.float64)  # knows how W and b lie in theta
    net.layers[0].W[...], net.layers[0].b[...] = direction[:, :3].T, direction[:, 3]
    v = net.theta / np.linalg.norm(net.theta)
    curvature = np.linalg.norm(gradient(rows, at, theta + h * v) - gradient(rows, at, theta - h * v)) / (2 * h)
    assert constants(rows).smoothness == pytest.approx(curvature, rel=1e-6)
    assert constants(rows).limit == 2.0 / constants(rows).smoothness


def test_constants_of_rows_without_weights():
    rows = prepared(np.array([[3.0, 0.0], [0.0, 1.0]]), [0, 1])
    assert constants(rows).lipschitz == pytest.approx(math.sqrt(20.0), rel=1e-15)
    assert constants(rows).smoothness == pytest.approx(5.0, rel=1e-15)


def test_the_largest_rate_is_rounded_down():
    assert [largest_rate(x) for x in (0.1701, 0.0999, 3.0, 27.9)] == [0.17, 0.099, 3.0, 27.0]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 20, 23])
def test_meetings_are_the_batches_with_the_row(batch_size, drop_last):
    """23 = 3 x 7 + 2: the row is in the short last batch now and then, or left out."""
    sampler = BatchSampler(23, batch_size, seed=5, drop_last=drop_last)
    for row in (0, 4, 9, 22):
        found = [(t, sampler.batch(t).size) for t in range(50) if row in sampler.batch(t).rows()]
        met, sizes = meetings(sampler, row, 50)
        assert list(zip(met, sizes, strict=True)) == found
        at = np.array([0, 1, 2, 17, 50])
        wanted = [sum(1.0 / size for t, size in found if t < step) for step in at]
        np.testing.assert_allclose(growth(met, sizes, at), wanted, rtol=1e-14)


# --- pairs -------------------------------------------------------------------------------------------------------


def asked_of(*arguments, comm=None):
    """What a study asks, its configuration and its data."""
    options, rest = front._parser().parse_known_args(["stability", *arguments])
    config = parse_train_config([*stability.STABILITY.defaults, *rest])
    data = load_data(config, comm or SerialCommunicator())
    return stability.STABILITY.ask(options, config, data) | {"ranks_per_trial": 1}, config, data


def test_the_first_step_is_the_difference_of_two_gradients():
    """A full batch meets the row in step 0: |w_1 - w'_1| = eta / n |g(z) - g(z')| at the common start."""
    asked, config, data = asked_of(*DATA, "--batch-sizes", "57", "--replacements", "2", "--epochs", "1")
    n, rate = asked["rows_of_a_twin"], asked["convex_rates"][-1]
    assert n == 57
    pair = next(p for p in pairs(asked) if (p.kind, p.rate, p.replacement) == ("convex", rate, 1))
    result = run_pair(pair, asked, config, data, SerialCommunicator())
    gradients = []
    for row in (result["row"], result["by"]):
        X, y, _ = data.train.take(np.array([row]))
        net = Network([4, 3], dtype=np.float64, seed=config.seed + 1)
        p = np.exp(net.forward(X))[0]
        gradients.append(np.outer(p / p.sum() - np.eye(3)[y[0]], [*X[0], 1.0]))
    wanted = rate / n * np.linalg.norm(gradients[0] - gradients[1])
    assert result["step"] == [1] and result["distance"][0] == pytest.approx(wanted, rel=1e-9)
    assert result["bound"][0] == pytest.approx(2.0 * rate * asked["lipschitz"] / n, rel=1e-14)


def test_bound_holds_and_is_not_empty(whole):
    """At every mark, for batches with and without a short last one; a bound of a quarter would not hold."""
    check = Results(whole).check_bound()
    convex = [pair for pair in lines(whole) if pair["kind"] == "convex"]
    assert check["pairs"] == 18 and check["marks"] == 18 / 27 * sum(len(pair["step"]) for pair in convex)
    assert not check["above"] and not check["unclaimed"] and 1.0 < check["smallest"] < 4.0
    n = json.loads((whole / "study.json").read_text())["rows_of_a_twin"]
    assert {n % pair["batch_size"] > 0 for pair in convex} == {True}
    for pair in convex:
        assert all((d == 0.0) == (m == 0 or pair["replacement"] is None)
                   for d, m in zip(pair["distance"], pair["met"], strict=True))  # fmt: skip
        assert pair["met"][-1] == 4


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pairs_are_the_same_on_any_number_of_ranks(size, whole):
    """Also those of the control, which is exactly 0."""

    def work(comm: Communicator):
        asked, config, data = asked_of(*QUICK, comm=comm)
        chosen = [p for p in pairs(asked) if p.batch_size == 20 and p.replacement != 1 and p.rate == max(
            asked["rates" if p.kind == "network" else "convex_rates"])]  # fmt: skip
        return {str(pair): run_pair(pair, asked, config, data, comm) for pair in chosen}

    serial = {pair["trial"]: pair for pair in lines(whole)}
    for results in run_threads(size, work):
        assert len(results) == 4
        for name, result in results.items():
            np.testing.assert_allclose(result["distance"], serial[name]["distance"], rtol=1e-9)
            np.testing.assert_allclose(result["loss/held_out"], serial[name]["loss/held_out"], rtol=1e-10)
            assert (result["step"], result["met"]) == (serial[name]["step"], serial[name]["met"])
            assert "control" not in name or not any(result["distance"])


def test_ranks_share_the_trials_and_give_the_same_study(whole, tmp_path, undrawn):
    folder = tmp_path / "two"
    options, rest = front._parser().parse_known_args(["stability", "--run-dir", str(folder), *QUICK])
    config = parse_train_config([*stability.STABILITY.defaults, *rest])
    assert run_threads(2, lambda comm: front.study(options, config, comm)) == [0, 0]
    assert [pair["trial"] for pair in lines(folder)] == [pair["trial"] for pair in lines(whole)]
    for mine, theirs in zip(lines(folder), lines(whole), strict=True):
        np.testing.assert_allclose(mine["distance"], theirs["distance"], rtol=1e-9)


def test_layers_add_up_to_the_distance(whole):
    for pair in lines(whole):
        layers = [np.array(pair[name]) for name in pair if name.startswith("distance/")]
        assert len(layers) == (2 if pair["kind"] == "network" else 1)
        np.testing.assert_allclose(np.sqrt(sum(d * d for d in layers)), pair["distance"], rtol=1e-12)


def test_steps_never_mean_less_than_the_least_epochs():
    steps = ["--batch-sizes", "10,57", "--replacements", "2", "--steps", "30", "--least-epochs", "7"]
    assert asked_of(*DATA, *steps)[0]["steps"] == [42, 30]
    assert asked_of(*DATA, *steps, "--epochs", "5")[0]["steps"] == [30, 5]
    assert asked_of(*DATA, *steps[:4])[0]["steps"] == [180, 30]


def test_a_pair_that_diverges_says_when(whole):
    asked, config, data = asked_of(*QUICK)
    for rate in (1e300, 1e155):  # at once, and by way of a loss that is not finite
        pair = Pair("network", 7, rate, 0, 12)
        result = run_pair(pair, asked, config, data, SerialCommunicator())
        assert result["diverged"] in result["summary"].split() or str(result["diverged"]) in result["summary"]
        assert len(result["step"]) == len(result.get("distance", [])) < 12


def test_other_types_and_targets(tmp_path, capsys, undrawn):
    """float32 rows, on which logistic regression still computes in float64; values to learn, which have no classes."""
    few = ["--batch-sizes", "10,30", "--rates", "0.01,0.03", "--replacements", "1", "--epochs", "2", "--hidden", "3"]
    assert start(tmp_path / "a", *DATA, *few, "--dtype", "float32", "--hidden", "none") == 0
    assert "The one layer ends" in said(tmp_path / "a") and "In logistic regression" in said(tmp_path / "a")
    assert not Results(tmp_path / "a").check_bound()["above"] and not any(
        any(pair["distance"]) for pair in Results(tmp_path / "a").controls()
    )
    values = ["--data", "synthetic:teacher,rows=90,columns=3"]
    assert start(tmp_path / "b", *values, *few, "--test-fraction", "0") == 0
    text = said(tmp_path / "b")
    assert "validation rows" in text and "bound holds" not in text and "held-out loss" in text
    assert "The next lower rate" in text and "Half the rate" not in text
    pair = {(p["batch_size"], p["rate"]): p["distance"][-1] for p in Results(tmp_path / "b").of("network")}
    both = number(pair[10, 0.01] / pair[30, 0.03])
    assert f"{both} times that of the larger one (median of 1 pairs" in text and "In logistic regression" not in text
    assert start(tmp_path / "c", *values, *few, "--convex-rates", "0.1") == 2
    assert "logistic regression needs classes" in capsys.readouterr().err


# --- the report --------------------------------------------------------------------------------------------------


def test_report_says_what_was_found(whole):
    text = said(whole)
    results = Results(whole)
    compared = results.compare("rate", "network", "distance")
    assert compared["n"] == 6 and f"**{compared['lowered']} of 6** pairs" in text and "Half the rate" in text
    assert "The bound holds" in text and "exactly 0 at all" in text
    assert "2.86 / 2.50" in text or "2.50 / 2.86" in text  # 7 -> 20 -> 50
    for word in ("VIOLATED", "FAILS", "Unfinished", "Diverged", "nan", "inf"):
        assert word not in text


@pytest.mark.parametrize(
    ("language", "word", "foreign"), [("en", "Learning rate", "Tasa"), ("es", "Tasa", "Learning rate")]
)
def test_report_is_written_in_both_languages(language, word, foreign, whole, tmp_path, request):
    folder = tmp_path / "copy"
    if language == "en":
        request.getfixturevalue("pictures")
    shutil.copytree(whole, folder)
    assert start(folder, "--report-only", "--language", language) == 0
    text = (folder / "report.md").read_text()
    assert word in text and foreign not in text
    assert len(list((folder / "figures").glob("*.svg"))) == 9 and are_pictures(folder / "figures") == (language == "en")
    assert f'lang="{language}"' in (folder / "report.html").read_text()


VERDICTS = {
    "en": ("THE BOUND IS VIOLATED", "The bound holds", "VIOLATED:** at 1 marks", "1 of {} marks are above the line"),
    "es": ("LA COTA SE VIOLA", "La cota se cumple", "VIOLADA:** en 1 marcas", "1 de {} marcas están por encima"),
}


@pytest.mark.parametrize("language", VERDICTS)
def test_a_violation_of_the_bound_is_reported(language, whole, changed):
    top = max(pair["rate"] for pair in lines(whole) if pair["kind"] == "convex")
    planted = f"convex batch 20 rate {top!r} replacement 1"

    def plant(pair):
        if pair["trial"] == planted:
            pair["distance"][-1] = 1.001 * pair["bound"][-1]
        return pair

    loud, calm, below, beside = VERDICTS[language]
    text = said(changed(plant), language)
    assert loud in text and calm not in text and planted in text
    assert below in text and beside.format(Results(whole).check_bound()["marks"]) in text


@pytest.mark.parametrize(("language", "loud", "calm"), [
    ("en", "THE CONTROL FAILS", "exactly 0 at all"), ("es", "EL CONTROL FALLA", "exactamente 0 en las"),
])  # fmt: skip
def test_a_control_that_is_not_zero_is_reported(language, loud, calm, changed):
    def plant(pair):
        if pair["replacement"] is None and pair["batch_size"] == 50:
            pair["distance"][1] = 1e-17
        return pair

    text = said(changed(plant), language)
    assert loud in text and calm not in text and "1.00e-17" in text


def test_rates_above_the_limit_have_no_bound(changed):
    """Half of the limit that the study had: its largest rate, and the one at half of it, are above."""
    folder = changed(lambda pair: pair, lambda study: study | {"smoothness": 8.0 / study["convex_rates"][-1]})
    text = said(folder)
    assert "no bound is claimed: rates" in text and text.count("no bound\n") == 18
    assert Results(folder).check_bound()["pairs"] == 6
    shutil.rmtree(folder)
    folder = changed(lambda pair: pair, lambda study: study | {"smoothness": 1e9})
    assert "The bound holds" not in said(folder) and "largest distance at any mark" in said(folder)


def test_what_is_missing_or_diverged_is_said(changed):
    def edit(pair):
        if pair["replacement"] is None or (
            pair["kind"] == "network" and pair["batch_size"] == 7 and pair["rate"] == 0.1
        ):
            return None
        return pair | ({"diverged": 3} if pair["kind"] == "network" and pair["batch_size"] == 50 else {})

    text = said(changed(edit))
    assert "**Unfinished:** 17 pairs" in text and "**Diverged:** the loss of 4 pairs" in text
    assert "none of its pairs is whole" in text and "\n-\n" in text


def test_nothing_to_report_is_an_error(changed, capsys):
    folder = changed(lambda pair: pair if pair["kind"] == "convex" else None)
    assert start(folder, "--report-only") == 1
    assert "no pair of networks is whole" in capsys.readouterr().err


def test_one_rate_and_one_batch_size_give_no_comparisons(changed):
    folder = changed(lambda pair: pair if (pair["batch_size"], pair["rate"]) == (20, 0.1) else None)
    for language in ("en", "es"):
        text = said(folder, language)
        assert "VIOL" not in text and ("says nothing about rates" in text) == (language == "en")
    assert "**Learning rate.**" not in text and "factor" not in text


@pytest.mark.parametrize(
    ("gap", "distance", "wanted"),
    [
        (1.0, 1.0, "is seen here at equal epochs"),
        (-1.0, 1.0, "does not follow clearly"),
        (1.0, -1.0, "is not seen here"),
    ],
)
def test_the_conclusion_follows_the_numbers(gap, distance, wanted, changed):
    """Planted gaps and distances that grow or fall with the rate."""

    def plant(pair):
        sign = 1 if pair["rate"] > 0.15 else -1
        pair["loss/held_out"] = [loss + 1.0 + 0.5 * sign * gap for loss in pair["loss/train"]]
        pair["distance"] = [1.0 + 0.5 * sign * distance for _ in pair["distance"]]
        return pair

    text = said(changed(plant))
    assert wanted in text
    if distance > 0:
        assert "**6 of 6** pairs (by a factor of 3.00 in the median; 3.00 to 3.00)" in text
    if gap > 0:
        assert "more than that of a network that has learnt less" in text


@pytest.mark.parametrize(("slope", "wanted"), [(1.0, "grow together"), (-1.0, "gap falls where"), (0.0, "no clear")])
def test_the_relation_of_distance_and_gap_is_what_the_ranks_say(slope, wanted, changed):
    def plant(pair):
        pair["distance"][-1] = place = 2.0 + (hash((pair["batch_size"], pair["rate"])) % 7)
        pair["loss/held_out"][-1] = pair["loss/train"][-1] + slope * place
        return pair

    assert wanted in said(changed(plant))


def test_the_aim_is_named_where_it_agrees_with_the_gap_and_where_not(changed):
    def plant(best):
        def edit(pair):
            here = (pair["batch_size"], pair["rate"])
            pair["loss/held_out"][-1] = pair["loss/train"][-1] + (0.0 if here == (20, 0.1) else 1.0)
            pair["error/held_out"][-1] = 0.125 if here == best else 0.5
            return pair

        return edit

    folder = changed(plant((20, 0.1)))
    assert "held-out error (0.125) are both found at batch size 20 and rate 0.1" in said(folder)
    shutil.rmtree(folder)
    text = said(changed(plant((7, 0.2))))
    assert "held-out error, 0.125, is that of batch size 7 and rate 0.2" in text


def test_at_equal_loss():
    pair = {"loss/train": [4.0, 1.0, 0.25, 0.5], "column": [0.0, 1.0, 3.0, 9.0]}
    assert [at_loss(pair, "column", loss) for loss in (4.0, 2.0, 1.0, 0.5, 0.25)] == [0.0, 0.5, 1.0, 2.0, 3.0]
    assert at_loss({"loss/train": [1.0, 0.0], "column": [5.0, 6.0]}, "column", 0.0) == 6.0


def test_ranks_and_spreads():
    assert rank_correlation([1, 2, 3, 4], [10, 20, 40, 30]) == pytest.approx(0.8, abs=1e-15)
    assert rank_correlation([1, 1, 2], [1, 1, 5]) == pytest.approx(1.0, abs=1e-15)
    assert math.isnan(rank_correlation([1, 1], [1, 2]))
    np.testing.assert_array_equal(spread([[1, 5], [3, 4], [2, 9]]), [[1, 2, 3], [4, 5, 9]])


# --- the front door ----------------------------------------------------------------------------------------------


def test_a_study_that_is_done_does_nothing_again(whole, tmp_path, monkeypatch, undrawn):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    monkeypatch.setattr(stability, "run_pair", lambda *_: pytest.fail("a pair was trained again"))
    before = (folder / "trials.jsonl").read_bytes()
    assert start(folder, *QUICK) == 0 and (folder / "trials.jsonl").read_bytes() == before


def test_a_study_that_was_cut_off_goes_on(whole, changed, capsys, undrawn):
    names = [pair["trial"] for pair in lines(whole)]
    folder = changed(lambda pair: pair if pair["trial"] not in (names[0], names[-1]) else None)
    assert start(folder, *QUICK) == 0 and lines(folder) == lines(whole)
    assert capsys.readouterr().out.count("pairs: ") == 2
    assert start(folder, *QUICK, "--replacements", "3") == 1
    assert "another replacements" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rates", "0.1,x"], 2, "--rates '0.1,x': numbers above 0"),
        (["--batch-sizes", "0"], 2, "--batch-sizes '0'"),
        (["--convex-rates", "-1"], 2, "--convex-rates '-1'"),
        (["--replacements", "0"], 2, "--replacements 0: at least 1"),
        (["--least-epochs", "0"], 2, "--least-epochs 0: at least 1"),
        (["--replacements", "40"], 1, "50 is above the 19 rows that are left of 59 when 40 (--replacements)"),
        (["--replacements", "400"], 1, "50 is above the 0 rows"),
        (["--validation-fraction", "0", "--test-fraction", "0"], 1, "give --test-fraction 0.2"),
        (["--batch-size", "64"], 2, "the batch sizes of this study are --batch-sizes"),
        (["--lr", "0.1"], 2, "the rates of this study are --rates"),
        (["--lr-scaling", "linear"], 2, "the rates of this study are --rates"),
        (["--early-stopping", "3"], 2, "must train equally long"),
        (["--target-metric", "accuracy/val>=0.9"], 2, "must train equally long"),
    ],
)
def test_bad_options_are_one_line(options, code, message, tmp_path, capsys):
    assert start(tmp_path / "bad", *QUICK, *options) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "bad").exists()


def test_bad_options_are_an_error_on_all_ranks(tmp_path):
    options, rest = front._parser().parse_known_args(["stability", "--run-dir", str(tmp_path / "bad"), *QUICK])
    options.batch_sizes = "1000"
    config = parse_train_config([*stability.STABILITY.defaults, *rest])

    def work(comm):
        with pytest.raises(UserError, match="1000 is above the 57 rows"):
            front.study(options, config, comm)
        return True

    assert run_threads(3, work) == [True] * 3
