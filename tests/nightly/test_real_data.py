"""Real data end to end: images of MNIST, and a table as it is found in the wild."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor

from distbp import TableOptions, load

DATA = Path(__file__).parents[3] / "shared" / "data"
COMMON = "--validation-fraction 0 --schedule cosine --batch-size 64".split()
MNIST = "--hidden 256,128 --dropout 0.2 --lr 2e-3 --epochs 12".split()
HOUSING = (
    "--target median_house_value --bad-rows skip --hidden 128,64 --activation gelu --dropout 0.05"
    " --optimizer adamw --weight-decay 0.01 --lr 3e-3 --epochs 60"
).split()


@pytest.fixture(params=[0, 2, 4], ids="{} ranks".format)
def results(request, launch, tmp_path):
    def train(name, *arguments):
        if not (DATA / name).exists():
            pytest.skip(f"real data is missing: shared/data/{name} beside the repository")
        run = tmp_path / "run"
        command = ("-m", "distbp.train", "--data", DATA / name, *COMMON, *arguments, "--run-dir", run)
        done = launch(*command, ranks=request.param, timeout=240)
        assert done.returncode == 0, done.stderr
        return json.loads((run / "results.json").read_text())

    return train


def test_mnist_images(results):
    """8,000 of MNIST's 10,000 test images to train, 2,000 to test: not figures on MNIST's usual split."""
    found = results("mnist10k", *MNIST)
    assert np.sum(found["confusion/test"]) == 2000
    assert found["accuracy/test"] >= 0.955


@pytest.mark.parametrize("results", [2], indirect=True)
def test_housing_table_is_no_worse_than_scikit_learn(results):
    """The same network, rows and preprocessing; scikit-learn with its own defaults, until it converges."""
    ours = results("california-housing.csv", *HOUSING)["rmse/test"]
    options = TableOptions(target="median_house_value", bad_rows="skip")
    data = load(str(DATA / "california-housing.csv"), options=options, validation_fraction=0.0)
    (X, y, _), (X_test, y_test, _) = (part.take(np.arange(part.n_rows)) for part in (data.train, data.test))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = MLPRegressor(hidden_layer_sizes=(128, 64), random_state=0).fit(X, y.ravel())
    error = (peer.predict(X_test) - y_test.ravel()) / data.preprocessor.target_scale[0]
    assert ours <= np.sqrt(np.mean(error**2))
