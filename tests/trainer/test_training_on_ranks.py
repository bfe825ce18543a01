"""The theorem of the project: the number of ranks changes nothing but the time."""

from collections import Counter

import numpy as np
import pytest
from flat import flat_trainer
from toy_training import STEPS, B, N, data, train, trainer

from distbp import (
    Adam,
    Checkpoints,
    Epochs,
    Network,
    Schedule,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    SquaredError,
    UserError,
    load,
    run_threads,
)  # fmt: skip
from distbp.files import read_file, write_file


@pytest.fixture(scope="module")
def serial():
    return train(SerialCommunicator())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 40])
def test_threads_give_the_serial_parameters(size, serial):
    """Also with more ranks than rows in a batch: 40 > 37."""
    for theta in run_threads(size, train):
        np.testing.assert_allclose(theta, serial, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_evaluation_equals_one_over_all_rows_at_once(kind):
    rows = data(kind)
    network = Network([7, 5, 4 if kind == "classes" else 2], dtype=np.float64)
    loss = SoftmaxCrossEntropy() if kind == "classes" else SquaredError()
    t = flat_trainer(network, loss, Adam(), rows, batch_size=B)
    X, y, w = rows.take(np.arange(N))
    z = network.forward(X).copy()
    figures = t.evaluate(rows)
    np.testing.assert_allclose(figures["loss"], np.average(loss.value(z, y), weights=w), rtol=1e-12)
    if kind == "classes":
        assert figures["accuracy"] == np.mean(z.argmax(axis=1) == y)
    else:
        np.testing.assert_allclose(figures["rmse"], np.sqrt(((z - y) ** 2).mean(axis=0)).mean(), rtol=1e-12)


GOLDEN_LOSSES = [1.49986099495002, 1.429698068368796, 1.4885651534096171, 1.3702169077505961, 1.43218113493862]


def test_the_golden_run():
    """A refactor leaves the numbers as they are; a change of them is a decision, and says why."""
    records = []
    trainer(SerialCommunicator(), log_every=10, on_record=records.append).fit(steps=STEPS)
    np.testing.assert_allclose([r["loss/train"] for r in records], GOLDEN_LOSSES, rtol=1e-9)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_loss_that_is_not_finite_on_one_rank_skips_or_ends_on_all(rank):
    def bad_data():
        rows = data()
        bad = trainer(SerialCommunicator(), rows).sampler.batch(3).rows(rank, 3)[0]
        rows._ready[0][bad] = np.nan
        return rows

    def skip(comm):
        records = []
        t = trainer(comm, bad_data(), on_nonfinite="skip", on_record=records.append)
        before = []
        t.observer.on_step = lambda t: before.append(t.network.theta.copy())
        t.fit(steps=6)
        assert np.array_equal(before[2], before[3]) and not np.array_equal(before[3], before[4])
        return [r["step"] for r in records if "skipped" in r]

    assert run_threads(3, skip) == [[4]] * 3
    with pytest.raises(UserError, match="step 4: the loss of 1 rows is not finite: lower --lr"):
        run_threads(3, lambda comm: trainer(comm, bad_data()).fit(steps=6))
    with pytest.raises(UserError, match="not finite for 101 steps"):
        rows = data()
        rows._ready[0][:] = np.nan
        trainer(SerialCommunicator(), rows, on_nonfinite="skip").fit(steps=200)


def test_the_plateau_schedule_and_early_stopping_survive_a_resume(tmp_path):
    rows = data()

    def run(stop_at, folder):
        checkpoints = Checkpoints(tmp_path / folder)
        outcome = "stopped"
        rates = []
        while outcome == "stopped":
            network = Network([7, 16, 4], dtype=np.float64, seed=3)
            t = flat_trainer(
                network, SoftmaxCrossEntropy(), Adam(0.05), rows, validation=data(seed=6), batch_size=B, patience=6,
                schedule=Schedule("plateau", patience=1, decay=0.5), eval_every=5, checkpoints=checkpoints,
                on_step=lambda t: t.position.step == stop_at and t.request_stop(),
            )  # fmt: skip
            t.observer.on_record = lambda r, t=t: rates.append((r["step"], t.optimizer.lr))
            t.resume()
            outcome = t.fit(steps=600)
        return outcome, t.judge.state.best_step, rates, t.network.theta

    whole, stopped = run(-1, "whole"), run(23, "stopped")
    assert whole[0] == stopped[0] == "early" and whole[1] == stopped[1] and whole[2] == stopped[2]
    assert len({rate for _, rate in whole[2]}) > 2
    assert np.array_equal(whole[3], stopped[3])


@pytest.mark.parametrize(("before", "after"), [(4, 3), (1, 5), (3, 1), (2, 4)])
def test_stopped_on_some_ranks_resumed_on_others(before, after, serial, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")

    def start(comm):
        t = trainer(comm, checkpoints=checkpoints, on_step=lambda t: t.position.step == 33 and t.request_stop())
        return t.fit(steps=STEPS)

    def go_on(comm):
        t = trainer(comm, checkpoints=checkpoints)
        t.resume()
        t.fit(steps=STEPS)
        return t.network.theta

    assert run_threads(before, start) == ["stopped"] * before
    for theta in run_threads(after, go_on):
        np.testing.assert_allclose(theta, serial, rtol=1e-10, atol=1e-12)


def test_an_interval_of_skipped_steps_has_no_loss():
    rows, records = data(), []
    rows._ready[0][:] = np.nan
    trainer(SerialCommunicator(), rows, on_nonfinite="skip", log_every=5, on_record=records.append).fit(steps=10)
    assert [r["step"] for r in records if "lr" in r] == [5, 10]
    assert not any("loss/train" in r for r in records)


@pytest.mark.parametrize("drop_last", [False, True])
def test_every_row_comes_once_in_each_epoch(drop_last, monkeypatch):
    """1003 rows: 27 batches of 37, and 4 rows that are left."""
    taken, rows = [], data()
    take = rows.take
    monkeypatch.setattr(rows, "take", lambda which, **more: (taken.append(which.tolist()), take(which, **more))[1])
    t = trainer(SerialCommunicator(), rows, drop_last=drop_last)
    steps = 27 if drop_last else 28
    t.fit(epochs=2)
    assert t.position.step == 2 * steps == len(taken)
    for epoch in taken[:steps], taken[steps:]:
        seen = Counter(row for batch in epoch for row in batch)
        assert set(seen.values()) == {1} and len(seen) == (999 if drop_last else N)


def test_epochs_are_due_when_they_end_and_steps_as_ever(tmp_path):
    records = []
    checkpoints = Checkpoints(tmp_path, keep=9)
    t = trainer(
        SerialCommunicator(), validation=data(seed=6), log_every=Epochs(2), eval_every=Epochs(3),
        checkpoint_every=Epochs(3), audit_every=25, checkpoints=checkpoints, on_record=records.append,
    )  # fmt: skip
    assert t.fit(epochs=7) == "done"
    assert [(r["epoch"], "loss/train" in r, "loss/val" in r) for r in records] == [
        (2, True, False), (3, False, True), (4, True, False), (6, True, True), (7, True, True),
    ]  # fmt: skip
    assert [path.name for path in checkpoints.all()] == [f"step-{28 * epoch:09d}.safetensors" for epoch in (3, 6, 7)]


def test_a_checkpoint_of_an_earlier_version_goes_on(tmp_path):
    """All in one table, with fields of a batch that grew and of AdaScale, and fewer sums."""
    checkpoints = Checkpoints(tmp_path)
    t = trainer(SerialCommunicator(), checkpoints=checkpoints)
    t.fit(steps=8)
    path = checkpoints.path(8)
    arrays, state = read_file(path)
    now = state.pop("components")
    old = {name: now["position"][name] for name in ("step", "examples", "seconds", "ended")} | now["judge"]
    old |= {"sums": now["log"]["sums"][:-2], "sums_since": now["log"]["since"], "schedule": now["rate"]}
    old |= {"noise": now["noise"]["sums"], "skipped": now["nonfinite"]["skipped"]}
    old |= {"batch_size": 0, "began": [0, 0], "gain": 1.0, "scale_invariant_step": 0.0}
    write_file(path, arrays, state | {"train": old})
    other = trainer(SerialCommunicator(), checkpoints=checkpoints)
    other.resume()
    for name in ("log", "judge", "noise", "nonfinite", "rate"):
        states = [one.memory.take().state["components"][name] for one in (t, other)]
        assert states[0] == states[1]
    for one in t, other:
        one.fit(steps=STEPS)
    assert other.network.theta.tobytes() == t.network.theta.tobytes() and other.position.step == STEPS


def test_a_stop_in_the_last_step_does_not_stop_the_next_fit():
    t = trainer(SerialCommunicator())
    t.observer.on_step = lambda t: t.position.step == 9 and t.request_stop()
    assert t.fit(steps=10) == "done"
    assert t.fit(steps=10) == "done" and t.position.step == 20


def test_fit_again_trains_so_much_more_and_after_a_stop_what_is_left():
    t = trainer(SerialCommunicator())
    assert t.fit(steps=4) == t.fit(steps=3) == "done" and t.position.step == 7
    t.observer.on_step = lambda t: t.position.step == 9 and t.request_stop()
    assert t.fit(steps=5) == "stopped" and t.position.step == 10
    assert t.fit(steps=5) == "done" and t.position.step == 12


def test_a_run_that_ends_off_the_interval_and_goes_on_is_the_same_run():
    whole, parts = [], []
    options = {"log_every": 7, "eval_every": 7, "patience": 50, "validation": data(seed=6)}
    trainer(SerialCommunicator(), on_record=whole.append, **options).fit(steps=40)
    t = trainer(SerialCommunicator(), on_record=parts.append, **options)
    for steps in (10, 25, 40):
        t.judge.patience, patience = (None, t.judge.patience) if steps < 40 else (t.judge.patience, t.judge.patience)
        t.fit_until(steps=steps)
        t.judge.patience = patience
    kept = [r for r in parts if r["step"] not in (10, 25)]
    assert [r["step"] for r in kept] == [r["step"] for r in whole]


def test_ranks_that_read_different_files_are_refused(tmp_path):
    for rank, n in enumerate((40, 40, 39)):
        table = "".join(f"{i},{i % 2}\n" for i in range(n))
        (tmp_path / f"rank{rank}.csv").write_text("x,y\n" + table)
    with pytest.raises(UserError, match="the data on rank 2 differ from rank 0's"):
        run_threads(3, lambda comm: load(str(tmp_path / f"rank{comm.rank}.csv"), comm=comm), ranks_per_host=1)
