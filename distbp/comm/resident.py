"""Arrays that the ranks of a host have once, in a file of /dev/shm without a name.

Unlike a window of MPI (`Host.shared`) nobody gives it back: it goes when the last rank lets go of it or ends, however
it ends. So it is for what is written once and then read: rows, of which each rank would have a copy.
"""

import contextlib
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.blocks import block_bounds
from distbp.comm.communicator import Communicator

Array = NDArray[Any]
FOLDER = Path("/dev/shm")
_LINE = 64


def resident(here: Communicator, like: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> tuple[list[Array], bool]:
    """Return arrays of these shapes and dtypes, and whether all ranks of a host have the same ones.

    Parameters
    ----------
    here : Communicator
        The ranks of one host; all make the same call. Where they can share nothing, by room or by their containers,
        each has arrays of its own; so has one that is alone, or that may be lost.
    like : sequence of (tuple of int, data-type)
        What is wanted.
    """
    sizes = [int(np.prod(shape)) * dtype.itemsize for shape, dtype in like]
    ends = np.cumsum([-(-size // _LINE) * _LINE for size in sizes]).tolist()
    memory = None
    if here.size > 1 and not here.elastic and ends and ends[-1]:
        memory = _shared(here, ends[-1])
    if memory is None:
        return [np.empty(shape, dtype) for shape, dtype in like], False
    places = zip([0, *ends], sizes, like, strict=False)
    return [memory[lo : lo + size].view(dtype).reshape(shape) for lo, size, (shape, dtype) in places], True


def _shared(here: Communicator, nbytes: int) -> NDArray[np.uint8] | None:
    """Return memory of all ranks of a host, or None on all of them."""
    file, path = -1, ""
    with contextlib.suppress(OSError):  # another system; nothing goes into it
        if here.rank == 0:
            file, path = tempfile.mkstemp(prefix="distbp-", dir=FOLDER)
    path, inode = here.bcast_obj([path, _inode(file) if file >= 0 else 0])
    with contextlib.suppress(OSError):  # a container of its own
        if path and file < 0:
            file = os.open(path, os.O_RDWR)
    found = here.allgather_obj(file >= 0 and _inode(file) == inode)
    if path and here.rank == 0:  # while it is empty: who is killed from here on leaves nothing behind
        os.unlink(path)
    lo, hi = block_bounds(nbytes, here.rank, here.size)
    room = False
    with contextlib.suppress(OSError):  # a page without room would end the process when it is written
        if all(found):
            os.posix_fallocate(file, lo, hi - lo)  # each rank has pages near it
            room = True
    shared = all(here.allgather_obj(room))
    memory = np.frombuffer(mmap.mmap(file, nbytes), np.uint8) if shared else None
    if file >= 0:
        os.close(file)
    return memory


def _inode(file: int) -> int:
    return os.fstat(file).st_ino
