"""What a run says: ``metrics.jsonl`` for programs, lines or a progress bar for people. Rank 0 only.

On a terminal there is a bar with loss, samples/s and time left; in a log file, plain lines.
"""

import contextlib
import json
import math
import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from distbp.errors import complain
from distbp.files import atomic_write
from distbp.report.run_files import logs_in, member_of, records_in
from distbp.run.trackers import Tracker
from distbp.trainer.bar import Bar, bar_on

_KEPT = 16
"""Latest records that every rank remembers."""
_SHOWN = ("loss/", "accuracy/", "rmse/", "r2/", "exact_match/", "auc/", "average_precision/", "log_loss/", "brier/")


class Reporter:
    """Appends the records of a run to `metrics` and shows its progress on `stream`, if this is the `active` rank."""

    def __init__(self, active: bool, metrics: Path | None = None, stream: TextIO | None = None) -> None:
        self.active, self._metrics, self._stream = active, metrics, stream or sys.stdout
        self._file = open(metrics, "a", encoding="utf-8") if active and metrics else None
        self._latest: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._bar: Bar | None = None
        self._tracker: Tracker | None = None

    def tell(self, tracker: Tracker) -> None:
        """Give all records that come to a tracker, too."""
        self._tracker = tracker

    def say(self, text: str) -> None:
        """Print one line for people."""
        if self._bar is not None:
            self._show(lambda bar: bar.say(text))
        elif self.active:
            try:
                print(text, file=self._stream, flush=True)
            except (OSError, ValueError) as error:
                self._go_on_without(error)

    def _show(self, action: Callable[[Bar], None]) -> None:
        """Do something with the bar, which may be on a terminal that has gone."""
        if self._bar is not None:
            try:
                action(self._bar)
            except (OSError, ValueError) as error:
                self._bar = None
                self._go_on_without(error)

    def _go_on_without(self, error: Exception) -> None:
        """Print nothing any more: a full disk, a closed terminal or a reader that has gone ends no training."""
        if not isinstance(error, BrokenPipeError):  # head, less: they have what they want
            complain(f"warning: cannot print ({error}); the training goes on")
        if self._stream is sys.stdout:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is in its buffer is written there at the end
        self._stream = open(os.devnull, "w")

    def record(self, record: dict[str, Any]) -> None:
        """Write one line for programs, and its essence for people; what was written is not written again."""
        if any(_same(record, earlier) for earlier in self._latest):
            return
        self._latest.append(record)
        if self.active:
            self._write(record)
            self.say(format_record(record))
        if self._tracker is not None:
            self._tracker.record(record)

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        try:
            self._file.write(json.dumps(finite, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:  # of one rank; that a checkpoint cannot be written either all ranks learn together
            complain(f"warning: cannot write {self._metrics}: {error}")

    def take_over(self) -> None:
        """Speak from now on, in place of a rank that was lost: first what it had no time to say."""
        if self.active:
            return
        self.active = True
        if self._metrics is not None:
            written = read_records(self._metrics, up_to_step=sys.maxsize)
            unsaid = [record for record in self._latest if not any(_same(record, other) for other in written)]
            self._file = open(self._metrics, "a", encoding="utf-8")
            for record in unsaid:
                self._write(record)
            # the lost one may have been ahead: what it wrote is not written again
            self._latest = deque([*written, *unsaid], maxlen=_KEPT)

    def reopen(self) -> None:
        """Write the records that come to a new file, where the old one was removed."""
        if self._file is not None and self._metrics is not None:
            self._file = open(self._metrics, "a", encoding="utf-8")

    def start_bar(self, done: int, total: int) -> None:
        """Show a progress bar, where a person watches."""
        with contextlib.suppress(OSError, ValueError):
            self._bar = bar_on(self._stream, done=done, total=total) if self.active else None

    def progress(self, step: int, loss: float, rate: float) -> None:
        """Move the bar; `rate` in samples/s."""
        if self._bar is not None:
            self._show(lambda bar: bar.update(step, loss, rate))

    def stop_bar(self) -> None:
        """Take the bar away."""
        self._show(lambda bar: bar.stop())
        self._bar = None

    def close(self) -> None:
        """Close bar, tracker and file."""
        self.stop_bar()
        if self._tracker is not None:
            self._tracker.close()
            self._tracker = None
        if self._file is not None:
            with contextlib.suppress(OSError):  # what could not be written was reported
                self._file.close()
            self._file = None


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether they are records of the same thing; the clocks of two ranks differ."""
    return one["step"] == other["step"] and one.keys() == other.keys()


def format_record(record: dict[str, Any]) -> str:
    """A record as one line for people."""
    head = f"step {record['step']:>7}  epoch {record['epoch']:>7.2f}"
    if "skipped" in record:
        return f"{head}  {record['skipped']}"
    shown = [f"{k} {v:.4g}" for k, v in record.items() if k.startswith(_SHOWN) or ":" in k]
    if "lr" in record:
        shown.append(f"lr {record['lr']:.3g}")
    if "samples_per_second" in record:
        shown.append(f"{record['samples_per_second']:,.0f} samples/s")
    return "  ".join([head, *shown])


def records_of(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run; of an ensemble those of its members, one after another, with their `member`."""
    logs = logs_in(run_dir)
    if logs == [run_dir / "metrics.jsonl"]:
        return read_records(*logs)
    return [{**one, "member": member_of(log)} for log in logs for one in read_records(log)]


def read_records(path: Path, *, up_to_step: int | None = None) -> list[dict[str, Any]]:
    """The records of a ``metrics.jsonl``; with `up_to_step`, later ones are cut off in the file.

    A resumed run so continues without a gap and without a double, also when the one before it was
    killed in the middle of a line.
    """
    records = records_in(path)
    if up_to_step is not None and path.exists():
        records = [record for record in records if record["step"] <= up_to_step]
        atomic_write(path, "".join(json.dumps(record) + "\n" for record in records).encode())
    return records


def begin_again(run_dir: Path, step: int) -> None:
    """Make a run one that is not finished, and whose log ends with `step`."""
    read_records(run_dir / "metrics.jsonl", up_to_step=step)
    for name in ("results.json", "model.safetensors"):  # they mean that it is finished
        (run_dir / name).unlink(missing_ok=True)
