"""The user's own activation, loss and model: trained like ours, saved by name, and refused clearly."""

from functools import partial

import numpy as np
import pytest
from conftest import prepared
from flat import flat_trainer
from function_twins import MINE, WAYS, assert_same, train, twin
from toy_training import data

from distbp import (
    Adam,
    FunctionLoss,
    FunctionModel,
    Model,
    Network,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    UserError,
    evaluate,
    run_threads,
)
from distbp.errors import UsageError
from distbp.network.activations import activation_named, activation_of
from distbp.network.user_functions import resolve
from distbp.run.options import TrainConfig


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with the module `mine`, which is where we are."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def ours():
    return train(SerialCommunicator(), ours=True)


@pytest.mark.parametrize("options", WAYS)
def test_a_function_model_is_the_network_that_it_computes(options, ours):
    """Fifty steps with weight decay, clipping and sample weights."""
    for size in 1, 3:
        for theirs in run_threads(size, partial(train, **options)):
            assert_same(ours, theirs)


def test_exact_mode_gives_the_same_bits_on_any_number_of_ranks():
    first, *others = [run_threads(size, partial(train, leaves=5))[0] for size in (1, 2, 3, 5)]
    for other in others:
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_more_ranks_than_rows():
    assert_same(train(SerialCommunicator(), steps=5), run_threads(40, partial(train, steps=5))[0])


def test_activation_and_loss_of_the_user_are_those_of_ours(rng):
    """tanh by autodiff beside the table's."""
    own = activation_of(np.tanh, "mine:tanh")
    z, delta = rng.standard_normal((2, 4, 3))
    out, expected = np.empty_like(z), delta.copy()
    own.value(z, out)
    np.testing.assert_array_equal(out, np.tanh(z))
    own.times_derivative(delta, z)
    activation_named("tanh").times_derivative(expected, out)
    np.testing.assert_allclose(delta, expected, rtol=1e-14)


def test_a_loss_function_is_a_loss(rng):
    def cross_entropy(z, y):
        return np.log(np.sum(np.exp(z), axis=1)) - z[np.arange(len(y)), y]

    z, y = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    mine, ours = np.empty_like(z), np.empty_like(z)
    np.testing.assert_allclose(
        FunctionLoss(cross_entropy, "mine:f").value(z, y, mine), SoftmaxCrossEntropy().value(z, y, ours)
    )
    np.testing.assert_allclose(mine, ours, atol=1e-15)


def test_float32_stays_float32():
    _, model = twin()
    small = FunctionModel(lambda: model.parameters, model.function, 7, 4)
    X = np.ones((3, 7), np.float32)
    z = small.forward(X, small.own_pass(X))
    small.backward(z)
    assert z.dtype == small.grad.dtype == np.float32 and small.grad.any()


def test_outputs_of_any_shape_and_a_link():
    """Outputs (n, 2, 3) that the loss alone understands, then with a link that makes predictions of them."""
    X = np.linspace(-1.0, 1.0, 40)[:, None]
    rows = prepared(X, X[:, 0] ** 2)

    def model():
        return FunctionModel(
            lambda rng: [rng.standard_normal((1, 6)), np.zeros(6)],
            lambda p, X: (X @ p[0] + p[1]).reshape(-1, 2, 3),
            1,
            1,
            dtype=np.float64,
        )

    def loss(z, y):
        return np.sum((z[:, 0] + z[:, 1] ** 2 - y) ** 2, axis=1)

    for with_link in False, True:
        if with_link:
            loss.link = lambda z: np.mean(z[:, 0] + z[:, 1] ** 2, axis=1, keepdims=True)
        net = model()
        trainer = flat_trainer(net, FunctionLoss(loss, "mine:loss"), Adam(0.05), rows, batch_size=8, seed=1)
        before = trainer.evaluate(rows)
        trainer.fit(steps=200)
        after = trainer.evaluate(rows)
        assert after["loss"] < 0.05 * before["loss"]
        assert ("r2" in after) == with_link
    assert after["r2"] > 0.9


# --- the command line -------------------------------------------------------------------------------


def test_a_model_is_saved_by_its_name_and_loaded(mine, tmp_path):
    rows = data("classes")
    model = FunctionModel.named("mine:model", 7, 4, dtype=np.float64)
    Model(model, SoftmaxCrossEntropy(), rows.target, rows.preprocessor).save(tmp_path / "m.safetensors")
    loaded = Model.load(tmp_path / "m.safetensors").network
    assert np.array_equal(loaded.theta, model.theta) and loaded.dtype == np.float64
    assert sorted(loaded.tensors()) == ["hidden.0", "hidden.1", "last.0", "last.1"]
    (mine / "mine.py").write_text(MINE.replace("16", "17"))
    monkey = __import__("sys").modules
    del monkey["mine"]
    with pytest.raises(UserError, match=r"its parameters are others than those of mine:model, which has changed"):
        Model.load(tmp_path / "m.safetensors")


def test_a_model_without_a_name_cannot_be_saved(tmp_path):
    rows = data("classes")
    with pytest.raises(UserError, match="give FunctionModel"):
        Model(twin()[1], SoftmaxCrossEntropy(), rows.target, rows.preprocessor).save(tmp_path / "m.safetensors")


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothere:f", "there is no module 'nothere'"),
        ("mine:nothing", "mine has no 'nothing'"),
        ("mine:", "write module:name"),
        (":f", "write module:name"),
        ("os:system", "os is a module of Python itself"),
        ("subprocess:run", "is a module of Python itself"),
    ],
)
def test_names_that_lead_nowhere(mine, name, says):
    with pytest.raises(UserError, match=says):
        resolve(name, "--loss")


def test_modules_that_do_not_load(mine):
    (mine / "broken.py").write_text("1/0")
    (mine / "needy.py").write_text("import not_there_at_all")
    with pytest.raises(UserError, match="broken cannot be imported: ZeroDivisionError"):
        resolve("broken:f", "--loss")
    with pytest.raises(UserError, match="needy needs the module 'not_there_at_all'"):
        resolve("needy:f", "--loss")


def test_functions_that_are_none_of_the_kind(mine, rng):
    z, y = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    with pytest.raises(UserError, match="became one of"):
        activation_named("mine:flat")
    with pytest.raises(UserError, match="the loss of each row is wanted"):
        FunctionLoss(resolve("mine:total", "--loss"), "mine:total").value(z, y)
    with pytest.raises(UserError, match="would lose the derivative"):
        FunctionLoss(resolve("mine:escapes", "--loss"), "mine:escapes").value(z, y, z.copy())
    with pytest.raises(UserError, match="not a function"):
        FunctionLoss(resolve("mine:text", "--loss"), "mine:text")
    with pytest.raises(UserError, match=r"a pair \(init, predict\)"):
        FunctionModel.named("mine:text", 7, 4)


@pytest.mark.parametrize(
    ("init", "predict", "says"),
    [
        (lambda: [np.ones(3, int)], lambda p, X: X, "parameter 0 is ndarray, not an array of floats"),
        (lambda: {}, lambda p, X: X, "init gives no parameters"),
        (lambda: np.ones(3), lambda p, X: X @ p, "for 2 rows; "),
        (lambda: np.ones(3), lambda p, X: X[:1] * p, "for 2 rows; "),
    ],
)
def test_models_that_are_none(init, predict, says):
    with pytest.raises(UserError, match=says):
        FunctionModel(init, predict, 3, 1)


def test_choices_admit_functions_and_nothing_else():
    assert TrainConfig(activation="a:b", loss="c:d").activation == "a:b"
    from distbp.run.config import parse_train_config

    assert parse_train_config(["--loss", "mine:f"]).loss == "mine:f"
    with pytest.raises(UsageError):
        parse_train_config(["--loss", "mine"])


def test_evaluation_of_classes_with_a_link(rng):
    rows = data("classes")

    def loss(z, y):
        return np.log(np.sum(np.exp(-z), axis=1)) + z[np.arange(len(y)), y]

    net = Network([7, 8, 4], dtype=np.float64)
    plain = evaluate(net, FunctionLoss(loss, "mine:loss"), rows, SerialCommunicator())
    loss.link = lambda z: -z
    linked = evaluate(net, FunctionLoss(loss, "mine:loss"), rows, SerialCommunicator())
    assert plain["loss"] == linked["loss"] and plain["accuracy"] != linked["accuracy"]
