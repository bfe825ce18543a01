"""A job: one training from a configuration to a model on disk, through losses of ranks."""

import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO, TypeVar

from distbp.comm.agreement import on_root, require_equal
from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.errors import DONE, STOPPED, RankLost, UserError
from distbp.gradient.choose import EXACT_BITS
from distbp.model import Model
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.run.blas import different_bits, kernel_warning
from distbp.run.build import build_trainer, final_network, load_data, run_length, suited_to
from distbp.run.directory import RunDirectory, begun, chosen_run_dir, removed_if_empty
from distbp.run.entry_point import on_stop_signals
from distbp.run.findings import without_report, write_report
from distbp.run.manifest import bits_of, describe
from distbp.run.next_step import resuming
from distbp.run.options import MAY_CHANGE, TrainConfig
from distbp.run.refusals import idle_options, other_length
from distbp.run.report import Reporter, begin_again
from distbp.run.results import conclude
from distbp.run.summary import closing, opening, plan_of
from distbp.run.trackers import tracker
from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.profile import Profile
from distbp.trainer.state import FINISHED
from distbp.trainer.trainer import Trainer
from distbp.watch.watcher import Watchdog, Watcher

T = TypeVar("T")

_LOOK_EVERY = 64
"""Steps between looks whether another member of an ensemble was told to stop."""


class Job:
    """Runs a training with its files: rank 0's, or when that is lost, those of the first rank that is left.

    Rows in memory are given as `data`. A member of an ensemble is given them, too, and says nothing but in its own
    ``log.txt``; it stops where the file `stop` appears, and makes it where it is told to stop. Others speak to
    `stream`.
    """

    def __init__(
        self, config: TrainConfig, comm: Communicator, threads: int, watcher: Watcher, *, data: Data | None = None,
        stop: Path | None = None, stream: TextIO | None = None,
    ) -> None:  # fmt: skip
        self.config, self.comm, self.threads, self.watcher = config, comm, threads, watcher
        self._given, self._stop, self._stream = data, stop, stream
        self.results: dict[str, Any] = {}
        self.model: Model
        self.listen: Callable[[Job, dict[str, Any]], object] | None = None
        """Hears of each record, beside the log."""
        self.validated: tuple[Any, Any]
        """What the validation rows judged, and these rows."""
        self.seconds: dict[str, float] = {}
        self.ready = self.began = False
        self.profile: Profile | None = None
        self.path: Path | None = None
        self.data: Data
        self.trainer: Trainer
        self.network: Network | FunctionModel
        self.directory: RunDirectory
        self.files = ExitStack()
        """Closes the directory where the work ends before its time."""
        self.reporter: Reporter
        self.watchdog: Watchdog | None = None

    def run(self) -> int:
        """Do all of it, on the ranks that are left, however often some are lost; return the exit code."""
        while not self.ready:
            try:
                if (code := self._watched(self._begin)) is not None:
                    return self.comm.leave(code)
            except RankLost:
                self._start_anew()
        while True:
            with self.trainer.survival:
                return self.comm.leave(self._watched(self._train))

    def _watched(self, work: Callable[[], T]) -> T:
        """Do a part of it; close what is open where it fails."""
        try:
            return work()
        except RankLost:
            raise  # the files are still wanted
        except BaseException:
            if self.ready and self.trainer.saver is not None:
                self.trainer.saver.wait()
            self._unwatch()  # a process that goes on is not this run
            self.files.close()
            raise

    def _begin(self) -> int | None:
        """Do what comes before the training; return the exit code where that is all."""
        config, comm = self.config, self.comm
        if comm.size < config.least_ranks:
            return self._too_few()
        require_equal(comm, dataclasses.asdict(config), "the options")
        began = time.perf_counter()
        self.data = self._given or load_data(config, comm)
        self.seconds = {"reading": time.perf_counter() - began}
        self.config = config = suited_to(self.data, config, begun(config, comm))
        if config.dry_run:
            plan = plan_of(config, self.data, build_trainer(config, self.data, comm), self.threads)
            Reporter(comm.is_root).say(plan)
            return DONE
        self._prepare()
        comm.agree()
        self.ready, self.seconds["setting up"] = True, time.perf_counter() - began - self.seconds["reading"]
        return None

    def _too_few(self) -> int:
        text = f"{_left(self.comm)}, fewer than --least-ranks {self.config.least_ranks}"
        if not self.began:
            raise UserError(f"{text}: start more ranks, or ask for fewer")
        Reporter(self.comm.is_root).say(f"{text}: stopped before the training began")
        return STOPPED

    def _speaks(self) -> bool:
        return self.comm.is_root and not (self.watchdog and self.watchdog.ending)

    def _start_anew(self) -> None:
        """Go on without the ranks that were lost before the training began: from the start."""
        self.files.close()
        self._unwatch()
        lost, self.began = self.comm.recover(), True
        whom, left = _whom(self.comm, lost), _left(self.comm)
        Reporter(self.comm.is_root).say(f"{whom} before the training began: {left} start anew")

    def _unwatch(self) -> None:
        if self.watchdog is not None:
            self.watcher.remove(self.watchdog)

    def on_lost(self, lost: list[int], seconds: float) -> None:
        """Take over what rank 0 did, and report it; all that are left do it together."""
        self.directory.take_over()
        if self.comm.is_root:
            self.reporter.take_over()
        step, size = self.trainer.position.step, self.comm.size
        self.directory.event("lost", ranks=lost, step=step, size=size, seconds=seconds)
        fewer = ", fewer than --least-ranks: stopping" * (size < self.config.least_ranks)
        where = "after the training" if self.trainer.position.phase == FINISHED else f"in step {step + 1}"
        self.reporter.say(f"{_whom(self.comm, lost)} {where}: {_left(self.comm)} go on after {seconds:.3f} s{fewer}")

    def on_record(self, record: dict[str, Any]) -> None:
        """Write it, show it, and tell who listens."""
        self.reporter.record(record)
        if self.listen is not None:
            self.listen(self, record)

    def on_remark(self, text: str) -> None:
        """Say it, and keep it."""
        self.directory.event("remark", text=text, step=self.trainer.position.step)
        self.reporter.say(text)

    def _prepare(self) -> None:
        config, comm, data = self.config, self.comm, self.data
        resume = config.resume == "auto"
        fingerprint = fingerprint_of(config, data)
        path = chosen_run_dir(self.path or config.run_dir, config.data, comm, fingerprint if resume else None)
        with removed_if_empty(path):
            kept = Checkpoints(path / "checkpoints", keep=config.keep)
            trainer = self.trainer = build_trainer(config, data, comm, checkpoints=kept, fingerprint=fingerprint)
        self.directory = RunDirectory(path, comm, resume=resume or self.path == path)
        self.files.callback(self.directory.close)
        kept.before = self.directory.check
        self.path = path
        resumed, warnings = trainer.resume() if resume else ("", [])
        before = bits_of(path / "manifest.json") if resumed and comm.is_root else None
        warnings += different_bits(comm, before, exact=config.exact, mixed=config.mixed_hosts)
        if resumed and comm.is_root:
            warnings += other_length(path / "config.toml", config)
        # with its folder: --config RUN/config.toml --resume auto continues this run and no other
        self.directory.write("config.toml", dataclasses.replace(config, run_dir=str(path)).to_toml())
        self.directory.write_json("manifest.json", describe(comm) | {"run": fingerprint})
        limit = config.hang_timeout or math.inf
        self.watchdog = Watchdog(comm, path / "hang", limit, lambda: trainer.position.step + 1)
        self.watcher.add(self.watchdog)
        on_root(comm, lambda: begin_again(path, trainer.position.step), f"cannot use {path}")
        log = self.files.enter_context(open(path / "log.txt", "a")) if self._stop and comm.is_root else self._stream
        reporter = self.reporter = Reporter(comm.is_root, path / "metrics.jsonl", log)
        self.files.callback(reporter.close)
        self.directory.on_anew = reporter.reopen
        if config.track != "none" and not self._stop:
            on_root(comm, lambda: reporter.tell(tracker(config.track, path, dataclasses.asdict(config))), "--track")
        observer = trainer.observer
        observer.on_record, observer.on_lost, observer.on_remark = self.on_record, self.on_lost, self.on_remark
        warnings += filter(None, [kernel_warning(), without_report(config.report), self.directory.remark])
        for remark in [*data.remarks, *idle_options(config, data, trainer), *(f"warning: {text}" for text in warnings)]:
            reporter.say(remark)
        reporter.say(opening(data, trainer, path))
        if comm.size > 1:
            for text in filter(None, (trainer.reducer.describe(), trainer.crew.describe())):
                reporter.say(text)
        if comm.elastic:
            reporter.say("elastic: the ranks go on when others are lost")
        if config.profile:
            self.profile = Profile(trainer)
        if resumed:
            reporter.say(f"resumed from {resumed}")

    def _request_stop(self) -> None:
        self.trainer.request_stop()
        if self._stop is not None:
            self._stop.touch()

    def _train(self) -> int:
        undo = on_stop_signals(self._request_stop, speak=self._speaks)
        try:
            code = self._fit()
        finally:
            undo()
        if not self.comm.elastic:  # else until the end: a rank may still hang there
            self._unwatch()
        self.trainer.close()
        self.files.close()
        return code

    def _fit(self) -> int:
        """Train, evaluate, write model and results."""
        trainer, directory, reporter, profile = self.trainer, self.directory, self.reporter, self.profile
        (epochs, steps), at = run_length(self.config), trainer.position
        before, start = at.step, (at.examples, at.seconds)

        def rate(examples: int = 0, seconds: float = 0.0) -> float:
            return (at.examples - examples) / max(1e-9, at.seconds - seconds)

        reporter.start_bar(at.step, trainer.sampler.total_steps(epochs, steps))

        def on_step(t: Trainer) -> None:
            reporter.progress(at.step, t.latest.batch_loss, rate(*start))
            if self._stop is not None and at.step % _LOOK_EVERY == 0 and self._stop.exists():
                t.request_stop()

        trainer.observer.on_step = on_step
        outcome = trainer.fit_until(epochs=epochs, steps=steps)
        reporter.stop_bar()
        if profile is not None:
            profile.stop()
            reporter.say(profile.table(at.step - before))
            directory.write("trace.json", profile.trace())
        if outcome == "stopped":
            again = resuming(self.config, directory.path, self.comm.size)
            reporter.say(f"stopped at step {at.step} with a checkpoint; continue with: {again}")
            return STOPPED
        results: dict[str, Any] = {"outcome": outcome, "step": at.step, "examples": at.examples}
        judge = trainer.judge
        if (kept := judge.kept)[1] is not None:
            results |= {f"best {judge.monitor}": kept[0], "best step": kept[1]}
            results |= {f"last {judge.monitor}": judge.state.last}
        network, beta = self.network, _ = final_network(self.config, self.data, trainer)
        if beta != 1.0:
            reporter.say(f"calibrated: outputs times {beta:.3g}, which has the least log loss on the validation rows")
        results |= {"seconds": at.seconds, "samples_per_second": rate(), "ranks": trainer.comm.size}
        about = self.config, trainer.comm, directory, results, self.seconds | {"training": at.seconds}
        self.validated = network, self.data.validation
        self.results, doubted, self.model = conclude(network, trainer.loss, self.data, *about)
        for line in [*closing(self.results, self.config, trainer, directory.path), *doubted]:
            reporter.say(line)
        if line := write_report(directory.path, self.config.report, trainer.comm):
            reporter.say(line)
        return DONE


def _left(comm: Communicator) -> str:
    return f"{comm.size} ranks" if comm.size > 1 else "1 rank"


def _whom(comm: Communicator, lost: list[int]) -> str:
    return "lost " + ", ".join(comm.whois(name) for name in lost)


def fingerprint_of(config: TrainConfig, data: Data) -> dict[str, Any]:
    """Return what a run must agree with to be resumed; JSON."""
    # in exact mode what is added up first depends on the size of the parts
    may_change = MAY_CHANGE ^ ({"micro_batch"} if config.exact else {"exact", "leaves"})
    fingerprint = {k: v for k, v in dataclasses.asdict(config).items() if k not in may_change} | data.identity
    fingerprint |= {"training rows": data.train.n_rows, "inputs": data.preprocessor.n_inputs}
    if data.preprocessor.coded:
        fingerprint |= {"codes": list(data.preprocessor.code_values)}
    fingerprint |= {"order of the weights": "unit by unit"}  # in 0.1 input by input
    if config.exact:
        fingerprint |= {"order of the sums": EXACT_BITS}
    return fingerprint
