"""Imported first: what makes the imports of a thousand ranks faster.

OpenBLAS starts without a pool of threads, which `limited_blas` makes where they are due: ranks that share cores wait
for each other's pools, 60 ms of a start of four ranks on two cores. And nothing that is imported is garbage, so nobody
looks for any meanwhile, a tenth of the time, nor later: see `imported`. Ctrl-C meanwhile is one line.
"""

import gc
import os
import signal
import sys
from typing import Any

gc.disable()
_COMMANDS = ("distbp.__main__", "distbp.train")


def _interrupted(number: int, frame: Any) -> None:
    """End this process, as `entry_point.run` would: nothing has begun."""
    os.write(2, b"distbp: error: interrupted before the start\n")
    os._exit(1)


def _is_command() -> bool:
    """Return whether this process was started to train, and not to import distbp."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name in _COMMANDS if spec is not None else os.path.basename(sys.argv[0]) == "distbp"


if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted)
if "numpy" not in sys.modules and os.environ.get("OPENBLAS_NUM_THREADS") is None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy  # noqa: F401

    del os.environ["OPENBLAS_NUM_THREADS"]


def imported() -> None:
    """Look for garbage from now on, among what is made from now on; Ctrl-C is an exception again."""
    gc.freeze()
    gc.enable()
    if signal.getsignal(signal.SIGINT) is _interrupted:
        signal.signal(signal.SIGINT, signal.default_int_handler)
