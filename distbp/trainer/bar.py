"""The bar of a training: on a terminal or in a notebook; in a log file there is none."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from distbp.comm.launchers import launch_of

BAR = "DISTBP_BAR"
"""Is set where what is printed goes to somebody's notebook."""
_EVERY = 0.1
"""Seconds between its moves."""


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person watches. Open MPI gives rank 0 a terminal of its own: there mpirun's counts."""
    if not stream.isatty():
        return False
    if launch_of(os.environ) is None:
        return True
    try:
        return os.readlink(f"/proc/{os.getppid()}/fd/1").startswith(("/dev/pts", "/dev/tty"))
    except OSError:
        return False


def bar_on(stream: TextIO | None = None, *, done: int, total: int) -> "Bar | None":
    """Return a bar from step `done` to `total`, None where nobody watches `stream`, the standard output by default."""
    stream = stream or sys.stdout
    if is_terminal(stream):
        return _TerminalBar(stream, done, total)
    plain = type(stream).__module__.startswith("ipykernel") or (stream is sys.stdout and BAR in os.environ)
    return _NotebookBar(stream, total) if plain else None


@contextmanager
def shown(trainer: Any, total: int) -> Iterator[None]:
    """Show how far the steps of a trainer are, where a person watches, while it trains within."""
    at, observer = trainer.position, trainer.observer
    bar: Any = bar_on(done=at.step, total=total)
    before, start = observer.on_step, (at.examples, at.seconds)

    def show(t: Any) -> None:
        before(t)
        bar.update(at.step, t.latest.batch_loss, (at.examples - start[0]) / max(1e-9, at.seconds - start[1]))

    if bar is None:
        yield
        return
    observer.on_step = show
    try:
        yield
    finally:
        observer.on_step = before
        bar.stop()


class Bar:
    """Shows how far a training is."""

    _next = 0.0

    def update(self, step: int, loss: float, rate: float) -> None:
        """Move on, ten times a second at most; `rate` in samples/s."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            self._show(step, loss, rate)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        raise NotImplementedError

    def stop(self) -> None:
        """Take the bar away."""
        raise NotImplementedError

    def _show(self, step: int, loss: float, rate: float) -> None:
        raise NotImplementedError


class _TerminalBar(Bar):
    def __init__(self, stream: TextIO, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar: Any = Progress(
            TextColumn("step {task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[rate]:,.0f} samples/s"),
            TimeRemainingColumn(),
            transient=True,
            console=Console(file=stream),
        )
        self._task = self._bar.add_task("", total=total, completed=done, loss=0.0, rate=0.0)
        self._bar.start()

    def _show(self, step: int, loss: float, rate: float) -> None:
        self._bar.update(self._task, completed=step, loss=loss, rate=rate)

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def stop(self) -> None:
        self._bar.stop()


class _NotebookBar(Bar):
    """Writes one line again and again, which needs no widgets."""

    def __init__(self, stream: TextIO, total: int) -> None:
        self._stream, self._total, self._width = stream, total, 0

    def _show(self, step: int, loss: float, rate: float) -> None:
        text = f"step {step}/{self._total}  loss {loss:.4f}  {rate:,.0f} samples/s"
        self._write("\r" + text.ljust(self._width))
        self._width = len(text)

    def say(self, text: str) -> None:
        self._write(("\r" + " " * self._width + "\r" if self._width else "") + text + "\n")
        self._width = 0

    def stop(self) -> None:
        self._write("\r" + " " * self._width + "\r")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
