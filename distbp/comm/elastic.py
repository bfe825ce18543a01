"""Ranks that may die: MPI's fault tolerance (ULFM, Bland et al. 2013), as Open MPI 5 has it.

When a process dies, MPI tells the others: their collectives raise, here as `RankLost`. Whoever is left then calls
`recover`:

    revoke    wakes those who still wait in a collective
    agree     joins those who had no trouble yet, and stood in `agree`
    shrink    a new communicator, of those who are left
    agree     that all have it; else again, without those who died meanwhile

Lost ranks are made sure to be dead: a neighbour on the host ends what is left of them. A part that was cut off must not
go on beside the rest: who is left must be more than half of those who may be alive.

What hangs or adds up wrongly in Open MPI 5 is not used: `coll/han` gave sums without the part of the dead, and threads
deadlock over TCP (both are switched off here, before MPI starts); MPI_Finalize hangs after a recovery (`leave` agrees
on the end and exits without it); a process that exits with a code is not noticed (`abort` ends it by a signal).
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeVar, cast

from distbp.comm.mpi import MPICommunicator, loaded_mpi
from distbp.comm.processes import end_process, process_identity
from distbp.errors import RankLost, UserError

F = TypeVar("F", bound=Callable[..., Any])

_TO_AVOID = ("han", "adapt")
_WITHOUT = "^" + ",".join(_TO_AVOID)
_LAST_WORDS = 0.5
"""Seconds from the agreement on the end to the end: who exits at once seems dead to those who have not heard it yet."""
_TRIES = 20
_PATIENCE = 5.0
"""Seconds for a process to be gone after SIGKILL."""


def why_not_elastic(environment: dict[str, str]) -> str:
    """Return what stands in the way of going on after a loss in this launch, or ""."""
    if environment.get("OMPI_MCA_mpi_ft_enable", "0").lower() not in ("1", "true", "t", "yes", "enabled"):
        return "needs Open MPI 5 and a launch with fault tolerance: mpirun --with-ft ulfm"
    chosen = environment.get("OMPI_MCA_coll", _WITHOUT)
    names = chosen.lstrip("^").split(",")
    for name in _TO_AVOID:
        if (name in names) != chosen.startswith("^"):
            return (
                f"adds up wrongly after a loss with Open MPI's coll/{name}, which this launch has on"
                f" (--mca coll {chosen}): --mca coll {_WITHOUT}"
            )
    return ""


def _guarded(method: F) -> F:
    """Wrap a method so that MPI's errors are `RankLost`: whatever their class, some other rank is the cause."""

    @wraps(method)
    def call(self: Any, *arguments: Any, **more: Any) -> Any:
        try:
            return method(self, *arguments, **more)
        except self._mpi.Exception as error:
            raise RankLost(" ".join(str(error).split())) from error

    return cast(F, call)


class ElasticCommunicator(MPICommunicator):
    """Connect the ranks of an MPI launch with fault tolerance; see above."""

    elastic = True
    thread_level: ClassVar[str] = "single"
    settings: ClassVar[dict[str, str]] = MPICommunicator.settings | {"OMPI_MCA_coll": _WITHOUT}

    def __init__(self) -> None:
        if loaded_mpi().Is_initialized() and "OMPI_MCA_coll" not in os.environ:
            raise UserError("--elastic: MPI was started by other code, with what hangs or adds up wrongly after a loss")
        self._processes: list[tuple[str, int, int]] = []
        try:
            super().__init__()
        except RuntimeError as error:
            if type(error).__module__.startswith("mpi4py"):  # some rank did not live to see the start
                raise RankLost(" ".join(str(error).split())) from error
            raise
        if self._mpi.Query_thread() >= self._mpi.THREAD_SERIALIZED:
            raise UserError("--elastic: MPI was started by other code with threads, which deadlocks after a loss")
        self._voted = False  # whether this rank took part in the last agreement on this communicator
        self._processes = [tuple(row) for row in self.allgather_obj([self.host, *process_identity(os.getpid())])]

    allreduce = _guarded(MPICommunicator.allreduce)
    ialltoall = _guarded(MPICommunicator.ialltoall)
    iallgather = _guarded(MPICommunicator.iallgather)
    bcast = _guarded(MPICommunicator.bcast)
    barrier = _guarded(MPICommunicator.barrier)
    _test = _guarded(MPICommunicator._test)
    _wait = _guarded(MPICommunicator._wait)
    _adopt = _guarded(MPICommunicator._adopt)

    def _copy(self, comm: Any) -> Any:
        comm.Set_errhandler(self._mpi.ERRORS_RETURN)
        copy = comm.Dup()
        copy.Set_errhandler(self._mpi.ERRORS_RETURN)
        return copy

    def whois(self, name: int) -> str:
        """Return rank, host and process, for people."""
        host, pid, _ = self._processes[name]
        return f"rank {name} on {host} (process {pid})"

    # --- losses ---------------------------------------------------------------------------------------

    def agree(self) -> None:
        """Call MPIX_Comm_agree: it gives the same answer on all ranks, whoever dies meanwhile."""
        self.recorder.enter("agree")
        agreed = self._vote(True)
        self.recorder.leave()
        if not agreed:
            self._voted = True
            raise RankLost("a rank was lost before all had come here")

    def recover(self) -> list[int]:
        """Revoke, agree, shrink, agree."""
        self.recorder.wait("recover")
        before = self.names
        for _ in range(_TRIES):
            self._revoke()
            if not self._voted:
                self._vote(False)
            self._voted = False
            too_few = ""
            try:
                self._adopt(self._comm.Shrink())
                self._names, too_few = self._take_stock(before)
            except (RankLost, self._mpi.Exception):
                self._revoke()
                self._vote(False)
                self._voted = True
                continue
            if self._vote(True):
                self.recorder.leave()
                if too_few:
                    raise UserError(too_few)
                return [name for name in before if name not in self.names]
            self._voted = True
        raise UserError(f"the ranks that are left do not find together in {_TRIES} tries: restart with --resume auto")

    def _vote(self, yes: bool) -> bool:
        try:
            return bool(self._comm.Agree(int(yes)))
        except self._mpi.Exception:  # raised everywhere: a death that nobody knew of
            return False

    def _revoke(self) -> None:
        for comm in (self._comm, self._gathers, self._failures):
            try:
                comm.Revoke()
            except self._mpi.Exception:
                pass

    def _take_stock(self, before: list[int]) -> tuple[list[int], str]:
        """Return who is left, and why they may not go on, or ""."""
        names: list[int] = self.allgather_obj(self.name)
        lost = [name for name in before if name not in names]
        gone = [
            name
            for name in lost
            if self._processes[name][0] == self.host and end_process(*self._processes[name][1:], _PATIENCE)
        ]
        everyone = self.allgather_obj([gone, self.recorder.count])
        dead = {name for theirs, _ in everyone for name in theirs}
        self.recorder.agree_on(max(count for _, count in everyone))
        self.host_ranks = sum(self._processes[name][0] == self.host for name in names)
        may_live = len(before) - len(dead)
        if 2 * len(names) > may_live:
            return names, ""
        return names, (
            f"lost touch with ranks {', '.join(map(str, sorted(set(lost) - dead)))}, which may be alive and are not"
            f" fewer than the {len(names)} here: restart with --resume auto"
        )

    def all_failed(self, patience: float) -> bool:
        """Enter a barrier that does not wait for ever; return whether all came to it."""
        try:
            return super().all_failed(patience)
        except (RankLost, self._mpi.Exception):
            return False

    def abort(self, code: int) -> None:
        """End this rank so that the others notice; the last one says it by its exit code."""
        if self.size == 1:
            os._exit(code)
        os.kill(os.getpid(), signal.SIGKILL)

    def leave(self, code: int) -> int:
        """Agree on the end, and exit without MPI_Finalize."""
        self.agree()
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(_LAST_WORDS)
        os._exit(code)
