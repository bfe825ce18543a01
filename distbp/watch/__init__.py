"""Who died, who hangs, and where."""

from distbp.watch.connection import Lifeline
from distbp.watch.watcher import Watchdog, Watcher

__all__ = ["Lifeline", "Watchdog", "Watcher"]
