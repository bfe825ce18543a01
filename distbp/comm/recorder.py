"""What a rank did last: its collectives, in order, and how long it waited in them.

Every collective is entered and left here, at the price of two clock readings. Nobody reads it until somebody asks: the
watchdog, when a run hangs, and the log, for ranks that are slower than the others.
"""

import time
from collections import deque

ASLEEP = "the steps of others"
"""What a rank waits in that does not take part."""
_KEPT = 64


class Recorder:
    """Record the last collectives of one rank, and how long it waited.

    Attributes
    ----------
    count : int
        Collectives entered so far; on all ranks the same ones have the same number.
    progress : int
        Grows with whatever happens.
    inside : str
        What this rank waits in now, or "".
    waited : float
        Seconds in collectives so far.
    last : deque of (int, str, int)
        Number, operation and bytes of the last ones, the newest last.
    """

    def __init__(self) -> None:
        self.count = self.progress = 0
        self.inside = ""
        self.waited = 0.0
        self.last: deque[tuple[int, str, int]] = deque(maxlen=_KEPT)
        self._since = 0.0

    def enter(self, operation: str, nbytes: int = 0) -> None:
        """Note that a collective begins."""
        self.count += 1
        self.last.append((self.count, operation, nbytes))
        self.progress += 1
        self.inside = operation
        self._since = time.perf_counter()

    def wait(self, what: str) -> None:
        """Note that waiting begins, in what is no collective of its own: for the end of one that was started before."""
        self.progress += 1
        self.inside = what
        self._since = time.perf_counter()

    def leave(self) -> None:
        """Note that it is over."""
        self.waited += time.perf_counter() - self._since
        self.progress += 1
        self.inside = ""

    def agree_on(self, count: int) -> None:
        """Give the next collective the same number on all ranks again, after a loss."""
        self.count = count
        self.last.clear()

    def tick(self) -> None:
        """Note that work goes on: a collective is started, a block of rows evaluated."""
        self.progress += 1
