"""ONNX files compute what the model computes: on numbers, texts, dates, holes, and what training never saw."""

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from distbp import Model, fit
from distbp.__main__ import main
from distbp.export import to_onnx
from distbp.network.activations import ACTIVATIONS

N = 300
RNG = np.random.default_rng(0)
QUICK = {"epochs": 2, "hidden": [16], "verbose": False, "batch_size": 32}


def frame():
    f = pd.DataFrame({
        "x": RNG.standard_normal(N), "n": RNG.integers(0, 9, N).astype(float), "kind": RNG.choice(["u", "v", "w"], N),
        "zip": [f"z{k}" for k in RNG.integers(0, 280, N)],
        "when": pd.date_range("2019-02-20 23:10:05", periods=N, freq="37h").strftime("%Y-%m-%d %H:%M:%S"),
    })  # fmt: skip
    f.loc[::7, "x"] = np.nan
    f.loc[::11, "kind"] = None
    return f


def inputs(session, rows):
    """Return what a user feeds: a column an input, "" for a missing text."""
    found = {}
    for one in session.get_inputs():
        if one.name == "X":
            return {"X": np.asarray(rows, np.float64)}
        column = rows[one.name]
        texts = [["" if value is None or value != value else str(value)] for value in column.tolist()]
        text = "string" in one.type
        found[one.name] = np.array(texts, object) if text else column.to_numpy(np.float64).reshape(-1, 1)
    return found


def same(model, rows):
    """Compare predictions, in units of the target's deviation."""
    session = onnxruntime.InferenceSession(to_onnx(model))
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs(session, rows)), strict=True))
    scale = 1.0 / np.array(model.preprocessor.target_scale or [1.0])
    values = found["values"] if model.target.kind == "values" else found["probabilities"]
    expected = model.predict_outputs(rows) / scale
    assert (np.abs(values / scale - expected) / np.maximum(1.0, np.abs(expected))).max() < 1e-5
    if "label" in found:
        assert np.array_equal(found["label"], model.predict(rows).astype(found["label"].dtype))
    return found


def strange(f):
    """Return rows of which nothing is known, or what never was."""
    other = f.head(12).copy()
    other.loc[0:2, ["x", "n", "kind", "zip", "when"]] = np.nan
    other.loc[3:5, ["kind", "zip"]] = "never seen"
    other.loc[6, ["x", "n"]] = [1e9, -1e9]
    other.loc[7, "x"] = np.inf
    other.loc[8:9, "when"] = ["2031-12-31", "2024-02-29 00:00:59"]
    return pd.concat([f, other], ignore_index=True)


def test_values_of_a_table_with_all_kinds_of_columns():
    f = frame()
    model = fit(f, f["n"] * 3.0 + f["x"].fillna(0.0), **QUICK).model
    assert model.preprocessor.edges and model.preprocessor.blank
    same(model, strange(f))


def test_a_category_of_many_values_is_looked_up():
    zips = [f"z{k % 300}" for k in range(1500)]
    wide = pd.DataFrame({"zip": zips, "x": np.arange(1500.0) % 7})
    model = fit(wide, wide["x"] + np.arange(1500) % 300, **QUICK).model
    assert model.network.embeddings
    same(model, pd.concat([wide, pd.DataFrame({"zip": ["new", None], "x": [1.0, np.nan]})], ignore_index=True))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation(activation):
    f = frame()
    same(fit(f, f["n"], activation=activation, optimizer="adam", **QUICK).model, f)


@pytest.mark.parametrize("target", ["two", "three", "labels", "balanced", "threshold", "one output", "values"])
@pytest.mark.parametrize("ensemble", [1, 2])
def test_each_kind_of_target_alone_and_in_an_ensemble(target, ensemble):
    f = frame()
    n = f["n"].to_numpy()
    y = {"three": np.array(["a", "b", "c"])[(n % 3).astype(int)], "labels": np.stack([n > 2, n > 5, n > 7], 1) * 1}
    y |= {"values": np.stack([n, 2 * n + 1], 1) * 1.5}
    more = {"balanced": {"class_weight": "balanced"}, "threshold": {"threshold": "f1"}}
    more |= {"one output": {"loss": "binary-cross-entropy", "label_smoothing": 0.0}}
    model = fit(f, y.get(target, (n > 6) * 1), ensemble=ensemble, **QUICK, **more.get(target, {})).model
    same(model, strange(f))


def test_images_in_double_precision_and_the_command(tmp_path, capsys):
    run = fit("digits", epochs=1, run_dir=tmp_path / "run", verbose=False, dtype="float64", report="none")
    X = np.random.default_rng(1).integers(0, 17, (50, 64))
    found = same(run.model, X)
    assert found["label"].dtype == np.int64
    assert main(["export", str(tmp_path / "run"), "--onnx", str(tmp_path / "digits.onnx")]) == 0
    assert "raw columns in" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(tmp_path / "digits.onnx"))
    assert session.get_modelmeta().producer_name == "distbp" and session.get_inputs()[0].shape == ["rows", 64]
    assert main(["export", str(tmp_path / "run"), "--onnx", str(tmp_path / "no" / "digits.onnx")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_what_is_python_is_refused(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("import numpy as np\ndef bent(z):\n    return np.arcsinh(z)\n")
    monkeypatch.syspath_prepend(tmp_path)
    X = RNG.standard_normal((60, 2))
    model = fit(X, X[:, 0], activation="mine:bent", optimizer="adam", **QUICK).model
    assert isinstance(model, Model)
    with pytest.raises(ValueError, match="of your own is Python"):
        to_onnx(model)
