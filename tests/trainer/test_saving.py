"""Checkpoints that fail, are slow, or are cut off between any two system calls."""

import builtins
import os
import threading
import time

import numpy as np
import pytest

from distbp import Checkpoints, SerialCommunicator, UserError
from distbp import files as module
from distbp.trainer.saver import Saver


def arrays(step):
    return {"theta": np.full(50, float(step))}


def save(checkpoints, step):
    checkpoints.save(step, arrays(step), {"step": step})


class Calls:
    """Counts the system calls of a write, and does something at the n-th: before it, or when half of it is done."""

    def __init__(self, monkeypatch, at, action, half=False):
        self.count, self.at, self.action, self.half = 0, at, action, half
        for name in ("open", "close", "fsync", "replace", "unlink", "mkdir"):
            monkeypatch.setattr(module.os, name, self.counted(getattr(os, name)))
        monkeypatch.setattr(module, "open", self.opened, raising=False)

    def here(self):
        self.count += 1
        return self.count == self.at

    def counted(self, function):
        def call(*arguments, **more):
            if self.here():
                self.action()
            return function(*arguments, **more)

        return call

    def opened(self, path, mode):
        if self.here():
            self.action()
        stream = builtins.open(path, mode, buffering=0)
        write = self.counted(stream.write)

        class Stream:
            def write(other, content):
                if self.half and self.count + 1 == self.at:
                    stream.write(content[: len(content) // 2])
                write(content)

            def __enter__(other):
                return other

            def __exit__(other, *error):
                stream.close()

            flush, fileno = (lambda other: None), (lambda other: stream.fileno())

        return Stream()


def calls_of_a_save(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        calls = Calls(patch, 0, None)
        checkpoints = Checkpoints(tmp_path / "counted", keep=1)
        save(checkpoints, 1)
        first = calls.count
        save(checkpoints, 2)
    return calls.count - first


def there(checkpoints):
    """The step that a resume would go on from, whole."""
    path, found, state, warnings = checkpoints.newest()
    assert not warnings
    np.testing.assert_array_equal(found["theta"], arrays(state["step"])["theta"])
    return state["step"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # of a process with threads; the child only writes
@pytest.mark.parametrize("half", [False, True])
def test_killed_before_any_system_call(tmp_path, half):
    count = calls_of_a_save(tmp_path)
    assert count >= 8
    seen = set()
    for at in range(1, count + 1):
        checkpoints = Checkpoints(tmp_path / str(at), keep=1)
        save(checkpoints, 1)
        pid = os.fork()
        if pid == 0:
            with pytest.MonkeyPatch.context() as patch:
                Calls(patch, at, lambda: os._exit(9), half)
                save(checkpoints, 2)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
        seen.add(there(checkpoints))
        save(checkpoints, 3)
        assert there(checkpoints) == 3
        assert os.listdir(checkpoints.folder) == ["step-000000003.safetensors"]
    assert seen == {1, 2}


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("number", [5, 28, 30, 122])  # EIO, ENOSPC, EROFS, EDQUOT
def test_any_system_call_fails(tmp_path, number, half):
    def fail():
        raise OSError(number, os.strerror(number))

    for at in range(1, calls_of_a_save(tmp_path) + 1):
        checkpoints = Checkpoints(tmp_path / str(at), keep=1)
        save(checkpoints, 1)
        with pytest.MonkeyPatch.context() as patch:
            Calls(patch, at, fail, half)
            try:
                save(checkpoints, 2)
                said = True  # the folder that was to be made is there
            except OSError as error:
                assert error.errno == number
                said = False
        assert there(checkpoints) in ((2,) if said else (1, 2))
        save(checkpoints, 3)
        assert there(checkpoints) == 3


class Broken(Checkpoints):
    """A disk that is full for a while."""

    full = True

    def save(self, step, arrays, state, *, best=None):
        if self.full:
            raise OSError(28, "No space left on device")
        super().save(step, arrays, state, best=best)


@pytest.mark.parametrize("background", [False, True])
def test_an_error_ends_the_run_or_does_not(tmp_path, background):
    said = []
    comm = SerialCommunicator()
    saver = Saver(Broken(tmp_path), comm, on_error="continue", background=background, on_remark=said.append)
    for step in (1, 2):
        saver.write(step, arrays(step), {}, best=None)
    assert said[0].startswith("cannot write the checkpoint of step 1: ") and "No space left" in said[0]
    with pytest.raises(UserError, match="of step 3: .* there is none before it"):
        saver.write(3, arrays(3), {}, best=None, last=True)
    Checkpoints(tmp_path).save(1, arrays(1), {})
    with pytest.raises(UserError, match="of step 3: .* the one before it is intact"):
        saver.write(3, arrays(3), {}, best=None, last=True)
    Broken.full = False
    try:
        saver.write(4, arrays(4), {"step": 4}, best=None, last=True)
    finally:
        Broken.full = True
    assert there(saver.checkpoints) == 4
    strict = Saver(Broken(tmp_path), comm, background=background)
    with pytest.raises(UserError, match="of step 5"):
        strict.write(5, arrays(5), {}, best=None)
        strict.write(6, arrays(6), {}, best=None)  # in the background it is known by then


def test_an_earlier_error_does_not_end_a_run_that_is_done(tmp_path):
    said = []
    saver = Saver(Broken(tmp_path), SerialCommunicator(), on_error="continue", background=True, on_remark=said.append)
    saver.write(1, arrays(1), {"step": 1}, best=None)
    saver.wait()
    Broken.full = False
    try:
        saver.write(2, arrays(2), {"step": 2}, best=None, last=True)
    finally:
        Broken.full = True
    assert len(said) == 1 and "of step 1" in said[0] and there(saver.checkpoints) == 2


def test_whatever_goes_wrong_in_the_background_is_an_error(tmp_path):
    class Large(Checkpoints):
        def save(self, *arguments, **more):
            raise MemoryError("no room for a copy")

    saver = Saver(Large(tmp_path), SerialCommunicator(), background=True)
    saver.write(1, arrays(1), {}, best=None)
    with pytest.raises(UserError, match="of step 1: no room for a copy"):
        saver.write(2, arrays(2), {}, best=None)
    saver.wait()


def test_a_slow_disk_does_not_hold_up_the_run(tmp_path):
    go_on = threading.Event()

    class Slow(Checkpoints):
        def save(self, *arguments, **more):
            go_on.wait(10)
            super().save(*arguments, **more)

    saver = Saver(Slow(tmp_path), SerialCommunicator(), background=True)
    start = time.monotonic()
    saver.write(1, arrays(1), {"step": 1}, best=None)
    assert time.monotonic() - start < 5 and not list(tmp_path.iterdir())
    go_on.set()
    saver.write(2, arrays(2), {"step": 2}, best=None, last=True)
    assert there(saver.checkpoints) == 2


def test_an_unknown_reaction(tmp_path):
    with pytest.raises(ValueError, match="unknown reaction 'shrug': one of stop, continue"):
        Saver(Checkpoints(tmp_path), SerialCommunicator(), on_error="shrug")
