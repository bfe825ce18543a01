"""An ensemble: several trainings that differ in their seed, and one model, whose prediction is the mean of theirs.

Members are dealt to groups of ranks, which never talk to each other before the end. Each one is a run with a directory
of its own, ``members/K``, and its checkpoints there: what was done is not done again. In exact mode a member has the
same bits whoever computes it, and so has the model.
"""

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from distbp.blocks import block_bounds
from distbp.comm.agreement import on_root, require_equal
from distbp.comm.communicator import Communicator
from distbp.data.loading import Data
from distbp.errors import DONE, STOPPED, UsageError
from distbp.network.mixture import Mixture
from distbp.run.build import build_network, load_data, suited_to
from distbp.run.directory import RunDirectory, default_run_dir
from distbp.run.entry_point import on_stop_signals
from distbp.run.job import Job
from distbp.run.manifest import describe
from distbp.run.options import TrainConfig
from distbp.run.report import Reporter
from distbp.run.results import figures_of, judge, lines_of, model_of
from distbp.trainer.calibration import sharpness
from distbp.watch.watcher import Watcher

_BETWEEN_SEEDS = 1_000_003
"""From the seed of a member to that of the next: no two ensembles of neighbouring seeds have one in common."""


class EnsembleJob:
    """Trains the members of an ensemble and writes its model."""

    def __init__(self, config: TrainConfig, comm: Communicator, threads: int, watcher: Watcher) -> None:
        self.config, self.comm, self.threads, self.watcher = config, comm, threads, watcher
        self.reporter = Reporter(comm.is_root)
        self.path: Path
        self.stop: Path
        """A file that tells all groups to stop."""

    def run(self) -> int:
        """Do all of it; return the exit code."""
        comm, began = self.comm, time.perf_counter()
        if self.config.elastic:
            raise UsageError("--elastic: an ensemble does not go on when ranks die; start it again, nothing is lost")
        require_equal(comm, dataclasses.asdict(self.config), "the options")
        data = load_data(self.config, comm)
        config = self.config = suited_to(data, self.config)
        if config.dry_run:
            return Job(config, comm, self.threads, self.watcher, data=data).run()
        resume = config.resume == "auto"
        self.path = Path(comm.bcast_obj(str(config.run_dir or default_run_dir(config.data, resume))))
        with ExitStack() as after:
            directory = RunDirectory(self.path, comm, resume=resume)
            after.callback(directory.close)
            self.stop = self.path / "stop"
            on_root(comm, lambda: self.stop.unlink(missing_ok=True), f"cannot use {self.path}")
            after.callback(on_stop_signals(self.stop.touch, speak=lambda: comm.is_root))  # between members, too
            directory.write("config.toml", dataclasses.replace(config, run_dir=str(self.path)).to_toml())
            directory.write_json("manifest.json", describe(comm))
            groups = min(config.ensemble, comm.size)
            for remark in data.remarks:
                self.reporter.say(remark)
            how = f"by {groups} groups of ranks" if groups > 1 else "one after another"
            self.reporter.say(f"{data.target}: an ensemble of {config.ensemble}, trained {how}; {self.path}")
            members, everyone = self._members(data, groups)
            if members is None:
                again = f"--resume auto --run-dir {self.path}"
                self.reporter.say(f"stopped: each member that began has a checkpoint; continue with {again}")
                return STOPPED
            self._finish(data, members, everyone, directory, time.perf_counter() - began)
        return DONE

    def _finish(
        self,
        data: Data,
        mixture: Mixture,
        of_members: Sequence[dict[str, Any]],
        directory: RunDirectory,
        seconds: float,
    ) -> None:
        """Write model and results, and say them."""
        path = directory.path / "model.safetensors"
        if self.config.calibrate and data.validation is not None:
            mixture.sharpness = sharpness(mixture, mixture.loss, data.validation, self.comm)
        results, doubted = judge(mixture, mixture.loss, data, self.comm, self.config.seed)
        alone = {
            name: float(np.mean([one[name] for one in of_members]))
            for name in results
            if isinstance(results[name], float)
        }
        model = model_of(mixture, mixture.loss, data, self.config, self.comm)
        on_root(self.comm, lambda: model.save(path), f"cannot write {path}")
        more = {"members": len(mixture.members), "a member alone, mean": alone, "seconds": seconds}
        directory.write_json("results.json", results | more | {"ranks": self.comm.size})
        for line in lines_of(results):
            which = "val" if line.startswith("validation") else "test"
            self.reporter.say(f"{line}; a member alone, in the mean: {figures_of(alone, which)}")
        for doubt in doubted:
            self.reporter.say(doubt)
        use = f"python -m distbp.predict {directory.path} DATA"
        self.reporter.say(f"{len(mixture.members)} members in {seconds:.1f} s; model: {path}, use it: {use}")

    def _members(self, data: Data, groups: int) -> tuple[Mixture | None, list[dict[str, Any]]]:
        """Train the members, this rank those of its group; return all, None where some were stopped, and figures."""
        comm, n = self.comm, self.config.ensemble
        firsts = [block_bounds(comm.size, group, groups)[0] for group in range(groups)]
        mine = max(group for group in range(groups) if firsts[group] <= comm.rank)
        group = comm.split(mine) if groups > 1 else comm
        trained, figures, code = dict[int, Any](), dict[int, dict[str, Any]](), DONE
        for k in range(mine, n, groups):
            if group.bcast_obj(self.stop.exists()):
                code = STOPPED
                break
            job = Job(self._config_of(k), group, self.threads, self.watcher, data=data, stop=self.stop)
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
        self.reporter.say(f"member {k + 1} of {self.config.ensemble}: {figures}")

    def _config_of(self, k: int) -> TrainConfig:
        """Return the configuration of a member."""
        return dataclasses.replace(
            self.config, ensemble=1, calibrate=False, seed=self.config.seed + k * _BETWEEN_SEEDS, resume="auto",
            run_dir=str(self.path / "members" / str(k)),
        )  # fmt: skip
