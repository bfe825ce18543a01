"""Recipes: which one, what it sets, what overrules it, and what a run says of it."""

import json
import tomllib
from functools import partial

import numpy as np
import pytest
from front_doors import PREDICT, TRAIN

from distbp import load
from distbp.errors import UsageError
from distbp.run.build import suited_to
from distbp.run.config import config_of, parse_train_config
from distbp.run.options import TrainConfig
from distbp.run.recipes import ADAPTED, RECIPES, batch_of, bins_of, decay_of, epochs_of, recipe_of


@pytest.mark.parametrize(
    ("data", "recipe"),
    [
        ("digits", "image"), ("a.csv", "table"), ("a.CSV.gz", "table"), ("a.parquet", "table"), ("x.npz", "image"),
        ("images,labels", "image"), ("synthetic:blobs", "plain"), ("no*such.csv", "plain"),
    ],
)  # fmt: skip
def test_auto_goes_by_the_data(data, recipe):
    assert parse_train_config(["--data", data]).recipe == recipe == recipe_of(data, None)
    assert recipe_of(data, "mine:model") == "plain"


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_sets_what_is_not_given(recipe):
    config = parse_train_config(["--recipe", recipe, "--dropout", "0.5"])
    fixed = {name: value for name, value in RECIPES[recipe].items() if name not in ADAPTED}
    assert config == TrainConfig(**fixed | {"recipe": recipe, "dropout": 0.5})
    assert parse_train_config(["--recipe", "plain"]) == TrainConfig()


def test_another_rule_has_another_rate():
    config = parse_train_config(["--data", "a.csv", "--optimizer", "sgd"])
    assert (config.lr, config.weight_decay, config.bins) == (None, 0.0, 0) and config.schedule == "cosine"
    assert parse_train_config(["--data", "a.csv", "--optimizer", "adamw"]).lr == RECIPES["table"]["lr"]


def test_there_is_no_other():
    with pytest.raises(UsageError, match="recipe"):
        parse_train_config(["--recipe", "none"])


def test_few_rows_get_small_batches_and_many_few_epochs():
    assert [batch_of("table", n) for n in (100_000, 2560, 2559, 700, 10)] == [256, 256, 128, 64, 32]
    assert batch_of("plain", 10) == batch_of("plain", 10**6) == 32
    assert [epochs_of("table", steps) for steps in (10, 666, 4000, 10**6)] == [60, 60, 10, 1]
    assert epochs_of("plain", 10) is None


def test_many_steps_get_a_small_decay_and_many_columns_few_bins(here, tmp_path):
    assert [decay_of("table", steps) for steps in (10, 3250, 6500, 40_000)] == [0.2, 0.2, 0.1, 0.016]
    assert decay_of("plain", 10) == 0.0
    assert [bins_of("table", n) for n in (0, 1, 8, 10, 16, 1000)] == [48, 48, 48, 40, 25, 16]
    assert bins_of("plain", 10) == bins_of("image", 10) == 0
    assert [bins_of("table", n) for n in (1024, 1025, 50_000)] == [16, 0, 0]
    x = np.random.default_rng(0).random((640, 20))
    rows = "\n".join(",".join(f"{v:.4f}" for v in row) + f",{k % 2}" for k, row in enumerate(x))
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(20)) + f",y\n{rows}\n")
    for more, bins, decay in (((), 20, 0.1), (("--bins", "7", "--weight-decay", "0.3"), 7, 0.3)):
        done = here(*TRAIN, "--data", "wide.csv", "--steps", "6500", "--dry-run", *more)
        assert f"bins = {bins}\n" in done.stdout and f"weight-decay = {decay}\n" in done.stdout, done.stdout
        assert f"network {20 * (bins + 1)}-256" in done.stdout


@pytest.mark.parametrize(("option", "of_the_recipe", "here_it_is"), [
    ("batch-size", 256, 32), ("weight-decay", 0.2, 0.12), ("bins", 48, 20),
])  # fmt: skip
def test_what_is_asked_for_is_done_also_where_it_is_what_the_recipe_says(option, of_the_recipe, here_it_is):
    X, y = np.random.default_rng(0).random((400, 20)), np.arange(400) % 2
    for asked, found in ((None, here_it_is), (of_the_recipe, of_the_recipe), (7, 7)):
        options = {"recipe": "table", "epochs": 600, "weight_decay": 0.0, option.replace("-", "_"): asked}
        data = load(X, y, bins=partial(bins_of, "table") if options.get("bins") is None else asked)
        config = suited_to(data, config_of(options, "a test"))
        assert getattr(config, option.replace("-", "_")) == found


@pytest.fixture
def table(tmp_path):
    """A step of x and a wave of z, which lines of a few units follow badly; and holes."""
    rng = np.random.default_rng(0)
    x, z = rng.random((2, 700))
    y = np.floor(5 * x) + np.sin(20 * z)
    rows = (f"{a:.4f},{'' if i % 9 == 0 else f'{b:.4f}'},{v:.4f}" for i, (a, b, v) in enumerate(zip(x, z, y)))  # noqa: B905
    (tmp_path / "t.csv").write_text("\n".join(["x,z,y", *rows]))
    return tmp_path / "t.csv"


def test_a_table_without_an_option(here, table, tmp_path):
    done = here(*TRAIN, "--data", "t.csv", "--epochs", "20", "--run-dir", "run")
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stdout and "kept the model of epoch" in done.stdout
    with open(tmp_path / "run" / "config.toml", "rb") as stream:
        stored = tomllib.load(stream)
    assert stored["model"]["recipe"] == "table" and stored["data"]["bins"] == RECIPES["table"]["bins"]
    assert stored["run"]["batch-size"] == 32 and stored["run"]["keep-model"] == "best"
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["best loss/val"] <= results["last loss/val"]
    assert results["best loss/val"] == pytest.approx(results["loss/val"])
    again = here(*TRAIN, "--config", "run/config.toml", "--resume", "auto", "--epochs", "22")
    assert again.returncode == 0 and "resumed from run" in again.stdout, again.stderr
    predicted = here(*PREDICT, "run", "t.csv")
    assert predicted.returncode == 0 and len(predicted.stdout.splitlines()) == 701


def test_a_dry_run_shows_what_it_sets(here, table):
    done = here(*TRAIN, "--data", "t.csv", "--dry-run")
    for line in ('recipe = "table"', "epochs = 60", 'activation = "gelu"', "batch-size = 32", 'keep-model = "best"'):
        assert line in done.stdout


def test_no_rows_to_validate_on_keeps_the_last_and_says_so(here, table):
    done = here(*TRAIN, "--data", "t.csv", "--epochs", "1", "--validation-fraction", "0")
    assert done.returncode == 0 and "kept the last model: there are no rows to validate on" in done.stdout
