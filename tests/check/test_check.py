"""The check of gradients: its methods agree, it counts and fits right, and it finds what is wrong."""

import sys
from dataclasses import replace
from importlib.util import find_spec
from unittest.mock import MagicMock

import numpy as np
import pytest
from functions_for_check import MINE, SIZES

from distbp import ACTIVATIONS, SerialCommunicator
from distbp.autodiff.tables import RULES
from distbp.check.__main__ import main
from distbp.check.comparison import compare, obstacle, step_errors
from distbp.check.errors import disagreements, relative_error
from distbp.check.gradients import (
    by_autodiff,
    complex_step,
    count_paths,
    differences,
    path_sum,
    recursion,
    why_no_complex_step,
)
from distbp.check.growth import exponent, factor, graph_size, product_graphs
from distbp.check.plot import draw
from distbp.check.problem import ANALYTIC, dense_problem, model_problem
from distbp.check.report import Report, seconds
from distbp.network.losses import LOSSES

ALONE = SerialCommunicator()


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's, in the working folder; the same one in this process."""
    (tmp_path / "mine_for_check.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine_for_check"
    sys.modules.pop("mine_for_check", None)


@pytest.fixture
def small(monkeypatch):
    """A check of a few small networks, which takes a tenth of the time; tests/launch has the quick one as it is."""
    door = sys.modules["distbp.check.__main__"]
    monkeypatch.setattr(door, "QUICK", {2: (4, 7), 4: (2, 4), 8: (2, 4)})
    monkeypatch.setattr(door, "STEPS", door.STEPS[::5])
    monkeypatch.setattr(door, "_STEPS_OF", (4, 3))
    monkeypatch.setattr(door, "_MODEL_SECONDS", 0.3)
    monkeypatch.setattr("distbp.check.growth._REPEAT_SECONDS", 1e-3)


# --- the methods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_all_methods_give_one_gradient(activation, loss):
    problem = dense_problem(SIZES, activation, loss, seed=3)
    reference = recursion(problem)
    np.testing.assert_allclose(path_sum(problem), reference, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(by_autodiff(problem), reference, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(differences(problem, 1e-5), reference, rtol=0, atol=1e-8)
    np.testing.assert_allclose(differences(problem, 1e-7, central=False), reference, rtol=0, atol=1e-5)
    if {activation, loss} <= ANALYTIC:
        np.testing.assert_allclose(complex_step(problem), reference, rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_disagreement_on_kinks_near_the_parameters(activation):
    for seed in range(3):
        problem = dense_problem([8] * 9, activation, "squared-error", seed=seed)
        measured = compare(problem, ALONE, analytic=activation in ANALYTIC)
        assert not disagreements([measured], "")


def test_a_kink_within_the_step_is_no_mistake():
    problem = dense_problem([1, 1, 1], "relu", "squared-error", seed=0, rows=1)
    theta, X = problem.network.theta, problem.X
    theta[:] = 1.0, -X[0, 0] + 3e-6, 1.0, 0.0  # the pre-activation is 3e-6
    assert np.max(np.abs(differences(problem, 1e-5) - recursion(problem))) > 1e-3
    assert not disagreements([compare(problem, ALONE, analytic=False)], "")


def test_numbers_of_some_parameters():
    problem = dense_problem(SIZES, "tanh", "squared-error")
    where = np.array([30, 2, 7])
    np.testing.assert_array_equal(differences(problem, 1e-5, where), differences(problem, 1e-5)[where])
    np.testing.assert_array_equal(complex_step(problem, where), complex_step(problem)[where])


def test_paths_are_counted():
    assert count_paths((5, 3)) == 3
    assert count_paths((5, 2, 3)) == 2 * 3 + 3
    assert count_paths((2, 2, 2, 2)) == 8 + 4 + 2
    assert count_paths((8,) * 65) > 8**64


def test_each_path_costs_a_product(monkeypatch):
    from distbp.check import gradients

    ends, original = [], gradients._sum_over_paths

    def counted(local, delta, level, unit, product):
        if level == len(local):
            ends.append(unit)
        return original(local, delta, level, unit, product)

    monkeypatch.setattr(gradients, "_sum_over_paths", counted)
    path_sum(dense_problem((3, 4, 2, 3), "tanh", "squared-error"))
    assert len(ends) == count_paths((3, 4, 2, 3)) == 4 * 2 * 3 + 2 * 3 + 3


@pytest.mark.parametrize("function", ["swish", "softsign"])
def test_where_the_complex_step_applies(mine, function):
    problem = dense_problem(SIZES, f"{mine}:{function}", "squared-error")
    direction = np.linspace(-1.0, 1.0, problem.network.n_parameters)
    assert ("not analytic" in why_no_complex_step(problem, direction)) == (function == "softsign")
    exact = np.abs(complex_step(problem) - recursion(problem)).max() < 1e-14
    assert exact == (function == "swish")


def test_built_in_kinks_are_named():
    problem = dense_problem(SIZES, "relu", "huber")
    assert obstacle(problem, "", ("relu", "huber")) == "relu and huber: not analytic"
    assert obstacle(dense_problem(SIZES, "silu", "squared-error"), "", ("silu", "squared-error")) == ""


def test_the_loss_of_a_model_of_the_users(mine):
    problem = model_problem(f"{mine}:model", 4, 3, "softmax-cross-entropy", targets="auto", seed=0)
    assert problem.y.shape == (5,)
    measured = compare(problem, ALONE, analytic=True, max_seconds=1e-9)
    assert set(measured.results) == {"autodiff", "complex", "central"}
    assert measured.results["autodiff"].against == "complex"
    assert not disagreements([measured], "")
    assert measured.paths == 0


# --- errors and growth --------------------------------------------------------------------------------------------


def test_relative_errors():
    parts = [("large", slice(0, 2)), ("small", slice(2, 4))]
    truth = np.array([100.0, 1.0, 1e-3, 1e-5])
    wrong = truth.copy()
    wrong[3] += 1e-6
    error, where = relative_error(wrong, truth, parts)
    assert where == "small" and error == pytest.approx(1e-3)
    assert relative_error(np.array([99.0, np.nan, 0, 0]), truth, parts) == (np.inf, "large")
    assert relative_error(wrong[[0, 3]], truth, parts, np.array([0, 3]))[0] == pytest.approx(1e-3)
    assert relative_error(np.zeros(4), np.zeros(4), parts)[0] == 0.0
    assert relative_error(wrong, np.zeros(4), parts)[0] == np.inf


def test_fits_of_synthetic_times():
    depths = np.arange(2, 9)
    assert factor(depths, 3e-6 * 4.0**depths) == pytest.approx(4.0)
    assert exponent(depths, 2e-5 * depths**1.5) == pytest.approx(1.5)


def test_errors_by_step_are_a_v():
    problem = dense_problem((8, 8, 8, 8), "tanh", "squared-error")
    (forward, central), (_, best), (_, rounding) = step_errors(problem, [1e-2, 1e-5, 1e-12])
    assert best < 1e-8 < central < forward < 1e-1
    assert rounding > 1e-6


def test_product_graphs():
    chain, squared, levels = product_graphs()
    assert (chain.nodes, chain.paths) == (32, 32)
    assert (squared.nodes, squared.paths) == (5, 32)
    assert (levels.nodes, levels.paths) == (32, 2**32)
    assert chain.exact == squared.exact == pytest.approx(32 * 1.1**31)
    assert max(graph.error for graph in (chain, squared, levels)) < 1e-14
    assert graph_size(lambda w: (w * w) * (2.0 * w)) == (3, 3)


def test_times_are_written_with_three_digits():
    assert [seconds(t) for t in (1.234e-5, 1.234e-4, 9.996e-4, 0.1234, 12.34)] == [
        "12.3 us", "123 us", "1.00 ms", "123 ms", "12.3 s",
    ]  # fmt: skip


# --- a planted mistake ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_wrong_recursion_is_found(monkeypatch, capsys):
    tanh = ACTIVATIONS["tanh"]

    def wrong(delta, a):
        tanh.times_derivative(delta, a)
        delta *= 1.001

    monkeypatch.setitem(ACTIVATIONS, "tanh", replace(tanh, times_derivative=wrong))
    assert main(["--quick"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("distbp: error: delta recursion and complex step differ by")
    assert "layer 0" in said[0] and "--activation tanh" in said[0]


@pytest.mark.usefixtures("small")
def test_a_wrong_rule_of_autodiff_is_found(monkeypatch, capsys):
    monkeypatch.setitem(RULES, np.tanh, (lambda g, ans, x: g * (1.001 - ans * ans),))
    assert main(["--quick"]) == 1
    assert "error: autodiff and delta recursion differ by" in capsys.readouterr().err


@pytest.mark.usefixtures("small")
def test_a_wrong_product_is_found(monkeypatch, capsys):
    monkeypatch.setitem(RULES, np.multiply, (lambda g, ans, x, y: 1.001 * g * y, lambda g, ans, x, y: g * x))
    assert main(["--quick", "--activation", "identity"]) == 1
    assert "error: autodiff" in capsys.readouterr().err


# --- the command line -----------------------------------------------------------------------------------------------


OWN = [
    (("--activation", "{}:swish"), "complex step"),
    (("--activation", "{}:softsign"), "complex step: does not apply, it is not analytic"),
    (("--loss", "{}:log_cosh", "--activation", "relu"), "complex step: does not apply, relu: not analytic"),
    (("--loss", "{}:normal"), "sum over paths"),
    (("--loss", "{}:cross_entropy", "--targets", "classes"), "sum over paths"),
    (("--model", "{}:model"), "sum over paths, delta recursion: do not apply"),
    (("--model", "{}:with_kinks", "--inputs", "3", "--outputs", "1"), "complex step: does not apply"),
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(("options", "said"), OWN, ids=lambda x: x[1] if isinstance(x, tuple) else "")
def test_functions_of_the_users(mine, capsys, options, said):
    code = main(["--quick", *(option.format(mine) for option in options)])
    out, err = capsys.readouterr()
    assert code == 0, err
    assert said in out and out.endswith("all methods agree\n")


BAD = [
    (("--activation", "tnh"), 2, "one of identity, relu"),
    (("--loss", "square"), 2, "one of squared-error"),
    (("--inputs", "3"), 2, "--inputs is for --model"),
    (("--model", "{}:model", "--outputs", "0"), 2, "--outputs 0: at least 1"),
    (("--model", "{}:model", "--activation", "relu"), 2, "--activation is for dense networks"),
    (("--seed", "-1"), 2, "--seed -1: at least 0"),
    (("--plot", "picture.gif"), 2, ".png, .svg or .pdf"),
    (("--model", "{}:nothing"), 1, "has no 'nothing'"),
    (("--loss", "nowhere:f"), 1, "no module 'nowhere'"),
    (("--activation", "{}:writes"), 1, "cannot be written into"),
    (("--loss", "{}:cross_entropy"), 1, "--targets classes gives whole numbers"),
]


@pytest.mark.parametrize(("options", "code", "said"), BAD, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_bad_input_gets_one_line(mine, capsys, options, code, said):
    assert main([option.format(mine) for option in options]) == code
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("panels", [1, 3])
def test_what_is_drawn(monkeypatch, panels):
    """Without matplotlib, which need not be there: on a figure that takes everything."""
    figure, axes = MagicMock(), [MagicMock() for _ in range(panels)]
    figure.subplots.return_value = [axes]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", MagicMock(Figure=lambda **_: figure))
    monkeypatch.setitem(sys.modules, "matplotlib", MagicMock())
    report = Report("these", 1, [], steps=[(0.1, [0.1, 0.01]), (0.01, [0.01, 0.0001])])
    for depth in (2, 3):
        report.measurements.append(compare(dense_problem([2] * (depth + 1), "tanh", "huber"), ALONE, analytic=False))
    report.graphs = product_graphs() if panels == 3 else []
    draw(report, "picture.svg")
    figure.savefig.assert_called_once()
    labels = [call.kwargs["label"] for call in axes[0].plot.call_args_list]
    assert ("sum over paths, width 2" if panels == 3 else "central differences") in labels


if find_spec("matplotlib"):

    @pytest.mark.usefixtures("small")
    def test_a_plot(tmp_path):
        file = tmp_path / "picture.svg"
        assert main(["--quick", "--plot", str(file)]) == 0
        assert file.read_text().startswith("<?xml")
