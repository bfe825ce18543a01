"""The model of the best evaluation is kept: on any number of ranks, through stops, and what counts as best."""

import numpy as np
import pytest
from toy_training import data, trainer

from distbp import Checkpoints, MetricTarget, Schedule, SerialCommunicator, run_threads
from distbp.trainer.early_stopping import Judge

RATE, STEPS = 0.3, 60


def kept(comm, steps=STEPS, keep_best=True, **options):
    """Train at a rate that makes the last model a bad one; return the parameters, what was kept, and the records."""
    records = []
    t = trainer(comm, validation=data(seed=6), eval_every=5, keep_best=keep_best, on_record=records.append, **options)
    t.peak, t.schedule = RATE, Schedule()
    t.fit(steps=steps)
    loss = t.evaluate(t.validation)["loss"]
    theta = t.network.theta.copy()
    t.close()
    return theta, t.judge, loss, [r["loss/val"] for r in records if "loss/val" in r]


@pytest.mark.parametrize("reduction", ["shared", "allreduce", "overlap"])
def test_the_parameters_of_the_best_evaluation_return(reduction):
    for _, judge, loss, losses in run_threads(3, lambda comm: kept(comm, reduction=reduction)):
        assert loss == pytest.approx(min(losses), rel=1e-12) and min(losses) < 0.98 * losses[-1]
        assert judge.kept == (min(losses), 5 * (1 + losses.index(min(losses))))


def test_without_it_the_last_ones_stay():
    _, _, loss, losses = kept(SerialCommunicator(), keep_best=False)
    assert loss == pytest.approx(losses[-1], rel=1e-12)


def test_the_same_bits_on_any_number_of_ranks_in_exact_mode():
    alone = kept(SerialCommunicator(), leaves=4)[0]
    for n in (2, 3):
        for theta, *_ in run_threads(n, lambda comm: kept(comm, leaves=4)):
            assert np.array_equal(theta, alone)


@pytest.mark.parametrize("stop_at", [3, 32, 57])
def test_a_run_that_was_stopped_keeps_the_same_one(stop_at, tmp_path):
    whole = kept(SerialCommunicator())
    checkpoints = Checkpoints(tmp_path / "c")

    def part(comm, until):
        t = trainer(
            comm, validation=data(seed=6), eval_every=5, keep_best=True, checkpoints=checkpoints,
            on_step=lambda t: t.position.step == until and t.request_stop(),
        )  # fmt: skip
        t.peak, t.schedule = RATE, Schedule()
        t.resume()
        outcome = t.fit(steps=STEPS)
        return outcome, t.network.theta.copy(), t.judge.kept

    assert part(SerialCommunicator(), stop_at)[0] == "stopped"
    outcome, theta, which = part(SerialCommunicator(), -1)
    assert outcome == "done" and np.array_equal(theta, whole[0]) and which == whole[1].kept
    again = part(SerialCommunicator(), -1)  # there is nothing left to do
    assert again[0] == "done" and np.array_equal(again[1], theta) and again[2] == which


def test_an_evaluation_at_the_end_that_was_not_due_counts_too():
    for steps in range(1, 10):
        _, judge, loss, losses = kept(SerialCommunicator(), steps=steps)
        assert loss == pytest.approx(min(losses), rel=1e-12) and len(losses) == -(-steps // 5)
        assert judge.kept[0] == min(losses)


def test_a_longer_run_is_the_same_run_whatever_its_end_has_shown(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    for steps in (7, STEPS):
        t = trainer(
            SerialCommunicator(), validation=data(seed=6), eval_every=5, keep_best=True, checkpoints=checkpoints
        )
        t.peak, t.schedule = RATE, Schedule()
        t.resume()
        t.fit(steps=steps)
    assert np.array_equal(t.network.theta, kept(SerialCommunicator())[0])


def test_who_reached_the_target_is_kept():
    target = MetricTarget.parse("accuracy/val>=0.01")
    _, judge, loss, losses = kept(SerialCommunicator(), target=target)
    assert len(losses) == 1 and loss == pytest.approx(losses[0], rel=1e-12)


def test_of_equals_the_last_is_the_best_but_for_early_stopping():
    for patience, step in ((None, 2), (5, 1)):
        judge = Judge(1, monitor="accuracy/val", keep_best=True, patience=patience)
        for k, value in enumerate((0.5, 0.5, 0.4), 1):
            judge.see({"accuracy/val": value}, k)
        assert judge.kept == (0.5, step) and judge.state.last == 0.4
