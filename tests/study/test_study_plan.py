"""The plan: its laws, fitted and applied, on made-up measurements; the calibration; what the report says."""

import argparse
import json
import math

import numpy as np
import pytest
from test_study_batch_size import B_CRIT, S_MIN, SIZES, write_study
from tiny_study import report_on, run_study

from distbp import run_threads
from distbp.errors import UsageError, UserError
from distbp.run.options import TrainConfig
from distbp.study.experiment import default_folder
from distbp.study.plan.figures import read_plan
from distbp.study.plan.model import Network, Steps, StepTime, fit_allreduce, predict
from distbp.study.plan.run import _curve, first_ranks, group_sizes, powers_between, quartiles, time_allreduce
from distbp.study.trials import read_results

DATA = ("--data", "synthetic:blobs,rows=72,columns=3,classes=3,seed=4", "--hidden", "5")


def measured_steps(ranks=(1, 2)):
    """A step of 1 ms and 10 us a row of a rank."""
    return [
        {"batch_size": b, "ranks": P, "seconds": t, "low": 0.9 * t, "high": 1.2 * t}
        for P in ranks
        for b in SIZES
        for t in [1e-3 + 1e-5 * b / P]
    ]


def allreduces(alpha, beta, ranks=(2, 4, 8), scatter=0.0):
    rng = np.random.default_rng(0)
    network = Network(alpha, beta)
    return [
        {"ranks": P, "bytes": n, "seconds": network.allreduce(P, n) * math.exp(rng.normal(0.0, scatter))}
        for P in ranks
        for n in (8, 4096, 65536, 2**20)
    ]


def test_latency_and_bandwidth_are_recovered():
    found = fit_allreduce([*allreduces(3e-6, 1e-9), {"ranks": 1, "bytes": 8, "seconds": 99.0}])
    assert (found.alpha, found.beta) == pytest.approx((3e-6, 1e-9)) and found.error < 1e-9
    found = fit_allreduce(allreduces(3e-6, 1e-9, scatter=0.1))
    assert (found.alpha, found.beta) == pytest.approx((3e-6, 1e-9), rel=0.2) and 0.02 < found.error < 0.2
    assert fit_allreduce([]) == Network(0.0, 0.0)
    falling = [{"ranks": 2, "bytes": n, "seconds": t} for n, t in ((8, 3e-6), (4096, 2e-6))]
    assert fit_allreduce(falling).beta == 0.0  # never below 0


def test_an_allreduce_of_eight_ranks_by_hand():
    assert Network(1e-6, 1e-9).allreduce(8, 1000) == pytest.approx(3e-6 + 2 * 7 / 8 * 1e-6)


def test_step_times_are_measured_ones_where_there_are_and_of_the_model_elsewhere():
    t = StepTime(measured_steps(), Network(1e-5, 1e-9), 10**6)
    assert t.ranks == [1, 2]
    assert t(64, 2) == pytest.approx((0.9 * 1.32e-3, 1.32e-3, 1.2 * 1.32e-3))
    assert t(32, 1)[1] == pytest.approx(math.sqrt(1.16e-3 * 1.64e-3))  # a power law between
    assert t(2, 1)[1] == t(4, 1)[1]  # no step is shorter than the shortest
    assert t(512, 1)[1] == pytest.approx(2 * t(256, 1)[1])
    wait = 2e-5 + 1e-9 * 2 * 3 / 4 * 1e6
    low, middle, high = t(256, 4)
    assert middle == pytest.approx(1.64e-3 + wait)
    assert (low, high) == pytest.approx((0.9 * 1.64e-3 + wait / 2, 1.2 * 1.64e-3 + 2 * wait))


def test_predictions_are_steps_times_step_times():
    steps = Steps((30.0, 40.0, 60.0), (20.0, 32.0, 50.0), {64: (50.0, 55.0, 70.0)})
    assert steps(64) == (50.0, 55.0, 70.0)
    assert steps(16) == pytest.approx((90.0, 120.0, 180.0))
    found = predict(steps, StepTime(measured_steps(), Network(0.0, 0.0), 0), [4, 64], [1, 2, 8])
    assert [(p.batch_size, p.ranks) for p in found] == [(4, 1), (64, 1), (4, 2), (64, 2), (64, 8)]
    p = found[3]
    assert p.seconds == pytest.approx((50 * 0.9 * 1.32e-3, 55 * 1.32e-3, 70 * 1.2 * 1.32e-3))
    assert p.measured and not found[-1].measured


def write_plan(folder, *, relative=False, given=None, ranks=(1, 2), predict_ranks=(1, 2, 4, 8, 1024), parameters=10**6):
    steps = {str(b): [0.9 * s, s, 1.1 * s] for b in SIZES for s in [S_MIN * (1.0 + B_CRIT / b)]}
    curve = {"study": "s", "goal": {"metric": "error/val", "value": 0.1}, "s_min": [30, 40, 50], "b_crit": [20, 32, 50]}
    study = {
        "study": "plan", "data": "made up", "rows": 256, "network": "network 3-2", "parameters": parameters,
        "batch_sizes": SIZES,
        "predict_ranks": predict_ranks, "ranks_per_node": None, "network_given": given, "ranks_per_trial": 1,
        "command": "x", "versions": {"numpy": "2"}, "machine": "m", "ranks": 2,
        "curve": {"study": None, "steps": {}} if relative else curve | {"steps": steps},
    }  # fmt: skip
    lines = [{"trial": "job", "ranks": 2, "cores": 4, "hosts": 1}]
    lines += [{"trial": f"step B={m['batch_size']} ranks={m['ranks']}", **m} for m in measured_steps(ranks)]
    if len(ranks) > 1:
        lines += [{"trial": f"allreduce bytes={m['bytes']} ranks=2", **m} for m in allreduces(1e-5, 1e-9, ranks=(2,))]
    if relative:
        lines.append({"trial": "noise scale", "low": 10.0, "noise_scale": 32.0, "high": 90.0})
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_recommendation_is_the_most_ranks_at_half_efficiency(tmp_path):
    write_plan(tmp_path)
    plan = read_plan(tmp_path)
    assert plan.ranks_per_node == 4
    best = plan.recommended()
    for ranks in plan.all_ranks():
        worth = plan.speed_up(plan.best(ranks)) >= ranks / 2
        assert (ranks <= best.ranks) == worth
    assert plan.speed_up(plan.alone()) == 1.0
    text = report_on(tmp_path, "plan").answer
    assert f"**{best.ranks} rank" in text and f"a batch of **{best.batch_size}**" in text and "to error/val 0.1" in text


@pytest.mark.parametrize("how, text", [
    ({"predict_ranks": (2,)}, "Steps on 1, 2 ranks were measured here"),
    ({"predict_ranks": (4,)}, "This is an extrapolation"),
    ({"predict_ranks": (4,)}, "between hosts a network is slower than memory"),
    ({"given": [1e-6, 1e10]}, "Allreduce, as given: 1.00 µs a message, 10.0 GB/s."),
    ({"ranks": (1,)}, "On one rank nothing could be measured of the network"),
    ({}, "Allreduce, fitted: 10.0 µs a message, 1.00 GB/s"),
    ({"relative": True}, "times are multiples of S_min"),
    ({"parameters": 8}, "The fastest is 8 ranks"),
])  # fmt: skip
def test_what_the_report_says(tmp_path, how, text):
    write_plan(tmp_path, **how)
    found = report_on(tmp_path, "plan")
    assert text in " ".join([found.answer, *found.sections.values()])
    assert report_on(tmp_path, "plan", "es").answer != found.answer


# --- the calibration --------------------------------------------------------------------------------------------------


@pytest.fixture
def in_a_hurry(monkeypatch):
    monkeypatch.setattr("distbp.study.plan.run._SECONDS", 0.4)
    monkeypatch.setattr("distbp.study.plan.run._TURN", 0.001)


def test_a_plan_from_a_study(tmp_path, in_a_hurry):
    write_study(tmp_path, rows=44, config={"hidden": "5"}, batch_sizes=[4, 16, 44], steps=[2000] * 3)
    lines = (
        (tmp_path / "trials.jsonl").read_text().replace('"batch_size": 64', '"batch_size": 44').replace("B=64", "B=44")
    )
    (tmp_path / "trials.jsonl").write_text(lines)
    for _ in range(2):  # each time anew
        run_study(
            tmp_path / "plan",
            *DATA,
            "--study",
            str(tmp_path),
            "--ranks",
            "1,3",
            "--ranks-per-node",
            "2",
            ranks=3,
            name="plan",
        )
    results = read_results(tmp_path / "plan")
    assert {name for name in results if name.startswith("step")} == {
        f"step B={b} ranks={P}" for P in (1, 2, 3) for b in (4, 16, 44)
    }
    assert all(r["low"] <= r["seconds"] <= r["high"] for name, r in results.items() if name.startswith(("step", "all")))
    assert [p.ranks for p in read_plan(tmp_path / "plan").predictions] == [1, 1, 1, 3, 3, 3]
    with pytest.raises(UserError, match="is a study of 44 rows and --hidden 5, not of 44 and 6"):
        run_study(tmp_path / "other", *DATA[:-1], "6", "--study", str(tmp_path), name="plan")


def test_a_plan_without_a_study_is_relative(tmp_path, in_a_hurry, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_study(tmp_path / "plan", *DATA, name="plan")
    assert read_plan(tmp_path / "plan").relative
    monkeypatch.setattr("distbp.study.plan.run.noise_scale_of", lambda *arguments, most: [])
    with pytest.raises(UserError, match="no gradient noise scale was measured"):
        run_study(tmp_path / "other", *DATA, name="plan")


@pytest.mark.parametrize("arguments, error, text", [
    (["--study", "none"], UserError, "--study none: there is no study"),
    (["--latency", "1e-6"], UsageError, "--latency and --bandwidth belong together"),
    (["--latency", "1e-6", "--bandwidth", "0"], UsageError, "--bandwidth above 0"),
    (["--batch-sizes", "4,900"], UserError, "--batch-sizes 900: there are 44 training rows"),
    (["--ranks", "0,1"], UsageError, "--ranks '0,1'"),
    (["--ranks-per-node", "0"], UsageError, "--ranks-per-node 0: at least 1"),
])  # fmt: skip
def test_bad_options(tmp_path, monkeypatch, arguments, error, text):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        run_study(tmp_path / "plan", *DATA, *arguments, name="plan")


def test_a_study_without_a_curve_gives_no_plan(tmp_path):
    write_study(tmp_path, slow=1000.0, rows=44, config={"hidden": "5"})
    with pytest.raises(UserError, match="fewer than three batch sizes reached the goal"):
        run_study(tmp_path / "plan", *DATA, "--study", str(tmp_path), name="plan")


def test_groups_and_sizes():
    assert powers_between(4, 100, 4) == [4, 16, 64, 100] and powers_between(4, 4, 4) == [4]
    assert run_threads(3, group_sizes) == [[1, 2, 3]] * 3
    found = run_threads(3, lambda comm: time_allreduce(comm, first_ranks(comm, 2), 64, most=0.01))
    assert found[0] == found[1] == found[2] and len(found[0]) >= 3 and min(found[0]) > 0.0
    assert quartiles([5.0, 1.0, 2.0, 3.0, 4.0]) == {"low": 2.0, "seconds": 3.0, "high": 4.0}


def test_beside_a_study_that_is_not_done_the_noise_scale_takes_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun = tmp_path / default_folder(DATA[1], "batch-size")
    begun.mkdir(parents=True)
    (begun / "study.json").write_text(json.dumps({"study": "batch-size", "batch_sizes": [4, 8], "rates": [0.1]}))
    (begun / "trials.jsonl").write_text("")
    options = argparse.Namespace(study=None)
    assert _curve(options, TrainConfig(data=DATA[1]), 90) == {"study": None, "steps": {}}
    options = argparse.Namespace(study=str(begun))
    with pytest.raises(UserError, match="it is not done yet|fewer than three"):
        _curve(options, TrainConfig(data=DATA[1]), 90)
