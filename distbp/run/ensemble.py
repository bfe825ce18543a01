"""An ensemble: several trainings that differ in their seed, and one model, whose prediction is the mean of theirs.

Each member leaves out a part of the training rows, which no other does, chooses its best epoch by it and is judged by
it: together they have seen all rows. With folds these parts are all rows, so all train and all judge (cross-validation:
Stone 1974; its members as an ensemble: Krogh & Vedelsby 1995). Where the data have validation rows of their own, all
are judged by these. What is scaled and encoded is fitted to all training rows; of the target it holds no more than a
mean and a deviation.

Members are dealt to groups of ranks, which never talk to each other before the end. Each one is a run with a directory
of its own, ``members/K``, and its checkpoints there: what was done is not done again. In exact mode a member has the
same bits whoever computes it, and so has the model.
"""

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from distbp.blocks import block_bounds
from distbp.comm.agreement import on_root, require_equal
from distbp.comm.communicator import Communicator
from distbp.data.prepared import Data
from distbp.data.splitting import left_out
from distbp.errors import DONE, STOPPED, UsageError, UserError
from distbp.model import Model
from distbp.network.mixture import Mixture
from distbp.run.build import build_network, load_data, suited_to
from distbp.run.directory import RunDirectory, chosen_run_dir, run_of
from distbp.run.entry_point import on_stop_signals
from distbp.run.findings import without_report, write_report
from distbp.run.job import Job, fingerprint_of
from distbp.run.left_out import LeftOut
from distbp.run.manifest import describe
from distbp.run.next_step import command, resuming
from distbp.run.options import TrainConfig
from distbp.run.report import Reporter
from distbp.run.results import conclude, digits, figures_of, lines_of
from distbp.trainer.calibration import calibrated
from distbp.trainer.saver import differences
from distbp.watch.watcher import Watcher

_BETWEEN_SEEDS = 1_000_003
"""From the seed of a member to that of the next: no two ensembles of neighbouring seeds have one in common."""


class EnsembleJob:
    """Trains the members of an ensemble and writes its model."""

    def __init__(
        self, config: TrainConfig, comm: Communicator, threads: int, watcher: Watcher, *, data: Data | None = None,
        stream: TextIO | None = None,
    ) -> None:  # fmt: skip
        self.config, self.comm, self.threads, self.watcher = config, comm, threads, watcher
        self._given, self.reporter = data, Reporter(comm.is_root, None, stream)
        self.results: dict[str, Any] = {}
        self.model: Model
        self.validated: tuple[Any, Any]
        self.listen: Any = None
        """Hears of each record of the members that this rank's group trains."""
        self.n = config.folds or config.ensemble
        self.one = "a fold" if config.folds else "a member"
        self.left_out: list[Any] = []
        """Positions of the training rows that each member leaves out; none where all have the same validation rows."""
        self.path: Path
        self.stop: Path
        """A file that tells all groups to stop."""

    def run(self) -> int:
        """Do all of it; return the exit code."""
        comm, began = self.comm, time.perf_counter()
        if self.config.elastic:
            raise UsageError("--elastic: an ensemble does not go on when ranks die; start it again, nothing is lost")
        require_equal(comm, dataclasses.asdict(self.config), "the options")
        data = self._given or load_data(self.config, comm)
        self.left_out = _left_out(data, self.config)
        most = int(np.argmax([len(rows) for rows in self.left_out] or [0]))
        config = self.config = suited_to(self._data_of(most, data), self.config)
        if config.dry_run:
            return Job(config, comm, self.threads, self.watcher, data=data).run()
        resume = config.resume == "auto"
        fingerprint = fingerprint_of(config, data)
        self.path = chosen_run_dir(config.run_dir, config.data, comm, fingerprint if resume else None)
        with ExitStack() as after:
            directory = RunDirectory(self.path, comm, resume=resume)
            after.callback(directory.close)
            # members that are done are not looked at again: they must be of this run
            on_root(comm, lambda: self._refuse_another(fingerprint), f"cannot use {self.path}")
            self.stop = self.path / "stop"
            on_root(comm, lambda: self.stop.unlink(missing_ok=True), f"cannot use {self.path}")
            after.callback(on_stop_signals(self.stop.touch, speak=lambda: comm.is_root))  # between members, too
            directory.write("config.toml", dataclasses.replace(config, run_dir=str(self.path)).to_toml())
            directory.write_json("manifest.json", describe(comm) | {"run": fingerprint})
            groups = min(self.n, comm.size)
            for remark in filter(None, [*data.remarks, without_report(config.report)]):
                self.reporter.say(remark)
            how = f"by {groups} groups of ranks" if groups > 1 else "one after another"
            what = f"{self.n} folds" if config.folds else f"an ensemble of {self.n}"
            if self.left_out:
                what += f", each judged by {len(self.left_out[most]):,} rows that it leaves out"
            self.reporter.say(f"{data.target}: {what}, trained {how}; {self.path}")
            members, everyone = self._members(data, groups)
            if members is None:
                again = resuming(self.config, self.path, comm.size)
                self.reporter.say(f"stopped: each member that began has a checkpoint; continue with: {again}")
                return STOPPED
            self._finish(data, members, everyone, directory, began)
        return DONE

    def _refuse_another(self, fingerprint: dict[str, Any]) -> None:
        before = run_of(self.path)
        if before and (text := differences(before, fingerprint, str(self.path))):
            raise UserError(text)

    def _finish(
        self, data: Data, mixture: Mixture, of_members: Sequence[dict[str, Any]], directory: RunDirectory, began: float
    ) -> None:
        """Write model and results, and say them."""
        loss, left_out, say = mixture.loss, None, self.reporter.say
        judged: Any = mixture
        rows: Any = data.validation
        if self.left_out:
            judged = left_out = LeftOut(mixture.members, data.train, self.left_out, self.comm)
            rows = left_out.rows
        self.validated = judged, rows
        if self.config.calibrate and rows is not None:
            weight = data.preprocessor.class_weight
            mixture.sharpness, offset = calibrated(judged, loss, rows, self.comm, weight)
            if weight:
                mixture.offset, mixture.decision = np.ravel(offset).tolist(), np.log(weight)
            if left_out is not None:
                left_out.outputs *= mixture.sharpness
                left_out.outputs += offset
        about: dict[str, Any] = {"members": len(mixture.members), f"{self.one} alone": _spreads(of_members)}
        if left_out is not None:
            about["rows out of fold"] = rows.n_rows
        about |= {"seconds": time.perf_counter() - began, "ranks": self.comm.size}
        common = data, self.config, self.comm, directory, about, {"training": about["seconds"]}
        self.results, doubted, self.model = conclude(mixture, loss, *common, self.validated)
        alone: dict[str, tuple[float, float]] = about[f"{self.one} alone"]
        for line in lines_of(self.results):
            if not line.startswith(("validation", "test")):
                say(line)
                continue
            part = "val" if line.startswith("validation") else "test"
            shown = (
                f"{k[: -len(part) - 1]} {digits(m)} ± {digits(s)}" for k, (m, s) in alone.items() if _is_figure(k, part)
            )
            of_rows = line.replace("validation", "out of fold", 1) if left_out else line
            say(f"{of_rows}; {self.one} alone: {', '.join(shown)}")
        for doubt in doubted:
            say(doubt)
        if left_out is not None:
            table = directory.path / "out-of-fold.csv"
            on_root(self.comm, lambda: left_out.write(table, self.model, data, self.one[2:]), f"cannot write {table}")
            say(f"training rows predicted by the member that left them out: {table}")
        path, use = directory.path / "model.safetensors", command("distbp.predict", directory.path, "DATA")
        say(f"{about['members']} members in {about['seconds']:.1f} s; model: {path}, use it: {use}")
        if line := write_report(directory.path, self.config.report, self.comm):
            say(line)

    def _members(self, data: Data, groups: int) -> tuple[Mixture | None, list[dict[str, Any]]]:
        """Train the members, this rank those of its group; return all, None where some were stopped, and figures."""
        comm, n = self.comm, self.n
        firsts = [block_bounds(comm.size, group, groups)[0] for group in range(groups)]
        mine = max(group for group in range(groups) if firsts[group] <= comm.rank)
        group = comm.split(mine) if groups > 1 else comm
        trained, figures, code = dict[int, Any](), dict[int, dict[str, Any]](), DONE
        for k in range(mine, n, groups):
            if group.bcast_obj(self.stop.exists()):
                code = STOPPED
                break
            mine_data = self._data_of(k, data)
            job = Job(self._config_of(k), group, self.threads, self.watcher, data=mine_data, stop=self.stop)
            job.listen = self.listen
            if (code := job.run()) == STOPPED:
                break
            trained[k] = job.network
            if group.is_root:
                figures[k] = job.results
                self._say(k, job.results)
        everyone = comm.allgather_obj((code, list(figures.items())))
        if any(code == STOPPED for code, _ in everyone):
            return None, []
        built = [build_network(self._config_of(k), data) for k in range(n)]
        members = [trained.get(k, network) for k, (network, _) in enumerate(built)]
        for k, network in enumerate(members):
            for array in (network.theta, *network.embeddings):
                comm.bcast(array, root=firsts[k % groups])
        found: dict[int, dict[str, Any]] = dict(sorted(item for _, of_rank in everyone for item in of_rank))
        for k in found.keys() - figures.keys():
            self._say(k, found[k])
        return Mixture(members, built[0][1]), list(found.values())

    def _say(self, k: int, results: dict[str, Any]) -> None:
        figures = figures_of(results, "val") or figures_of(results, "test")
        self.reporter.say(f"{self.one[2:]} {k + 1} of {self.n}: {figures}")

    def _config_of(self, k: int) -> TrainConfig:
        """Return the configuration of a member."""
        return dataclasses.replace(
            self.config, ensemble=1, folds=None, calibrate=False, report="none", resume="auto",
            seed=self.config.seed + k * _BETWEEN_SEEDS, run_dir=str(self.path / "members" / str(k)),
        )  # fmt: skip

    def _data_of(self, k: int, data: Data) -> Data:
        """Return the data of a member: all training rows but those that it leaves out, which validate."""
        if not self.left_out:
            return data
        others = np.setdiff1d(np.arange(data.train.n_rows), self.left_out[k], assume_unique=True)
        return dataclasses.replace(data, train=data.train.part(others), validation=data.train.part(self.left_out[k]))


def _left_out(data: Data, config: TrainConfig) -> list[Any]:
    """Return the positions of the training rows that each member leaves out, none where all have the same."""
    n, share = data.train.n_rows, config.validation_fraction
    if config.folds:
        if data.validation is not None:
            raise UserError("--folds: the data have validation rows, and each fold validates: leave them out")
        if n < config.folds:
            raise UserError(f"--folds {config.folds}: there are {n} training rows")
        share = 1 / config.folds
    if data.validation is not None or not share:
        return []
    if not 1 <= round(share * n) < n:
        raise UserError(f"a validation fraction of {share} of {n} rows leaves none to train or none to validate on")
    labels = data.train.take_target(np.arange(n)) if data.target.kind == "classes" else np.zeros(n, np.int64)
    return left_out(labels, config.folds or config.ensemble, share, config.seed)


def _is_figure(name: str, part: str) -> bool:
    return name in (f"accuracy/{part}", f"rmse/{part}", f"log_loss/{part}")


def _spreads(of_members: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation over members of each of their figures."""
    names = [name for name, value in of_members[0].items() if isinstance(value, float) and "/" in name]
    table = np.array([[one[name] for name in names] for one in of_members])
    return {name: (float(m), float(s)) for name, m, s in zip(names, table.mean(0), table.std(0), strict=True)}
