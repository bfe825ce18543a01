"""From a configuration to objects: what the options become."""

import numpy as np
import pytest

from distbp import Checkpoints, Epochs, Gradient, SerialCommunicator, UserError, load
from distbp.run.build import build_trainer
from distbp.run.config import parse_train_config


@pytest.fixture(scope="module")
def digits():
    return load("digits", dtype=np.float64)


def built(digits, *arguments, **more):
    return build_trainer(
        parse_train_config(["--recipe", "plain", "--hidden", "8", *arguments]), digits, SerialCommunicator(), **more
    )


def test_options_reach_the_trainer(digits, tmp_path):
    options = [
        "--batch-size",
        "16",
        "--noise-scale",
        "5",
        "--warmup",
        "9",
        "--eval-every",
        "2 epochs",
        "--log-every",
        "7",
    ]
    t = built(digits, *options, checkpoints=Checkpoints(tmp_path))
    assert (t.sampler.batch_size, t.noise.every, t.schedule.warmup) == (16, 5, 9)
    assert (t.judge.every, t.log.every, t.saver.every, t.audit_every) == (Epochs(2), 7, Epochs(1), 0)
    assert built(digits).noise.every == 0
    assert built(digits).gradient == Gradient()
    way = "--exact --leaves 3 --micro-batch 2 --bucket-mb 0.5 --reduction allreduce --oversubscribe".split()
    assert built(digits, *way).gradient == Gradient("allreduce", 3, 2, 1 << 19, oversubscribe=True)


def test_rate_and_schedule_follow_the_batch_size(digits):
    """1258 rows: 5 steps of 256 in an epoch."""
    cosine = "--batch-size 256 --lr 0.01 --schedule cosine --epochs 6".split()
    t = built(digits, *cosine, "--warmup", "2 epochs", "--lr-scaling", "linear", "--lr-scaling-base", "32")
    assert (t.schedule.warmup, t.schedule.total, t.sampler.steps_per_epoch) == (10, 30, 5)
    assert t.peak == pytest.approx(0.08, rel=1e-15)
    t = built(digits, *cosine, "--steps", "20")
    assert (t.schedule.total, t.peak) == (20, 0.01)


def test_a_batch_is_at_most_all_rows(digits):
    assert built(digits, "--batch-size", "1258").sampler.steps_per_epoch == 1
    with pytest.raises(UserError, match="a batch size of 1259 is above the 1258 training rows: give --batch-size 1258"):
        built(digits, "--batch-size", "1259")
