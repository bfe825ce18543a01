"""The doctor in every launch that SLURM and two MPIs allow, right and wrong ones: what it says, and its exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cluster import FULL, MPICH, OPEN_MPI, Job

from distbp.run.blas import slow_kernel

pytestmark = pytest.mark.slurm

# (launch, its words for the launcher, what the cure names; "" where all is well)
CASES = [
    (OPEN_MPI, "{venv}/bin/mpirun", "Open MPI's mpirun", ""),
    (OPEN_MPI, "srun --mpi=pmix", "srun --mpi=pmix", ""),
    (OPEN_MPI, "srun --mpi=pmi2", "srun --mpi=pmi2", "srun --mpi=pmix"),
    (OPEN_MPI, "srun", "srun --mpi=none", "srun --mpi=pmix"),
    (OPEN_MPI, f"{MPICH}/bin/mpirun", "MPICH's mpirun", "Open MPI's mpirun"),
    (MPICH, "{venv}/bin/mpirun", "MPICH's mpirun", ""),
    (MPICH, "srun --mpi=pmi2", "srun --mpi=pmi2", ""),
    (MPICH, "srun --mpi=pmix", "srun --mpi=pmix", "srun --mpi=pmi2"),
    (MPICH, "srun", "srun --mpi=none", "srun --mpi=pmi2"),
    (MPICH, f"{OPEN_MPI}/bin/mpirun", "Open MPI's mpirun", "MPICH's mpirun"),
]


def doctor(cluster, venv, launcher, *options, nodes=2):
    """The lines of the doctor in a job of four ranks, by check, and its exit code."""
    for _ in range(3):  # MPICH under srun --mpi=pmi2 dies in MPI_Init now and then: the job scripts try again, too
        job = _job(cluster, venv, launcher, options, nodes)
        if "launch    " in job.log or "MPI_Init" not in job.log:
            break
    found = dict(re.findall(r"^(?:ok|warning|failure) +(\S.*?)  +(.*)$", job.log, re.M))
    status = {check: state for state, check in re.findall(r"^(ok|warning|failure) +(\S.*?)  +", job.log, re.M)}
    return found, status, int(re.findall(r"^code (\d+)", job.log, re.M)[-1]), job


def _job(cluster, venv, launcher, options, nodes):
    folder = cluster.folder()
    command = f"{launcher.format(venv=venv)} {venv}/bin/python -m distbp.doctor --quick {' '.join(options)}"
    number = cluster.ask(
        "sbatch", "--parsable", f"--chdir={folder}", f"--nodes={nodes}", f"--ntasks-per-node={4 // nodes}",
        "--output=distbp-%j.log", f"--wrap={command}; echo code $?",
    )  # fmt: skip
    job = Job(cluster, number, folder)
    job.wait_for(timeout=60)
    return job


@pytest.mark.parametrize(("venv", "launcher", "name", "cure"), CASES, ids=[f"{c[0].name}-{c[1]}" for c in CASES])
def test_every_launch(cluster, venv, launcher, name, cure):
    agree(doctor(cluster, venv, launcher), name, cure)


def agree(result, name, cure):
    found, status, code, job = result
    assert job.log.count("launch    ") == 1, job.log
    assert name in found["launch"], job.log
    if cure:
        assert status["launch"] == "failure" and cure in found["launch"] and code != 0
    else:
        assert "failure" not in status.values(), job.log
        assert code in (0, 1) and "4 processes" in found["launch"] and "seen by all" in found["run directory"]


# MPIs of Debian, where they are installed
LIBRARIES = Path("/usr/lib/x86_64-linux-gnu")
DEBIAN_OPEN_MPI, DEBIAN_MPICH = LIBRARIES / "libmpi.so.40", LIBRARIES / "libmpich.so.12"
DEBIAN = [
    (DEBIAN_OPEN_MPI, "mpirun.openmpi --bind-to none", "Open MPI's mpirun", ""),
    (DEBIAN_OPEN_MPI, "srun --mpi=pmix", "srun --mpi=pmix", ""),
    (DEBIAN_OPEN_MPI, "srun --mpi=pmi2", "srun --mpi=pmi2", "srun --mpi=pmix"),
    (DEBIAN_OPEN_MPI, "srun", "srun --mpi=none", "srun --mpi=pmix"),
    (DEBIAN_MPICH, "mpirun.mpich", "MPICH's mpirun", ""),
    (DEBIAN_MPICH, "srun --mpi=pmix", "srun --mpi=pmix", "srun --mpi=pmi2"),
    (DEBIAN_MPICH, "srun --mpi=pmi2", "srun --mpi=pmi2", ""),
    (DEBIAN_MPICH, "srun", "srun --mpi=none", "srun --mpi=pmi2"),
]


@pytest.mark.full
@pytest.mark.parametrize(("library", "launcher", "name", "cure"), DEBIAN, ids=[f"{c[0].name}-{c[1]}" for c in DEBIAN])
def test_every_launch_of_debian(cluster, library, launcher, name, cure):
    if not library.exists():
        pytest.skip(f"no {library}: apt-get install openmpi-bin mpich")
    if library == DEBIAN_MPICH:  # mpi4py looks for it by another name
        links = cluster.folder()
        (links / "libmpi.so.12").symlink_to(library)
        chosen = f"env MPI4PY_MPIABI=mpich LD_LIBRARY_PATH={links}"
    else:
        chosen = f"env MPI4PY_MPIABI=openmpi MPI4PY_LIBMPI={library}"
    agree(doctor(cluster, MPICH, f"{launcher} {chosen}"), name, cure)


@pytest.mark.full
@pytest.mark.parametrize(
    ("before", "nodes", "mpirun", "said"),
    [
        ("PRTE_MCA_plm=^slurm", 2, "mpirun", "Unset PRTE_MCA_plm"),
        ("SLURM_EXPORT_ENV=NONE", 2, "mpirun", "export SLURM_EXPORT_ENV=ALL"),
        ("-u PRTE_MCA_hwloc_default_binding_policy", 1, "mpirun", "mpirun --bind-to none"),
        ("", 2, "mpirun -n 8", "up to 4"),
        ("", 2, "srun mpirun", "srun mpirun hangs"),
    ],
)
def test_an_mpirun_that_would_start_no_rank(cluster, before, nodes, mpirun, said):
    """From the batch step alone: there is nobody else to say it."""
    if nodes == 1 and len(os.sched_getaffinity(0)) >= 4:
        pytest.skip("four ranks find a core each")
    found, status, code, job = doctor(cluster, OPEN_MPI, f"env {before}", nodes=nodes)
    assert status["launch"] == ("warning" if before else "ok") and said in found["launch"], job.log
    mpirun = mpirun.replace("mpirun", f"{OPEN_MPI}/bin/mpirun")
    *_, job = doctor(cluster, OPEN_MPI, f"env {before} timeout 20 {mpirun}", nodes=nodes)
    assert "launch    " not in job.log and "code 0" not in job.log, job.log


def test_one_process_in_a_job_is_right(cluster):
    found, status, code, job = doctor(cluster, MPICH, "")
    assert status["launch"] == "ok" and "failure" not in status.values() and code in (0, 1), job.log


def test_more_ranks_than_cores(cluster):
    found, status, code, job = doctor(cluster, MPICH, "{venv}/bin/mpirun", nodes=1)
    cores = len(os.sched_getaffinity(0))
    assert status["ranks and cores"] == ("warning" if cores < 4 else "ok"), job.log
    assert cores >= 4 or f"4 ranks on {cores} cores of node" in found["ranks and cores"]


@pytest.fixture
def own_mounts(cluster):
    if not cluster.netns:
        pytest.skip("nodes that share all file systems")


def test_a_run_directory_that_is_not_shared(cluster, own_mounts):
    found, status, code, job = doctor(cluster, OPEN_MPI, "srun --mpi=pmix", "--run-dir", "/dev/shm")
    assert status["run directory"] == "failure" and "node2" in found["run directory"], job.log
    assert code == 2


def test_a_full_disk(cluster, own_mounts):
    disk = cluster.folder()
    cluster.among_mounts_of(1, "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk))
    try:
        found, status, code, job = doctor(cluster, OPEN_MPI, "srun --mpi=pmix", "--run-dir", str(disk))
    finally:
        cluster.among_mounts_of(1, "umount", str(disk))
    assert status["run directory"] == "failure" and f"{disk}: disk full" in found["run directory"], job.log
    assert code == 2


@pytest.mark.parametrize(
    ("venv", "launcher"), [(OPEN_MPI, "srun --mpi=pmix"), (MPICH, "{venv}/bin/mpirun")][: 2 if FULL else 1]
)
def test_a_small_shared_memory(cluster, own_mounts, venv, launcher):
    cluster.among_mounts_of(2, "mount", "-o", "remount,size=1m", "/dev/shm")
    try:
        found, status, code, job = doctor(cluster, venv, launcher)
    finally:
        cluster.among_mounts_of(2, "mount", "-o", "remount,size=50%", "/dev/shm")
    assert len(re.findall(r"distbp: warning: /dev/shm of node2: \d of 1 MiB free", job.log)) == 1, job.log
    if venv == MPICH:  # it dies in MPI_Init, and leaves behind what little there was
        assert code != 0, job.log
    else:
        assert status["shared memory"] == "failure" and "/dev/shm of node2" in found["shared memory"], job.log
        assert code == 2


@pytest.mark.full
def test_another_numpy_on_one_host(cluster):
    other = "2.3.5" if np.__version__ != "2.3.5" else "2.3.4"
    folder = cluster.folder()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder / "other"), f"numpy=={other}"]
    subprocess.run(install, check=True, timeout=120)
    (folder / "wrapper").write_text(
        f'#!/bin/sh\n[ "$(hostname)" = node1 ] || export PYTHONPATH={folder / "other"}\nexec "$@"\n'
    )
    found, status, code, job = doctor(cluster, OPEN_MPI, f"srun --mpi=pmix sh {folder / 'wrapper'}")
    assert status["versions"] == "failure" and code == 2, job.log
    assert f"node2 has NumPy {other} (not {np.__version__})" in found["versions"]


@pytest.mark.parametrize("kernel", ["Haswell", "Nehalem"][: 2 if FULL else 1])
def test_a_pinned_kernel(cluster, kernel):
    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    expected = slow_kernel(kernel, cpu, kernel)
    found, status, code, job = doctor(cluster, MPICH, f"env OPENBLAS_CORETYPE={kernel} srun --mpi=pmi2")
    assert status["BLAS kernel"] == ("warning" if expected else "ok"), job.log
