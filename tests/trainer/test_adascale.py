"""AdaScale: the gain against its limits, a training against the algorithm written out with one gradient per row."""

import dataclasses
import math

import numpy as np
import pytest
from conftest import prepared
from hypothesis import given
from hypothesis import strategies as st
from test_functions import twin
from test_noise_scale import one_by_one
from threadpoolctl import threadpool_limits

from distbp import (
    Checkpoints,
    Momentum,
    Network,
    Schedule,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    Trainer,
    UserError,
    load,
    run_threads,
)  # fmt: skip
from distbp.errors import UsageError
from distbp.files import read_file, write_file
from distbp.run.build import build_trainer
from distbp.run.config import parse_train_config
from distbp.trainer.adascale import gain

N, B, BASE, RATE, STEPS = 60, 16, 5, 0.03, 30
"""60 rows: the last batch of an epoch has 12, so that S is 16 / 5 or 12 / 5."""
SCHEDULE = {"warmup": 6, "total": 100}


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1, user_api="blas"):
        yield


def data():
    """Classes that can be learnt, so that the gradients of the rows agree at first."""
    rng = np.random.default_rng(5)
    X = rng.standard_normal((N, 7))
    return prepared(X, np.argmax(X @ rng.standard_normal((7, 4)), axis=1), weights=rng.uniform(0.2, 3.0, N))


def network():
    return Network([7, 16, 12, 4], "tanh", dtype=np.float64, seed=3)


def trainer(comm, model=None, *, base=BASE, **options):
    return Trainer(
        model or network(), SoftmaxCrossEntropy(), Momentum(RATE, momentum=0.8), data(), comm=comm, batch_size=B,
        adascale_base=base, schedule=Schedule("cosine", **SCHEDULE), seed=11, **options,
    )  # fmt: skip


def trained(comm, steps=STEPS, **options):
    """Parameters, and what was logged of each step."""
    records = []
    t = trainer(comm, log_every=1, on_record=records.append, **options)
    t.fit(steps=steps)
    theta = t.network.theta.copy()
    t.close()
    return theta, [(r["gain"], r["scale_invariant_step"], r["lr"]) for r in records]


# --- the gain -----------------------------------------------------------------------------------------

numbers = st.floats(1e-12, 1e12)


def test_a_gain_by_hand():
    """sigma^2 = 6 / 2 = 3, mu^2 = 1, S = 4: r = (3 + 1) / (3 / 4 + 1)."""
    assert gain([6.0, 1.0, 1.0], 2, 8) == pytest.approx(16 / 7, rel=1e-15)
    assert gain([0.3, 0.05, 0.05], 2, 8) == pytest.approx(16 / 7, rel=1e-15)  # sums with the weight of one estimate


@given(numbers, numbers, st.integers(1, 100), st.integers(1, 10_000))
def test_it_lies_between_1_and_the_number_of_batches(trace, square, base, rows):
    scale = max(1.0, rows / base)
    r = gain([trace, square, 1.0], base, rows)
    assert 1.0 <= r <= scale
    assert gain([0.0, square, 1.0], base, rows) == 1.0
    assert gain([trace, 0.0, 1.0], base, rows) == gain([trace, -square, 1.0], base, rows)
    assert gain([trace, 0.0, 1.0], base, rows) == pytest.approx(scale, rel=1e-15)
    assert gain([0.0, 0.0, 0.0], base, rows) == 1.0  # no estimate yet
    # another unit of the loss: the same gain
    assert gain([trace * 2.0**-60, square * 2.0**-60, 1.0], base, rows) == r


@given(numbers, numbers, st.integers(1, 100), st.integers(1, 10_000))
def test_more_noise_more_gain(trace, square, base, rows):
    r = gain([trace, square, 1.0], base, rows)
    assert gain([2 * trace, square, 1.0], base, rows) >= r * (1 - 1e-15)
    assert gain([trace, square, 1.0], base, 2 * rows) >= r * (1 - 1e-15)


# --- the training -------------------------------------------------------------------------------------


def written_out(steps=STEPS):
    """Algorithm 1 of the paper, with momentum, from the gradients of single rows."""
    model, rows = network(), data()
    sampler = Trainer(network(), SoftmaxCrossEntropy(), Momentum(), rows, batch_size=B, seed=11).sampler
    velocity, tau, trace, square, weight, log = np.zeros_like(model.theta), 0.0, 0.0, 0.0, 0.0, []
    for step in range(steps):
        gradients = one_by_one(model, SoftmaxCrossEntropy(), rows, sampler.batch(step).rows())
        n, g = len(gradients), gradients.mean(axis=0)
        variance = ((gradients - g) ** 2).sum() / (n - 1)
        trace = 0.95 * trace + 0.05 * variance
        square = 0.95 * square + 0.05 * (g @ g - variance / n)
        weight = 0.95 * weight + 0.05
        sigma2, mu2 = trace / weight / BASE, max(0.0, square / weight)
        r = (sigma2 + mu2) / (sigma2 / (n / BASE) + mu2)
        t, warmup, total = math.floor(tau), SCHEDULE["warmup"], SCHEDULE["total"]
        falls = 0.5 * (1 + math.cos(math.pi * min(1, (t - warmup) / (total - warmup))))
        rate = r * RATE * ((t + 1) / warmup if t < warmup else falls)
        velocity = 0.8 * velocity + g
        model.theta[:] -= rate * velocity
        tau += r
        log.append((r, tau, rate))
    return model.theta, log


@pytest.fixture(scope="module")
def expected():
    return written_out()


def assert_is(result, expected):
    theta, log = result
    np.testing.assert_allclose(log, expected[1], rtol=1e-9)
    np.testing.assert_allclose(theta, expected[0], rtol=1e-9, atol=1e-11)


def test_the_example_tests_something(expected):
    """Gains of all sizes, warm-up and decay."""
    gains, taus, _ = np.transpose(expected[1])
    assert gains.min() < 2.0 and gains.max() > 2.5 and taus[-1] > 2 * STEPS
    assert 0 < sum(taus < SCHEDULE["warmup"]) < 6


@pytest.mark.parametrize(
    "options", [{}, {"reduction": "shared"}, {"reduction": "overlap"}, {"leaves": 5}, {"micro_batch": 3}]
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_is_the_algorithm_on_any_number_of_ranks(size, options, expected):
    for result in run_threads(size, lambda comm: trained(comm, **options)):
        assert_is(result, expected)


@pytest.mark.ranks
def test_it_is_the_algorithm_under_mpi(comm, expected):
    assert_is(trained(comm), expected)


def test_a_batch_of_the_base_trains_as_if_without_it():
    options = {"steps": STEPS}
    t = trainer(SerialCommunicator(), base=None)
    t.fit(**options)
    theta, log = trained(SerialCommunicator(), base=B, **options)
    assert theta.tobytes() == t.network.theta.tobytes()
    assert [row[:2] for row in log] == [(1.0, float(step)) for step in range(1, STEPS + 1)]


def test_exact_mode_gives_the_same_bits_through_stops_on_any_number_of_ranks(tmp_path):
    whole = trained(SerialCommunicator(), leaves=6)

    def part(comm, steps):
        t = trainer(comm, leaves=6, checkpoints=Checkpoints(tmp_path))
        t.resume()
        t.fit(steps=steps)
        return t.network.theta.tobytes(), t.state.scale_invariant_step, t.state.gain

    for size, steps in (3, 7), (1, 16), (2, STEPS):
        results = run_threads(size, lambda comm, steps=steps: part(comm, steps))
    assert set(results) == {(whole[0].tobytes(), whole[1][-1][1], whole[1][-1][0])}


def test_it_ends_when_a_run_of_the_base_would():
    """Five epochs of 12 steps are 60 scale-invariant ones."""
    records = []
    t = trainer(SerialCommunicator(), log_every=1, on_record=records.append)
    assert t.total_steps(5, None) == 60  # before the first gain is known
    assert t.fit(epochs=5) == "done"
    taus = [r["scale_invariant_step"] for r in records]
    assert taus[-2] < 60 <= taus[-1] == t.state.scale_invariant_step
    assert taus[-1] == pytest.approx(math.fsum(r["gain"] for r in records), rel=1e-14)
    assert t.state.step == len(taus) == t.total_steps(5, None) < 40
    assert t.fit(epochs=5) == "done" and t.state.step == len(taus)
    # and it goes on as if it had never ended
    t.fit(epochs=6)
    whole = trainer(SerialCommunicator())
    whole.fit(epochs=6)
    assert t.state.step == whole.state.step and t.network.theta.tobytes() == whole.network.theta.tobytes()


def test_steps_are_real_ones():
    t = trainer(SerialCommunicator())
    t.fit(epochs=5, steps=10)
    assert t.state.step == 10 and t.total_steps(5, 10) == 10


def test_a_step_that_is_skipped_does_not_count():
    rows = data()
    rows._ready[0][trainer(SerialCommunicator()).sampler.batch(3).rows()[0]] = np.nan
    taus = []
    Trainer(
        network(), SoftmaxCrossEntropy(), Momentum(RATE), rows, batch_size=B, adascale_base=BASE, seed=11,
        on_nonfinite="skip", on_step=lambda t: taus.append(t.state.scale_invariant_step),
    ).fit(steps=4)  # fmt: skip
    assert taus[0] < taus[1] < taus[2] == taus[3]


def test_estimates_in_some_steps_only():
    """The gain of the first ones is 1, and then that of the last estimate."""
    _, log = trained(SerialCommunicator(), noise_every=4, steps=12)
    gains = [row[0] for row in log]
    assert gains[:3] == [1.0] * 3 and 1.0 < gains[4] == gains[5] == gains[6] != gains[8]


def test_a_checkpoint_of_before_has_none_of_its_fields(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    t = trainer(SerialCommunicator(), base=None, checkpoints=checkpoints)
    t.fit(steps=8)
    path = checkpoints.path(8)
    arrays, said = read_file(path)
    for name in "batch_size", "began", "gain", "scale_invariant_step":
        del said["train"][name]
    write_file(path, arrays, said)
    old = trainer(SerialCommunicator(), base=None, checkpoints=checkpoints)
    old.resume()
    assert dataclasses.asdict(old.state) == dataclasses.asdict(t.state)


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"base": 17}, {"base": 0}, {"grow_to": 32}])
def test_a_base_above_the_batch_and_a_batch_that_grows_are_refused(options):
    with pytest.raises(ValueError, match="needs a batch of one size"):
        trainer(SerialCommunicator(), **options)


def test_models_of_your_own_need_leaves():
    for options in {}, {"leaves": 1}, {"micro_batch": 4}:
        with pytest.raises(UserError, match="only --exact gives them, with at least 2 leaves"):
            trainer(SerialCommunicator(), twin()[1], **options)
    results = run_threads(2, lambda comm: trained(comm, model=twin()[1], leaves=4))
    assert_is(results[0], trained(SerialCommunicator(), model=twin()[1], leaves=4))
    assert results[0][1][-1][0] > 1.0


@pytest.fixture(scope="module")
def digits():
    return load("digits", dtype=np.float64)


def built(digits, *arguments):
    return build_trainer(
        parse_train_config(["--lr-scaling", "adascale", "--hidden", "8", *arguments]), digits, SerialCommunicator()
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "derived for SGD: --optimizer sgd, momentum, nesterov, not adam"),
        (["--optimizer", "sgd"], "--batch-size 32 is below --lr-scaling-base 64"),
        (["--optimizer", "sgd", "--batch-size", "64-128"], "with --batch-size 64-128 --lr is the rate of 64 rows"),
        (
            ["--optimizer", "sgd", "--batch-size", "64", "--steps", "9", "--schedule", "cosine"],
            "--schedule cosine with --lr-scaling adascale needs --epochs",
        ),
    ],
)
def test_options_that_do_not_go_together(digits, arguments, says):
    with pytest.raises(UsageError, match=says):
        built(digits, *arguments)


def test_the_schedule_counts_the_epochs_of_the_base(digits):
    """1258 rows: 40 steps of 32 in an epoch, and 5 of 256."""
    t = built(
        digits, "--optimizer", "nesterov", "--batch-size", "256", "--lr-scaling-base", "32", "--lr", "0.01",
        "--schedule", "cosine", "--warmup", "2 epochs", "--epochs", "6", "--steps", "50",
    )  # fmt: skip
    assert (t.schedule.warmup, t.schedule.total, t.adascale_base, t.noise_every) == (80, 240, 32, 1)
    assert t.peak_rate == 0.01 and t.sampler.steps_per_epoch == 5
