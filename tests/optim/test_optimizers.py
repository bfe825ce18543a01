"""What a gradient does to the parameters, and the learning rate by step."""

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from distbp import LAMB, LARS, SGD, Adam, AdamW, Momentum, Nesterov, Network, Optimizer, RMSProp, Schedule
from distbp.optim.compiled import _UPDATES, compiled_update
from distbp.optim.norms import clip_by_global_norm
from distbp.optim.optimizer import BLOCK
from distbp.optim.rules import OPTIMIZERS, make_optimizer
from distbp.optim.schedules import SCHEDULES, scale_rate

LAYERS = (slice(0, 12), slice(15, 21))  # W_1 (4, 3), b_1, W_2 (3, 2), b_2
BIASES = np.r_[12:15, 21:23]
each_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)


def run(optimizer, theta, gradients):
    """Parameters after a step for each gradient; the arguments are left as they are."""
    theta = theta.copy()
    for gradient in gradients:
        optimizer.step(theta, gradient.copy())
    return theta


def example(size=23, steps=5, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(size).astype(dtype), rng.standard_normal((steps, size)).astype(dtype)


# --- compiled -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_optimizer
def test_one_compiled_pass_gives_the_same_bits(name, dtype):
    """From the first step, from the middle of a run, or never."""
    pytest.importorskip("numba", reason="Numba is missing: scripts/environment .venv fast")

    def train(compile_after):
        theta, gradients = example(BLOCK + 1000, 10, dtype)
        optimizer = make_optimizer(name, 0.01, weight_decay=1e-3, layers=(slice(0, BLOCK),))
        optimizer.compile_after = compile_after
        return run(optimizer, theta, gradients)

    compiled = train(0)
    assert np.array_equal(compiled, train(math.inf)) and np.array_equal(compiled, train(7 * BLOCK))


def test_a_short_run_compiles_nothing(monkeypatch):
    asked = []
    monkeypatch.setattr("distbp.optim.optimizer.compiled_update", lambda *arguments: asked.append(arguments))
    theta, gradients = example(steps=3, dtype=np.float32)
    optimizer = make_optimizer("adam")
    run(optimizer, theta, gradients)
    assert not asked
    optimizer.compile_after = 4.5 * 3 * len(theta)
    run(optimizer, theta, gradients)
    assert asked == [("adam", np.dtype("f4"))] * 2


def test_without_numba_nothing_is_compiled(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    assert compiled_update.__wrapped__("adam", np.dtype("f4")) is None


@pytest.mark.parametrize("problem", [RuntimeError("no locator available"), OSError(28, "No space left on device")])
def test_where_nothing_can_be_kept_every_process_compiles(problem, monkeypatch):
    def njit(*, cache, **options):
        def compile_(update):
            def compiled(*arguments):
                if cache:
                    raise problem
                update(*arguments)

            return compiled

        return compile_

    monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(njit=njit))
    theta = np.ones((2, 3))
    compiled_update.__wrapped__("sgd", theta.dtype)(np.array([1]), theta, np.ones((1, 3)), 0.5)
    assert np.array_equal(theta, [[1.0] * 3, [0.5] * 3])


def test_numbers_of_numpy_are_numbers():
    """A float64 of NumPy, such as an element of an array of rates, would draw float32 up."""
    theta, gradients = example(dtype=np.float32)
    plain = run(make_optimizer("momentum", 0.01, momentum=0.9, weight_decay=1e-3), theta, gradients)
    numpys = make_optimizer("momentum", np.float64(0.01), momentum=np.float64(0.9), weight_decay=np.float64(1e-3))
    assert np.array_equal(run(numpys, theta, gradients), plain)


@pytest.mark.parametrize("kind", [Optimizer, SGD])
def test_an_optimizer_of_ones_own_has_its_own_update(kind, monkeypatch):
    """Also below one whose update is compiled."""
    monkeypatch.setattr(Optimizer, "compile_after", 0)

    class Sign(kind):
        def _change(self, out, g, *state):
            np.multiply(np.sign(g), self.lr, out=out)

    theta, gradients = example(steps=1)
    expected = theta - 0.5 * np.sign(gradients[0])
    assert np.array_equal(run(Sign(0.5), theta, gradients), expected)


@each_optimizer
def test_what_is_compiled_is_what_is_written(name, monkeypatch):
    """The loops as plain Python, on a few numbers: they are measured as they are compiled."""
    monkeypatch.setattr("distbp.optim.optimizer.compiled_update", lambda name, dtype: _UPDATES.get(name))
    monkeypatch.setattr(Optimizer, "compile_after", 0)
    theta, gradients = example()
    looped = run(make_optimizer(name, 0.01), theta, gradients)
    monkeypatch.setattr("distbp.optim.optimizer.compiled_update", lambda *_: None)
    assert np.array_equal(looped, run(make_optimizer(name, 0.01), theta, gradients))


# --- closed forms ------------------------------------------------------------------------------------

W0 = np.array([1.0, -2.0, 0.5])
G1 = np.array([0.5, -0.25, 2.0])
G2 = np.array([0.25, 1.0, -1.0])
ADAM_1 = G1 / (np.abs(G1) + 1e-8)
ADAM_2 = (0.9 * G1 + G2) / 1.9 / (np.sqrt((0.999 * G1**2 + G2**2) / 1.999) + 1e-8)
RMSPROP_1 = G1 / (0.1 * np.abs(G1) + 1e-8)
RMSPROP_2 = G2 / (np.sqrt(0.0099 * G1**2 + 0.01 * G2**2) + 1e-8)


@pytest.mark.parametrize(
    ("optimizer", "first", "second"),
    [
        (SGD, G1, G2),
        (Momentum, G1, 0.9 * G1 + G2),
        (Nesterov, 1.9 * G1, 0.81 * G1 + 1.9 * G2),
        (RMSProp, RMSPROP_1, RMSPROP_2),
        (Adam, ADAM_1, ADAM_2),
        (AdamW, ADAM_1, ADAM_2),
    ],
)
def test_first_and_second_step_in_closed_form(optimizer, first, second):
    np.testing.assert_allclose(run(optimizer(0.03), W0, [G1]), W0 - 0.03 * first, rtol=1e-13)
    np.testing.assert_allclose(run(optimizer(0.03), W0, [G1, G2]), W0 - 0.03 * (first + second), rtol=1e-13)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (SGD, W0 - 0.03 * (G1 + 0.3 * W0)),
        (Momentum, W0 - 0.03 * (G1 + 0.3 * W0)),
        (Nesterov, W0 - 0.057 * (G1 + 0.3 * W0)),
        (RMSProp, W0 - 0.03 * (G1 + 0.3 * W0) / (0.1 * np.abs(G1 + 0.3 * W0) + 1e-8)),
        (Adam, W0 - 0.03 * np.sign(G1 + 0.3 * W0) / (1 + 1e-8 / np.abs(G1 + 0.3 * W0))),
        (AdamW, W0 * (1 - 0.03 * 0.3) - 0.03 * ADAM_1),
    ],
)
def test_first_step_with_weight_decay_in_closed_form(optimizer, expected):
    """Without `layers` the whole vector is one weight."""
    np.testing.assert_allclose(run(optimizer(0.03, weight_decay=0.3), W0, [G1]), expected, rtol=1e-13)


def test_first_step_of_lars_in_closed_form():
    # |w| = 5, |g| = 10: ratio 0.001 * 5 / (10 + 0.2 * 5); the bias keeps the plain rate
    w, g = np.array([3.0, 4.0, 7.0]), np.array([6.0, -8.0, 2.0])
    theta = run(LARS(0.5, weight_decay=0.2, layers=[slice(0, 2)]), w, [g])
    ratio = 0.005 / 11
    expected = [3 - 0.5 * ratio * (6 + 0.6), 4 - 0.5 * ratio * (-8 + 0.8), 7 - 0.5 * 2]
    np.testing.assert_allclose(theta, expected, rtol=1e-14)


def test_first_step_of_lamb_in_closed_form():
    # r = sign(g) up to epsilon; r + 0.2 w = (1.6, -0.2); |w| = 5; the bias keeps the plain step
    w, g = np.array([3.0, 4.0, 7.0]), np.array([6.0, -8.0, 2.0])
    theta = run(LAMB(0.5, weight_decay=0.2, epsilon=1e-30, layers=[slice(0, 2)]), w, [g])
    ratio = 5 / math.hypot(1.6, -0.2)
    np.testing.assert_allclose(theta, [3 - 0.5 * ratio * 1.6, 4 + 0.5 * ratio * 0.2, 7 - 0.5], rtol=1e-14)


# --- the layer-wise ones against the papers, layer by layer ------------------------------------------


def parts(vector):
    """W_1, b_1, W_2, b_2, copied."""
    return [vector[s].copy() for s in (LAYERS[0], slice(12, 15), LAYERS[1], slice(21, 23))]


def lars_reference(theta, gradients, lr, decay, momentum=0.9, trust=1e-3):
    """You, Gitman & Ginsburg 2017, algorithm 1, at a constant rate."""
    params = parts(theta)
    velocity = [np.zeros_like(p) for p in params]
    for gradient in gradients:
        for i, g in enumerate(parts(gradient)):
            local, beta = 1.0, 0.0
            if i % 2 == 0:
                beta = decay
                local = trust * np.linalg.norm(params[i]) / (np.linalg.norm(g) + beta * np.linalg.norm(params[i]))
            velocity[i] = momentum * velocity[i] + lr * local * (g + beta * params[i])
            params[i] = params[i] - velocity[i]
    return np.concatenate(params)


def lamb_reference(theta, gradients, lr, decay, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """You et al. 2020, algorithm 2, with phi the identity."""
    params = parts(theta)
    m = [np.zeros_like(p) for p in params]
    v = [np.zeros_like(p) for p in params]
    for t, gradient in enumerate(gradients, 1):
        for i, g in enumerate(parts(gradient)):
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            r = m[i] / (1 - beta1**t) / (np.sqrt(v[i] / (1 - beta2**t)) + epsilon)
            local = 1.0
            if i % 2 == 0:
                r = r + decay * params[i]
                local = np.linalg.norm(params[i]) / np.linalg.norm(r)
            params[i] = params[i] - lr * local * r
    return np.concatenate(params)


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize(("optimizer", "reference"), [(LARS, lars_reference), (LAMB, lamb_reference)])
def test_layerwise_rates_agree_with_the_paper(optimizer, reference, decay):
    theta, gradients = example(steps=50)
    lr = 0.7 if optimizer is LARS else 0.01
    mine = run(optimizer(lr, weight_decay=decay, layers=LAYERS), theta, gradients)
    np.testing.assert_allclose(mine, reference(theta, gradients, lr, decay), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("optimizer", [LARS, LAMB])
def test_layers_of_zeros_take_the_plain_step(optimizer):
    theta, gradients = np.zeros(23), example()[1][:1]
    plain = (Momentum if optimizer is LARS else Adam)(0.1)
    layerwise = run(optimizer(0.1, weight_decay=0.1, layers=LAYERS), theta, gradients)
    np.testing.assert_allclose(layerwise, run(plain, theta, gradients), rtol=1e-14)


@pytest.mark.parametrize("optimizer", [LARS, LAMB])
def test_a_layerwise_step_does_not_depend_on_the_scale_of_the_gradient(optimizer):
    theta, gradients = example(steps=1)
    steps = [run(optimizer(0.1, layers=LAYERS), theta, gradients * scale) - theta for scale in (1.0, 1e3)]
    weights = np.setdiff1d(np.arange(23), BIASES)
    np.testing.assert_allclose(steps[0][weights], steps[1][weights], rtol=1e-6)


# --- the walk over blocks ----------------------------------------------------------------------------


@each_optimizer
def test_blocks_equal_the_whole(name, monkeypatch):
    size = 2 * BLOCK + 17
    layers = (slice(0, BLOCK + 100), slice(BLOCK + 105, size - 3))
    theta, gradients = example(size, steps=3)
    blocks = run(make_optimizer(name, 0.01, weight_decay=0.01, layers=layers), theta, gradients)
    monkeypatch.setattr("distbp.optim.optimizer.BLOCK", size)
    whole = run(make_optimizer(name, 0.01, weight_decay=0.01, layers=layers), theta, gradients)
    assert np.array_equal(blocks, whole) and (blocks != theta).all()


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lars", "lamb")])
def test_each_element_is_updated_as_if_alone(name):
    size = 2 * BLOCK + 17
    theta, gradients = example(size, steps=3)
    together = run(make_optimizer(name, 0.01, weight_decay=0.01), theta, gradients)
    for i in 0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK, size - 1:
        alone = run(make_optimizer(name, 0.01, weight_decay=0.01), theta[i : i + 1], gradients[:, i : i + 1])
        assert together[i] == alone[0]


# --- state, dtype, decay -----------------------------------------------------------------------------


@each_optimizer
def test_saved_and_restored_it_continues_to_the_bit(name):
    theta, gradients = example(steps=9)
    options = {"weight_decay": 0.02, "layers": LAYERS}
    whole = run(make_optimizer(name, 0.05, **options), theta, gradients)
    first, second = make_optimizer(name, 0.05, **options), make_optimizer(name, 0.05, **options)
    between = run(first, theta, gradients[:4])
    second.t, second.state = first.t, {key: array.copy() for key, array in first.state.items()}
    assert second.t == 4 and sorted(second.state) == sorted(OPTIMIZERS[name].buffers)
    assert np.array_equal(run(second, between, gradients[4:]), whole)
    if second.state:  # and the state matters
        assert not np.array_equal(run(make_optimizer(name, 0.05, **options), between, gradients[4:]), whole)


@each_optimizer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(name, dtype):
    theta, gradients = example(dtype=dtype)
    optimizer = make_optimizer(name, 0.01, weight_decay=0.02, layers=LAYERS)
    after = run(optimizer, theta, gradients)
    assert after.dtype == dtype and all(array.dtype == dtype for array in optimizer.state.values())
    exact = run(
        make_optimizer(name, 0.01, weight_decay=0.02, layers=LAYERS), theta.astype(float), gradients.astype(float)
    )
    np.testing.assert_allclose(after, exact, rtol=1e-4 if dtype == np.float32 else 0, atol=1e-6)


@each_optimizer
def test_weight_decay_never_touches_a_bias(name):
    theta, gradients = example()
    network = Network([4, 3, 2])
    assert tuple(network.weight_slices) == LAYERS
    without = run(make_optimizer(name, 0.05, layers=LAYERS), theta, gradients)
    decayed = run(make_optimizer(name, 0.05, weight_decay=0.5, layers=LAYERS), theta, gradients)
    assert np.array_equal(decayed[BIASES], without[BIASES])
    weights = np.setdiff1d(np.arange(23), BIASES)
    assert (decayed[weights] != without[weights]).all()


@each_optimizer
def test_a_rate_of_zero_changes_nothing(name):
    theta, gradients = example()
    assert np.array_equal(run(make_optimizer(name, 0.0, weight_decay=0.5, layers=LAYERS), theta, gradients), theta)


@each_optimizer
def test_a_gradient_of_zeros_changes_nothing(name):
    theta, gradients = example()
    assert np.array_equal(run(make_optimizer(name, 0.1, layers=LAYERS), theta, 0 * gradients), theta)


# --- clipping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "expected"), [(1.0, [0.6, 0.8]), (2.5, [1.5, 2.0]), (5.0, [3.0, 4.0]), (6.0, [3.0, 4.0])]
)
def test_clipping_bounds_the_norm_and_keeps_the_direction(limit, expected):
    gradient = np.array([3.0, 4.0])
    clip_by_global_norm(gradient, limit, 5.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-15)


def test_clipping_leaves_zeros_and_the_dtype():
    gradient = np.zeros(3, np.float32)
    clip_by_global_norm(gradient, 1.0, 0.0)
    assert gradient.dtype == np.float32 and not gradient.any()


# --- construction ------------------------------------------------------------------------------------


@each_optimizer
def test_make_optimizer_builds_each(name):
    kind = OPTIMIZERS[name]
    customary = make_optimizer(name)
    assert type(customary) is kind and customary.lr == kind.lr_default
    other = make_optimizer(name, 0.25, momentum=0.5, weight_decay=0.1, layers=LAYERS)
    assert (other.lr, other.weight_decay, other.layers, other.t) == (0.25, 0.1, LAYERS, 0)
    if isinstance(other, Momentum):
        assert other.momentum == 0.5


@each_optimizer
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "learning rate"),
        ({"lr": math.nan}, "learning rate"),
        ({"lr": math.inf}, "learning rate"),
        ({"weight_decay": -1e-3}, "weight decay"),
        ({"weight_decay": math.nan}, "weight decay"),
        ({"weight_decay": math.inf}, "weight decay"),
    ],
)
def test_bad_arguments_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_optimizer(name, **options)


@pytest.mark.parametrize("name", ["momentum", "nesterov", "lars"])
@pytest.mark.parametrize("momentum", [-0.1, 1.0, math.nan])
def test_a_bad_momentum_is_refused(name, momentum):
    with pytest.raises(ValueError, match="momentum"):
        make_optimizer(name, momentum=momentum)


def test_an_unknown_optimizer_names_those_that_there_are():
    with pytest.raises(ValueError, match="unknown optimizer 'adagrad'.*sgd.*lamb"):
        make_optimizer("adagrad")


# --- schedules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "factors"),
    [
        ("constant", {}, {0: 1, 1: 1, 10**9: 1}),
        ("step", {"every": 10, "decay": 0.5}, {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0.25, 35: 0.125}),
        ("exponential", {"every": 10, "decay": 0.25}, {0: 1, 5: 0.5, 10: 0.25, 15: 0.125, 20: 0.0625}),
        ("cosine", {"total": 90}, {0: 1, 30: 0.75, 45: 0.5, 60: 0.25, 90: 0, 1000: 0}),
        ("cosine", {"total": 90, "floor": 0.2}, {0: 1, 30: 0.8, 45: 0.6, 60: 0.4, 90: 0.2, 1000: 0.2}),
        ("inverse", {"every": 3}, {0: 1, 9: 0.5, 24: 1 / 3, 45: 0.25}),
        ("inverse", {"every": 1, "power": 1.0}, {0: 1, 1: 0.5, 9: 0.1}),
        ("step", {"every": 1, "decay": 0.1, "floor": 0.05}, {0: 1, 1: 0.1, 2: 0.05, 99: 0.05}),
        ("plateau", {}, {0: 1, 1000: 1}),
    ],
)
@pytest.mark.parametrize("warmup", [0, 1, 5])
def test_factors_at_chosen_steps_behind_the_warmup(kind, options, factors, warmup):
    if "total" in options:
        options = options | {"total": options["total"] + warmup}
    schedule = Schedule(kind, warmup=warmup, **options)
    for step, factor in factors.items():
        assert schedule(step + warmup) == pytest.approx(factor, rel=1e-14, abs=1e-16)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_warmup_rises_linearly_to_the_peak(kind):
    schedule = Schedule(kind, warmup=4, total=100, every=10)
    assert [schedule(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("kind", SCHEDULES)
def test_behind_the_warmup_a_factor_never_rises_and_depends_on_the_step_only(kind):
    schedule = Schedule(kind, warmup=3, total=60, every=7, decay=0.6, floor=0.01)
    factors = [schedule(step) for step in range(3, 200)]
    assert all(b <= a for a, b in zip(factors, factors[1:], strict=False))
    assert min(factors) >= 0.01
    assert [schedule(step) for step in reversed(range(3, 200))] == factors[::-1]


def observe(schedule, losses):
    factors = []
    for loss in losses:
        schedule.observe(loss)
        factors.append(schedule(100))
    return factors


def test_plateau_decays_when_nothing_improves():
    """As in PyTorch: `patience` evaluations without improvement are borne, the next one decays."""
    schedule = Schedule("plateau", decay=0.5, patience=2)
    losses = [3.0, 2.0, 2.0, 2.5, 2.1, 2.2, 1.9, 1.9, 1.9, 1.9, 1.0, math.nan, math.nan, math.nan]
    assert observe(schedule, losses) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125]


def test_plateau_stops_at_the_floor_and_waits_for_no_warmup():
    schedule = Schedule("plateau", decay=0.1, patience=0, floor=0.05, warmup=10)
    assert observe(schedule, [1.0, 1.0, 1.0, 1.0]) == [1, 0.1, 0.05, 0.05]
    assert schedule(4) == 0.5


@pytest.mark.parametrize("cut", range(1, 12))
def test_plateau_restored_from_json_continues_alike(cut):
    losses = [3.0, 2.0, 2.1, 2.1, 2.1, 2.1, 1.5, 1.6, 1.6, 1.6, 1.6, 1.6]
    whole = observe(Schedule("plateau", patience=1), losses)
    first, second = Schedule("plateau", patience=1), Schedule("plateau", patience=1)
    before = observe(first, losses[:cut])
    vars(second.state).update(json.loads(json.dumps(vars(first.state))))
    assert before + observe(second, losses[cut:]) == whole and len(set(whole)) > 3


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULES if kind != "plateau"])
def test_other_schedules_do_not_listen(kind):
    schedule = Schedule(kind, total=100, every=10, patience=0)
    fresh = replace(schedule.state)
    assert len(set(observe(schedule, [1.0, 2.0, 3.0]))) == 1
    assert schedule.state == fresh


@pytest.mark.parametrize(
    ("rule", "expected"), [("none", 0.1), ("linear", 0.1 * 256 / 64), ("sqrt", 0.1 * math.sqrt(256 / 64))]
)
def test_scaling_of_the_rate_with_the_batch(rule, expected):
    assert scale_rate(0.1, rule, 256, 64) == pytest.approx(expected, rel=1e-15)
    assert scale_rate(0.1, rule, 64, 64) == 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Schedule("cosin"), "unknown schedule 'cosin'.*constant.*plateau"),
        (lambda: Schedule("step", decay=0.0), "decay"),
        (lambda: Schedule("step", decay=1.5), "decay"),
        (lambda: Schedule("step", decay=math.nan), "decay"),
        (lambda: scale_rate(0.1, "cubic", 2, 1), "unknown scaling of the rate 'cubic'.*linear"),
    ],
)
def test_bad_schedules_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@each_optimizer
@pytest.mark.parametrize("compile_after", [0, 1e9])
def test_what_is_remembered_of_a_unit_that_died_is_never_subnormal(name, compile_after, monkeypatch):
    """A processor takes a hundred times as long for such numbers."""
    monkeypatch.setattr(Optimizer, "compile_after", compile_after)
    monkeypatch.setattr("distbp.optim.optimizer.compiled_update", lambda name, dtype: _UPDATES.get(name))
    optimizer, theta = make_optimizer(name, 0.001), np.ones(6, np.float32)
    for t in range(1500):
        alive = t < 3
        optimizer.step(theta, np.array([1e-6, 1e-3, 1, 10, 0, 2], np.float32) * np.float32([alive] * 5 + [True]))
        for array in optimizer.state.values():
            assert not ((array != 0) & (np.abs(array) < np.finfo(np.float32).tiny)).any(), t
    assert np.isfinite(theta).all()


def test_a_rule_of_ones_own_may_remember_something_else():
    class Two(Momentum):
        buffers = ("v2",)
        compiled = ""

        def _change(self, out, g, *state):
            (v,) = state
            v *= self.momentum
            v += g
            np.multiply(v, self.lr, out=out)

    optimizer, theta = Two(0.1), np.ones(3)
    for _ in range(200):
        optimizer.step(theta, np.ones(3))
    assert np.isfinite(theta).all()
