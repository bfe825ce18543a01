"""What all ranks do as one: have equal values, let rank 0 act, wait without keeping a core busy."""

import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from distbp.comm.communicator import Communicator
from distbp.errors import UserError


def require_equal(comm: Communicator, value: Any, what: str) -> None:
    """Raise `UserError` on all ranks unless all have the same JSON `value`."""
    differs = json.dumps(value, sort_keys=True) != json.dumps(comm.bcast_obj(value), sort_keys=True)
    ranks = [str(comm.names[rank]) for rank, bad in enumerate(comm.allgather_obj(differs)) if bad]
    if ranks:
        raise UserError(f"{what} on rank {', '.join(ranks[:5])} differ from rank 0's: do all hosts read the same file?")


def on_root(comm: Communicator, action: Callable[[], object], problem: str) -> None:
    """Let rank 0 do `action`; what goes wrong with a file there is a `UserError` on all ranks."""
    message = ""
    if comm.is_root:
        try:
            action()
        except UserError as error:
            message = str(error)
        except BrokenPipeError:  # who read what is printed has gone, e.g. head: the work is done without
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        except OSError as error:
            message = f"{problem}: {error.strerror or error}"
    message = comm.bcast_obj(message)
    if message:
        raise UserError(message)


def wait_quietly(comm: Communicator) -> None:
    """Wait for all ranks, asleep: a rank that waits in MPI keeps a core busy, and times would tell of that."""
    request = comm.iallgather(np.zeros(1), np.empty(comm.size))
    while not request.test():
        time.sleep(0.005)
