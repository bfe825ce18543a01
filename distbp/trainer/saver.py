"""Saving: who writes a checkpoint, when, and what becomes of an error.

Rank 0 writes, all ranks learn how it went, and all do the same then. In the background the write goes on beside the
next steps, from copies: its bits are those of the moment of `Saver.save`, and its error comes with the next one.
"""

import threading
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.data.identity import what_changed
from distbp.data.sampling import Epochs
from distbp.errors import UserError
from distbp.gradient.reducer import GradientReducer
from distbp.gradient.statistics import STATISTICS
from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.state import Memory, is_table

Array = NDArray[Any]

ON_ERROR = ("stop", "continue")
_GO_ON = "--init-from goes on from a model with others"
_BY_PATH = ("data", "validation data", "validation_data", "test_data", "early_stopping")
"""What is not compared with checkpoints before 1.0, which knew data by their paths."""


@dataclass
class Saver:
    """The checkpoints of a run, for all its ranks."""

    checkpoints: Checkpoints
    """The files."""
    comm: Communicator
    _: KW_ONLY
    every: int | Epochs = 0
    """Steps or epochs between checkpoints; 0 is only at the end."""
    fingerprint: dict[str, Any] | None = None
    """What a checkpoint must agree with to be resumed; stored in it."""
    on_error: str = "stop"
    """Whether a checkpoint that cannot be written ends the run: ``stop`` or ``continue``."""
    background: bool = False
    """Whether to write beside the next steps."""
    on_remark: Callable[[str], None] | None = None
    """Called on all ranks with a line about an error that does not end the run."""
    _thread: threading.Thread | None = field(default=None, init=False)
    _problem: str = field(default="", init=False)

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise ValueError(f"unknown reaction {self.on_error!r}: one of {', '.join(ON_ERROR)}")

    def save(
        self, memory: Memory, reducer: GradientReducer, *, best: int | None, last: bool = False,
        comm: Communicator | None = None,
    ) -> None:  # fmt: skip
        """Write a checkpoint of what all ranks remember; all call it, or all of `comm`.

        The `reducer` brings the shards together, and the checkpoint of the step `best` stays. With `last` it is written
        when this returns, and an error is one whatever `on_error` says.

        Raises
        ------
        UserError
            On all ranks, if it or the one before it cannot be written.
        """
        arrays = self._whole(memory.arrays, reducer)
        state = memory.state | {"fingerprint": self.fingerprint or {}}
        step = memory.state["components"]["position"]["step"]
        self.write(step, arrays, state, best=best, last=last, comm=comm)

    def write(
        self, step: int, arrays: dict[str, Array], state: dict[str, Any], *, best: int | None, last: bool = False,
        comm: Communicator | None = None,
    ) -> None:  # fmt: skip
        """Write the checkpoint of a step; `arrays` and `state` are rank 0's, and nobody changes them any more."""

        def put() -> None:
            try:
                self.checkpoints.save(step, arrays, state, best=best)
            except Exception as error:  # also what the file's library raises: the run is without a checkpoint
                before = "the one before it is intact" if self.checkpoints.all() else "there is none before it"
                self._problem = f"cannot write the checkpoint of step {step}: {error}; {before}"

        earlier, now = self._outcome(), ""
        if self.comm.is_root and self.background and not last:
            self._thread = threading.Thread(target=put)
            self._thread.start()
        elif self.comm.is_root:
            put()
            now = self._outcome()
        earlier, now = (comm or self.comm).bcast_obj([earlier, now])
        for problem, is_last in (earlier, False), (now, last):
            if problem and (is_last or self.on_error == "stop"):
                raise UserError(problem)
            if problem and self.on_remark is not None:
                self.on_remark(f"{problem}, training goes on")

    def _whole(self, arrays: dict[str, Array], reducer: GradientReducer) -> dict[str, Array]:
        """Return, on rank 0, the whole of each array; nobody changes them any more."""
        arrays = dict(arrays)
        whole = {name: arrays.pop(name) for name in list(arrays) if name == "theta" or is_table(name)}
        for name, mine in arrays.items():
            gathered = reducer.gather(mine)
            if self.comm.is_root:
                arrays[name] = gathered.copy()
            reducer.barrier()
        copies = self.comm.is_root and self.background
        arrays |= {name: array.copy() if copies else array for name, array in whole.items()}
        reducer.transport.forget()  # whoever resumes has no residuals either; those of low rank are too much to drop
        return arrays

    def _outcome(self) -> str:
        """Return what went wrong with the last write, which is over then; once."""
        self.wait()
        problem, self._problem = self._problem, ""
        return problem

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def load(self, reducer: GradientReducer) -> tuple[Memory | None, str, list[str]]:
        """Return what the newest valid checkpoint remembers, of each array this rank's shard.

        Returns
        -------
        Memory or None, str, list of str
            None where there is no checkpoint; the name of the file, or ""; and warnings about damaged ones.

        Raises
        ------
        UserError
            When it is of another configuration, or every one is damaged.
        """
        given: dict[str, Array] = {}
        found: dict[str, Any] = {"name": "", "problem": "", "warnings": []}
        if self.comm.is_root:
            try:
                path, given, state, found["warnings"] = self.checkpoints.newest()
                if path is not None:
                    shapes = {name: array.shape for name, array in given.items()}
                    found |= {"name": str(path), "state": of_this_version(state), "arrays": shapes}
                    found["problem"] = differences(state["fingerprint"], self.fingerprint or {}, path.name)
            except (UserError, OSError) as error:
                found["problem"] = str(error)
        found = self.comm.bcast_obj(found)
        if found["problem"]:
            raise UserError(found["problem"])
        if not found["name"]:
            return None, "", found["warnings"]
        arrays = {}
        for name, shape in found["arrays"].items():
            array = given[name] if name in given else np.empty(shape, reducer.network.dtype)
            self.comm.bcast(array)
            arrays[name] = array if is_table(name) else array[reducer.shard].copy()
        return Memory(arrays, found["state"]), found["name"], found["warnings"]


def of_this_version(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a checkpoint, which versions before 0.5 kept in one table, by components."""
    if "components" in state:
        return state
    old = state["train"]
    return state | {
        "components": {
            "position": {name: old[name] for name in ("step", "examples", "seconds", "ended") if name in old},
            "log": {"sums": [*old["sums"], *[0.0] * (len(STATISTICS) - len(old["sums"]))], "since": old["sums_since"]},
            "judge": {name: old[name] for name in ("best", "best_step", "waited")},
            "rate": old["schedule"],
            "noise": {"sums": old.get("noise", [0.0] * 3)},
            "nonfinite": {"skipped": old["skipped"]},
        }
    }


def differences(theirs: dict[str, Any], ours: dict[str, Any], name: str) -> str:
    """Return what stands in the way of continuing a run under another configuration, or ""."""
    by_path = isinstance(theirs.get("data"), str)
    data, options = [], []
    for k in sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k)):
        was, now = theirs.get(k), ours.get(k)
        if by_path and k in _BY_PATH:
            continue
        if isinstance(was, dict) or isinstance(now, dict):
            data.append(f"the {k} has changed: {what_changed(was, now)}")
        else:
            options.append(f"{k} was {was!r} and is {now!r}")
    if data:
        return f"{name}: {'; '.join([*data, *options])}; give the data of then, or another --run-dir; {_GO_ON}"
    cure = f"use the same options, or another --run-dir; {_GO_ON}"
    return f"{name} is of another configuration: {', '.join(options)}; {cure}" if options else ""
