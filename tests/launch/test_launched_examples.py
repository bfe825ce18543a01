"""The examples on two ranks."""

from pathlib import Path

ROOT = Path(__file__).parents[2]


def make_and_train(launch, example, data, *options):
    """What two ranks print, on the data that the example makes."""
    made = launch(ROOT / "examples" / example, data)
    assert made.returncode == 0, made.stderr
    done = launch("-m", "distbp.train", "--data", data, *options, ranks=2, timeout=120, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_mixture_density_on_two_ranks(launch, tmp_path):
    out = make_and_train(
        launch, "mixture_density.py", "inverse.npz",
        *"--loss examples.mixture_density:loss --hidden 16 --activation tanh --epochs 8".split(),
        *"--batch-size 100 --lr 0.01".split(),
    )  # fmt: skip
    test = next(line for line in out.splitlines() if line.startswith("test: "))
    loss = float(test.split()[2].rstrip(","))
    assert loss < 0.9 and "rmse" in test  # the best single normal distribution around a curve gets 1.1


def test_bayesian_models_have_the_same_bits_on_one_and_four_ranks(launch, tmp_path):
    assert launch(ROOT / "examples" / "bayes.py", "classes.npz", "waves.npz").returncode == 0
    for name, data in (("logistic", "classes.npz"), ("process", "waves.npz")):
        for ranks in (0, 4):
            mine = f"--model examples.bayes:{name} --loss examples.bayes:{name}_loss --run-dir {name}-{ranks}"
            options = f"--data {data} {mine} --dtype float64 --exact --leaves 4 --steps 40 --eval-every 0 --lr 0.02"
            done = launch("-m", "distbp.train", *options.split(), ranks=ranks, timeout=120, PYTHONPATH=str(ROOT))
            assert done.returncode == 0, done.stderr
        one, four = ((tmp_path / f"{name}-{ranks}" / "model.safetensors").read_bytes() for ranks in (0, 4))
        assert one == four


def test_transformer_on_two_ranks(launch, tmp_path):
    out = make_and_train(
        launch, "transformer.py", "c.npz",
        *"--task regression --preprocessing none --no-scale-target --steps 10 --log-every 5".split(),
        *"--model examples.transformer:model --loss examples.transformer:loss --batch-size 8 --eval-every 0".split(),
        *"--validation-fraction 0 --test-fraction 0.01 --lr 0.003".split(),
    )  # fmt: skip
    losses = [float(line.split("loss/train")[1].split()[0]) for line in out.splitlines() if "loss/train" in line]
    assert losses[-1] < losses[0] < 5.0
