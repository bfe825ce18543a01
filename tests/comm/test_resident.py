"""Arrays that the ranks of a host have once."""

import os

import numpy as np
import pytest

from distbp import SerialCommunicator, run_threads
from distbp.comm import resident as module
from distbp.comm.resident import resident

LIKE = [((5, 3), np.dtype("f4")), ((5,), np.dtype("i8")), ((2,), np.dtype("u1"))]


def write_and_read(comm):
    """Rank r writes its number in element r of each array; what all see, and whether they share it."""
    made, shared = resident(comm.on_host(), LIKE)
    for array in made:
        array[...] = 0
    comm.barrier()
    for array in made:
        array.reshape(-1)[comm.on_host().rank] = 1 + comm.rank
    comm.barrier()
    seen = [array.reshape(-1)[:2].tolist() for array in made]
    assert [(array.shape, array.dtype) for array in made] == LIKE
    assert all(array.ctypes.data % 64 == 0 for array in made) or not shared
    comm.barrier()
    return seen, shared


def nothing_is_left(folder):
    return not list(folder.iterdir())


def test_ranks_of_a_host_see_what_the_others_write(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    assert run_threads(2, write_and_read) == [([[1, 2]] * 3, True)] * 2
    assert nothing_is_left(tmp_path)


def test_hosts_have_arrays_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    found = run_threads(4, write_and_read, ranks_per_host=2)
    assert found == [([[1, 2]] * 3, True)] * 2 + [([[3, 4]] * 3, True)] * 2


def test_one_rank_alone_has_plain_memory():
    assert resident(SerialCommunicator(), LIKE)[1] is False


@pytest.mark.parametrize("fails", ["mkstemp", "open", "posix_fallocate"])
def test_without_such_memory_each_rank_has_its_own(monkeypatch, tmp_path, fails):
    """No folder; a container that does not see the file; a full /dev/shm: nobody shares, nothing is left."""

    def refuse(*arguments, **more):
        raise OSError("no")

    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module.tempfile if fails == "mkstemp" else os, fails, refuse)
    assert run_threads(2, write_and_read) == [([[1, 0]] * 3, False), ([[0, 2]] * 3, False)]
    monkeypatch.undo()
    assert nothing_is_left(tmp_path)


def test_room_that_one_rank_lacks_is_room_that_all_lack(monkeypatch, tmp_path):
    calls, allocate = [], os.posix_fallocate

    def once(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError("no space left")
        allocate(*arguments)

    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(os, "posix_fallocate", once)
    assert [shared for _, shared in run_threads(2, write_and_read)] == [False, False]


def test_another_file_of_that_name_is_not_taken(monkeypatch, tmp_path):
    """Two containers may each have a /dev/shm with such a file in it."""
    inodes = iter([0, 1, 2, 3])
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "_inode", lambda file: next(inodes))
    assert [shared for _, shared in run_threads(2, write_and_read)] == [False, False]
