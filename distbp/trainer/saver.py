"""Saving: who writes a checkpoint, when, and what becomes of an error.

Rank 0 writes, all ranks learn how it went, and all do the same then. In the background the write goes on beside the
next steps, from copies: its bits are those of the moment of `Saver.save`, and its error comes with the next one.
"""

import threading
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.errors import UserError
from distbp.trainer.checkpoints import Checkpoints

__all__ = ["ON_ERROR", "Saver"]

Array = NDArray[Any]

ON_ERROR = ("stop", "continue")


class Saver:
    """The checkpoints of a run, for all its ranks.

    Parameters
    ----------
    checkpoints : Checkpoints
        The files.
    comm : Communicator
        The ranks.
    on_error : {"stop", "continue"}
        Whether a checkpoint that cannot be written ends the run.
    background : bool
        Write beside the next steps.
    on_remark : callable, optional
        Called on all ranks with a line about an error that does not end the run.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        comm: Communicator,
        *,
        on_error: str = "stop",
        background: bool = False,
        on_remark: Callable[[str], None] | None = None,
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"unknown reaction {on_error!r}: one of {', '.join(ON_ERROR)}")
        self.checkpoints, self.background = checkpoints, background
        self._comm, self._on_error, self._on_remark = comm, on_error, on_remark
        self._thread: threading.Thread | None = None
        self._problem = ""

    def save(
        self, step: int, arrays: dict[str, Array], state: dict[str, Any], *, best: int | None, last: bool = False
    ) -> None:
        """Write a checkpoint; `arrays` and `state` are rank 0's, and nobody changes them any more.

        With `last` it is written when this returns, and an error is one whatever `on_error` says.

        Raises
        ------
        UserError
            On all ranks, if it or the one before it cannot be written.
        """

        def write() -> None:
            try:
                self.checkpoints.save(step, arrays, state, best=best)
            except Exception as error:  # also what the file's library raises: the run is without a checkpoint
                self._problem = f"cannot write the checkpoint of step {step}: {error}"

        earlier, now = self._outcome(), ""
        if self._comm.is_root and self.background and not last:
            self._thread = threading.Thread(target=write)
            self._thread.start()
        elif self._comm.is_root:
            write()
            now = self._outcome()
        earlier, now = self._comm.bcast_obj([earlier, now])
        for problem, is_last in (earlier, False), (now, last):
            if problem and (is_last or self._on_error == "stop"):
                raise UserError(f"{problem}; the one before it is intact")
            if problem and self._on_remark is not None:
                self._on_remark(f"{problem}; the one before it is intact, training goes on")

    def _outcome(self) -> str:
        """What went wrong with the last write, which is over then; said once."""
        self.wait()
        problem, self._problem = self._problem, ""
        return problem

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def newest(self, fingerprint: dict[str, Any]) -> tuple[dict[str, Array], dict[str, Any]]:
        """The newest valid checkpoint: its arrays, on rank 0 only, and on all ranks what else it says.

        Returns
        -------
        dict, dict
            The latter has ``name`` of the file or "", ``warnings`` about damaged ones, ``arrays``, the names, and the
            state that was saved.

        Raises
        ------
        UserError
            When it is of another configuration than `fingerprint`, or every one is damaged.
        """
        arrays: dict[str, Array] = {}
        found: dict[str, Any] = {"name": "", "problem": "", "warnings": []}
        if self._comm.is_root:
            try:
                path, arrays, state, found["warnings"] = self.checkpoints.newest()
                if path is not None:
                    found |= {"name": str(path), **state, "arrays": list(arrays)}
                    found["problem"] = _differences(state["fingerprint"], fingerprint, path.name)
            except (UserError, OSError) as error:
                found["problem"] = str(error)
        found = self._comm.bcast_obj(found)
        if found["problem"]:
            raise UserError(found["problem"])
        return arrays, found


def _differences(theirs: dict[str, Any], ours: dict[str, Any], name: str) -> str:
    """What stands in the way of continuing a run under another configuration, or ""."""
    keys = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if not keys:
        return ""
    pairs = ", ".join(f"{k} was {theirs.get(k)!r} and is {ours.get(k)!r}" for k in keys)
    return f"{name} is of another configuration: {pairs}; use another --run-dir, or the same options"
