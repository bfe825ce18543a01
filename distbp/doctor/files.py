"""Files: whether all ranks see the run directory and the data, and what the file system there can do."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from distbp.comm.communicator import Communicator
from distbp.data.arrayfiles import find_idx
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, columns, ranks_named
from distbp.doctor.machine import text_of
from distbp.errors import UserError
from distbp.files import take_lock

MiB, GiB = 1 << 20, 1 << 30
_ENDS = 1 << 16
_SLOW_FSYNC = 1.0
_SLOW = "Checkpoints will wait for it: use a faster file system, or --checkpoint-every less often."
_NO_LOCKS = "Never start two runs in one directory, or mount it with locks (Lustre: -o flock)."
_NO_RENAME = "Checkpoints need an atomic rename: use another file system."


class Disk(NamedTuple):
    """Describes the run directory for rank 0: bytes free, type, seconds of an fsync of 1 MiB; or what went wrong."""

    free: int = 0
    kind: str = ""
    fsync: float = 0.0
    renames: bool = True
    locks: bool = True
    error: str = ""
    full: bool = False


def probe_folder(run_dir: str) -> Path:
    """Return where the check writes, in `run_dir` or the nearest folder above that is there; its name is new."""
    folder = Path(run_dir).expanduser().absolute()
    there = next(above for above in (folder, *folder.parents) if above.exists())
    return there / f".distbp-doctor-{secrets.token_hex(8)}"


def check_run_directory(comm: Communicator, probe: Path) -> list[Finding]:
    """Write as rank 0, read and lock as all, and remove what was written; `probe` is rank 0's, from `probe_folder`."""
    probe = Path(comm.bcast_obj(str(probe)))
    try:
        disk = _write(probe) if comm.is_root else Disk()
        with _locked(probe / "lock") if comm.is_root else contextlib.nullcontext():
            comm.barrier()
            with _locked(probe / "lock") as given:
                pass  # let go at once
            hosts, disks, seen, locked = columns(comm, disk, text_of(probe / "token") == probe.name, given)
    finally:
        if comm.is_root:
            shutil.rmtree(probe, ignore_errors=True)
    disk, folder = Disk(*disks[0]), str(probe.parent)
    name, free = "run directory", f"{disk.free / MiB:,.0f} MiB free"
    full = disk.full or (not disk.error and disk.free < 16 * MiB)
    blind = tuple(rank for rank, sees in enumerate(seen) if not sees)
    unshared = f" is not shared: {ranks_named(blind, hosts)} does not see what rank 0 on {hosts[0]} writes"
    loose = tuple(rank for rank, given in enumerate(locked) if given)
    taken = f": {ranks_named(loose, hosts)} took a lock that rank 0 on {hosts[0]} held"
    failures = [
        (full, f": disk full ({free})", "Make room there.", (0,)),
        (disk.error, f": {disk.error}", "Give a folder that rank 0 may write to: --run-dir.", (0,)),
        (blind, unshared, "Put it on a file system that all hosts share.", blind),
        (not disk.renames, ": a renamed file does not replace another", _NO_RENAME, (0,)),
    ]
    warnings = [
        (disk.fsync > _SLOW_FSYNC, f": {disk.fsync:.1f} s for an fsync of 1 MiB", _SLOW, ()),
        (not disk.locks, ": files cannot be locked", _NO_LOCKS, ()),
        (disk.locks and loose, taken, _NO_LOCKS, loose),
        (disk.free < GiB, f": {free}", "Make room for checkpoints.", ()),
    ]
    failed = [Finding(name, FAILURE, folder + text, advice, ranks) for wrong, text, advice, ranks in failures if wrong]
    odd = [Finding(name, WARNING, folder + text, advice, ranks) for wrong, text, advice, ranks in warnings if wrong]
    room = f"{disk.free / GiB:,.1f} GiB free, {disk.kind}"
    well = Finding(name, OK, f"{folder}: seen by all, {room}, {1000 * disk.fsync:.1f} ms for an fsync")
    return failed[:1] or odd or [well]


def _write(probe: Path) -> Disk:
    """Write, rename and lock files, and time an fsync; only rank 0 does it."""
    free, kind = 0, file_system(str(probe.parent))
    try:
        free = shutil.disk_usage(probe.parent).free
        probe.mkdir()
        (probe / "token").write_text("old", encoding="utf-8")
        (probe / "new").write_text(probe.name, encoding="utf-8")
        os.replace(probe / "new", probe / "token")
        renames = text_of(probe / "token") == probe.name and not (probe / "new").exists()
        (probe / "lock").touch()
        with _locked(probe / "lock") as locks:
            return Disk(free, kind, median(_fsync(probe / "megabyte") for _ in range(3)), renames, locks)
    except OSError as error:
        return Disk(free, kind, error=error.strerror or str(error), full=error.errno in (errno.ENOSPC, errno.EDQUOT))


def _fsync(path: Path) -> float:
    with path.open("wb", buffering=0) as file:
        file.write(os.urandom(MiB))
        began = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - began


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file, where nobody else has; tells whether the lock was given."""
    try:
        stream = path.open("r+")
    except OSError:
        yield False
        return
    with stream:
        yield take_lock(stream) == (True, "")


def file_system(path: str, mounts: str = "/proc/self/mounts") -> str:
    """Return the type of the file system of `path`, by the longest mount point that it lies in."""
    path = os.path.realpath(path)
    rows = (line.split() for line in text_of(Path(mounts)).splitlines())
    # of two mounts at one place the later one hides the other
    there = [(len(row[1]), i, row[2]) for i, row in enumerate(rows) if f"{path}/".startswith(f"{row[1].rstrip('/')}/")]
    return max(there)[2] if there else "unknown"


def check_data(comm: Communicator, name: str) -> list[Finding]:
    """Compare what each rank sees of the data `name`."""
    if name in ("digits", "synthetic") or name.startswith("synthetic:"):
        return [Finding("data", OK, f"{name}: in the package, nothing to read")]
    hosts, looks = columns(comm, _look(name))
    if bad := tuple(rank for rank, look in enumerate(looks) if isinstance(look, str)):
        figure = f"{name}: {ranks_named(bad, hosts)} cannot read it ({looks[bad[0]]})"
        some = len(bad) < len(hosts)
        advice = "Put it where all hosts find it under that name." if some else "Give the right --data."
        return [Finding("data", FAILURE, figure, advice, bad)]
    if odd := tuple(rank for rank, look in enumerate(looks) if look != looks[0]):
        figure = f"{name}: {ranks_named(odd, hosts)} sees another file than rank 0 on {hosts[0]}"
        return [Finding("data", FAILURE, figure, "Put one copy on a file system that all hosts share.", odd)]
    size = sum(nbytes for _, nbytes, _ in looks[0])
    return [Finding("data", OK, f"{name}: {size / MiB:,.1f} MiB, the same on all ranks")]


def _look(name: str) -> list[tuple[str, int, str]] | str:
    """Return name, bytes, and a hash of both ends of each file; or what is wrong with one."""
    look = []
    try:
        paths = [Path(piece).expanduser() for piece in name.split(",")]
        if paths[0].is_dir():
            paths = sorted({path for pair in find_idx(paths[0]).values() for path in pair})
        for path in paths:
            with path.open("rb") as file:
                ends, size = file.read(_ENDS), file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _ENDS))
                look.append((path.name, size, hashlib.sha256(ends + file.read(_ENDS)).hexdigest()))
    except (OSError, UserError) as error:
        return getattr(error, "strerror", None) or str(error)
    return look
