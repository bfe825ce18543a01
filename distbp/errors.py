"""What can go wrong by the user's hand, and the exit codes of every front door.

A `UserError` carries one line that says what is wrong, where, and what to do. Front doors print
that line and nothing else; any other exception is a defect of ours and leaves a traceback in a file.
"""

import contextlib
import sys

DONE = 0
FAILED = 1
USAGE = 2
STOPPED = 75
"""Stopped early with a checkpoint (EX_TEMPFAIL of sysexits.h): queue it again."""


class UserError(ValueError):
    """Wrong input, file or machine; the message is the whole help."""


class Diverged(UserError):
    """A loss or gradient that is not finite."""


class UsageError(UserError):
    """A flag or a key that does not exist or cannot have that value."""


class RankLost(Exception):
    """Another rank has died, or says so: whoever is left calls `Communicator.recover`."""


def complain(text: str) -> None:
    """Print one line on standard error, where there is any: a run does not end because nobody hears it."""
    with contextlib.suppress(OSError, ValueError):
        print(f"distbp: {' '.join(text.split())}", file=sys.stderr, flush=True)
