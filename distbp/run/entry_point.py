"""From a command line to ranks, and back to one line and one exit code.

Whatever goes wrong on whatever rank, every rank ends, soon, with the same code; a wrong input gets
one line. Ranks that all fail (a missing file) end in step and rank 0 speaks; a rank that fails alone
says so with its name and ends the others, who would wait for it for ever.
"""

import argparse
import contextlib
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from distbp.comm.communicator import Communicator, Members
from distbp.errors import FAILED, USAGE, RankLost, UsageError, UserError, complain
from distbp.watch.connection import Lifeline
from distbp.watch.watcher import Watcher

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""At which a run stops with a checkpoint."""
_HOME = re.compile(r"^(--[\w-]+=)(~[^/]*)")
_PATIENCE = 2.0
"""Seconds that a failing rank waits for the others to fail as well."""
_FORWARD = 0.3
"""Seconds for the launcher to pass the message on: MPICH's drops what it has not read when a rank aborts."""


class Parser(argparse.ArgumentParser):
    """Parses a command line; what is wrong with it is a `UsageError`, for `run` to say once.

    In ``--run-dir=~/runs`` a shell leaves ``~`` as it is: here it is the home folder.
    """

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return what is known, and the rest."""
        given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(
            [_HOME.sub(lambda m: m[1] + os.path.expanduser(m[2]), a) for a in given], namespace
        )

    def error(self, message: str) -> NoReturn:
        """Raise it."""
        raise UsageError(message)


def run(
    main: Callable[[Communicator], int], make: Callable[[], Communicator], *, watcher: Watcher | None = None,
    problem: UsageError | None = None,
) -> int:  # fmt: skip
    """Call ``main(make())``, the work with a communicator, on this rank; return the exit code.

    What the user can mend `main` raises as a `UserError`; a `problem` of the command line takes its place. It may have
    something to be watched, too: by `watcher`.
    """
    open_streams()
    try:
        comm = make()
    except UserError as error:
        return _say(f"error: {error}", FAILED)
    except KeyboardInterrupt:
        return _say("error: interrupted before the start", FAILED)
    except RankLost:
        _say("error: a rank died before all had met: start again", FAILED)
        os.kill(os.getpid(), signal.SIGKILL)  # an exit the others would not notice
    goodbye = hold(comm, watcher or Watcher())
    try:
        if problem is not None:
            raise problem
        code = main(comm)
        goodbye()
        return code
    except BrokenPipeError:  # who read our output has gone, e.g. head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        message, code = f"error: {_problem(error, comm)}", USAGE if isinstance(error, UsageError) else FAILED
    if comm.all_failed(_PATIENCE):
        goodbye()
        if comm.is_root:
            _say(message, code)
        try:
            return comm.leave(code)
        except RankLost:
            os._exit(code)
    _end_all(message, code, comm)
    return code


def end_together(error: BaseException, comm: Communicator) -> None:
    """Return where all ranks have failed; else end all, since the others wait for this one in a collective."""
    if comm.size > 1 and not comm.all_failed(_PATIENCE):
        _end_all(f"error: {_problem(error, comm)}", FAILED, comm)


def _end_all(message: str, code: int, comm: Communicator) -> None:
    """Say what is wrong on this rank alone, and end the others, who would wait for it for ever."""
    _say(f"rank {comm.name} on {comm.host}: {message}", code)
    time.sleep(_FORWARD)
    comm.abort(code)


def open_streams() -> None:
    """Open what was closed of standard input, output and error: the next files would take their places."""
    for number, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))


def hold(comm: Communicator, watcher: Watcher) -> Callable[[], None]:
    """Hold on to the other ranks, until the result is called; elastic ranks go on when others end."""
    if comm.elastic:
        return lambda: None
    lifeline = Lifeline(comm)
    watcher.add(lifeline)
    return lambda: watcher.remove(lifeline)


def _say(message: str, code: int) -> int:
    complain(message)
    return code


def _problem(error: BaseException, comm: Members) -> str:
    """What went wrong, in one line; the traceback of a defect goes into a file."""
    match error:
        case SystemExit():  # by other code: the other ranks would wait
            return f"sys.exit({error.code!r}) was called"
        case KeyboardInterrupt():
            return "interrupted"
        case UserError():
            return str(error)
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return f"{where}{error.strerror or error}"
        case RankLost():  # where nobody goes on without it
            return f"a rank was lost: {error}"
        case MemoryError():
            return f"out of memory: {error}"
        case _ if "MPI_ERR_PROC_FAILED" in str(error):  # mpirun --with-ft, and a run that is not elastic
            return "a rank was lost, and this run does not go on without it: start again with --resume auto"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    path = Path(f"distbp-error-rank{comm.name}.txt").absolute()
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        return line
    return f"{line}; traceback in {path}"


def stops() -> list[signal.Signals]:
    """Return the signals at which this process is to stop: `STOPS`, but SIGHUP where it is ignored (nohup)."""
    return [name for name in STOPS if name != signal.SIGHUP or signal.getsignal(name) != signal.SIG_IGN]


def on_stop_signals(stop: Callable[[], None], *, speak: Callable[[], bool] = lambda: True) -> Callable[[], None]:
    """Call `stop` at Ctrl-C and the signals of clusters and terminals, at a second Ctrl-C end at once.

    The result undoes it. SIGHUP that is ignored (nohup) stays so; a terminal may not stop a run that prints in the
    background (SIGTTOU). Signals are the main thread's: in another one nothing is changed.
    """

    def handler(number: int, frame: object) -> None:
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if speak():
            with contextlib.suppress(OSError):  # the terminal may be what has gone
                os.write(2, f"distbp: {signal.Signals(number).name}: stopping after this step\n".encode())
        stop()

    def undo() -> None:
        for name, old in before.items():
            signal.signal(name, old)

    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {name: signal.signal(name, handler) for name in stops()}
    before[signal.SIGTTOU] = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    return undo
