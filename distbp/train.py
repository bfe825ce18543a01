"""Front door: ``python -m distbp.train``, with ``mpirun -n P`` in front of it for P ranks.

Reads the configuration, builds the objects, hands them to the `Trainer`, writes the results.
"""

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

from distbp.comm.communicator import Communicator, on_root, require_equal
from distbp.comm.world import communicator
from distbp.data.loading import Data
from distbp.errors import DONE, STOPPED, RankLost, UsageError, UserError
from distbp.gradient.exact import SUMS
from distbp.gradient.whole_batch import CELLS
from distbp.model import Model
from distbp.run.build import build_trainer, idle_options, load_data, run_length
from distbp.run.config import MAY_CHANGE, TrainConfig, parse_train_config
from distbp.run.directory import RunDirectory, default_run_dir
from distbp.run.entry_point import on_stop_signals, run
from distbp.run.machine import bits_of, describe, different_bits, kernel_warning, limited_blas
from distbp.run.report import Reporter, read_records
from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.profile import Profile
from distbp.trainer.trainer import Trainer
from distbp.watch.watcher import Watchdog, Watcher

__all__ = ["main", "train"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    config: TrainConfig | None = None
    problem: UsageError | None = None
    watcher = Watcher()
    try:
        config = parse_train_config(arguments)
    except UsageError as error:
        problem = error

    def work(comm: Communicator) -> int:
        if problem is not None or config is None:
            raise problem or AssertionError
        return train(config, comm, watcher=watcher)

    return run(
        work,
        lambda: communicator(config.communicator, elastic=config.elastic) if config else communicator(elastic=False),
        watcher=watcher,
    )


def train(config: TrainConfig, comm: Communicator, *, watcher: Watcher) -> int:
    """Train as `config` says on all ranks of `comm`; `DONE` or `STOPPED`."""
    with limited_blas(comm, most=1 if config.exact else None) as threads:
        job = _Job(config, comm, threads, watcher)
        while True:
            try:
                return comm.leave(job.work())
            except RankLost:
                job.recover()


class _Job:
    """A training and its files: rank 0's, or when that is lost, those of the first rank that is left."""

    def __init__(self, config: TrainConfig, comm: Communicator, threads: int, watcher: Watcher) -> None:
        self.config, self.comm, self.threads, self.watcher = config, comm, threads, watcher
        self.ready = self.began = False
        self.profile: Profile | None = None
        self.path: Path | None = None
        self.data: Data
        self.trainer: Trainer
        self.directory: RunDirectory | None = None
        self.reporter: Reporter
        self.watchdog: Watchdog | None = None

    def work(self) -> int:
        """All of it, or after `recover` what is left of it."""
        config, comm = self.config, self.comm
        try:
            if not self.ready:
                if comm.size < config.least_ranks:
                    return self._too_few()
                require_equal(comm, dataclasses.asdict(config), "the options")
                self.data = load_data(config, comm)
                if config.dry_run:
                    trainer = build_trainer(config, self.data, comm)
                    Reporter(comm.is_root).say(_plan(config, self.data, trainer, self.threads))
                    return DONE
                self._prepare()
                comm.agree()
                self.ready = True
            return self._train()
        except RankLost:
            raise  # the files are still wanted
        except BaseException:
            if self.directory is not None:
                if self.ready and self.trainer.saver is not None:
                    self.trainer.saver.wait()
                self.directory.close()
            raise

    def _too_few(self) -> int:
        text = f"{self._left()}, fewer than --least-ranks {self.config.least_ranks}"
        if not self.began:
            raise UserError(f"{text}: start more ranks, or ask for fewer")
        Reporter(self.comm.is_root).say(f"{text}: stopped before the training began")
        return STOPPED

    def _speaks(self) -> bool:
        return self.comm.is_root and not (self.watchdog and self.watchdog.ending)

    def recover(self) -> None:
        """Go on without the ranks that were lost: from where the run is, or where it has not begun, from the start."""
        if self.ready:
            self.trainer.recover()
            return
        if self.directory is not None:
            self.directory.close()
        if self.watchdog is not None:
            self.watcher.remove(self.watchdog)
        lost, self.began = self.comm.recover(), True
        Reporter(self.comm.is_root).say(f"{self._whom(lost)} before the training began: {self._left()} start anew")

    def _left(self) -> str:
        return f"{self.comm.size} ranks" if self.comm.size > 1 else "1 rank"

    def _whom(self, lost: list[int]) -> str:
        return "lost " + ", ".join(self.comm.whois(name) for name in lost)

    def on_lost(self, lost: list[int], seconds: float) -> None:
        """Take over what rank 0 did, and say what happened; all that are left do it together."""
        assert self.directory is not None
        self.directory.take_over()
        if self.comm.is_root:
            self.reporter.take_over()
        step, size = self.trainer.state.step, self.comm.size
        self.directory.event("lost", ranks=lost, step=step, size=size, seconds=seconds)
        fewer = ", fewer than --least-ranks: stopping" if size < self.config.least_ranks else ""
        self.reporter.say(f"{self._whom(lost)} in step {step + 1}: {self._left()} go on after {seconds:.3f} s{fewer}")

    def on_remark(self, text: str) -> None:
        """Say it, and keep it."""
        assert self.directory is not None
        self.directory.event("remark", text=text, step=self.trainer.state.step)
        self.reporter.say(text)

    def _prepare(self) -> None:
        config, comm, data = self.config, self.comm, self.data
        resume, known = config.resume == "auto", self.path or config.run_dir
        path = Path(known) if known else default_run_dir(config.data, resume)
        path = Path(comm.bcast_obj(str(path)))
        trainer = self.trainer = _trainer(config, data, comm, path)
        self.directory = RunDirectory(path, comm, resume=resume or self.path == path)
        self.path = path
        resumed, warnings = trainer.resume() if resume else ("", [])
        if config.exact:
            before = bits_of(path / "manifest.json") if resumed and comm.is_root else None
            warnings += different_bits(comm, before)
        # with its folder: --config RUN/config.toml --resume auto continues this run and no other
        self.directory.write("config.toml", dataclasses.replace(config, run_dir=str(path)).to_toml())
        self.directory.write_json("manifest.json", describe(comm))
        metrics = path / "metrics.jsonl"
        self.watchdog = Watchdog(comm, path / "hang", config.hang_timeout or math.inf, lambda: trainer.state.step + 1)
        self.watcher.add(self.watchdog)
        if comm.is_root:
            read_records(metrics, up_to_step=trainer.state.step)
            for name in ("results.json", "model.safetensors"):  # they mean that the run is finished
                (path / name).unlink(missing_ok=True)
        reporter = self.reporter = Reporter(comm.is_root, metrics)
        trainer.on_record, trainer.on_lost, trainer.on_remark = reporter.record, self.on_lost, self.on_remark
        warnings += [text for text in [kernel_warning()] if text]
        idle = idle_options(config, data, trainer)
        for remark in [*data.remarks, *idle, *(f"warning: {text}" for text in warnings)]:
            reporter.say(remark)
        reporter.say(_opening(data, trainer, path))
        if comm.size > 1:
            reporter.say(trainer.reducer.describe())
        if comm.elastic:
            reporter.say("elastic: the ranks go on when others are lost")
        if config.profile:
            self.profile = Profile(comm)
            trainer.watched_by(self.profile)
        if resumed:
            reporter.say(f"resumed from {resumed}")

    def _train(self) -> int:
        assert self.directory is not None
        undo = on_stop_signals(self.trainer.request_stop, speak=self._speaks)
        try:
            code = self._fit()
        finally:
            undo()
        if self.watchdog is not None and not self.comm.elastic:  # else until the end: a rank may still hang there
            self.watcher.remove(self.watchdog)
        self.trainer.close()
        self.reporter.close()
        self.directory.close()
        return code

    def _fit(self) -> int:
        """Train, evaluate, write model and results."""
        trainer, directory, reporter, profile = self.trainer, self.directory, self.reporter, self.profile
        assert directory is not None
        epochs, steps = run_length(self.config)
        state = trainer.state
        start = (state.examples, state.seconds)

        def rate(examples: int = 0, seconds: float = 0.0) -> float:
            state = trainer.state
            return (state.examples - examples) / max(1e-9, state.seconds - seconds)

        reporter.start_bar(state.step, trainer.total_steps(epochs, steps))
        trainer.on_step = lambda t: reporter.progress(
            t.state.step, t.batch_loss, rate(*start), total=None if t.fixed_length else t.total_steps(epochs, steps)
        )
        before = state.step
        outcome = trainer.fit(epochs=epochs, steps=steps)
        state = trainer.state
        reporter.stop_bar()
        if profile is not None:
            profile.stop()
            reporter.say(profile.table(state.step - before))
            directory.write("trace.json", profile.trace())
        if outcome == "stopped":
            again = f"--resume auto --run-dir {directory.path}"
            reporter.say(f"stopped at step {state.step} with a checkpoint; continue with {again}")
            return STOPPED
        results: dict[str, Any] = {"outcome": outcome, "step": state.step, "examples": state.examples}
        if state.best is not None:
            results |= {f"best {trainer.monitor}": state.best, "best step": state.best_step}
        for name, part in (("val", self.data.validation), ("test", self.data.test)):
            if part is not None:
                results |= {f"{k}/{name}": v for k, v in trainer.evaluate(part).items()}
        results |= {"seconds": state.seconds, "samples_per_second": rate(), "ranks": trainer.comm.size}
        path = directory.path / "model.safetensors"
        model = Model(trainer.network, trainer.loss, self.data.target, self.data.preprocessor)
        on_root(trainer.comm, lambda: model.save(path), f"cannot write {path}")
        directory.write_json("results.json", results)
        for line in _closing(results, self.config, directory.path):
            reporter.say(line)
        return DONE


def _trainer(config: TrainConfig, data: Data, comm: Communicator, path: Path) -> Trainer:
    # in exact mode what is added up first depends on the size of the parts
    fixed = {"micro_batch"} if config.exact else {"exact", "leaves"}
    may_change = MAY_CHANGE ^ fixed
    fingerprint = {k: v for k, v in dataclasses.asdict(config).items() if k not in may_change}
    low, high = config.batch_range(data.train.n_rows)
    fingerprint |= {"batch_size": low if low == high else f"{low}-{high}"}
    fingerprint |= {"training rows": data.train.n_rows, "inputs": data.preprocessor.n_inputs}
    fingerprint |= {"order of the weights": "unit by unit"}  # in 0.1 input by input
    if config.exact:
        fingerprint |= {"order of the sums": f"{SUMS}, {CELLS}"}
    checkpoints = Checkpoints(path / "checkpoints", keep=config.keep)
    return build_trainer(config, data, comm, checkpoints=checkpoints, fingerprint=fingerprint)


def _opening(data: Data, trainer: Trainer, path: Path) -> str:
    parts = [f"{data.train.n_rows:,} rows to train"]
    for name, part in (("validate", data.validation), ("test", data.test)):
        if part is not None:
            parts.append(f"{part.n_rows:,} to {name}")
    net, ranks = trainer.network, trainer.comm.size
    grows = f", growing to {trainer.grow_to} at most," if trainer.grow_to is not None else ""
    return (
        f"{data.target}: {', '.join(parts)}\n"
        f"{net.describe()}, {net.n_parameters:,} parameters,"
        f" {trainer.loss.name}, batch {trainer.sampler.batch_size}{grows} on {ranks} rank{'s' * (ranks > 1)}; {path}"
    )


def _closing(results: dict[str, Any], config: TrainConfig, path: Path) -> list[str]:
    lines = []
    if config.early_stopping and "best step" in results:
        lines.append(f"early stopping: restored the best, of step {results['best step']}")
    if config.target_metric:
        met = "reached" if results["outcome"] == "target" else "not reached"
        lines.append(f"target {config.target_metric}: {met} at step {results['step']}")
    for part in ("val", "test"):
        shown = [
            f"{k.split('/')[0]} {v:.4f}"
            for k, v in results.items()
            if k.endswith(f"/{part}") and isinstance(v, float) and not k.startswith("best")
        ]
        if shown:
            lines.append(f"{'validation' if part == 'val' else part}: {', '.join(shown)}")
    lines.append(
        f"{results['step']:,} steps in {results['seconds']:.1f} s, {results['samples_per_second']:,.0f} samples/s;"
        f" model: {path / 'model.safetensors'}, use it: python -m distbp.predict {path} DATA"
    )
    return lines


def _plan(config: TrainConfig, data: Data, trainer: Trainer, threads: int) -> str:
    """What ``--dry-run`` prints."""
    net, comm = trainer.network, trainer.comm
    rows = -(-(trainer.grow_to or trainer.sampler.batch_size) // comm.size)
    rows = min(rows, trainer.micro_batch or rows)
    lines = [config.to_toml(), _opening(data, trainer, Path(config.run_dir or "(new run directory)")), ""]
    lines += net.table()
    item = net.dtype.itemsize
    activations = rows * net.kept_per_row() * item
    states = len(trainer.optimizer.buffers)
    own = trainer.reducer.own.stop - trainer.reducer.own.start
    mib = 2.0**20
    lines += [
        "",
        f"memory per rank: parameters, gradient and {states} optimizer arrays"
        f" {(2 + states) * own * item / mib:.2f} MiB, activations of {rows} rows"
        f" {activations / mib:.2f} MiB, data {_in_memory(data) / mib:.2f} MiB",
        trainer.reducer.describe(),
        f"{trainer.sampler.steps_per_epoch} steps an epoch, {threads} BLAS thread{'s' * (threads > 1)} a rank",
    ]
    return "\n".join(lines)


def _in_memory(data: Data) -> int:
    parts = [part for part in (data.train, data.validation, data.test) if part and part.in_memory]
    return sum(part.n_rows * data.preprocessor.n_inputs * part.dtype.itemsize for part in parts)


if __name__ == "__main__":
    sys.exit(main())
