"""Files that either are whole or do not exist: checkpoints and models.

One safetensors file holds arrays, and in its header the state as JSON: no file can run code. It is
written under another name, flushed to the disk, and renamed; its own SHA-256 (taken with the digits of
the digest as zeros) stands in the header, so any changed or missing byte is noticed.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from distbp.errors import UserError

Array = NDArray[Any]

_LOST = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that did not keep what it was given."""
_ZEROS = "0" * 64
_DIGEST = re.compile(rb'\\"sha256\\": ?\\"([0-9a-f]{64})\\"')


class DamagedFile(UserError):
    """A file that is not what was written."""


@contextlib.contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Give a stream to write a file by, which takes its place as a whole at the end, or not at all.

    What is no file, as ``/dev/stdout`` or a pipe, is written as it comes. Writers of one path do not meet: the last
    one wins.
    """
    path = path.resolve()  # a link stays one
    temporary = path.with_name(f".{path.name[:200]}.{os.urandom(4).hex()}.tmp")
    if path.exists() and not path.is_file():
        with _naming(path), open(path, "wb") as stream:
            yield stream
        return
    try:
        with _naming(path):
            with open(temporary, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say of which file an error is: the system does not for what is written, and no user knows the other name."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(path)) from error


def atomic_write(path: Path, content: bytes) -> None:
    """Write a whole file or none: the reader sees the old one or the new one."""
    with written(path) as stream:
        stream.write(content)


def _sync_folder(path: Path) -> None:
    """Have the system keep the rename itself, where its file system can (CIFS and many a FUSE cannot)."""
    try:
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if error.errno in _LOST:
            raise


def take_lock(stream: IO[Any], *, shared: bool = False, wait: bool = False) -> tuple[bool, str]:
    """Lock an open file; return whether nobody else has it, and why its file system has no locks, "" where it has.

    With `wait` it waits for whoever has it. The system drops a lock when the file is closed, or its process has ended.
    """
    try:
        fcntl.flock(stream, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False, ""
        return True, error.strerror or str(error)
    return True, ""


def write_file(path: Path, arrays: dict[str, Array], state: dict[str, Any]) -> None:
    """Write `arrays` and the JSON `state` as one verified safetensors file."""
    atomic_write(path, content_of(arrays, state))


def content_of(arrays: dict[str, Array], state: dict[str, Any]) -> bytes:
    """Return the bytes of such a file."""
    from safetensors.numpy import save

    # one metadata entry: their order is not defined, and equal content shall be equal bytes
    header = json.dumps({"sha256": _ZEROS, **state})
    content = save({k: np.asarray(a, order="C") for k, a in arrays.items()}, {"distbp": header})
    place = _digest_place(content)
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[: place.start] + digest + content[place.stop :]


def read_file(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays and state of a file of `write_file`; raises `DamagedFile` unless it is what was written, to the byte."""
    return read_content(path.read_bytes(), path)


def read_content(content: bytes, path: object) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return arrays and state of the bytes of such a file, which messages call `path`."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        place = _digest_place(content)
        zeroed = content[: place.start] + _ZEROS.encode() + content[place.stop :]
        if hashlib.sha256(zeroed).hexdigest().encode() != content[place]:
            raise DamagedFile(f"{path}: damaged: its checksum does not fit")
        length = int.from_bytes(content[:8], "little")
        state = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["distbp"])
        arrays = load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, DamagedFile):
            raise
        raise DamagedFile(f"{path}: damaged, or not a file of distbp: {error}") from error
    del state["sha256"]
    return arrays, state


def _digest_place(content: bytes) -> slice:
    length = min(len(content), int.from_bytes(content[:8], "little"))
    found = _DIGEST.search(content, 8, 8 + length)
    if found is None:
        raise ValueError("no checksum in its header")
    return slice(*found.span(1))
