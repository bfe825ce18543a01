"""The job script on a real SLURM: every launcher, every death, pre-emption, lost nodes.

Half an hour with ``DISTBP_SLURM=full``; without it a few of each kind.
"""

import json
import random
import re
import subprocess
import sys
import time

import pytest
from cluster import FULL, LAUNCHES, MPICH, OPEN_MPI, Launch

pytestmark = pytest.mark.slurm

SHORT = "--recipe plain --exact --leaves 8 --hidden 32 --epochs 2 --checkpoint-every 20".split()


def some_seconds(launch: Launch, nodes: int = 2) -> list[str]:
    """A training that a signal meets: where ranks do not know that they share cores, MPICH's take ten times as long."""
    epochs = "600" if nodes == 1 else "12" if launch.venv == MPICH else "160"
    return [*"--recipe plain --exact --leaves 8 --hidden 32 --checkpoint-every 20 --epochs".split(), epochs]


def on(nodes: int, *more: str) -> tuple[str, ...]:
    """Options of sbatch for four ranks on so many nodes."""
    return (f"--nodes={nodes}", f"--ntasks-per-node={4 // nodes}", "--time=5", *more)


@pytest.fixture(scope="module")
def models(tmp_path_factory, cluster):
    """The model of a training without SLURM, in one process with the settings of the jobs, by its options."""
    made = {}

    def model(options: list[str]) -> bytes:
        key = " ".join(options)
        if key not in made:
            folder = tmp_path_factory.mktemp("alone")
            command = [sys.executable, "-m", "distbp.train", *options, "--run-dir", str(folder / "run")]
            done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=120, cwd=folder)
            assert done.returncode == 0, done.stderr
            made[key] = (folder / "run" / "model.safetensors").read_bytes()
        return made[key]

    return model


def is_whole(job, model: bytes) -> bool:
    """It is COMPLETED with its marker, the model is that one, the log of metrics has no gap, nothing is left behind."""
    assert job.wait_for(timeout=120) == "COMPLETED", job.log
    run = job.folder / "run"
    assert (run / "results.json").exists() and "distbp: done:" in job.log
    assert (run / "model.safetensors").read_bytes() == model, job.log
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert job.left_over() == []
    return True


@pytest.mark.parametrize("nodes", [1, 2, 4] if FULL else [1, 4])
@pytest.mark.parametrize("launch", LAUNCHES, ids=str)
def test_every_launch_gives_the_same_model(cluster, models, launch, nodes):
    job = cluster.submit(launch, cluster.folder(), *SHORT, sbatch=on(nodes))
    assert is_whole(job, models(SHORT))
    assert "on 4 ranks" in job.log
    assert [path.name for path in job.folder.glob("*.log")] == [f"distbp-train-{job.number}.log"]


@pytest.mark.parametrize("k", range(80 if FULL else 4))
def test_preempted_at_a_random_moment(cluster, models, k):
    """Every third job goes on with half the ranks."""
    draw = random.Random(k)
    launch, nodes = LAUNCHES[k % 4], (1, 2, 4)[k // 4 % 3] if FULL else 2
    fewer = k % 3 == 0
    if fewer:
        nodes = 2
    options = some_seconds(launch, nodes)
    job = cluster.submit(launch, cluster.folder(), *options, sbatch=on(nodes))
    job.wait_for("RUNNING")
    time.sleep(draw.uniform(0.0, 3.5))
    job.signal()
    job.start_again(*(["NumNodes=1-1", "NumTasks=2"] if fewer else []))
    assert is_whole(job, models(options))
    assert job.log.count("queueing job") == 1 and f"start 2: {2 if fewer else 4} ranks" in job.log


@pytest.mark.parametrize("launch", LAUNCHES if FULL else LAUNCHES[:1], ids=str)
def test_cancelled_and_submitted_again(cluster, models, launch):
    options = some_seconds(launch)
    first = cluster.submit(launch, cluster.folder(), *options, sbatch=on(2))
    checkpoints = first.folder / "run" / "checkpoints"
    first.wait_until(lambda: any(checkpoints.glob("step-*.safetensors")))
    cluster.ask("scancel", first.number)
    assert first.wait_for() == "CANCELLED"
    assert first.left_over() == []
    again = cluster.submit(launch, first.folder, *options, sbatch=on(4))
    assert is_whole(again, models(options))
    assert "resumed from" in again.log


@pytest.mark.full
@pytest.mark.parametrize("launch", LAUNCHES[:2], ids=str)
def test_a_time_limit_that_strikes_without_a_signal(cluster, models, launch):
    options = [*some_seconds(launch)[:-1], "4000"]
    folder = cluster.folder()
    job = cluster.submit(launch, folder, *options, sbatch=("--signal=B:CONT@1", *on(2), "--time=1"))
    assert job.wait_for(timeout=150) == "TIMEOUT", job.log
    assert job.left_over() == []
    kept = sorted((folder / "run" / "checkpoints").glob("step-*.safetensors"))[-1]
    again = cluster.submit(launch, folder, *options, sbatch=on(2))
    again.wait_until(lambda: f"resumed from {kept}" in again.log)
    cluster.ask("scancel", again.number)
    again.wait_for()


@pytest.mark.full
def test_a_node_cut_off(cluster, models):
    if not cluster.netns:
        pytest.skip("nodes without a network of their own")
    options = some_seconds(LAUNCHES[1])
    job = cluster.submit(LAUNCHES[1], cluster.folder(), *options, sbatch=on(4))
    checkpoints = job.folder / "run" / "checkpoints"
    job.wait_until(lambda: any(checkpoints.glob("step-*.safetensors")))
    cluster.cable(3, "down")
    try:
        job.wait_for("PENDING", timeout=90)  # SLURM does that
    finally:
        cluster.cable(3, "up")
    job.start_again("NumNodes=2-2", "NumTasks=2")
    assert is_whole(job, models(options))
    assert "resumed from" in job.log


# where a rank is lost some launchers end its fellows on the host, and a neighbour may see theirs first; on another host
# Open MPI may find the connection closed before anybody speaks, and MPICH 5.0.2 may crash in the next MPI_Ialltoall
# over it, by UCX (one death in ten): then its mpirun knows of that rank only
GONE = (
    r"process of rank [01] on node1 has ended|unexpectedly disconnected.*Peer host: *node1"
    r"|running at node2.*exit code: 11.*segmentation fault|(?:exit|ended with) code:? *"
)
DEATHS = {
    "raise": ('raise ZeroDivisionError("planted")', r"rank 1 on node\d: error: ZeroDivisionError: planted"),
    "sys.exit": ("sys.exit(7)", r"rank 1 on node\d: error: sys.exit\(7\) was called"),
    "os._exit": ("os._exit(7)", GONE + "7|Exited with"),
    "killed": ("os.kill(os.getpid(), 9)", GONE + "9|signal 9|Killed"),
    "segfault": ("ctypes.string_at(0)", GONE + "11|signal 11|139|fault"),
}
TRAP = """
import ctypes, os, sys, time
import numpy as np

names = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
rank = next(os.environ[name] for name in names if name in os.environ)
calls = 0


def bent(x):
    global calls
    calls += 1
    if rank == "1" and calls == 40:
        open("died", "w").close()
        {death}
    return np.tanh(x)
"""
FEW = [("os._exit", 1), ("raise", 0), ("killed", 2), ("sys.exit", 3)]


@pytest.mark.parametrize(
    ("death", "launch"),
    [(death, launch) for death in DEATHS for launch in LAUNCHES] if FULL else [(d, LAUNCHES[k]) for d, k in FEW],
    ids=str,
)
def test_a_rank_that_dies_fails_the_job_soon(cluster, death, launch):
    statement, cause = DEATHS[death]
    folder = cluster.folder()
    (folder / "trap.py").write_text(TRAP.format(death=statement))
    options = [
        "--recipe",
        "plain",
        "--hidden",
        "32",
        "--activation",
        "trap:bent",
        "--epochs",
        "2000",
        "--checkpoint-every",
        "100000",
    ]
    job = cluster.submit(launch, folder, *options, sbatch=on(2))
    job.wait_until(lambda: (folder / "died").exists())
    began = time.monotonic()
    assert job.wait_for(timeout=30) == "FAILED", job.log
    seconds = time.monotonic() - began
    assert seconds < 10, f"{seconds:.1f} s\n{job.log}"
    assert re.search(cause, job.log, re.IGNORECASE | re.DOTALL), job.log
    assert job.left_over() == []


def test_a_study_goes_on_after_preemption(cluster):
    options = "study batch-size --batch-sizes 64,256 --rates 0.1,0.2 --seeds 2 --hidden 16 --least-steps 3000".split()
    job = cluster.submit(LAUNCHES[1], cluster.folder(), *options, sbatch=on(1, "--job-name=distbp-study"))
    trials = job.folder / "run" / "trials.jsonl"
    job.wait_until(lambda: trials.exists() and trials.read_text().count("\n") >= 2)
    done = trials.read_text().splitlines()
    job.signal()
    job.start_again()
    assert job.wait_for(timeout=120) == "COMPLETED", job.log
    assert set(done) <= set(trials.read_text().splitlines())
    assert (job.folder / "run" / "report.html").exists() and job.log.count("queueing job") == 1
    assert [path.name for path in job.folder.glob("*.log")] == [f"distbp-study-{job.number}.log"]


@pytest.mark.parametrize(
    ("launch", "options", "says"),
    [
        (Launch("no environment", OPEN_MPI / "nowhere", "mpirun"), [], "set DISTBP_VENV"),
        (LAUNCHES[0], ["--epocs", "3"], "--epochs"),
        (LAUNCHES[2], ["--data", "no-such-file.csv"], "no-such-file.csv"),
    ],
    ids=str,
)
def test_a_wrong_input_is_said_once_and_not_queued_again(cluster, launch, options, says):
    job = cluster.submit(launch, cluster.folder(), *options, sbatch=on(2))
    assert job.wait_for() == "FAILED"
    assert says in job.log and "queueing" not in job.log and "attempt" not in job.log and "Traceback" not in job.log


@pytest.mark.full
@pytest.mark.parametrize("launch", [LAUNCHES[1], LAUNCHES[3]], ids=str)
def test_the_environment_on_local_disks(cluster, models, launch):
    job = cluster.submit(launch, cluster.folder(), *SHORT, sbatch=on(2), DISTBP_LOCAL="/dev/shm")  # each node's own
    assert is_whole(job, models(SHORT))
    assert f"distbp-{job.number}" not in cluster.ask("srun", "--nodes=4", "--ntasks=4", "ls", "/dev/shm")


HEAP = """
import ctypes, os, random
from distbp import communicator

libc, junk, draw = ctypes.CDLL(None), os.urandom(1 << 17), random.Random(0)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
pieces = []
for _ in range(20000):
    n = draw.choice([64, 256, 500, 1000, 1100, 2000, 4096, 4112, 4200, 8200, 16400, 33000, 66000])
    pieces.append(libc.malloc(n))
    ctypes.memmove(pieces[-1], junk, n)
for piece in pieces[::2]:
    libc.free(piece)
print("met", communicator("mpi").size)
"""


def test_mpich_begins_whatever_lies_in_the_heap(cluster):
    """By UCX it dies in MPI_Init: SLURM gets uninitialised bytes behind each address."""
    command = ["srun", "--nodes=2", "--ntasks=4", "--mpi=pmi2", str(MPICH / "bin" / "python"), "-c", HEAP]
    assert cluster.ask(*command).splitlines() == ["met 4"] * 4
