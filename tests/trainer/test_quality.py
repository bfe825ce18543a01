"""Figures of quality against scikit-learn, their intervals, the baseline, and what is doubted."""

import numpy as np
import pytest
from conftest import prepared
from sklearn import metrics

from distbp import BinaryCrossEntropy, Network, SerialCommunicator, SoftmaxCrossEntropy, SquaredError, run_threads
from distbp.trainer import quality
from distbp.trainer.evaluation import evaluate
from distbp.trainer.quality import Quality, assess, doubts, per_class

N = 700
SERIAL = SerialCommunicator()


def rows_of(kind, seed=0, n=N):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 5))
    y = {
        2: lambda: (X[:, 0] + 0.5 * rng.standard_normal(n) > 0).astype(int), 3: lambda: rng.integers(0, 3, n),
        "values": lambda: 5.0 + 3.0 * X[:, :2] + rng.standard_normal((n, 2)),
    }[kind]()  # fmt: skip
    return prepared(X, y, weights=rng.uniform(0.2, 3.0, n), scale_target=True)


def network_of(kind, seed=0):
    """Something that has to do with the target."""
    network = Network([5, 8, 2 if kind == "values" else kind], "tanh", dtype=np.float64, seed=seed)
    loss = SquaredError() if kind == "values" else SoftmaxCrossEntropy()
    return network, loss


def calibration_error(p, y):
    """Guo et al. 2017, equation 3, bin by bin."""
    sure, total = p.max(axis=1), 0.0
    for k in range(15):
        inside = (sure >= k / 15) & (sure < (k + 1) / 15 if k < 14 else sure <= 1.0)
        if inside.any():
            total += inside.sum() * abs(sure[inside].mean() - np.mean(p[inside].argmax(axis=1) == y[inside]))
    return total / len(y)


@pytest.mark.parametrize("kind", [2, 3, "values"])
def test_figures_are_those_of_scikit_learn(kind):
    rows, (network, loss) = rows_of(kind), network_of(kind)
    found = assess(network, loss, rows, rows, SERIAL).figures
    X, y, _ = rows.take(np.arange(N))
    p = loss.link(network.forward(X))
    if kind == "values":
        unit = 1.0 / np.array(rows.preprocessor.target_scale)
        each, pair = {"multioutput": "raw_values"}, (y * unit, p * unit)
        of_each = {
            "rmse": np.sqrt(metrics.mean_squared_error(*pair, **each)),
            "mae": metrics.mean_absolute_error(*pair, **each), "r2": metrics.r2_score(*pair, **each),
        }  # fmt: skip
        wanted = {name: values.mean() for name, values in of_each.items()}
        wanted |= {f"{name} (y{i})": values[i] for name, values in of_each.items() for i in (0, 1)}
    else:
        wanted = {
            "accuracy": metrics.accuracy_score(y, p.argmax(axis=1)), "log_loss": metrics.log_loss(y, p),
            "brier": np.average(((p - np.eye(kind)[y]) ** 2).sum(axis=1)) / (2 if kind == 2 else 1),
            "calibration_error": calibration_error(p, y),
        }  # fmt: skip
    if kind == 2:
        wanted |= {
            "auc": metrics.roc_auc_score(y, p[:, 1]),
            "average_precision": metrics.average_precision_score(y, p[:, 1]),
        }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, rel=1e-10), name


def test_equal_scores_count_half():
    score, positive = np.array([0.5, 0.5, 0.5, 0.2, 0.9, 0.2]), np.array([1, 0, 1, 0, 0, 1], bool)
    w = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 0.5])
    area, precision = quality._Ranking(score, positive).areas(w)
    assert area == pytest.approx(metrics.roc_auc_score(positive, score, sample_weight=w))
    assert precision == pytest.approx(metrics.average_precision_score(positive, score, sample_weight=w))
    assert np.isnan(quality._Ranking(score, np.ones(6, bool)).areas(w)).all()


def test_one_output_is_two_classes():
    rows = rows_of(2)
    one = Network([5, 8, 1], "tanh", dtype=np.float64, seed=0)
    found = assess(one, BinaryCrossEntropy(), rows, rows, SERIAL)
    X, y, _ = rows.take(np.arange(N))
    p = BinaryCrossEntropy().link(one.forward(X))[:, 0]
    assert found.figures["auc"] == pytest.approx(metrics.roc_auc_score(y, p), rel=1e-10)


def test_outputs_that_are_no_probabilities_have_no_log_loss():
    rows, (network, _) = rows_of(2), network_of(2)
    found = assess(network, SquaredError(), rows, rows, SERIAL).figures
    assert found.keys() == {"accuracy", "auc", "average_precision"}


@pytest.mark.parametrize("kind", [2, "values"])
def test_the_same_on_any_number_of_ranks(kind):
    rows, (network, loss) = rows_of(kind), network_of(kind)
    alone = assess(network, loss, rows, rows, SERIAL)

    def run(comm):
        own, _ = network_of(kind)
        return assess(own, loss, rows, rows, comm)

    for ranks in (2, 3):
        assert all(found == alone for found in run_threads(ranks, run))


@pytest.mark.parametrize("replicates", [200, 40], ids=["percentiles", "normal"])
def test_intervals_hold_the_truth_in_95_of_100_cases(monkeypatch, replicates):
    """Of a fixed model, whose accuracy and error on very many rows are known."""
    monkeypatch.setattr(quality, "_REPLICATES", replicates)
    network, loss = network_of(2)
    truth = assess(network, loss, rows_of(2, seed=1000, n=200_000), rows_of(2), SERIAL).figures
    inside = dict.fromkeys(truth, 0)
    for seed in range(1, 101):
        rows = rows_of(2, seed=seed, n=300)
        found = assess(network, loss, rows, rows, SERIAL, seed=seed).intervals
        for name, (low, high) in found.items():
            inside[name] += low <= truth[name] <= high
    assert all(88 <= n <= 100 for n in inside.values()), inside


def test_a_width_shrinks_with_the_root_of_the_rows():
    network, loss = network_of(2)
    widths = []
    for n in (400, 40_000):
        rows = rows_of(2, n=n)
        low, high = assess(network, loss, rows, rows, SERIAL).intervals["accuracy"]
        widths.append(high - low)
    assert 7 < widths[0] / widths[1] < 14


def test_the_baseline_knows_the_training_targets_alone():
    train, rows = rows_of(3, seed=1), rows_of(3)
    network, loss = network_of(3)
    found = assess(network, loss, rows, train, SERIAL).baseline
    shares = np.bincount(train.take(np.arange(N))[1]) / N
    truth = rows.take(np.arange(N))[1]
    assert found["accuracy"] == pytest.approx(np.mean(truth == shares.argmax()))
    assert found["log_loss"] == pytest.approx(np.mean(-np.log(shares[truth])))
    values = rows_of("values")
    found = assess(*network_of("values"), values, values, SERIAL).baseline
    assert found["r2"] == pytest.approx(0.0, abs=1e-9)


def test_precision_and_recall_of_each_class():
    rows, (network, loss) = rows_of(3), network_of(3)
    confusion = evaluate(network, loss, rows, SERIAL)["confusion"]
    X, y, _ = rows.take(np.arange(N))
    precision, recall, f1, n = metrics.precision_recall_fscore_support(y, network.forward(X).argmax(axis=1))
    found = per_class(confusion, ("a", "b", "c"))
    for i, name in enumerate("abc"):
        wanted = {"precision": precision[i], "recall": recall[i], "f1": f1[i], "rows": n[i]}
        assert found[name] == pytest.approx(wanted)


def quality_of(low, high, base, name="accuracy"):
    return Quality({name: (low + high) / 2}, {name: (low, high)}, {name: base})


@pytest.mark.parametrize(
    ("of", "confusion", "text"),
    [
        ({"test": quality_of(0.4, 0.5, 0.6)}, {}, "on the test rows it is no better than the baseline: accuracy 0.6"),
        ({"test": quality_of(0.4, 0.5, 0.45)}, {}, "it may be no better"),
        ({"test": quality_of(9.0, 11.0, 8.0, "rmse")}, {}, "is no better than the baseline: rmse 8"),
        ({"test": quality_of(0.8, 0.9, 0.5)}, {"test": [[5, 0], [3, 0]]}, "none is predicted to be 'no'"),
        ({"validation": quality_of(0.9, 0.95, 0.1), "test": quality_of(0.7, 0.8, 0.1)}, {}, "by more than chance"),
    ],
)
def test_what_is_doubted(of, confusion, text):
    (found,) = doubts(of, confusion, ("yes", "no"))
    assert text in found


def test_nothing_is_doubted_where_all_is_well():
    of = {"validation": quality_of(0.8, 0.9, 0.5), "test": quality_of(0.85, 0.95, 0.5)}
    assert doubts(of, {"test": [[5, 1], [0, 3]]}, ("yes", "no")) == []
    assert doubts({"test": Quality()}, {}, ()) == []


@pytest.mark.parametrize("n", [1, 2, 30])
def test_rows_of_one_class_have_figures_that_are_numbers(n):
    network, loss = network_of(2)
    train, few = rows_of(2), rows_of(2)
    ones = np.flatnonzero(few.take(np.arange(N))[1] == 1)[:n]
    few._ready, few.n_rows = tuple(part[ones] for part in few._ready), n
    found = assess(network, loss, few, train, SERIAL)
    assert "auc" not in found.figures and found.figures.keys() == found.baseline.keys()
    assert found.intervals.keys() == (found.figures.keys() if n > 10 else set())
    numbers = [*found.figures.values(), *found.baseline.values(), *np.ravel(list(found.intervals.values()))]
    assert np.isfinite(numbers).all()


def test_a_target_that_hardly_varies_has_figures_that_are_numbers():
    rows = prepared(np.random.default_rng(0).random((30, 5)), np.r_[7.0, np.full(29, 7.5)][:, None], scale_target=True)
    found = assess(Network([5, 3, 1], dtype=np.float64), SquaredError(), rows, rows, SERIAL)
    assert np.isfinite([*found.figures.values(), *np.ravel(list(found.intervals.values()))]).all()
