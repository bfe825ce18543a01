"""Files: whether all ranks see the run directory and the data, and what the file system there can do."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from distbp.comm.communicator import Communicator
from distbp.data.arrayfiles import find_idx
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, ranks_named
from distbp.errors import UserError

__all__ = [
    "Disk",
    "check_data",
    "check_run_directory",
    "file_system",
    "judge_data",
    "judge_run_directory",
    "probe_folder",
]

MiB, GiB = 1 << 20, 1 << 30
_ENDS = 1 << 16
_SLOW_FSYNC = 1.0


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
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder / f".distbp-doctor-{secrets.token_hex(8)}"


def check_run_directory(comm: Communicator, probe: Path) -> list[Finding]:
    """Write as rank 0, read and lock as all, and remove what was written; `probe` is rank 0's, from `probe_folder`."""
    token = comm.bcast_obj(probe.name)
    probe = Path(comm.bcast_obj(str(probe)))
    disk = Disk()
    try:
        if comm.is_root:
            disk = _write(probe, token)
        disk = Disk(*comm.bcast_obj(disk))
        with _locked(probe / "lock") if comm.is_root and not disk.error else contextlib.nullcontext():
            comm.barrier()
            mine = [comm.host, _text(probe / "token") == token, _can_lock(probe / "lock")]
            everyone = comm.allgather_obj(mine)
    finally:
        if comm.is_root:
            shutil.rmtree(probe, ignore_errors=True)
    hosts, seen, locked = (list(column) for column in zip(*everyone, strict=True))
    return judge_run_directory(str(probe.parent), disk, hosts, seen=seen, locked=locked)


def judge_run_directory(
    folder: str, disk: Disk, hosts: Sequence[str], *, seen: Sequence[bool], locked: Sequence[bool]
) -> list[Finding]:
    """Judge whether each rank sees what rank 0 wrote, and whether it was given a lock that rank 0 held."""
    name, room = "run directory", f"{disk.free / GiB:,.1f} GiB free, {disk.kind}"
    if disk.full or (not disk.error and disk.free < 16 * MiB):
        return [
            Finding(name, FAILURE, f"{folder}: disk full ({disk.free / MiB:,.0f} MiB free)", "Make room there.", (0,))
        ]
    if disk.error:
        figure = f"{folder}: {disk.error}"
        return [Finding(name, FAILURE, figure, "Give a folder that rank 0 may write to: --run-dir.", (0,))]
    if blind := [rank for rank, sees in enumerate(seen) if not sees]:
        figure = f"{folder} is not shared: {ranks_named(blind, hosts)} does not see what rank 0 on {hosts[0]} writes"
        return [Finding(name, FAILURE, figure, "Put it on a file system that all hosts share.", tuple(blind))]
    if not disk.renames:
        advice = "Checkpoints need an atomic rename: use another file system."
        return [Finding(name, FAILURE, f"{folder}: a renamed file does not replace another", advice, (0,))]
    found = []
    if disk.fsync > _SLOW_FSYNC:
        advice = "Checkpoints will wait for it: use a faster file system, or --checkpoint-every less often."
        found.append(Finding(name, WARNING, f"{folder}: {disk.fsync:.1f} s for an fsync of 1 MiB", advice))
    if not disk.locks:
        advice = "Never start two runs in one directory, or mount it with locks (Lustre: -o flock)."
        found.append(Finding(name, WARNING, f"{folder}: files cannot be locked", advice))
    elif loose := [rank for rank, got in enumerate(locked) if got]:
        figure = f"{folder}: {ranks_named(loose, hosts)} took a lock that rank 0 on {hosts[0]} held"
        advice = "Never start two runs in one directory, or mount it with locks (Lustre: -o flock)."
        found.append(Finding(name, WARNING, figure, advice, tuple(loose)))
    if disk.free < GiB:
        found.append(Finding(name, WARNING, f"{folder}: {disk.free / MiB:,.0f} MiB free", "Make room for checkpoints."))
    return found or [Finding(name, OK, f"{folder}: seen by all, {room}, {1000 * disk.fsync:.1f} ms for an fsync")]


def _write(probe: Path, token: str) -> Disk:
    """Write, rename and lock files, and time an fsync; only rank 0 does it."""
    free, kind = 0, file_system(str(probe.parent))
    try:
        there = os.statvfs(probe.parent)
        free = there.f_bavail * there.f_frsize
        probe.mkdir()
        (probe / "token").write_text("old", encoding="utf-8")
        (probe / "new").write_text(token, encoding="utf-8")
        os.replace(probe / "new", probe / "token")
        renames = _text(probe / "token") == token and not (probe / "new").exists()
        (probe / "lock").touch()
        locks = _can_lock(probe / "lock")
        return Disk(free, kind, median(_fsync(probe / "megabyte") for _ in range(3)), renames, locks)
    except OSError as error:
        return Disk(free, kind, error=error.strerror or str(error), full=error.errno in (errno.ENOSPC, errno.EDQUOT))


def _fsync(path: Path) -> float:
    with path.open("wb") as file:
        file.write(os.urandom(MiB))
        file.flush()
        began = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - began


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("r+") as file:
        with contextlib.suppress(OSError):  # others will be given it: that tells
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _can_lock(path: Path) -> bool:
    """Return whether this rank is given a lock that rank 0 holds."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def file_system(path: str, mounts: str = "/proc/self/mounts") -> str:
    """Return the type of the file system of `path`, by the longest mount point that it lies in."""
    try:
        rows = [line.split() for line in Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return "unknown"
    path = os.path.realpath(path)
    # of two mounts at one place the later one hides the other
    there = [
        (len(row[1]), i, row[2])
        for i, row in enumerate(rows)
        if path == row[1] or path.startswith(row[1].rstrip("/") + "/")
    ]
    return max(there)[2] if there else "unknown"


def check_data(comm: Communicator, name: str) -> list[Finding]:
    """Compare what each rank sees of the data `name`."""
    if name == "digits" or name.startswith("synthetic:") or name == "synthetic":
        return [Finding("data", OK, f"{name}: in the package, nothing to read")]
    everyone = comm.allgather_obj([comm.host, *_look(name)])
    hosts, looks, problems = (list(column) for column in zip(*everyone, strict=True))
    return [judge_data(name, hosts, looks, problems)]


def _look(name: str) -> tuple[list[list[str | int]], str]:
    """Return name, bytes, and a hash of both ends of each file; or what is wrong with one."""
    look: list[list[str | int]] = []
    try:
        paths = [Path(piece).expanduser() for piece in name.split(",")]
        if paths[0].is_dir():
            paths = sorted({path for pair in find_idx(paths[0]).values() for path in pair})
        for path in paths:
            with path.open("rb") as file:
                digest = hashlib.sha256(file.read(_ENDS))
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _ENDS))
                digest.update(file.read(_ENDS))
            look.append([path.name, size, digest.hexdigest()])
    except OSError as error:
        return [], error.strerror or str(error)
    except UserError as error:
        return [], str(error)
    return look, ""


def judge_data(
    name: str, hosts: Sequence[str], looks: Sequence[list[list[str | int]]], problems: Sequence[str]
) -> Finding:
    """Judge what each rank saw of the data, or what its problem was."""
    if bad := [rank for rank, problem in enumerate(problems) if problem]:
        figure = f"{name}: {ranks_named(bad, hosts)} cannot read it ({problems[bad[0]]})"
        advice = (
            "Put it where all hosts find it under that name." if len(bad) < len(hosts) else "Give the right --data."
        )
        return Finding("data", FAILURE, figure, advice, tuple(bad))
    if odd := [rank for rank, look in enumerate(looks) if look != looks[0]]:
        figure = f"{name}: {ranks_named(odd, hosts)} sees another file than rank 0 on {hosts[0]}"
        return Finding("data", FAILURE, figure, "Put one copy on a file system that all hosts share.", tuple(odd))
    size = sum(int(row[1]) for row in looks[0])
    return Finding("data", OK, f"{name}: {size / MiB:,.1f} MiB, the same on all ranks")
