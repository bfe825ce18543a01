"""What a call of `fit` leaves behind, and what a process may do meanwhile and afterwards."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import distbp
from distbp import Adam, Network, Trainer, UserError

rng = np.random.default_rng(0)
X = rng.standard_normal((300, 3))
Y = X[:, 0] > X[:, 1]
HOW = {"epochs": 2, "hidden": [8], "verbose": False}


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("wrong", [{"hidden": [0]}, {"epoch": 3}, {"lr": -1.0}, {"run_dir": None, "seed": "x"}])
def test_what_is_refused_leaves_no_folder(temporary, wrong):
    with pytest.raises((UserError, TypeError)):
        distbp.fit(X, Y, **(HOW | wrong))
    assert not list(temporary.iterdir())


def test_a_forked_child_leaves_the_files_of_its_parent(temporary):
    run = distbp.fit(X, Y, **HOW)
    if not (pid := os.fork()):
        del run
        os._exit(0)
    os.waitpid(pid, 0)
    assert run.path.exists()
    path = run.path
    del run
    assert not path.exists()


def test_a_run_stays_where_it_was_begun(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    run = distbp.fit(X, Y, run_dir="here", on_record=lambda record: os.chdir(tmp_path / "elsewhere"), **HOW)
    assert run.path == tmp_path / "here" and (run.path / "model.safetensors").exists()
    assert not list(Path("elsewhere").glob("*")) and run.report() == run.path / "report.html"


@pytest.mark.parametrize("y", [Y, X[:, 2]], ids=["classes", "values"])
def test_rows_in_memory_go_on_from_a_run_of_a_path(tmp_path, y):
    first = distbp.fit(X, y, run_dir=tmp_path / "a", **HOW)
    by_path = distbp.fit(X, y, init_from=tmp_path / "a", exact=True, **HOW)
    by_model = distbp.fit(X, y, init_from=first.model, exact=True, **HOW)
    assert by_path.model.to_bytes() == by_model.model.to_bytes()


def test_an_optimizer_is_of_one_network():
    optimizer, loss = Adam(1e-2), "binary-cross-entropy"
    network = Network([3, 8, 1], dtype=np.float64)
    Trainer(network, loss, optimizer, (X, Y)).fit(epochs=1)
    Trainer(network, loss, optimizer, (X, Y)).fit(epochs=1)
    with pytest.raises(ValueError, match="has updated another network"):
        Trainer(Network([3, 8, 1], dtype=np.float64), loss, optimizer, (X, Y))


def test_what_is_no_network_no_rows_and_no_length():
    with pytest.raises(TypeError):
        Network([3, 2.5, 2])
    with pytest.raises(ValueError, match="an array of shape"):
        Network([3, 2]).forward(X[0].astype(np.float32))
    with pytest.raises(ValueError, match="a training of -1"):
        Trainer(Network([3, 1]), "binary-cross-entropy", "adam", (X, Y)).fit(epochs=-1)


@pytest.mark.parametrize(
    ("outputs", "loss", "y", "text"),
    [
        (2, "softmax-cross-entropy", np.arange(300) % 3, "2 outputs, the data 3 classes"),
        (1, "binary-cross-entropy", np.arange(300) % 3, "1 outputs, the data 3 classes"),
        (2, "squared-error", X[:, 2], "2 outputs, the data 1 target values"),
        (1, "squared-error", X[:, :2], "1 outputs, the data 2 target values"),
    ],
)
def test_outputs_that_do_not_fit_the_target_are_refused(outputs, loss, y, text):
    with pytest.raises(ValueError, match=text):
        Trainer(Network([3, 4, outputs]), loss, "adam", (X, y))
    Trainer(Network([3, 4, 5]), "softmax-cross-entropy", "adam", (X, np.arange(300) % 3)).fit(steps=1)


def test_pairs_that_are_judged_have_the_classes_of_the_training():
    """A part of the rows has not all classes: their numbers are those of all."""
    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], (-0.4, 0.4))]
    network, some = Network([3, 16, 3], seed=1), y != "a"
    t = Trainer(network, "softmax-cross-entropy", "adam", (X, y), validation=(X[some], y[some]))
    t.fit(epochs=30)
    z = network.predict(X).argmax(axis=1)
    right = float(np.mean(np.array(["a", "b", "c"])[z[some]] == y[some]))
    assert t.evaluate(t.validation)["accuracy"] == t.evaluate((X[some], y[some]))["accuracy"] == right > 0.7


def test_what_a_listener_does_to_a_record_is_its_own():
    run = distbp.fit(X, Y, on_record=lambda record: record.clear(), dtype=np.float64, **HOW)
    assert len(run.history["loss/train"]) and run.model.network.dtype == np.float64
