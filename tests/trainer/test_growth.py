"""A batch that grows: by the rule, between epochs, and the same on any number of ranks, through stops and losses."""

import json
import os
import signal
from collections import Counter

import numpy as np
import pytest
from conftest import prepared
from hypothesis import given
from hypothesis import strategies as st
from test_command_line import TRAIN, lines, ranks_of, start, wait_for_step
from test_functions import twin
from threadpoolctl import threadpool_limits

from distbp import (
    SGD,
    Adam,
    Checkpoints,
    Epochs,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    Trainer,
    UserError,
    load,
    run_threads,
)  # fmt: skip
from distbp.comm.threads import Death
from distbp.errors import RankLost, UsageError
from distbp.files import read_file, write_file
from distbp.run.build import build_trainer
from distbp.run.config import parse_train_config
from distbp.trainer.growth import next_size
from distbp.trainer.noise_scale import averaged

N, LOW, HIGH, EPOCHS = 203, 4, 100, 7


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1, user_api="blas"):
        yield


def data():
    """Classes that can be learnt, but for some labels: the noise scale rises while they are."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N, 7))
    y = np.argmax(X @ rng.standard_normal((7, 4)), axis=1)
    return prepared(X, np.where(rng.random(N) < 0.1, rng.integers(0, 4, N), y))


def trainer(comm, rows=None, model=None, **options):
    model = model or Network([7, 16, 4], "tanh", dropout=0.1, dtype=np.float64, seed=3)
    options = {"batch_size": LOW, "grow_to": HIGH, "noise_every": 1} | options
    return Trainer(model, SoftmaxCrossEntropy(), Adam(5e-3), rows or data(), comm=comm, seed=11, **options)


def trained(comm, epochs=EPOCHS, **options):
    """Parameters, and what was logged in each step."""
    records = []
    t = trainer(comm, log_every=1, on_record=records.append, **options)
    t.fit(epochs=epochs)
    theta = t.network.theta.copy()
    t.close()
    return theta, [{k: v for k, v in r.items() if "second" not in k} for r in records]


def sizes(records):
    """Batch size of each epoch, which has only one."""
    of_epoch = {}
    for r in records:
        of_epoch.setdefault(int(np.ceil(r["epoch"])), set()).add(r["batch_size"])
    assert all(len(found) == 1 for found in of_epoch.values())
    return [found.pop() for found in of_epoch.values()]


@pytest.fixture(scope="module")
def whole():
    with threadpool_limits(1, user_api="blas"):
        return trained(SerialCommunicator(), leaves=6)


# --- the rule -----------------------------------------------------------------------------------------


@given(st.integers(2, 50), st.integers(0, 6), st.integers(0, 1000), st.floats(1e-3, 1e6), st.floats(1e-9, 1e9))
def test_the_largest_power_of_two_times_low_that_is_at_most_the_noise_scale(low, doublings, more, scale, square):
    present = low * 2**doublings
    high = present + more
    noise = averaged([0.0] * 3, scale * square, square)
    true = (noise[0] / noise[1]) if noise[1] else 0.0
    allowed = [low * 2**k for k in range(40) if low * 2**k <= min(true, high)]
    assert next_size(present, high, noise) == max([present, *allowed])


def test_without_a_mean_above_its_noise_it_stays():
    assert (
        next_size(8, 100, [0.0] * 3) == next_size(8, 100, [5.0, 0.0, 1.0]) == next_size(8, 100, [5.0, -1.0, 1.0]) == 8
    )


class Ledger:
    """The rows that were taken, epoch by epoch."""

    def __init__(self, rows):
        self.taken, self._take, self._n = [Counter()], rows.take, rows.n_rows

    def __call__(self, which, **options):
        if sum(self.taken[-1].values()) == self._n:
            self.taken.append(Counter())
        self.taken[-1].update(which.tolist())
        return self._take(which, **options)


def test_planted_noise_and_every_row_once_in_each_epoch(monkeypatch):
    planted = {0: 9.0, 1: 7.0, 2: 1000.0, 3: -1.0, 4: 5.0}  # noise scale by epoch; it may fall, the batch does not
    now = [0]
    monkeypatch.setattr("distbp.trainer.trainer.noise_scale.averaged", lambda *_: [planted[now[0]], 1.0, 1.0])

    def follow(t):
        now[0] = min(4, t.sampler.place(t.state.step)[0])

    rows = data()
    monkeypatch.setattr(rows, "take", ledger := Ledger(rows))
    _, records = trained(SerialCommunicator(), 6, rows=rows, on_step=follow)
    assert sizes(records) == [4, 8, 8, 64, 64, 64]  # 64 is the largest 4 * 2^k up to 100
    assert len(ledger.taken) == 6 and all(taken == Counter(range(N)) for taken in ledger.taken)


def test_a_real_run_follows_its_own_estimates(whole):
    """In each epoch the batch is what the last estimate of the one before says."""
    _, records = whole
    found = sizes(records)
    ends = [r for r in records if r["epoch"] == int(r["epoch"])]
    assert len(ends) == EPOCHS and [r["examples"] for r in ends] == [N * (i + 1) for i in range(EPOCHS)]
    wanted = [LOW]
    for r in ends[:-1]:
        allowed = [LOW * 2**k for k in range(20) if LOW * 2**k <= min(HIGH, r.get("noise_scale", 0.0))]
        wanted.append(max([wanted[-1], *allowed]))
    assert found == wanted
    assert len(set(found)) >= 3  # else this would show little
    assert len(records) == sum(-(-N // size) for size in found)


def test_no_row_twice_where_the_short_last_batch_is_dropped(monkeypatch):
    monkeypatch.setattr("distbp.trainer.trainer.noise_scale.averaged", lambda *_: [50.0, 1.0, 1.0])
    taken, rows = [], data()
    take = rows.take
    monkeypatch.setattr(rows, "take", lambda which, **more: (taken.append(which), take(which, **more))[1])
    _, records = trained(SerialCommunicator(), 2, rows=rows, drop_last=True)
    assert sizes(records) == [4, 32]
    first, second = np.concatenate(taken[:50]), np.concatenate(taken[50:])
    assert (len(first), len(second)) == (200, 192) and len(set(first)) == 200 and len(set(second)) == 192


# --- any number of ranks ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 7])
@pytest.mark.parametrize("reduction", ["shared", "overlap", "allreduce"])
def test_exact_mode_gives_the_same_bits(size, reduction, whole):
    for theta, records in run_threads(size, lambda comm: trained(comm, leaves=6, reduction=reduction)):
        assert theta.tobytes() == whole[0].tobytes() and records == whole[1]


@pytest.mark.parametrize(
    "options", [{}, {"reduction": "shared"}, {"reduction": "overlap", "bucket_bytes": 500}, {"micro_batch": 3}]
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_other_modes_give_the_same_to_rounding(size, options, whole):
    for theta, records in run_threads(size, lambda comm: trained(comm, **options)):
        assert sizes(records) == sizes(whole[1])
        np.testing.assert_allclose(theta, whole[0], rtol=1e-8, atol=1e-10)


@pytest.mark.ranks
def test_mpi_gives_the_same_bits(comm, whole):
    theta, records = trained(comm, leaves=6)
    assert theta.tobytes() == whole[0].tobytes() and records == whole[1]


def test_models_of_your_own(whole):
    with pytest.raises(UserError, match="with at least 2 leaves"):
        trainer(SerialCommunicator(), model=twin()[1])
    results = run_threads(2, lambda comm: trained(comm, model=twin()[1], leaves=4))
    alone = trained(SerialCommunicator(), model=twin()[1], leaves=4)
    assert results[1][0].tobytes() == alone[0].tobytes() and max(sizes(alone[1])) > LOW


# --- stops, losses, intervals -------------------------------------------------------------------------


def growths(records):
    """Steps after which the batch is larger."""
    return [a["step"] for a, b in zip(records, records[1:], strict=False) if b["batch_size"] > a["batch_size"]]


def test_a_run_that_stops_anywhere_goes_on_with_the_same_bits(whole, tmp_path):
    """Also right before a growth, right after it, and within the next epoch."""
    (first, second, *_), records = growths(whole[1]), []
    stops = [first - 1, first, first + 1, first + 5, second, second + 2]

    def part(comm, steps):
        t = trainer(comm, leaves=6, checkpoints=Checkpoints(tmp_path), log_every=1)
        t.on_record = records.append if comm.is_root else None
        t.resume()
        t.fit(epochs=EPOCHS, steps=steps)
        return t.network.theta.tobytes()

    for i, steps in enumerate([*stops, None]):
        results = run_threads(1 + i % 3, lambda comm, steps=steps: part(comm, steps))
    assert set(results) == {whole[0].tobytes()}
    assert [{k: v for k, v in r.items() if "second" not in k} for r in records] == whole[1]


def test_a_loss_of_a_rank_about_a_growth_leaves_the_bits(whole):
    """In any collective of the step before it, of the first with the larger batch, and of the next."""
    growth = growths(whole[1])[0]

    def elastic(comm):
        counts = []
        t = trainer(comm, leaves=6, on_step=lambda t: counts.append(comm.recorder.count))
        comm.agree()
        while True:
            try:
                t.fit(steps=growth + 3)
                comm.agree()
                break
            except RankLost:
                t.recover()
        return t.network.theta.tobytes(), t.sampler.batch_size, counts

    alone = elastic(SerialCommunicator())[:2]
    assert alone[1] > LOW
    counts = run_threads(3, elastic, deaths=[])[0][2]
    for n in range(counts[growth - 2] + 1, counts[growth + 1] + 1):
        for heard_by in (), (2,):
            results = run_threads(3, elastic, deaths=[Death(1, n, frozenset(heard_by))])
            assert results[1] is None and {result[:2] for result in results if result} == {alone}


def test_epochs_are_due_when_they_end_and_steps_as_ever(whole, tmp_path):
    records, rows = [], data()
    saved = []
    t = trainer(
        SerialCommunicator(), rows, leaves=6, validation=rows, log_every=Epochs(2), eval_every=Epochs(3),
        checkpoint_every=Epochs(3), audit_every=25, checkpoints=Checkpoints(tmp_path, keep=9),
        on_record=records.append, on_step=lambda t: saved.append(len(t.saver.checkpoints.all())),
    )  # fmt: skip
    assert t.fit(epochs=EPOCHS) == "done"
    assert [(r["epoch"], "loss/train" in r, "loss/val" in r) for r in records] == [
        (2, True, False), (3, False, True), (4, True, False), (6, True, True), (7, True, True),
    ]  # fmt: skip
    ends = {r["epoch"]: r["step"] for r in whole[1]}
    assert [path.name for path in Checkpoints(tmp_path).all()] == [
        f"step-{ends[epoch]:09d}.safetensors" for epoch in (3, 6, 7)
    ]


def test_steps_of_a_run_as_far_as_they_are_known(whole):
    left, found = [], sizes(whole[1])
    t = trainer(SerialCommunicator(), leaves=6, on_step=lambda t: left.append(t.total_steps(EPOCHS, None)))
    assert t.total_steps(EPOCHS, None) == EPOCHS * 51
    t.fit(epochs=EPOCHS)
    assert left[-1] == len(left) == len(whole[1]) and left[0] == EPOCHS * 51
    epoch = found.index(sorted(set(found))[1])  # the first that is larger
    assert left[51 * epoch] == 51 * epoch + (EPOCHS - epoch) * -(-N // found[epoch])


def test_an_old_checkpoint_and_one_of_a_batch_that_does_not_grow(tmp_path):
    """Without the new fields a run begins with the first batch size; and a plain run may go on with another one."""
    checkpoints = Checkpoints(tmp_path)
    t = trainer(SerialCommunicator(), checkpoints=checkpoints, grow_to=None)
    t.fit(steps=51)
    arrays, said = read_file(checkpoints.path(51))
    assert (said["train"].pop("batch_size"), said["train"].pop("began")) == (0, [0, 0])
    write_file(checkpoints.path(51), arrays, said)
    for batch, options in (LOW, {}), (32, {"batch_size": 32, "grow_to": None}):
        old = trainer(SerialCommunicator(), checkpoints=checkpoints, **options)
        old.resume()
        assert old.sampler.batch_size == batch and old.state.step == 51 and old.sampler.began == (0, 0)


# --- options ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"grow_to": N + 1}, {"grow_to": LOW}, {"batch_size": 1}])
def test_bounds_that_are_none(options):
    with pytest.raises(ValueError, match="a batch that grows from . rows to"):
        trainer(SerialCommunicator(), **options)
    with pytest.raises(ValueError, match="an interval has at least 1 epoch"):
        Epochs(0)


@pytest.fixture(scope="module")
def digits():
    return load("digits", dtype=np.float64)


def built(digits, *arguments):
    return build_trainer(parse_train_config(["--hidden", "8", *arguments]), digits, SerialCommunicator())


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (["--schedule", "cosine"], UsageError, "--schedule cosine: with --batch-size 8-64 the batch grows in place"),
        (["--warmup", "2 epochs"], UsageError, "--warmup '2 epochs': .* give a number of steps"),
        (["--lr-scaling", "sqrt"], UsageError, "--lr-scaling sqrt: .* --lr is the rate of 8 rows"),
        (["--batch-size", "8-1259"], UserError, "1259 is above the 1258 training rows: give --batch-size 1258"),
    ],
)
def test_options_that_do_not_go_together(digits, arguments, error, says):
    with pytest.raises(error, match=says):
        built(digits, "--batch-size", "8-64", *arguments)


def test_options_reach_the_trainer(digits):
    t = built(digits, "--batch-size", "auto", "--warmup", "9", "--eval-every", "2 epochs", "--log-every", "7")
    assert (t.sampler.batch_size, t.grow_to, t.noise_every, t.schedule.warmup) == (32, 314, 10, 9)
    assert (t.eval_every, t.log_every, t.checkpoint_every, t.audit_every) == (Epochs(2), 7, Epochs(1), 0)
    t = built(digits, "--batch-size", "16", "--noise-scale", "5")
    assert (t.sampler.batch_size, t.grow_to, t.noise_every) == (16, None, 5)


def test_a_rate_of_0_grows_too():
    """Estimates need no progress."""
    t = Trainer(
        Network([7, 4], dtype=np.float64), SoftmaxCrossEntropy(), SGD(0.0), data(), batch_size=2, grow_to=50, seed=1
    )
    t.fit(epochs=2)
    assert t.state.batch_size == t.sampler.batch_size > 2 and t.state.began == [102, 1]


GROWS = ("--batch-size", "8-256", "--hidden", "16", "--epochs", "12", "--exact", "--leaves", "4", "--log-every", "1",
         "--eval-every", "0", "--checkpoint-every", "20")  # fmt: skip


@pytest.mark.launch
def test_a_killed_run_goes_on_elsewhere_with_the_same_model_file(launch, tmp_path):
    assert launch(*TRAIN, *GROWS, "--run-dir", "whole").returncode == 0
    wanted = lines(tmp_path / "whole")
    first = growths(wanted)[0]
    process = start(tmp_path, 2, *GROWS, "--run-dir", "run")
    wait_for_step(tmp_path / "run" / "metrics.jsonl", first + 25)
    for pid in ranks_of(tmp_path / "run"):
        os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=20)
    done = launch(*TRAIN, *GROWS, "--run-dir", "run", "--resume", "auto", ranks=3)
    assert done.returncode == 0 and "resumed from" in done.stdout, done.stderr
    assert "growing to 256 at most, on 3 ranks" in done.stdout
    found = lines(tmp_path / "run")
    assert [(r["step"], r["batch_size"], r["loss/train"]) for r in found] == [
        (r["step"], r["batch_size"], r["loss/train"]) for r in wanted
    ]
    models = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("run", "whole")]
    assert models[0] == models[1]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["step"] == wanted[-1]["step"]
