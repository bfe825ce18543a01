"""The trade-offs of large-scale learning: the objective, the race, the split, and the whole study."""

import json
import math
import sys
from functools import partial

import numpy as np
import pytest
from conftest import prepared
from tiny_study import are_pictures, report_on

from distbp import BinaryCrossEntropy, Network, SerialCommunicator, SoftmaxCrossEntropy, SyntheticDataset, run_threads
from distbp.errors import UserError
from distbp.run.build import load_data
from distbp.run.config import parse_train_config
from distbp.study.__main__ import EXPERIMENTS, _parser, main, study
from distbp.study.tradeoff import objective as objectives
from distbp.study.tradeoff.objective import lbfgs, objective
from distbp.study.tradeoff.race import EXACT_RATES, Heats, Race, Rows, common, drawn, in_memory, race, spread
from distbp.study.tradeoff.split import Fit, Parts, Split, budgets, fit, leading

N = 333


def some_rows(classes=3, seed=5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, 4))
    y = (X @ rng.standard_normal((4, classes)) + rng.standard_normal((N, classes))).argmax(axis=1)
    return prepared(X, y, weights=rng.uniform(0.2, 3.0, N))


# --- the objective ------------------------------------------------------------------------------------


def value_and_gradient(comm, theta):
    network = Network([4, 5, 3], "tanh", dtype=np.float64, seed=3)
    return objective(network, SoftmaxCrossEntropy(), some_rows(), comm, weight_decay=0.1)(theta)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_objective_is_the_weighted_mean_with_its_gradient_on_any_number_of_ranks(size, monkeypatch):
    monkeypatch.setattr(objectives, "BLOCK", 50)
    network = Network([4, 5, 3], "tanh", dtype=np.float64, seed=3)
    theta = network.theta.copy()
    X, y, w = some_rows().take(np.arange(N))

    def by_definition(theta):
        network.theta[...] = theta
        squares = sum((layer.W**2).sum() for layer in network.layers)
        return (SoftmaxCrossEntropy().value(network.forward(X), y) * w).mean() + 0.05 * squares

    for value, gradient in run_threads(size, partial(value_and_gradient, theta=theta)):
        assert value == pytest.approx(by_definition(theta), rel=1e-12)
        for i in range(0, len(theta), 7):  # central differences: an error of h^2 and of rounding / h, about 1e-9
            step = np.zeros_like(theta)
            step[i] = 1e-5
            difference = (by_definition(theta + step) - by_definition(theta - step)) / 2e-5
            assert gradient[i] == pytest.approx(difference, abs=1e-8)


def convex():
    """Logistic regression with an L2 penalty, which has one minimum."""
    return objective(
        Network([4, 1], dtype=np.float64), BinaryCrossEntropy(), some_rows(2), SerialCommunicator(), weight_decay=0.01
    )


def test_lbfgs_finds_the_minimum_that_newton_finds():
    X, y, w = some_rows(2).take(np.arange(N))
    A = np.concatenate([X, np.ones((N, 1))], axis=1)  # weights, then the bias
    penalty = np.diag([0.01] * 4 + [0.0])
    theta = np.zeros(5)
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-A @ theta))
        gradient = A.T @ (w * (p - y)) / N + penalty @ theta
        theta -= np.linalg.solve((A.T * (w * p * (1 - p))) @ A / N + penalty, gradient)
    assert np.abs(gradient).max() < 1e-12
    steps = []
    found = lbfgs(convex(), np.zeros(5), passes=200, each=lambda theta: steps.append(theta.copy()))
    np.testing.assert_allclose(found, theta, atol=1e-6)
    np.testing.assert_array_equal(steps[-1], found)


def test_lbfgs_keeps_to_its_passes_and_backs_off_from_what_is_not_finite():
    calls = []

    def wall(theta):
        calls.append(theta.copy())
        return (math.nan if theta[0] < 0.5 else (theta[0] - 0.6) ** 2), np.array([2.0 * (theta[0] - 0.6)])

    assert lbfgs(wall, np.array([2.0]), passes=40)[0] == pytest.approx(0.6, abs=1e-6)
    J = convex()
    calls.clear()
    lbfgs(lambda theta: (calls.append(theta), J(theta))[1], np.ones(5), passes=4)
    assert 4 <= len(calls) <= 25  # SciPy finishes the line search that it is in


# --- trials -------------------------------------------------------------------------------------------

TINY = (
    "--data synthetic:spirals,rows=600,columns=2,noise=0.2 --dtype float64 --hidden none --validation-fraction 0"
    " --optimizer sgd --batch-size 20"
).split()


@pytest.fixture(scope="module")
def problem():
    config = parse_train_config(TINY)
    data = load_data(config, SerialCommunicator())
    rows = Rows(*(in_memory(p, np.arange(n)) for p, n in ((data.train, 400), (data.test, 100), (data.train, 400))))
    return config, data, rows


def softmax_regression(rows, theta):
    """Mean loss and gradient of a linear model by hand, theta as W (2, 2) unit by unit, then b."""
    X, y, _ = rows.take(np.arange(rows.n_rows))
    W, b = theta[:4].reshape(2, 2).T, theta[4:]
    z = X @ W + b
    logs = z - np.logaddexp(z[:, :1], z[:, 1:])
    p, loss = np.exp(logs), -logs[np.arange(len(y)), y].mean()
    delta = (p - np.eye(2)[y]) / len(y)
    return loss, np.concatenate([(X.T @ delta).T.ravel(), delta.sum(axis=0)]), np.mean(z.argmax(axis=1) != y)


def start(seed):
    return Network([2, 2], dtype=np.float64, seed=seed).theta.copy()


def test_gradient_descent_is_what_numpy_does(problem):
    config, data, rows = problem
    curve = race(Race("gd", 1, 0.7, 6, 400), config, data, rows, SerialCommunicator())["curve"]
    theta, losses, errors = start(1), [], []
    for _ in range(6):
        theta -= 0.7 * softmax_regression(rows.train, theta)[1]
        losses.append(softmax_regression(rows.train, theta)[0])
        errors.append(softmax_regression(rows.test, theta)[2])
    assert curve["steps"] == [1, 2, 3, 4, 5, 6]
    assert curve["examples"] == [400, 800, 1200, 1600, 2000, 2400]
    np.testing.assert_allclose(curve["train"], losses, rtol=1e-12)
    np.testing.assert_allclose(curve["error"], errors, atol=1e-12)


def test_the_exact_step_takes_the_best_of_its_rates(problem):
    config, data, rows = problem
    found = race(Race("exact", 2, 0.0, 1, 400), config, data, rows, SerialCommunicator())
    theta = start(2)
    gradient = softmax_regression(rows.train, theta)[1]
    errors = {rate: softmax_regression(rows.test, theta - rate * gradient)[2] for rate in (0.0, *EXACT_RATES)}
    assert found["error"] == pytest.approx(min(errors.values()), abs=1e-12)
    assert errors[found["rate"]] == pytest.approx(found["error"], abs=1e-12)
    assert found["before"]["error"] == pytest.approx(errors[0.0], abs=1e-12)
    assert found["examples"] == 400


def test_lbfgs_in_the_race_counts_every_pass(problem):
    config, data, rows = problem
    result = race(Race("lbfgs", 1, 0.0, 30, 400), config, data, rows, SerialCommunicator())
    curve = result["curve"]
    assert curve["steps"] == list(range(1, len(curve["steps"]) + 1))
    assert all(seen >= 400 * (step + 1) for step, seen in zip(curve["steps"], curve["examples"], strict=True))
    theta = start(1)
    for _ in range(3_000):  # a convex problem: gradient descent comes to the same minimum
        theta -= softmax_regression(rows.train, theta)[1]
    assert curve["train"][-1] == pytest.approx(softmax_regression(rows.train, theta)[0], abs=1e-6)


def test_an_epoch_of_the_mini_batches_is_measured(problem):
    config, data, rows = problem
    curve = race(Race("b=30", 0, 0.1, 50, 30), config, data, rows, SerialCommunicator())["curve"]
    assert dict(zip(curve["steps"], curve["examples"], strict=True))[14] == 400  # 13 batches of 30, one of 10


@pytest.mark.parametrize("trial", [Race("b=30", 0, 1e300, 50, 30), Race("b=30", 0, 1e300, 50, 30, tuning=True)])
def test_a_run_that_diverges_is_one(problem, trial):
    config, data, rows = problem
    squared = parse_train_config([*TINY, "--loss", "squared-error"])
    assert race(trial, squared, data, rows, SerialCommunicator())["diverged"]
    diverged = fit(Fit(100, 3, 0, 1e300, 1000, 20), squared, data, rows, SerialCommunicator())
    assert diverged["diverged"] and diverged["summary"] == "diverged"


def test_rows_in_memory_are_the_rows(problem):
    _, data, _ = problem
    which = drawn(data.train.n_rows, 100, 7, "rows")
    np.testing.assert_array_equal(which[:40], drawn(data.train.n_rows, 40, 7, "rows"))
    assert len(set(which.tolist())) == 100
    there, here = data.train.take(which), in_memory(data.train, which).take(np.arange(100))
    np.testing.assert_array_equal(here[0], there[0])
    np.testing.assert_array_equal(here[1], there[1])
    weighted = in_memory(some_rows(), which[which < N]).take(np.arange((which < N).sum()))
    np.testing.assert_array_equal(weighted[2], some_rows().take(which[which < N])[2])


# --- the best possible --------------------------------------------------------------------------------


def test_densities_of_spirals_are_integrals_along_the_arms():
    from scipy.integrate import quad

    data = SyntheticDataset("spirals", rows=50, columns=3, classes=3, noise=0.1, seed=4)
    X, _, _ = data.take(np.arange(50))
    found = data.log_densities(X)
    for row, logs in zip(X[:5], found, strict=False):

        def along(t, c, row=row):
            angle = 2.0 * np.pi * (1.5 * t + c / 3)
            return np.exp(-((row[0] - t * np.cos(angle)) ** 2 + (row[1] - t * np.sin(angle)) ** 2) / (2 * 0.1**2))

        exact = np.log([quad(along, 0, 1, args=(c,), epsabs=1e-13, limit=200)[0] for c in range(3)])
        assert np.ptp(exact) < 40
        np.testing.assert_allclose(logs - logs.max(), exact - exact.max(), atol=2e-3)  # midpoints: O(1 / pieces^2)


def test_densities_of_blobs_are_normal():
    data = SyntheticDataset("blobs", rows=4000, columns=2, classes=2, noise=1.0, seed=4)
    X, y, _ = data.take(np.arange(4000))
    centres = [X[y == c].mean(axis=0) for c in range(2)]
    found = data.log_densities(X)
    middle = (X - (centres[0] + centres[1]) / 2) @ (centres[1] - centres[0])  # the log-odds of two equal clouds
    assert np.corrcoef(found[:, 1] - found[:, 0], middle)[0, 1] > 0.99
    # centres of 2,000 rows are 0.02 off
    np.testing.assert_allclose(found[:, 1] - found[:, 0], middle, atol=0.5)
    assert SyntheticDataset("blobs", noise=0.0).log_densities(X) is None
    assert SyntheticDataset("teacher", classes=2).log_densities(X) is None


# --- the split, by hand -------------------------------------------------------------------------------


def line(n, width, seed, errors, train=(1.0, 0.5, 0.1)):
    curve = {"examples": [10, 100, 1000], "error": list(errors), "train": list(train)}
    return {"n": n, "width": width, "seed": seed, "rate": 0.1, "tuning": False, "diverged": False, "curve": curve}


BY_HAND = [
    line(50, 2, 0, (0.50, 0.45, 0.40)), line(50, 8, 0, (0.50, 0.25, 0.30)), line(50, 8, 1, (0.52, 0.3, 0.28)),
    line(900, 2, 0, (0.50, 0.4, 0.35)), line(900, 8, 0, (0.5, 0.3, 0.15)), line(900, 8, 1, (0.5, 0.3, 0.17)),
]  # fmt: skip


@pytest.mark.parametrize(("best", "reference"), [(0.1, 0.1), (None, 0.15)])
def test_each_part_is_its_definition(best, reference):
    split = Split(
        [*BY_HAND, line(900, 8, 2, (0, 0, 0)) | {"tuning": True}, line(50, 2, 3, ()) | {"diverged": True}], best
    )
    assert split.best == reference and split.known == (best is not None)
    got = split.parts(50, 8, 0, budget=100)
    assert got.app == pytest.approx(0.15 - reference)  # the best long run on 900 rows
    assert got.est == pytest.approx(0.30 - 0.15)
    assert got.opt == pytest.approx(0.25 - 0.30)  # to stop early is better
    assert got.gap == pytest.approx(0.5 - 0.1)
    assert split.parts(900, 2, 0, 1000) == Parts(pytest.approx(0.35 - reference), 0.0, 0.0, 0.0)
    assert split.seeds(50, 8) == [0, 1] and split.rates == {2: 0.1, 8: 0.1}


def test_parts_add_up_to_the_excess_error():
    split = Split(BY_HAND, 0.1)
    for (n, width, seed), curve in split.curves.items():
        for budget, error in zip((10, 100, 1000), curve["error"], strict=True):
            assert split.parts(n, width, seed, budget + 5).total == pytest.approx(error - 0.1, abs=1e-15)
    assert split.parts(50, 8, 0, 1).total == pytest.approx(0.4)  # before the first mark: that one


def test_a_wider_family_contains_the_narrower():
    assert Split([*BY_HAND, line(900, 16, 0, (0.5, 0.4, 0.3))], 0.1).of_family(16) == 0.15
    assert math.isnan(Split(BY_HAND, 0.1).of_family(1))


def test_budgets_end_with_the_long_run():
    assert budgets(1000, 10) == [10, 32, 100, 316, 1000]


def test_the_words_follow_the_numbers(tmp_path):
    assert leading([Parts(0.1, 0.3, 0.2, 0.0)]) == "est"
    few, most = (answer(tmp_path).split("**50 rows")[i] for i in (1, 0))
    assert "optimisation is no longer the greatest from 100 examples on" in few and "most of it estimation" in few
    assert "stays the greatest until the long run ends" in most and "most of it approximation" in most
    assert "optimisation is never the greatest" in answer(tmp_path, fits=[line(50, 8, 0, (0.3, 0.3, 0.3))])


# --- the race, by hand --------------------------------------------------------------------------------


def curve(errors, step=1, examples=100, seconds=1.0):
    at = [step * (i + 1) for i in range(len(errors))]
    return {
        "steps": at, "examples": [examples * s for s in at], "seconds": [seconds * s for s in at],
        "error": list(errors),
    }  # fmt: skip


def heats(exact=0.4):
    curves = {
        "b=100": [curve([0.4, 0.2, 0.1]), curve([0.4, 0.3, 0.1]), curve([0.3, 0.2, 0.12])],
        "gd": [curve([0.45, 0.38], examples=1000, seconds=5.0), curve([0.44, 0.3], examples=1000, seconds=5.0)],
        "lbfgs": [curve([0.4, 0.2], examples=1000, seconds=9.0)],
    }
    one = {"error": exact, "seconds": 2.0, "examples": 1000, "before": {"error": 0.5}}
    return Heats(curves, [one], {}, [])


def answer(folder, exact=0.4, fits=BY_HAND):
    """The answer of a report on results by hand."""
    race = heats(exact)
    study = {
        "study": "tradeoff", "data": "made up", "rows": 200, "network": "network 3-2", "parameters": 8, "seeds": 3,
        "batch_sizes": [100], "rates": [0.1, 1.0], "budget": 1000, "kind": "classes", "best": 0.1, "test_rows": 50,
        "command": "x", "versions": {"numpy": "2"}, "machine": "m", "ranks": 1, "ranks_per_trial": 1,
    }  # fmt: skip
    lines = [{"method": "exact", "seed": 0, **one} for one in race.exact]
    for method, curves in race.curves.items():
        lines += [{"method": method, "seed": i, "diverged": False, "curve": one} for i, one in enumerate(curves)]
    lines = [{"trial": f"trial {i}", **one} for i, one in enumerate([*lines, *fits])]
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "trials.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    return report_on(folder, "tradeoff").answer


def test_goals_are_what_all_and_what_all_but_the_worst_reach():
    race = heats()
    assert spread([3, 1, 2, 4]) == (1, 2, 4)
    assert race.goals() == pytest.approx([0.30 * 1.01, 0.2 * 1.01])
    assert race.to_goal("b=100", 0.303, "examples") == (100, 200, 200)
    assert race.to_goal("gd", 0.303, "seconds") == (10.0, 10.0, math.inf)
    assert race.to_goal("gd", 0.202, "steps") == (math.inf,) * 3
    assert race.after("b=100", 2) == (0.2, 0.2, 0.3)
    assert race.within("b=100", 2.5) == (0.2, 0.2, 0.3) and race.within("b=100", 0.1) == (0.3, 0.4, 0.4)


@pytest.mark.parametrize(
    ("exact", "words"),
    [(0.4, "approximate steps are better"), (0.1, "exact step is better"), (0.25, "do not tell which is better")],
)
def test_the_direct_answer_follows_the_numbers(exact, words, tmp_path):
    said = answer(tmp_path, exact).split("\n\n")
    assert words in said[0]
    assert "first with mini-batches of 100, in 2.00 s, and last with L-BFGS, in 18.0 s, 9.0 times as long" in said[1]
    assert "never with gradient descent" in said[2]


def test_curves_are_read_where_all_of_them_are():
    x, middle = common([curve([0.4, 0.2]), curve([0.3, 0.1, 0.1])], "steps")
    assert (x[0], x[-1]) == pytest.approx((1, 2))
    np.testing.assert_allclose([middle[0], middle[-1]], [(0.3, 0.3, 0.4), (0.1, 0.1, 0.2)], atol=1e-12)
    assert common([curve([0.4])], "steps") == ([], [])


# --- the whole study ----------------------------------------------------------------------------------

SMALL = (
    "tradeoff --data synthetic:spirals,rows=600,columns=2,noise=0.2 --hidden 3 --epochs 2 --batch-sizes 20,100"
    " --passes 4 --sizes 30,120 --widths none,3 --budget 600 --rates 0.1,1 --seeds 2 --dtype float64 --batch-size 20"
).split()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "a"
    assert main([*SMALL, "--run-dir", str(folder)]) == 0
    return folder


def without_times(folder):
    trials = [json.loads(one) for one in (folder / "trials.jsonl").read_text().splitlines()]
    for one in trials:
        (one.get("curve") or one).pop("seconds", None)
    return trials


def test_the_report_in_both_languages_and_a_rerun_that_does_nothing(done, capsys, request):
    english, trials = (done / "report.md").read_text(), (done / "trials.jsonl").read_bytes()
    assert "## The race" in english and "24 approximate steps" in english
    assert {path.stem for path in (done / "figures").glob("*.svg")} == {
        "race-examples", "race-steps", "race-seconds", "split-rows", "split-width", "split-budget-few",
        "split-budget-most",
    }  # fmt: skip
    assert main([*SMALL, "--run-dir", str(done), "--language", "es"]) == 0
    assert "done" not in capsys.readouterr().out
    spanish = (done / "report.md").read_text()
    assert "## La carrera" in spanish and "## The race" not in spanish
    assert (done / "trials.jsonl").read_bytes() == trials
    request.getfixturevalue("pictures")
    assert main(["tradeoff", "--run-dir", str(done), "--report-only"]) == 0
    assert are_pictures(done / "figures")
    again = (done / "report.md").read_text()
    assert again.split("## How to")[0] == english.split("## How to")[0]  # below it the command, which was another


def test_ranks_and_their_groups_change_nothing_but_the_time(done, tmp_path, monkeypatch):
    monkeypatch.setattr("distbp.study.__main__._report", lambda *anything: None)
    for together in 1, 2:
        folder = tmp_path / str(together)
        more = ["--run-dir", str(folder), "--ranks-per-trial", str(together)]
        options, rest = _parser().parse_known_args([*SMALL, *more])
        config = parse_train_config([*EXPERIMENTS["tradeoff"].defaults, *rest])
        assert run_threads(2, lambda comm, o=options, c=config: study(o, c, comm)) == [0, 0]
        for one, other in zip(without_times(folder), without_times(done), strict=True):
            assert one["trial"] == other["trial"]
            for name, values in (other.get("curve") or {"error": other["error"]}).items():
                # sums of other orders: rounding, which 50 steps make a little larger
                np.testing.assert_allclose((one.get("curve") or one)[name], values, rtol=1e-9, atol=1e-12)


def test_a_regression_without_lbfgs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    more = "--data synthetic:teacher,rows=600,columns=2 --no-lbfgs --seeds 1 --sizes 30 --rates 0.1 --rows 400"
    assert main([*SMALL, *more.split(), "--run-dir", str(tmp_path / "s")]) == 0
    report = (tmp_path / "s" / "report.md").read_text()
    assert "test loss" in report and "L-BFGS" not in report and "the best of all runs" in report
    assert "400 training rows" in report and "At an end of the list" in report


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ("--passes 0", 2, "--passes 0: at least 1"),
        ("--rows 9999", 2, "--rows 9999: between 1 and the 480 training rows"),
        ("--batch-sizes 999", 2, "--batch-sizes 999: at most the 480 rows"),
        ("--sizes 999", 2, "--sizes 999: at most the 480 rows"),
        ("--widths some", 2, "--widths 'some': numbers above 0"),
        ("--rates x", 2, "--rates 'x': numbers above 0"),
        ("--dropout 0.5", 2, "--dropout 0.5: the methods need one objective"),
        ("--model test_functions:model", 2, "leave it out"),
        ("--steps 5", 2, "leave --steps out"),
        ("--test-fraction 0", 1, "no test rows"),
        ("--rates 1e300 --loss squared-error", 1, "diverged: give lower --rates"),
    ],
)
def test_bad_options_are_one_line(more, code, message, tmp_path, capsys):
    assert main([*SMALL, "--run-dir", str(tmp_path / "s"), *more.split()]) == code
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_without_scipy_one_line_says_what_to_do(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert main([*SMALL, "--run-dir", str(tmp_path / "s")]) == 1
    assert "pip install 'distbp[study]', or leave it out with --no-lbfgs" in capsys.readouterr().err


def test_a_study_that_is_not_done_has_no_page(done, tmp_path):
    (tmp_path / "study.json").write_bytes((done / "study.json").read_bytes())
    with pytest.raises(UserError, match="is not done: start it again"):
        report_on(tmp_path, "tradeoff")


def test_runs_that_diverged_are_named_and_their_numbers_left_out(done, tmp_path):
    (tmp_path / "study.json").write_bytes((done / "study.json").read_bytes())
    results = [json.loads(one) for one in (done / "trials.jsonl").read_text().splitlines()]
    for one in results:
        if one["trial"].startswith(("race gd", "split n=30")):
            one["diverged"] = True
    (tmp_path / "trials.jsonl").write_text("".join(json.dumps(one) + "\n" for one in results))
    found = report_on(tmp_path, "tradeoff")
    assert "Diverged, and ends early: race gd rate=" in found.sections["Learning rates"]
    assert "**120 rows" in found.answer and "**30 rows" not in found.answer


def test_the_best_possible_is_known_for_synthetic_classes_only(problem, done):
    options, _ = _parser().parse_known_args(["tradeoff", "--batch-sizes", "100", "--sizes", "100"])
    for more, known in ([], False), (["--data", "synthetic:blobs,rows=900,noise=3"], True):
        config = parse_train_config(["--recipe", "plain", *more])
        asked = EXPERIMENTS["tradeoff"].ask(options, config, load_data(config, SerialCommunicator()))
        assert (asked["best"] is not None) == known
    # arms 0.33 apart with noise of 0.2: some error, and less than by chance
    assert 0.2 < json.loads((done / "study.json").read_text())["best"] < 0.5
