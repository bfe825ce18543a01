"""From a notebook to ranks: a function is called by each of them under mpirun, and its result comes back."""

import codecs
import contextlib
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distbp.comm.launchers import for_mpirun
from distbp.errors import UserError
from distbp.run.entry_point import end_together, on_stop_signals
from distbp.trainer.bar import BAR

_CALL, _RESULT, _ERROR = "call", "result", "error.txt"
_TAIL = 1 << 16
_LOOK, _LAST = 1.0, 5.0
"""Seconds between looks at the clock, and for the launcher to end the ranks."""


def launch(n: int = 4, *, timeout: float | None = None) -> Callable[..., Any]:
    """Return what calls a function on `n` ranks of mpirun, in processes of their own.

    The function goes there as it stands, with what it refers to, and the result of rank 0 comes back, both by
    cloudpickle; what ranks print is shown here. Data are best loaded in the function.

    Parameters
    ----------
    n : int
        The ranks.
    timeout : float, optional
        Seconds after which the call is given up.

    Returns
    -------
    callable
        ``launch(4)(f, *arguments)`` calls ``f(*arguments)`` on each rank.

    Raises
    ------
    UserError
        Where there is no mpirun beside this Python, the function fails, or the time is over.
    """
    if n < 1:
        raise UserError(f"launch({n}): at least one rank is needed")

    def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        pickle = _pickle()
        mpirun = Path(sys.executable).with_name("mpirun")
        if n > 1 and not mpirun.exists():
            raise UserError(f"no mpirun beside {sys.executable}: pip install 'distbp[mpi]'")
        with tempfile.TemporaryDirectory(prefix="distbp-launch-") as folder:  # which nobody else can read
            Path(folder, _CALL).write_bytes(pickle.dumps((function, arguments, named)))
            front = [str(mpirun), "-n", str(n)] if n > 1 else []
            output = _run([*front, sys.executable, "-m", "distbp.run.launch", folder], timeout)
            if (error := Path(folder, _ERROR)).exists():
                raise UserError(f"on {n} ranks: {error.read_text(encoding='utf-8').strip()}")
            if not (result := Path(folder, _RESULT)).exists():  # a rank was ended before it could write why
                why = [line.removeprefix("distbp: ") for line in output.splitlines() if line.startswith("distbp: rank")]
                raise UserError(f"on {n} ranks: {(why or ['no result: what they print says why'])[0]}")
            return pickle.loads(result.read_bytes())

    return call


def _run(command: list[str], timeout: float | None) -> str:
    """Run mpirun, and show what it prints as it comes; return the end of it."""
    asked = {BAR: "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment = for_mpirun(os.environ) | asked
    output = ""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        undo = on_stop_signals(process.terminate)
        try:
            assert process.stdout is not None
            while (left := deadline - time.monotonic()) > 0.0:
                if not select.select([process.stdout], [], [], min(left, _LOOK))[0]:
                    continue
                if not (part := os.read(process.stdout.fileno(), 4096)):
                    process.wait(None if timeout is None else left)
                    return output
                output = (output + (text := decode(part)))[-_TAIL:]
                sys.stdout.write(text)
                sys.stdout.flush()
            raise subprocess.TimeoutExpired(command, timeout or 0.0)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends the ranks
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LAST)
            process.kill()
            raise UserError(f"not done after {timeout:g} s: given up") from None
        finally:
            undo()


def _pickle() -> Any:
    try:
        import cloudpickle
    except ImportError as error:
        raise UserError("launch sends functions by cloudpickle: pip install cloudpickle") from error
    return cloudpickle


def main(folder: Path) -> None:
    """Call the function on this rank; rank 0 writes what comes of it."""
    from distbp.run.fit import world

    pickle, comm = _pickle(), world()
    function, arguments, named = pickle.loads((folder / _CALL).read_bytes())
    try:
        result = function(*arguments, **named)
    except Exception as error:  # of the user's function: it goes back as a line
        with contextlib.suppress(OSError):
            (folder / _ERROR).write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        end_together(error, comm)
        return
    comm.barrier()  # which a rank that has failed alone does not come to
    if comm.is_root:
        with contextlib.suppress(OSError):
            (folder / _RESULT).write_bytes(pickle.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
