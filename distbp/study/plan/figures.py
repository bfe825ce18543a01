"""The report of the plan in figures: what its templates are filled with and decide on, and its charts."""

import math
from pathlib import Path
from typing import Any

from distbp.report.drawing import Curve, Plot
from distbp.study.experiment import read_study
from distbp.study.plan.model import Network, Plan, Prediction, Steps, StepTime, fit_allreduce, predict
from distbp.study.trials import read_results


def read_plan(folder: Path) -> Plan:
    """Read ``study.json`` and ``trials.jsonl``, and predict."""
    study, results = read_study(folder), read_results(folder)
    measured = [r for name, r in results.items() if name.startswith("step ")]
    network = fit_allreduce([r for name, r in results.items() if name.startswith("allreduce ")])
    if study["network_given"] is not None:
        network = Network(study["network_given"][0], 1.0 / study["network_given"][1])
    curve = study["curve"]
    if curve["study"] is None:
        noise = results["noise scale"]
        steps = Steps((1.0, 1.0, 1.0), (noise["low"], noise["noise_scale"], noise["high"]), {})
    else:
        known = {int(b): tuple(s) for b, s in curve["steps"].items()}
        steps = Steps(tuple(curve["s_min"]), tuple(curve["b_crit"]), known)
    step_time, job = StepTime(measured, network, 4 * study["parameters"]), results["job"]
    predictions = predict(steps, step_time, study["batch_sizes"], study["predict_ranks"])
    per_node = study["ranks_per_node"] or job["cores"]
    return Plan(study, network, predictions, per_node, job["hosts"], steps, step_time)


def figures(folder: Path) -> dict[str, Any]:
    """Return the figures of the report on a folder: the best batch size of each number of ranks, and which to name."""
    plan = read_plan(folder)
    rows, network = [_row(plan, plan.best(ranks)) for ranks in plan.all_ranks()], plan.network
    return {
        "study": plan.study, "goal": plan.study["curve"].get("goal"), "rows": rows, "relative": plan.relative,
        "charts": _charts(plan), "given": plan.study["network_given"] is not None, "hosts": plan.hosts,
        "best": _row(plan, plan.recommended()), "fastest": min(rows, key=lambda row: row["seconds"][1]),
        "top": max(rows, key=lambda row: row["speed_up"]),
        "measured_ranks": plan.step_time.ranks, "ranks_per_node": plan.ranks_per_node, "latency": 1e6 * network.alpha,
        "bandwidth": 1e-9 / network.beta if network.beta else math.inf, "network_error": 100.0 * network.error,
    }  # fmt: skip


def _row(plan: Plan, p: Prediction) -> dict[str, Any]:
    nodes, speed_up = math.ceil(p.ranks / plan.ranks_per_node), plan.speed_up(p)
    return {
        "ranks": p.ranks, "batch_size": p.batch_size, "seconds": p.seconds, "steps": p.steps[1],
        "milliseconds": 1e3 * p.step_seconds[1], "speed_up": speed_up, "efficiency": 100.0 * speed_up / p.ranks,
        "node_hours": nodes * p.seconds[1] / 3600.0, "measured": p.measured,
    }  # fmt: skip


def _charts(plan: Plan) -> dict[str, Plot]:
    """Return what each chart shows, by name: T(B, P) against B and P, and the measured steps."""
    ranks, best = plan.all_ranks(), [plan.best(ranks) for ranks in plan.all_ranks()]
    times, speed_ups, steps = [], [], []
    for P in ranks[:: 1 + (len(ranks) - 1) // 6]:
        mine = [p for p in plan.predictions if p.ranks == P]
        label = "measured" if mine[0].measured else "extrapolated", P
        times.append(Curve(label, [p.batch_size for p in mine], [p.seconds[1] for p in mine]))
    for name in ("measured", "extrapolated"):
        mine = [p for p in best if p.measured == (name == "measured")]
        speed_ups.append(Curve((name,), [p.ranks for p in mine], [plan.speed_up(p) for p in mine]))
    ends = [ranks[0], ranks[-1]]
    speed_ups.append(Curve(("ideal",), ends, ends, {"color": "0.5", "linestyle": ":"}))
    for P, rows in plan.step_time.measured.items():
        curve = [(m["low"], m["seconds"], m["high"]) for m in rows]
        steps.append(Curve(("ranks", P), [m["batch_size"] for m in rows], curve))
    tried = sorted({m["batch_size"] for rows in plan.step_time.measured.values() for m in rows})
    return {
        "time-by-batch": Plot(times, log="xy", columns=3, ticks=plan.study["batch_sizes"]),
        "speed-up": Plot(speed_ups, log="xy", columns=3),
        "step-time": Plot(steps, log="xy", columns=3, ticks=tried),
    }
