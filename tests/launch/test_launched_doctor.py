"""The doctor from the command line: launches that hang, die and do not fit."""

import json
import os
import subprocess
import sys
import time

import pytest
from test_launchers import SRUN

from distbp.doctor.finding import FAILURE, OK, WARNING


def test_without_mpi_the_doctor_is_content_with_a_warning(launch, tmp_path):
    program = "import sys; sys.modules['mpi4py'] = None\nfrom distbp.doctor.__main__ import main; sys.exit(main())"
    done = launch("-c", program, "--quick", "--json")
    assert done.returncode == 1, done.stderr + done.stdout
    findings = json.loads(done.stdout)["findings"]
    assert [f["check"] for f in findings if f["status"] != OK and f["check"] != "BLAS kernel"] == ["MPI library"]
    assert list(tmp_path.iterdir()) == [] and done.stderr == ""


def test_a_launch_that_does_not_fit_is_named_without_starting_mpi(launch):
    pytest.importorskip("mpi4py")
    began = time.monotonic()
    done = launch("-m", "distbp", "doctor", "--quick", **SRUN, SLURM_PROCID="0")
    assert done.returncode == 2 and "srun --mpi=none started 4 processes, which" in done.stdout
    failures = [line for line in done.stdout.splitlines() if line.startswith("failure ")]
    assert len(failures) == 1 and "not initialised" in done.stdout and done.stderr == ""
    done = launch("-m", "distbp", "doctor", "--quick", **SRUN, SLURM_PROCID="3")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    assert time.monotonic() - began < 30


def test_all_is_well_on_two_ranks(launch, tmp_path):
    done = launch("-m", "distbp.doctor", "--quick", "--json", ranks=2)
    said = json.loads(done.stdout[: done.stdout.rindex("}") + 1])
    assert said["worst"] != FAILURE, done.stdout
    assert done.returncode == (said["worst"] == WARNING), done.stderr
    figures = {finding["check"]: finding["figure"] for finding in said["findings"]}
    assert "started 2 processes, MPI's world has 2" in figures["launch"]
    assert "thread level serialized" in figures["MPI library"] and "alpha" in figures["allreduce within a host"]
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_directory_and_abort(launch, tmp_path):
    done = launch("-m", "distbp.doctor", "--quick", "--abort", "--run-dir", "/dev/full", ranks=2)
    assert done.returncode != 0 and "/dev/full: Not a directory" in done.stdout
    assert "tried after this report" in done.stdout and "1 failure" in done.stdout
    assert "did not reach" not in done.stderr


def test_the_doctor_is_a_sub_command():
    done = subprocess.run([sys.executable, "-m", "distbp", "doctor", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--run-dir" in done.stdout and os.linesep in done.stdout


HANG = """
import os, signal, sys, time
from distbp.doctor.supervision import Supervision
from distbp.comm.mpi import MPICommunicator
comm = MPICommunicator()
say = lambda finding: print(finding.figure, *finding.ranks, finding.advice, flush=True)
watch = Supervision(comm, 1.0, say, grace=2.0)
with watch.check("first"):
    comm.barrier()
with watch.check("second"):
    if comm.rank == {rank}:
        {act}
    comm.barrier()
watch.close()
print(f"rank {{comm.rank}} went on")
"""


@pytest.mark.parametrize(
    ("rank", "act", "says"),
    [
        (1, "time.sleep(60)", "did not answer in 'second' within 1 s 1 Look at what it does"),
        (2, "os.kill(os.getpid(), signal.SIGSTOP)", "did not answer in 'second' within 1 s 2 It is stopped"),
        (1, "os.kill(os.getpid(), signal.SIGKILL)", "died in 'second' 1"),
        (0, "os.kill(os.getpid(), signal.SIGSTOP)", "says nothing, and 'second' did not end within 1 s"),
    ],
)
def test_a_rank_that_hangs_or_dies_is_named(launch, rank, act, says):
    began = time.monotonic()
    for _ in range(3 if "SIGKILL" in act else 1):  # MPICH's mpirun may end rank 0 before it can speak
        done = launch("-c", HANG.format(rank=rank, act=act), ranks=3, timeout=40)
        output = done.stdout + done.stderr
        if says in output:
            break
    assert time.monotonic() - began < 25  # alone it takes 1 to 4
    assert f"rank {rank} on" in output and says in output, output
    assert done.returncode != 0 and "Traceback" not in output
    # Open MPI wakes a stopped rank before it ends it, which then finds all in the barrier
    assert {line for line in output.splitlines() if "went on" in line} <= {f"rank {rank} went on"}, output


ALONE = "import sys, time\nfrom distbp.doctor.supervision import start_limit\nwith start_limit(1.0):\n    {act}\n"


def test_a_start_that_hangs_ends(launch):
    # a C function that keeps the interpreter to itself, as MPI_Init does
    act = "import ctypes; ctypes.PyDLL(None).sleep(30)"
    began = time.monotonic()
    done = launch("-c", ALONE.format(act=act))
    assert time.monotonic() - began < 15
    assert done.returncode == -9 and "did not return within 1 s" in done.stderr and done.stderr.count("\n") == 1
    done = launch("-c", ALONE.format(act="pass") + "time.sleep(1.5)")
    assert (done.returncode, done.stderr) == (0, "")
