"""A column of many categories, from the table to predictions."""

import csv
import json

import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import FunctionModel, Model, load
from distbp.data.table.formats import TableOptions

CITIES = 300


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Whether a row is true is known by its city alone; some cities have one row, some rows no city."""
    rng = np.random.default_rng(2)
    cities = np.concatenate([np.repeat(np.arange(CITIES), 6), rng.integers(0, CITIES, 600), CITIES + np.arange(20)])
    rows = [
        [f"{x:.3f}", f"c{c}" if rng.random() > 0.1 else "", c % 3 == 0]
        for c, x in zip(cities, rng.random(len(cities)), strict=True)
    ]
    path = tmp_path_factory.mktemp("cities") / "cities.csv"
    with open(path, "w", newline="") as stream:
        csv.writer(stream).writerows([["x", "city", "true"], *rows])
    return path


ASKED = (
    "--target",
    "true",
    "--hidden",
    "8",
    "--activation",
    "tanh",
    "--epochs",
    "60",
    "--lr",
    "0.02",
    "--run-dir",
    "run",
)


@pytest.fixture
def trained(here, table, tmp_path):
    def run(*options):
        done = here(*TRAIN, "--data", str(table), *ASKED, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_is_learnt_and_told_to_predict(trained, here, tmp_path):
    said = trained()
    assert "city 32" in said or "city 31" in said
    model = Model.load(tmp_path / "run")
    (weights,) = model.network.embeddings
    assert weights.shape[1] == 8 and model.preprocessor.coded == ["city"]
    assert json.loads((tmp_path / "run" / "results.json").read_text())["accuracy/val"] > 0.8
    (tmp_path / "new.csv").write_text("x,city\n0.5,c3\n0.5,c4\n0.5,nowhere\n0.5,elsewhere\n0.5,\n")
    done = here(*PREDICT, "run", "new.csv", "--out", "p.npy")
    assert done.returncode == 0 and "2 of 4 values" in done.stderr
    p = np.load(tmp_path / "p.npy")
    assert p[0, 1] > 0.5 > p[1, 1] and np.array_equal(p[2], p[3]) and not np.array_equal(p[3], p[4])


def test_a_dry_run_shows_the_table(trained):
    said = trained("--dry-run")
    assert "table 0" in said


def test_the_same_function_in_pytorch(trained, tmp_path):
    torch = pytest.importorskip("torch")
    trained("--bins", "0")
    model = Model.load(tmp_path / "run")
    network, rng = model.network, np.random.default_rng(0)
    X = np.column_stack([rng.standard_normal(50), rng.integers(0, len(network.embeddings[0]), 50)]).astype(np.float32)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(t)) for name, t in network.tensors().items()}
    embedding = torch.nn.Embedding.from_pretrained(tensors.pop("embeddings.0.weight"))
    layers = torch.nn.Sequential(torch.nn.Linear(9, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    layers.load_state_dict(tensors)
    given = torch.from_numpy(X)
    with torch.no_grad():
        z = layers(torch.cat([given[:, :1], embedding(given[:, 1].long())], dim=1)).numpy()
    assert np.allclose(z, network.forward(X), atol=1e-5)


def test_a_model_of_ones_own_gets_the_commonest(table):
    data = load(table, options=TableOptions(target="true"), look_up=False)
    assert data.preprocessor.code_values == () and 300 < data.preprocessor.n_inputs < 325
    model = FunctionModel(
        lambda rng, n_inputs: rng.random((n_inputs, 2)), lambda W, X: X @ W, data.preprocessor.n_inputs, 2
    )
    assert model.embeddings == ()


def test_a_table_of_one_such_column(here, table, tmp_path):
    text = table.read_text().splitlines()
    (tmp_path / "alone.csv").write_text("".join(row.partition(",")[2] + "\n" for row in text))
    done = here(*TRAIN, "--data", "alone.csv", *ASKED)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "results.json").read_text())["accuracy/val"] > 0.8


def test_a_resume_with_other_values_is_refused(trained, table, here):
    trained("--epochs", "1")
    changed = table.with_name("fewer.csv")
    changed.write_text("".join(line for line in table.read_text().splitlines(True) if ",c7," not in line))
    done = here(*TRAIN, "--data", str(changed), *ASKED, "--epochs", "2", "--resume", "auto")
    assert done.returncode == 1 and "the data has changed: it had" in done.stderr
