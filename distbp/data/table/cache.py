"""Tables converted once: by one rank of a host, for all that map the result, and for the next start.

A converted table lies in a folder that is called by a digest of the content of its files, the options, and the code
that converts. It is written under another name, flushed to the disk, and renamed: who finds it finds all of it. Those
who want the same one at the same moment wait for each other at a lock; where a file system has none, each converts.
What does not agree with its digest any more is made again.
Without a cache the result lies in memory, or in a temporary folder, while the ranks map it. What was computed from the
rows of a table (`remembered`) lies beside them.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from distbp.comm.agreement import wait_quietly
from distbp.comm.communicator import Communicator
from distbp.data.table import records
from distbp.data.table.formats import TableOptions
from distbp.data.table.records import CannotWrite, TableDataset
from distbp.errors import UserError
from distbp.files import atomic_write, take_lock

_WHOLE_BYTES = 64 << 20
"""Of a file of more the digest takes blocks of `_BLOCK_BYTES` all over it, beside its size and time."""
_BLOCK_BYTES, _BLOCKS = 1 << 16, 256
_DAYS_UNUSED = 30
_MEMORY, _TEMPORARY = Path("/dev/shm"), "distbp-table-"


def folder_of(cache: str | Path | None) -> Path | None:
    """Return the folder of ``--cache``: ``auto`` is that of this user, ``none`` is None."""
    if cache is None or str(cache) == "none":
        return None
    if str(cache) != "auto":
        return Path(cache).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("DISTBP_CACHE") or Path(home) / "distbp").expanduser()


def read_once(
    paths: Sequence[Path], options: TableOptions, comm: Communicator, cache: Path | None
) -> tuple[TableDataset, list[str]]:
    """Map a converted table, on all ranks; return it, and remarks for the user.

    One rank of each host converts it, unless it finds it in `cache`. What is wrong there is a `UserError` on all ranks.
    """
    here = comm.on_host()
    folder, temporary, remarks, error = "", False, list[str](), ""
    if here.is_root:
        try:
            found, temporary, remarks = _find_or_convert(paths, options, cache)
            folder = str(found)
        except UserError as wrong:
            error = str(wrong)
    wait_quietly(here)
    if errors := list(filter(None, comm.allgather_obj(error))):
        raise UserError(errors[0])
    folder, temporary, remarks = here.bcast_obj([folder, temporary, remarks])
    dataset, more = TableDataset.open(Path(folder))
    if temporary:
        here.barrier()
        if here.is_root:
            shutil.rmtree(folder, ignore_errors=True)
    else:
        dataset.folder = Path(folder)
    return dataset, remarks + more


def remembered(
    folder: Path | None, key: Callable[[], bytes], compute: Callable[[], dict[str, Any]], comm: Communicator
) -> dict[str, Any]:
    """Return what all ranks `compute` together, or rank 0 finds in `folder`, where it was computed once; JSON.

    `key` is all that it depends on beside the table of the folder, the modules of `distbp.data`, and NumPy.
    """
    found, path = None, Path()
    if folder is not None and comm.is_root:
        digest = _digest_of_code(Path(__file__).parents[1])
        digest.update(np.__version__.encode() + key())
        path = folder / f"computed-{digest.hexdigest()[:32]}.json"
        with contextlib.suppress(OSError, ValueError):
            seal, _, text = path.read_text(encoding="utf-8").partition(" ")
            found = json.loads(text) if seal == hashlib.sha256(text.encode()).hexdigest() else None
    found = comm.bcast_obj(found)
    if found is None:
        found = compute()
        if folder is not None and comm.is_root:
            with contextlib.suppress(OSError):  # a cache that may not be written
                text = json.dumps(found)
                atomic_write(path, f"{hashlib.sha256(text.encode()).hexdigest()} {text}".encode())
    return dict(found)


def _find_or_convert(paths: Sequence[Path], options: TableOptions, cache: Path | None) -> tuple[Path, bool, list[str]]:
    """Return the folder of the converted table, whether it is a temporary one, and remarks."""
    remarks = list[str]()
    if cache is not None:
        try:
            folder, remarks = _cached(paths, options, cache)
            return folder, False, remarks
        except OSError as error:
            if not all(path.exists() for path in paths):
                raise
            where = f"no cache in {cache}: {error.strerror}"
            remarks.append(f"{paths[0].name}: converted for this run alone: {where}")
    why: str | None = None
    for place in (_MEMORY, Path(tempfile.gettempdir())):
        if not os.access(place, os.W_OK):
            continue
        _tidy(place, f"{_TEMPORARY}*")
        folder = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=place))
        try:
            _convert(paths, options, folder)
            return folder, True, remarks
        except CannotWrite as error:
            shutil.rmtree(folder, ignore_errors=True)
            why = error.strerror
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    raise UserError(f"{paths[0]}: no room for the converted table ({why}): free some, or say where: --cache DIR")


def _convert(paths: Sequence[Path], options: TableOptions, folder: Path) -> None:
    from distbp.data.table import conversion  # by who converts alone: a thousand ranks start faster

    conversion.convert(list(paths), options, lambda *converted: records.write(folder, *converted))


def _cached(paths: Sequence[Path], options: TableOptions, cache: Path) -> tuple[Path, list[str]]:
    """Return the folder of a table in the cache, converted now where it is not there or damaged; and a remark, then."""
    entry, remarks = cache / f"{paths[0].stem[:40]}-{_digest(paths, options)}", list[str]()
    if _is_whole(entry):
        return entry, remarks
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f".{entry.name}.lock"):
        if _is_whole(entry):
            return entry, remarks
        if entry.exists():
            with contextlib.suppress(FileNotFoundError):  # others are at it, where locks do not reach
                shutil.rmtree(entry)
            remarks.append(f"{paths[0].name}: what {cache} had of it was damaged: converted again")
        try:
            folder = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
        except OSError as error:
            raise CannotWrite(*error.args) from error
        try:
            _convert(paths, options, folder)
            with records.writing():
                atomic_write(folder / "digest", _digest_of(folder).encode())
            folder.chmod(0o755)
            with contextlib.suppress(OSError):  # another host was faster, where locks do not reach
                folder.rename(entry)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        _tidy(cache)
    return entry, remarks


def _is_whole(entry: Path) -> bool:
    """Return whether a converted table is there, as it was written."""
    with contextlib.suppress(OSError):
        os.utime(entry)
    try:
        return (entry / "digest").read_bytes() == _digest_of(entry).encode()
    except OSError:
        return False


def _digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in ("rows.npy", "table.json"):
        _add(digest, folder / name)
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, where the file system has them."""
    try:
        stream = open(path, "w")  # noqa: SIM115
    except OSError as error:
        raise CannotWrite(*error.args) from error
    with stream:
        take_lock(stream, wait=True)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _tidy(folder: Path, pattern: str = "*") -> None:
    """Remove what nobody has used for long, and what a start that was killed has left."""
    for entry in folder.glob(pattern):
        with contextlib.suppress(OSError):
            days = (time.time() - entry.stat().st_mtime) / 86400
            if days > (1 if entry.name.startswith((".", _TEMPORARY)) else _DAYS_UNUSED):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _digest_of_code(package: Path) -> "hashlib._Hash":
    """Return a digest of the modules of a package: what they made is not taken for what others would make."""
    return hashlib.sha256(b"".join(module.read_bytes() for module in sorted(package.glob("*.py"))))


def _digest(paths: Sequence[Path], options: TableOptions) -> str:
    """Return what names a converted table."""
    digest = _digest_of_code(Path(__file__).parent)
    digest.update(json.dumps(asdict(options), sort_keys=True).encode())
    for path in paths:
        digest.update(f"{path.stat().st_mtime_ns} ".encode())
        _add(digest, path)
    return digest.hexdigest()[:32]


def _add(digest: "hashlib._Hash", path: Path) -> None:
    """Add a file to a digest: its length, and all of it or blocks of it."""
    size = path.stat().st_size
    digest.update(f"{path.name} {size} ".encode())
    with open(path, "rb") as stream:
        if size <= _WHOLE_BYTES:
            digest.update(stream.read())
            return
        for k in range(_BLOCKS):
            stream.seek(k * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
            digest.update(stream.read(_BLOCK_BYTES))
