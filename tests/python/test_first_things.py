# ruff: noqa: E501
"""What users of scikit-learn, PyTorch and pandas try first: each works, or ends in one line with the remedy."""

import contextlib
import io
import signal
import sys

import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest

import distbp
from distbp import Adam, Checkpoints, Classifier, Components, Model, Network, Regressor, Run, Saver, Trainer, fit, load

RNG = np.random.default_rng(0)
N = 200
X = RNG.standard_normal((N, 3))
Y = np.where(X[:, 0] > 0, 1, 0)
DF = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "kind": RNG.choice(["u", "v", "w"], N), "price": X[:, 0] + X[:, 1]})
QUICK = {"epochs": 2, "hidden": [8], "verbose": False}


def model():
    return fit(DF, "price", **QUICK).model


def trainer(**more):
    return Trainer(Network([3, 8, 2], "relu"), "softmax-cross-entropy", "adam", (X, Y), **more)


def images(dtype):
    return RNG.integers(0, 255, (N, 4, 4)).astype(dtype)


WORKS = {
    "load(X, y)": lambda: load(X, Y).train.n_rows == 140,
    "load(X, y) of lists": lambda: load(X.tolist(), Y.tolist()).target.kind == "classes",
    "load(X, y) of texts": lambda: load(X, np.array(["no", "yes"])[Y]).target.classes == ("no", "yes"),
    "load(X, y) of truth values": lambda: load(X, Y > 0).target.classes == ("False", "True"),
    "load(df, target=...)": lambda: load(DF, target="price").target.kind == "values",
    "load(df, 'price')": lambda: load(DF, "price").target.names == ("price",),
    "load(df.drop(...), df['price'])": lambda: load(DF.drop(columns="price"), DF["price"]).target.names == ("price",),
    "load of a frame of polars": lambda: load(polars.from_pandas(DF), target="kind").target.classes == ("u", "v", "w"),
    "load of a table of pyarrow": lambda: load(pyarrow.Table.from_pandas(DF), target="price").train.n_rows == 140,
    "load of a list of dicts": lambda: load(DF.to_dict("records"), target="price").train.n_rows == 140,
    "load of a dict of columns": lambda: load({"a": X[:, 0], "c": list(DF["kind"])}, Y).preprocessor.columns[1][0] == "c",
    "load with several targets": lambda: load(DF, target=["price", "a"]).target.names == ("price", "a"),
    "load without columns": lambda: len(load(DF, target="price", ignore=["kind"]).preprocessor.columns) == 2,
    "load with weights": lambda: load(X, Y, sample_weight=np.arange(N) + 1.0).train.take(np.arange(3))[2].shape == (3,),
    "load with a test set": lambda: load(X, Y, test_data=(X[:9], Y[:9])).test.n_rows == 9,
    "load of images": lambda: load(images(np.uint8), Y).preprocessor.n_inputs == 16,
    "fit(X, y)": lambda: fit(X, Y, **QUICK).model.predict(X).shape == (N,),
    "fit(df, target)": lambda: fit(DF, "price", **QUICK).results["rmse/val"] > 0,
    "fit of images": lambda: fit(images(np.float32), Y, **QUICK).model.predict(images(np.float32)).shape == (N,),
    "fit with a test set": lambda: "accuracy/test" in fit(X, Y, test_data=(X, Y), **QUICK).results,
    "fit with a function for records": lambda: (seen := []) == [] and fit(X, Y, on_record=seen.append, **QUICK) and seen,
    "history['loss/train']": lambda: fit(X, Y, **QUICK).history["loss/train"].shape == (2,),
    "pandas of a history": lambda: "loss/val" in pd.DataFrame(fit(X, Y, **QUICK).history),
    "fit of an ensemble": lambda: "ensemble of 2" in repr(fit(X, Y, ensemble=2, **QUICK).model),
    "going on": lambda: fit(X, Y, init_from=fit(X, Y, **QUICK).model, epochs=1, verbose=False).model is not None,
    "predict of a frame": lambda: model().predict(DF.drop(columns="price")).shape == (N,),
    "predict of a frame in another order": lambda: np.array_equal(
        (m := model()).predict(DF[["kind", "b", "a"]]), m.predict(DF)
    ),
    "predict of a dict": lambda: model().predict([{"a": 1.0, "b": 2, "kind": "u"}]).shape == (1,),
    "predict of a category that is new": lambda: np.isfinite(model().predict([{"a": 1.0, "b": 2, "kind": "z"}])).all(),
    "predict of float32, of integers": lambda: fit(X, Y, **QUICK).model.predict(X.astype("f4").round().astype(int)).size == N,
    "predict_proba, classes_": lambda: (m := fit(X, Y, **QUICK).model).predict_proba(X).shape == (N, len(m.classes_)),
    "classes_ of numbers": lambda: fit(X, Y, **QUICK).model.classes_.tolist() == [0, 1],
    "Trainer with names and arrays": lambda: trainer().fit(epochs=1, bar=False) == "done",
    "Trainer(..., validation=(X, y))": lambda: trainer(validation=(X, Y)).fit(epochs=1) == "done",
    "fit(epochs=...) again": lambda: (t := trainer()).fit(epochs=1) == t.fit(epochs=2) and t.position.step == 12,
    "evaluate": lambda: 0 <= (t := trainer(validation=(X, Y))).evaluate(t.validation)["accuracy"] <= 1,
    "Classifier().fit": lambda: Classifier(epochs=2).fit(X, Y).score(X, Y) > 0.5,
    "Regressor().fit": lambda: Regressor(epochs=2).fit(DF[["a", "kind"]], DF["price"]).predict(DF[["a", "kind"]]).size == N,
    "what things are": lambda: all(
        "Network" in repr(Network([3, 2])) and "3-2" in n._repr_html_() for n in [Network([3, 2])]
    ) and "rows" in load(X, Y)._repr_html_() and "Run" in fit(X, Y, **QUICK)._repr_html_(),
    "help in a shell": lambda: {"fit", "load", "Classifier"} <= set(dir(distbp)),
}  # fmt: skip
REFUSED = {
    "load(X)": (lambda: load(X), "load(X, y)"),
    "load(X, y) of other lengths": (lambda: load(X, Y[:7]), "200 rows of inputs but 7 targets"),
    "load(x, y) of one column": (lambda: load(X[:, 0], Y), "x.reshape"),
    "an option that does not exist": (lambda: load(DF, targt="price"), "did you mean 'target'"),
    "a column that does not exist": (lambda: load(DF, target="prize"), "it has a, b, kind, price"),
    "fit with an option that does not exist": (lambda: fit(X, Y, epoch=3), "did you mean 'epochs'"),
    "fit with a value that cannot be": (lambda: fit(X, Y, lr=-1.0), "lr"),
    "fit with a loss that does not exist": (lambda: fit(X, Y, loss="mse?"), "squared-error"),
    "predict of other columns": (lambda: model().predict(DF[["a"]]), "trained on 3 columns"),
    "predict of another width": (lambda: fit(X, Y, **QUICK).model.predict(X[:, :2]), "(rows, 3)"),
    "predict of one row": (lambda: fit(X, Y, **QUICK).model.predict(X[0]), "x.reshape(1, -1)"),
    "predict_proba of values": (lambda: model().predict_proba(DF), "no probabilities"),
    "a model that is not there": (lambda: Run.load("nowhere"), "no finished run"),
    "Trainer of all data": (lambda: Trainer(Network([3, 2]), "softmax-cross-entropy", Adam(), load(X, Y)), "data.train"),
    "Trainer with a name that is none": (lambda: Trainer(Network([3, 2]), "softmax", "adam", (X, Y)), "softmax-cross-entropy"),
    "a history without the column": (lambda: fit(X, Y, **QUICK).history["loss"], "loss/train"),
    "complex numbers": (lambda: load(X + 1j, Y), "real and imaginary"),
    "a missing target": (lambda: load(X, np.array([None, "a"])[Y]), "is missing"),
    "one class only": (lambda: fit(X, np.zeros(N, int), **QUICK), "one class only"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORKS)
def test_it_works(name):
    with contextlib.redirect_stdout(out := io.StringIO()):
        assert WORKS[name]()
    assert not out.getvalue()


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line_with_the_remedy(name):
    what, says = REFUSED[name]
    with pytest.raises((ValueError, TypeError, KeyError)) as caught:
        what()
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_directory_is_a_run(tmp_path, capsys):
    run = fit(X, Y, run_dir=tmp_path / "run", epochs=2, hidden=[8])
    assert "2 classes" in capsys.readouterr().out
    again = Run.load(tmp_path / "run")
    assert again.results == run.results and again.history == run.history
    assert np.array_equal(again.model.predict(X), run.model.predict(X))
    assert np.array_equal(Model.load(tmp_path / "run").predict_proba(X), run.model.predict_proba(X))
    assert again.report().exists() and (tmp_path / "run" / "report.md").exists()


def test_files_of_a_run_without_a_directory_go_with_it():
    run = fit(X, Y, **QUICK)
    path = run.path
    assert run.report().exists() and path.is_dir()
    del run
    assert not path.exists()


def test_checkpoints_take_a_text(tmp_path):
    t = trainer()
    saver = Saver(Checkpoints(str(tmp_path)), t.comm, every=2)
    trainer(components=Components(saver=saver)).fit(steps=4)
    assert [path.name for path in Checkpoints(tmp_path).all()]


def test_a_bar_on_a_terminal_and_in_a_notebook(monkeypatch):
    class Notebook(io.StringIO):
        pass

    Notebook.__module__ = "ipykernel.iostream"
    for kind, terminal in ((io.StringIO, True), (Notebook, False)):
        stream = kind()
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", stream)
        trainer().fit(steps=3)
        assert "loss" in stream.getvalue() or "step" in stream.getvalue()
        monkeypatch.undo()


def test_what_a_row_gets_depends_on_that_row_alone_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(3)
    far = pd.DataFrame(
        {"far": 1e4 + rng.random(200), "x": rng.standard_normal(200), "kind": rng.choice(["u", "v"], 200)}
    )
    run = fit(far, far["x"] * 2, epochs=2, verbose=False, hidden=[16])
    every = run.model.predict_outputs(far)
    for some in ([0], [0, 1], [7, 3, 150], range(100)):
        assert np.array_equal(run.model.predict_outputs(far.iloc[list(some)]), every[list(some)])
    far.to_csv(tmp_path / "all.csv", index=False)
    far.head(1).to_csv(tmp_path / "one.csv", index=False)
    one, all_rows = (run.model.predict_outputs(tmp_path / name) for name in ("one.csv", "all.csv"))
    assert np.array_equal(one, all_rows[:1]) and np.array_equal(all_rows, every)
    row = {"far": float(far["far"][0]), "x": float(far["x"][0]), "kind": far["kind"][0]}
    assert np.array_equal(run.model.predict_outputs(row), every[:1])


def test_a_text_among_the_numbers_of_a_frame_is_named():
    odd = DF.astype({"a": object}).copy()
    odd.loc[5, "a"] = "hello"
    with pytest.raises(ValueError, match="row 6: column 'a' is numeric: 'hello"):
        fit(odd, "price", **QUICK)
    assert load(odd, "price", bad_rows="skip").train.n_rows + 1 <= N
    mixed = DF.assign(kind=DF["kind"].where(DF["kind"] != "u", None))
    assert load(mixed, "price").preprocessor.columns[2][0] == "kind"


def test_the_records_of_an_ensemble_are_those_of_its_members():
    run = fit(X, Y, ensemble=2, **QUICK)
    assert run.history["member"].tolist() == [0, 0, 1, 1] and len(run.history["loss/val"]) == 4
    fit(X, Y, ensemble=2, on_record=(heard := []).append, **QUICK)
    assert [record["epoch"] for record in heard] == [1, 2, 1, 2]


def test_a_run_that_was_stopped_says_how_it_goes_on(tmp_path, capsys):
    def stop(record):
        signal.raise_signal(signal.SIGTERM)

    more = {"epochs": 9, "hidden": [8], "run_dir": tmp_path / "run"}
    with pytest.raises(SystemExit) as end:
        fit(X, Y, on_record=stop, **more)
    assert end.value.code == 75 and "resume='auto'), with the same rows" in capsys.readouterr().out
    assert fit(X, Y, resume="auto", verbose=False, **more).history["epoch"][-1] == 9


def test_a_run_of_elsewhere_without_what_a_report_shows_says_so(tmp_path):
    fit(X, Y, run_dir=tmp_path / "run", report="none", **QUICK)
    for look in (Run.load(tmp_path / "run").importance, Run.load(tmp_path / "run").report):
        with pytest.raises(ValueError, match="trained with --report none"):
            look()
    with_seed = fit(X, Y, seed=3, run_dir=tmp_path / "other", report="en", **QUICK)
    assert fit(X, Y, seed=3, **QUICK).importance() == with_seed.importance()
