"""A launched rank whose process ends, however it ends, ends the others; one that leaves as it should does not."""

import time
from itertools import product

import pytest
from grids import NIGHTLY

PROGRAM = """
import functools, os, signal, sys, time
from distbp import communicator
from distbp.run import entry_point

def main(comm):
    if comm.rank == 1:
        {end}
    {others}
    return 0

entry_point.Lifeline = functools.partial(entry_point.Lifeline, grace=0.3)
sys.exit(entry_point.run(main, lambda: communicator("mpi", elastic=False)))
"""


ENDS = ["os._exit(0)", "os._exit(7)", "os.kill(os.getpid(), signal.SIGKILL)"]
OTHERS = ["comm.barrier()", "time.sleep(60)"]
BY_DAY = [(ENDS[0], OTHERS[1]), (ENDS[1], OTHERS[0]), (ENDS[2], OTHERS[1])]


@pytest.mark.parametrize(("end", "others"), list(product(ENDS, OTHERS)) if NIGHTLY else BY_DAY)
def test_a_process_that_ends_ends_the_others(launch, end, others):
    began = time.monotonic()
    done = launch("-c", PROGRAM.format(end=end, others=f"{others}; print('went on')"), ranks=3, timeout=40)
    assert "went on" not in done.stdout
    assert done.returncode != 0 or end == "os._exit(0)"  # MPICH's mpirun counts that as a success
    assert time.monotonic() - began < 20  # alone it takes 1


def test_a_rank_that_leaves_as_it_should_leaves_the_others_alone(launch):
    done = launch("-c", PROGRAM.format(end="return 0", others="time.sleep(1); print('still here')"), ranks=3)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("still here") == 2
