"""Who died, who hangs, and where."""

from distbp.watch.lifeline import Lifeline
from distbp.watch.watchdog import Watchdog

__all__ = [
    "Lifeline",
    "Watchdog",
]
