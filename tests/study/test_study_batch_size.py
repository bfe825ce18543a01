"""The batch-size study: planted truth is found, and the report says what the numbers say, whatever they are."""

import json
import math

import numpy as np
import pytest
from tiny_study import report_on, run_study

from distbp.study.batch_size.results import (
    choose_goal,
    crossing,
    median_band,
    rates_worth_repeating,
    read_batch_sizes,
)
from distbp.study.batch_size.run import batch_sizes_up_to
from distbp.study.batch_size.scaling import fit_scaling
from distbp.study.trials import marks, read_results

# --- the curve --------------------------------------------------------------------------------------------------------


def test_the_fit_recovers_an_exact_curve():
    B = 2.0 ** np.arange(2, 12)
    fit = fit_scaling(B, 300.0 * (1.0 + 64.0 / B))
    assert [x.value for x in (fit.s_min, fit.b_crit, fit.e_min)] == pytest.approx([300.0, 64.0, 19200.0], rel=1e-6)
    assert fit.r2 == pytest.approx(1.0) and fit.knee == "inside"
    assert fit.b_crit.low <= 64.0 <= fit.b_crit.high < 64.1
    assert fit.steps(64.0) == pytest.approx(600.0)


@pytest.mark.parametrize("sizes, seeds, scatter", [(9, 3, 0.1), (9, 5, 0.25), (6, 3, 0.1)])
def test_intervals_hold_in_93_of_100_studies(sizes, seeds, scatter):
    """S_min and B_crit both inside, with a scatter that the seeds share and one of their own."""
    rng = np.random.default_rng(7)
    B = 4.0 * 2.0 ** np.arange(sizes)
    held = 0
    for _ in range(100):
        s_min, b_crit = np.exp(rng.uniform(2.0, 8.0)), np.exp(rng.uniform(math.log(8.0), math.log(B[-1] / 2.0)))
        noise = rng.normal(0.0, scatter, (sizes, 1)) + rng.normal(0.0, scatter / 3.0, (sizes, seeds))
        S = (s_min * (1.0 + b_crit / B))[:, None] * np.exp(noise)
        fit = fit_scaling(np.repeat(B, seeds), S.ravel())
        held += fit.s_min.low <= s_min <= fit.s_min.high and fit.b_crit.low <= b_crit <= fit.b_crit.high
    assert held >= 93


def test_where_the_curve_has_no_knee_the_interval_has_no_end():
    B = 2.0 ** np.arange(2, 10)
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(0.0, 0.02, len(B)))
    flat, steep = fit_scaling(B, 50.0 * noise), fit_scaling(B, 1e5 / B * noise)
    assert flat.knee == "most" and flat.b_crit.low == 0.0 and flat.s_min.low < 50.0 < flat.s_min.high
    assert steep.knee == "least" and steep.b_crit.high == math.inf and steep.s_min.low == 0.0
    assert steep.e_min.low < 1e5 < steep.e_min.high
    assert fit_scaling(B, np.exp(rng.normal(0.0, 2.0, len(B)))).knee == "unknown"
    assert math.isnan(fit_scaling(B, np.full(len(B), 7.0)).r2)


@pytest.mark.parametrize("B, S, text", [
    ([1, 2], [1, 2], "2 batch sizes: a curve of two parameters takes at least 3"),
    ([1, 2, 3], [1, 2], "one of each for a run"),
    ([1, 2, 3], [1, 2, math.inf], "leave out runs that did not reach the goal"),
])  # fmt: skip
def test_what_cannot_be_fitted_is_refused(B, S, text):
    with pytest.raises(ValueError, match=text):
        fit_scaling(B, S)


# --- results ----------------------------------------------------------------------------------------------------------

S_MIN, B_CRIT = 40.0, 32.0
SIZES, RATES, SEEDS = [4, 16, 64, 256], [0.1, 0.2, 0.4], 3


def write_study(folder, *, slow=1.0, change=lambda trial, mark: mark, status=lambda b, rate: "complete", **more):
    """A study whose error reaches 0.1 after exactly S(B) steps at the rate 0.2, later at others."""
    steps = [2000] * len(SIZES)
    study = {
        "study": "batch-size", "data": "made up", "rows": 1000, "network": "network 3-2", "parameters": 8,
        "batch_sizes": SIZES, "rates": RATES, "seeds": SEEDS, "epochs": 4, "least_steps": 200, "steps": steps,
        "halving": False, "goal": {"metric": "error/val", "value": 0.1}, "ranks_per_trial": 1, "command": "x",
        "versions": {"numpy": "2"}, "machine": "m", "ranks": 1,
    } | more  # fmt: skip
    lines = []
    for b in SIZES:
        for rate in RATES:
            for seed in range(SEEDS):
                S = S_MIN * (1.0 + B_CRIT / b) * (1.0 if rate == 0.2 else 3.0) * slow
                trial = {"batch_size": b, "rate": rate, "seed": seed, "steps": 2000, "status": status(b, rate)}
                found = []
                for step in marks(2000):
                    error = 0.1 * (step / S) ** -0.5
                    mark = {
                        "step": step,
                        "epoch": step * b / 1000,
                        "examples": step * b,
                        "seconds": step * (1 + b) * 1e-4,
                    }
                    mark |= {f"{what}/{part}": error for what in ("loss", "error") for part in ("train", "val", "test")}
                    mark["error/test"] = 1.5 * error
                    found.append(change(trial, mark | {"noise_scale": 20.0 * step**0.5}))
                name = f"B={b} rate={rate:g} seed={seed} steps=2000"
                lines.append({"trial": name, **trial, "marks": found, "seconds": {}})
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return study


def test_planted_steps_examples_and_seconds_are_found(tmp_path):
    write_study(tmp_path)
    results = read_batch_sizes(tmp_path)
    for size in results.sizes:
        S = S_MIN * (1.0 + B_CRIT / size.batch_size)
        assert size.rate == 0.2 and size.reached == 3 and size.each == pytest.approx([S] * 3)
        assert size.steps == pytest.approx((S, S, S))
        assert size.examples == pytest.approx((S * size.batch_size,) * 3)
        assert size.seconds[1] == pytest.approx(S * (1 + size.batch_size) * 1e-4)
        assert dict(size.by_rate)[0.4] == pytest.approx(3.0 * S)
        assert size.step_seconds == pytest.approx((1 + size.batch_size) * 1e-4)
        at = max(step for step in marks(2000) if step * size.batch_size <= 4000)
        assert size.error["epoch"][1] == pytest.approx(0.15 * (at / S) ** -0.5)
        assert size.gap["epoch"][1] == pytest.approx(0.05 * (at / S) ** -0.5)
        at = max(step for step in marks(2000) if step <= 200)
        assert size.error["step"][1] == pytest.approx(0.15 * (at / S) ** -0.5)
        within = [step for step in marks(2000) if step <= S]
        mean = np.average([20.0 * step**0.5 for step in within], weights=np.diff([0, *within]))
        assert size.noise_to_goal == pytest.approx(mean)
    assert results.fit.b_crit.value == pytest.approx(B_CRIT, rel=1e-3)
    assert results.fit.s_min.value == pytest.approx(S_MIN, rel=1e-3)
    assert results.fastest() is min(results.sizes, key=lambda size: size.seconds[1])
    assert results.seconds_budget == pytest.approx(2000 * 5e-4)
    assert (results.trials, results.diverged) == (36, 0)


def test_crossings_lie_between_marks_on_a_power_law():
    found = [{"step": 10, "e": 0.4}, {"step": 40, "e": 0.2}, {"step": 90, "e": 0.3}]
    assert crossing(found, "e", 0.2 * 2**0.5) == pytest.approx(20.0)
    assert 10.0 < crossing([{"step": 10, "e": 0.4}, {"step": 40, "e": 0.0}], "e", 0.2) < 20.0
    assert crossing(found, "e", 0.5) == 10.0
    assert crossing(found, "e", 0.1) == math.inf


def test_medians_and_their_bands():
    assert median_band(np.array([3.0, 1.0, 2.0])) == (1.0, 2.0, 3.0)
    assert median_band(np.array([[1.0, 9.0, 9.0], [5.0, 5.0, 5.0]])) == (1.0, 5.0, 5.0)
    assert median_band(np.array([1.0, 2.0, np.inf])) == (1.0, 2.0, np.inf)
    assert median_band(np.array([1.0, np.inf])) == (1.0, np.inf, np.inf)  # of two the larger one
    values = np.random.default_rng(0).normal(size=100)
    low, middle, high = median_band(values)
    assert low < middle < high and 0.3 < (high - low) / (2 * 1.96 * 1.2533 / 10) < 1.8


def test_the_goal_is_one_that_every_batch_size_reaches(tmp_path):
    study = write_study(tmp_path, goal=None)
    results = read_results(tmp_path)
    goal = choose_goal(study, results)
    worst = 0.1 * (2000 / (S_MIN * (1.0 + B_CRIT / 4))) ** -0.5
    assert goal == {"metric": "error/val", "value": float(f"{1.25 * worst:.2g}")}
    assert all(size.reached == 3 for size in read_batch_sizes(tmp_path).sizes)
    assert choose_goal(study, {}) == {"metric": "error/val", "value": 1.2}


def test_the_rates_beside_the_fastest_are_repeated(tmp_path):
    study = write_study(tmp_path, status=lambda b, rate: "diverged" if b == 4 else "complete")
    chosen = rates_worth_repeating(study, read_results(tmp_path), study["goal"])
    assert chosen == {4: [], 16: RATES, 64: RATES, 256: RATES}


def test_batch_sizes_are_powers_of_two_and_all_rows():
    assert batch_sizes_up_to(1258) == [4, 8, 16, 32, 64, 128, 256, 512, 1258]
    assert batch_sizes_up_to(64) == [4, 8, 16, 32, 64]
    assert batch_sizes_up_to(3) == [3]


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "es"])
def test_the_answer_has_the_planted_numbers(tmp_path, language):
    write_study(tmp_path)
    found = report_on(tmp_path, language=language)
    text = found.answer
    assert "S(B) = 40.0 (1 + 32.0 / B)" in text
    assert ("In the middle" not in text) and len(found.sections) == 5
    first = next(iter(found.sections.values()))
    assert ("Perfect scaling" in first or "perfect scaling" in first) == (language == "en")
    assert len(found.charts) == len(found.captions) == 10


def answer(folder):
    found = report_on(folder)
    assert report_on(folder, language="es").answer != found.answer
    return found.answer, found


def test_what_is_filled_in_begins_no_section(tmp_path):
    write_study(tmp_path, data="x\n\n## y", command="a\r\n\n- b: c")
    found = answer(tmp_path)[1]
    assert len(found.sections) == 5 and len(found.facts.splitlines()) == 7
    assert "- command: `a  - b: c`" in found.facts


def test_no_goal_no_curve(tmp_path):
    write_study(tmp_path, slow=1000.0)
    text, found = answer(tmp_path)
    assert "Fewer than three batch sizes reached the goal" in text and "No batch size reached the goal" in text
    assert "times B_crit" not in str(found.sections)


def test_all_diverged(tmp_path):
    write_study(tmp_path, status=lambda b, rate: "diverged")
    text, found = answer(tmp_path)
    assert text == "Every training diverged: give lower --rates." and found.sections == {}
    assert "36, of which 36 diverged" in found.facts


def scaled(power):
    """Another law of steps: as B^power, without a knee."""

    def change(trial, mark):
        S = 400.0 * trial["batch_size"] ** power * (1.0 if trial["rate"] == 0.2 else 3.0)
        S *= 1.0 + 0.01 * math.sin(trial["batch_size"])
        return mark | {key: 0.1 * (mark["step"] / S) ** -0.5 for key in ("error/val", "loss/val", "error/train")}

    return change


def test_laws_without_a_knee(tmp_path):
    write_study(tmp_path, change=scaled(0.0))
    assert "whatever the batch size" in answer(tmp_path)[0]
    write_study(tmp_path, change=scaled(-1.0))
    assert "Doubling the batch halves the steps" in answer(tmp_path)[0]
    write_study(tmp_path, change=lambda trial, mark: scaled(math.sin(9.0 * trial["batch_size"]))(trial, mark))
    assert "scatter too much to say" in answer(tmp_path)[0]


def test_a_batch_size_that_misses_and_rates_at_the_edge_are_named(tmp_path):
    def change(trial, mark):
        return mark | ({"error/val": 0.5} if trial["batch_size"] == 256 else {})

    write_study(tmp_path, change=change)
    assert "Not reached with 256." in answer(tmp_path)[0]
    write_study(tmp_path, rates=[0.2, 0.4], status=lambda b, rate: "diverged" if rate == 0.1 else "complete")
    assert "At B = 4, 16, 64, 256 it is the first or the last one" in answer(tmp_path)[0]


def test_equal_errors_are_not_told_apart_and_unequal_gaps_are(tmp_path):
    write_study(tmp_path, change=lambda trial, mark: mark | {"error/test": 0.3 + 0.01 * trial["seed"]})
    text, found = answer(tmp_path)
    assert text.count("no batch size can be told from another") == 3
    write_study(tmp_path, change=lambda t, mark: mark | {"error/test": mark["error/train"] + 1e-3 * t["batch_size"]})
    caption = answer(tmp_path)[1].captions["gap"]
    assert "the gap is 0.00400 at the smallest batch and 0.256 at the largest" in caption


def test_without_validation_test_and_noise(tmp_path):
    kept = ("step", "epoch", "examples", "seconds", "loss/train", "error/train")
    write_study(
        tmp_path,
        change=lambda trial, mark: {key: mark[key] for key in kept},
        goal={"metric": "error/train", "value": 0.1},
    )
    text, found = answer(tmp_path)
    assert "a training error of 0.1" in text and len(found.sections) == 4


def test_halving_ends_hopeless_rates_early(tmp_path):
    run_study(
        tmp_path, "--data", "synthetic:blobs,rows=80,columns=3,classes=3,seed=4", "--hidden", "5", "--halving",
        "--batch-sizes", "8", "--rates", "0.001,0.01,0.1,0.2,0.4,0.8", "--seeds", "2", "--least-epochs", "2",
        "--least-steps", "40",
    )  # fmt: skip
    results = read_results(tmp_path)
    steps = {result["rate"]: result["steps"] for result in results.values()}
    assert steps[0.001] < 40 and max(steps.values()) == 40
    assert sum(r["steps"] == 40 and r["seed"] == 0 for r in results.values()) == 2
    assert "successive halving" in report_on(tmp_path).question


def test_a_regression_has_its_root_mean_square_and_a_wild_rate_diverges(tmp_path):
    run_study(
        tmp_path, "--data", "synthetic:teacher,rows=60,columns=3,classes=0", "--hidden", "4",
        "--batch-sizes", "4,16,36", "--rates", "0.01,1e6", "--seeds", "2",
        "--least-epochs", "1", "--least-steps", "20", "--no-scale-target", ranks=2,
    )  # fmt: skip
    results = read_results(tmp_path)
    wild = [r for r in results.values() if r["rate"] == 1e6]
    assert wild and all(r["status"] == "diverged" for r in wild)
    mark = next(r for r in results.values() if r["rate"] == 0.01)["marks"][-1]
    assert mark["error/val"] == pytest.approx(math.sqrt(2.0 * mark["loss/val"]), rel=1e-5)
