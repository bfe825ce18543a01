"""Threads of one process, as those of a server or of a search, predict and train beside each other."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import distbp

rng = np.random.default_rng(0)
X = rng.standard_normal((600, 5))
Y = X[:, 0] > X[:, 1] * X[:, 2]


@pytest.mark.parametrize("more", [{}, {"ensemble": 2}], ids=["network", "ensemble"])
def test_threads_predict_with_one_model(more):
    model = distbp.fit(X, Y, epochs=2, verbose=False, **more).model
    expected = model.predict_proba(X)
    starts = [0, 100, 200, 300, 400] * 8
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda k: model.predict_proba(X[k : k + 200]), starts))
    assert all(np.array_equal(p, expected[k : k + 200]) for p, k in zip(found, starts, strict=True))


def alone(script):
    """Run it in a process whose BLAS nobody else limits; return what it prints."""
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, env=environ)
    assert done.returncode == 0, done.stderr
    return done.stdout


SEARCH = """
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

import distbp
from distbp.run.blas import loaded_blas

threadpool_limits(2, user_api="blas")  # as a library may, which has this thread keep the limits from now on
with threadpool_limits(2, user_api="blas"):
    pass  # and lets go
X = np.random.default_rng(0).standard_normal((3000, 30))


def model_of(seed):
    how = {"hidden": [300, 300], "batch_size": 500, "epochs": 3}
    run = distbp.fit(X, X[:, 0] > 0, seed=seed, exact=True, verbose=False, **how)
    return hashlib.sha256(run.model.to_bytes()).hexdigest()


one_by_one = [model_of(seed) for seed in range(4)]
with ThreadPoolExecutor(3) as threads:
    print(list(threads.map(model_of, range(4))) == one_by_one, loaded_blas()[0]["num_threads"])
"""


def test_exact_runs_in_threads_have_the_bits_of_runs_one_by_one():
    assert alone(SEARCH) == "True 2\n"


LIMITS = """
from concurrent.futures import ThreadPoolExecutor

from threadpoolctl import threadpool_limits

from distbp import SerialCommunicator
from distbp.errors import UserError
from distbp.run import blas

now = lambda: blas.loaded_blas()[0]["num_threads"]
comm = SerialCommunicator()
blas.blas_threads, blas._busy_cores, blas.os.cpu_count = lambda comm: 2, lambda comm: 0, lambda: 2
threadpool_limits(2, user_api="blas")
other = ThreadPoolExecutor(1)
of_other = lambda what: other.submit(what).result()
one, one_more, two = blas.limited_blas(comm, 1), blas.limited_blas(comm, 1), blas.limited_blas(comm, 2)
assert two.__enter__() == 2 and of_other(one.__enter__) == 1 and now() == 1  # the least of both
two.__exit__(None, None, None)
assert now() == 1  # the other one goes on
of_other(lambda: one.__exit__(None, None, None))
assert now() == 2
with threadpool_limits(2, user_api="blas"):  # held by this thread
    try:
        of_other(one_more.__enter__)
        assert now() == 1  # before threadpoolctl 3.8 whoever sets it has it
        of_other(lambda: one_more.__exit__(None, None, None))
    except UserError as error:
        assert "has 2 threads" in str(error)
with blas.limited_blas(comm, 1):
    assert now() == 1
assert now() == 2
"""


def test_the_least_limit_of_all_threads_holds_and_ends_with_the_last():
    assert alone(LIMITS) == ""
