"""Runs on other file systems: tmpfs, ext4, one without locks, a slow one, a full one, one that cannot be written.

What is mounted wants root. `layer.c` makes a file system poorer or slower than it is.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from front_doors import PREDICT, TRAIN, our_lines

ROOT = Path(__file__).parents[2]
TESTS = [
    "tests/run/test_going_on.py", "tests/run/test_command_line.py", "tests/run/test_runs_as_people_have_them.py",
    "tests/run/test_ensemble.py", "tests/run/test_fuzz_files.py", "tests/trainer/test_saving.py",
    "tests/trainer/test_checkpoint.py", "tests/runs", "tests/study/test_study.py",
]  # fmt: skip
"""Of directories of runs, and what lies in them."""
RUN = ("--recipe", "plain", "--exact", "--hidden", "256", "--epochs", "6", "--checkpoint-every", "20")
LEFT = 64 << 10


@pytest.fixture
def mounted(tmp_path):
    """Return a function that mounts a new file system of a kind and size in MiB; returns where."""
    if os.geteuid():
        pytest.skip("only root mounts file systems")
    places = []

    def mount(kind, size):
        place = tmp_path / kind
        place.mkdir()
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", place]
        else:
            image = tmp_path / f"{kind}.image"
            with image.open("wb") as stream:
                stream.truncate(size << 20)
            subprocess.run([f"mkfs.{kind}", "-q", "-m", "0", image], check=True)
            command = ["mount", "-o", "loop", image, place]
        subprocess.run(command, check=True)
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def layer(tmp_path):
    """Return a function that gives the environment in which a folder is on a poorer file system."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler")
    library = tmp_path / "layer.so"
    source = Path(__file__).with_name("layer.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return lambda at, **more: {"LD_PRELOAD": str(library), "LAYER_AT": str(at), **more}


WANT_LOCKS = (
    "not (runs_are_listed or trial_whose_lock_is_held or groups_take_each_trial_once"
    " or results_do_not_depend_on_ranks_and_groups)"
)
"""What holds a lock to see that others mind it, and groups of a study, which share trials out by locks."""


def suite(place, chosen="", **env):
    """Run the tests of run directories, those of every day, with their folders in a place."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-k", chosen]
    command += ["--basetemp", place / "tests", *TESTS]
    every_day = {name: value for name, value in os.environ.items() if name != "DISTBP_TESTS"}
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env=every_day | env, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.fixture
def undisturbed(launch):
    """Return the model of a run that nothing disturbs."""
    done = launch(*TRAIN, *RUN, "--run-dir", "undisturbed")
    assert done.returncode == 0, done.stderr
    return lambda folder: (folder / "undisturbed" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_the_tests_of_run_directories_pass_on(kind, mounted):
    suite(mounted(kind, 600))


def test_the_tests_of_run_directories_pass_without_locks_and_syncs_of_folders(layer, tmp_path):
    suite(tmp_path, WANT_LOCKS, **layer(tmp_path, LAYER_REFUSES="1"))


def fill(place, left):
    """Fill a file system until so many bytes are left."""
    free = os.statvfs(place)
    with (place / "others").open("wb") as stream:
        stream.write(bytes(max(0, free.f_bavail * free.f_frsize - left)))


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_disk_with_64_kib_left_costs_one_line_and_no_checkpoint(kind, mounted, launch, undisturbed, tmp_path):
    place = mounted(kind, 8)
    run = place / "run"
    begun = launch(*TRAIN, *RUN, "--steps", "60", "--epochs", "30", "--run-dir", str(run), "--keep", "1")
    assert begun.returncode == 0, begun.stderr
    before = sorted(path.name for path in (run / "checkpoints").iterdir())
    fill(place, LEFT)
    more = (*TRAIN, *RUN, "--run-dir", str(run), "--resume", "auto")
    for ranks in (0, 2):
        full = launch(*more, ranks=ranks)
        assert full.returncode == 1
        assert len(our_lines(full.stderr)) == 1 and "No space left" in full.stderr, full.stderr
        assert sorted(path.name for path in (run / "checkpoints").iterdir()) == before
    fresh = launch(*TRAIN, *RUN, "--run-dir", str(place / "fresh"))
    assert fresh.returncode == 1 and len(our_lines(fresh.stderr)) == 1, fresh.stderr
    (place / "others").unlink()
    on = launch(*more)
    assert on.returncode == 0, on.stderr
    assert (run / "model.safetensors").read_bytes() == undisturbed(tmp_path)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_what_cannot_be_written_is_read(kind, mounted, launch, undisturbed, tmp_path):
    place = mounted(kind, 8)
    shutil.copytree(tmp_path / "undisturbed", place / "run")
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    for ranks in (0, 2):
        for arguments in (["--run-dir", str(place / "new")], ["--run-dir", str(place / "run"), "--resume", "auto"]):
            done = launch(*TRAIN, *RUN, *arguments, ranks=ranks)
            assert done.returncode == 1
            assert len(our_lines(done.stderr)) == 1 and "Read-only" in done.stderr, done.stderr
    assert launch(*PREDICT, str(place / "run"), "digits", "--out", "answers.csv").returncode == 0
    assert launch("-m", "distbp.runs", str(place)).returncode == 0


def test_two_seconds_a_call_are_waited_for(layer, launch, undisturbed, tmp_path):
    run = tmp_path / "slow" / "run"
    env = layer(tmp_path / "slow", LAYER_SECONDS="2")
    more = [*TRAIN, *RUN, "--checkpoint-every", "120", "--run-dir", str(run), "--resume", "auto"]
    process = subprocess.Popen(
        [sys.executable, *more], cwd=tmp_path, env=os.environ | env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while process.poll() is None and not list(run.glob("checkpoints/*.safetensors")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 75, (output, errors)
    for ranks in (0, 2):
        on = launch(*more, ranks=ranks, timeout=600, **env)
        assert on.returncode == 0, on.stderr
    assert (run / "model.safetensors").read_bytes() == undisturbed(tmp_path)
