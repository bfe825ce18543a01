"""Studies from the command line, also those that are killed."""

import signal
import subprocess
import sys
import time

import numpy as np
from conftest import clean_environment
from grids import NIGHTLY
from tiny_study import TINY, without_times

from distbp.study.__main__ import EXPERIMENTS


def test_a_study_that_is_killed_again_and_again_ends_the_same(tiny, tmp_path, launch):
    """SIGKILL to the whole job, again and again at random moments."""
    command = [sys.executable, "-m", "distbp.study", "batch-size", *TINY, "--exact", "--leaves", "4"]
    command += ["--run-dir", str(tmp_path)]
    rng = np.random.default_rng(int(time.time()))
    killed = 0
    for _ in range(5 if NIGHTLY else 2):
        job = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=clean_environment(),
            start_new_session=True,
        )  # fmt: skip
        try:
            job.wait(rng.uniform(0.3, 1.2))
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGKILL)
            job.wait()
            killed += 1
    assert killed
    done = launch(*command[1:], ranks=2)
    assert done.returncode == 0, done.stderr
    assert without_times(tmp_path) == without_times(tiny)


def test_a_study_is_a_sub_command(launch):
    done = launch("-m", "distbp", "study", "--help")
    assert done.returncode == 0 and all(name in done.stdout for name in EXPERIMENTS)
