"""The job script, and its writer: what it knows about the cluster, what it refuses."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from distbp import slurm
from distbp.errors import FAILED, USAGE, UserError
from distbp.slurm import Answers, Partition, main, minutes_of, partitions, script

ROOT = Path(__file__).parents[2]
SINFO = """#!/bin/sh
echo "short* 2:00:00 3 8"
echo "long 7-00:00:00 10 16"
echo "long 7-00:00:00 2 12+"
"""


@pytest.fixture
def sinfo(monkeypatch, tmp_path):
    """A cluster of two partitions."""
    path = tmp_path / "bin" / "sinfo"
    path.parent.mkdir()
    path.write_text(SINFO)
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_sinfo(monkeypatch, tmp_path):
    monkeypatch.setattr(slurm, "partitions", list)
    monkeypatch.chdir(tmp_path)


def test_the_script_of_the_project_is_what_it_writes():
    text = (ROOT / "slurm" / "train.sbatch").read_text()
    assert text == (ROOT / "distbp" / "job.sbatch").read_text() == script(Answers())


@pytest.mark.parametrize("kind", ["train", "study"])
def test_what_it_writes_is_a_script(kind):
    text = script(Answers(kind=kind))
    assert f"#SBATCH --job-name=distbp-{kind}\n" in text and "#SBATCH --output=%x-%j.log\n" in text
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    assert all(len(line) <= 120 for line in text.splitlines())


@contextlib.contextmanager
def submitted(folder, mpirun, *arguments, kind="train"):
    """The script runs as a job with a launcher that does `mpirun`; who queues the job again ends it."""
    programs = {".venv/bin/python": "", ".venv/bin/mpirun": mpirun, "bin/scontrol": "kill -KILL $PPID"}
    for name, text in programs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    (folder / "job.sbatch").write_text(script(Answers(kind=kind)))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "DISTBP_"))}
    env |= {"SLURM_SUBMIT_DIR": str(folder), "SLURM_JOB_ID": "7", "SLURM_TASKS_PER_NODE": "2(x2),1"}
    env["PATH"] = f"{folder / 'bin'}:{env['PATH']}"
    with subprocess.Popen(
        ["bash", "job.sbatch", *arguments], env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as job:  # fmt: skip
        try:
            yield job
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(job.pid, signal.SIGKILL)


TRAIN = ("train --run-dir {folder}/runs/job-7 --resume auto", "runs/job-7/results.json")
STUDY = ("study batch-size --run-dir {folder}/studies/job-7", "studies/job-7/report.html")


@pytest.mark.parametrize(
    ("kind", "arguments", "does"),
    [
        ("train", [], TRAIN),
        ("train", ["train"], TRAIN),
        ("train", ["study", "batch-size"], STUDY),
        ("study", ["batch-size"], STUDY),
        ("study", ["study", "batch-size"], STUDY),
        ("study", ["train"], TRAIN),
    ],
)
def test_one_script_trains_and_studies(tmp_path, kind, arguments, does):
    """With an mpirun that writes down its arguments, and the last files of a training and of a study."""
    with submitted(
        tmp_path, 'echo "$*" >told; sleep 0.1; cd */job-7; touch results.json report.html', *arguments, kind=kind
    ) as job:
        stdout, stderr = job.communicate(timeout=30)
    command, last = does
    assert job.returncode == 0 and f"distbp: done: {tmp_path / last}\n" in stdout, stderr
    told = (tmp_path / "told").read_text()
    assert told == f"-n 5 {tmp_path}/.venv/bin/python -m distbp.{command.format(folder=tmp_path)}\n"


# ranks that begin, and end with a checkpoint when they are told to
RANKS = """cd */job-7; echo "process 1" >lock; touch manifest.json
trap 'mkdir checkpoints; touch checkpoints/step-1; : >lock; ended=1' USR1
while [ -z "$ended" ]; do sleep 0.1; done"""


@pytest.mark.parametrize("launcher", ["exit 75", "while :; do sleep 0.1; done"])
def test_a_launcher_that_outlives_its_ranks_is_not_waited_for(tmp_path, launcher):
    with submitted(tmp_path, f"{RANKS}\n{launcher}") as job:
        begun = tmp_path / "runs" / "job-7" / "manifest.json"
        while not begun.exists():
            time.sleep(0.05)
        begin = time.monotonic()
        job.send_signal(signal.SIGUSR1)
        stdout, _ = job.communicate(timeout=60)
        assert "queueing job 7 again" in stdout and time.monotonic() - begin < 15


def test_partitions(sinfo):
    assert partitions() == [Partition("short", 3, 8, 120.0, True), Partition("long", 12, 12, 10080.0, False)]


def test_without_sinfo_there_are_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert partitions() == []


def test_defaults_are_those_of_the_partition(sinfo, capsys):
    assert main(["--out", "-"]) == 0
    text = capsys.readouterr().out
    for line in ("--nodes=2", "--ntasks-per-node=8", "--time=120"):
        assert f"#SBATCH {line}\n" in text
    assert main(["study", "--out", "-", "--partition", "long", "--cpus-per-task", "4", "--account", "me"]) == 0
    text = capsys.readouterr().out
    for line in ("--ntasks-per-node=3", "--time=04:00:00", "--partition=long", "--account=me", "--cpus-per-task=4"):
        assert f"#SBATCH {line}\n" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--partition", "gpu"], "--partition gpu: this cluster has short, long"),
        (["--nodes", "4"], "--nodes 4: partition short has 3"),
        (["--ntasks-per-node", "4", "--cpus-per-task", "3"], "4 ranks of 3 cores per node: those of partition short"),
        (["--time", "3:00:00"], "--time 3:00:00: partition short allows 120 minutes"),
        (["--time", "soon"], "--time soon: SLURM reads times like"),
        (["--time", "1"], "--time 1 is not longer than --signal-ahead 120 seconds"),
        (["--nodes", "0"], "--nodes 0: it is at least 1"),
        (["--account", "my lab"], "--account=my lab: a name has letters"),
    ],
)
def test_what_the_cluster_cannot_give_is_one_line(sinfo, capsys, arguments, says):
    assert main([*arguments, "--out", "-"]) == FAILED
    printed = capsys.readouterr()
    assert printed.err.startswith(f"distbp: error: {says}") and printed.err.count("\n") == 1 and printed.out == ""


@pytest.mark.parametrize("arguments", [["foo"], ["--nodes", "x"], ["--nods", "3"]])
def test_usage(no_sinfo, capsys, arguments):
    assert main(arguments) == USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_help_is_no_error(no_sinfo, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and "--partition" in out and not err


def test_a_file_is_overwritten_only_when_told(no_sinfo, capsys):
    assert main([]) == main([]) == 0
    assert "wrote train.sbatch; submit it: sbatch train.sbatch --data DATA" in capsys.readouterr().out
    assert main(["--nodes", "3"]) == FAILED
    assert "train.sbatch exists" in capsys.readouterr().err
    assert main(["--nodes", "3", "--yes"]) == 0
    assert "#SBATCH --nodes=3\n" in Path("train.sbatch").read_text()


def test_the_script_that_it_starts_from_is_never_overwritten(no_sinfo, monkeypatch, capsys):
    """It would be by slurm/train.sbatch, a link."""
    Path("job.sbatch").write_text(script(Answers()))
    Path("train.sbatch").symlink_to("job.sbatch")
    monkeypatch.setattr(slurm, "_TEMPLATE", Path("job.sbatch"))
    assert main([]) == 0
    assert main(["--nodes", "3", "--yes"]) == FAILED
    assert "train.sbatch is the script that all others are made from" in capsys.readouterr().err
    assert Path("job.sbatch").read_text() == script(Answers())


def test_it_asks_for_what_no_flag_says(sinfo, monkeypatch, capsys):
    asked = []
    answers = {"partition": "long", "account": "", "nodes": "12", "ranks": "", "time": "1-00:00:00"}

    def answer(question):
        asked.append(question)
        return answers[question.split()[0].rstrip(",")]

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert main(["--launcher", "srun", "--mpi", "pmix", "--local", "/tmp", "--venv", "/opt/d"]) == 0
    text = Path("train.sbatch").read_text()
    for line in ("#SBATCH --partition=long", "#SBATCH --nodes=12", "#SBATCH --ntasks-per-node=12"):
        assert line in text
    for line in ("DISTBP_LAUNCHER:-srun", "DISTBP_MPI:-pmix", "DISTBP_LOCAL:-/tmp", "DISTBP_VENV:-/opt/d"):
        assert line in text
    assert asked[0] == "partition (short, long) []: " and len(asked) == 5
    answers["nodes"] = "many"
    assert main(["--yes", "--out", "-"]) == 0  # nothing is asked
    assert main(["--out", "other.sbatch"]) == FAILED
    assert "'many' is not a number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("time", "minutes"),
    [("30", 30), ("30:30", 30.5), ("2:00:00", 120), ("1-12", 2160), ("1-0:30", 1470), ("2-00:00:00", 2880)],
)
def test_times(time, minutes):
    assert minutes_of(time) == minutes


def test_times_without_end():
    assert minutes_of("infinite") == minutes_of("UNLIMITED") == float("inf")
    with pytest.raises(UserError, match="SLURM reads times"):
        minutes_of("")
