"""The loop: step, log, evaluate, audit, checkpoint, stop, in one visible order.

What changes state or communicates is a component that is called here; what only looks is an observer. All decisions
follow from reduced numbers and from the step alone, so all ranks take them at the same step.
"""

import time
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator
from distbp.comm.serial import SerialCommunicator
from distbp.data.prepared import Prepared
from distbp.data.sampling import BatchSampler, Epochs
from distbp.errors import UserError
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import Loss, make_loss
from distbp.optim.optimizer import Optimizer
from distbp.optim.schedules import Schedule
from distbp.trainer import noise_scale
from distbp.trainer.bar import shown
from distbp.trainer.crew import Crew
from distbp.trainer.evaluation import evaluate, kind_of_metrics, watched_metrics
from distbp.trainer.memory import RunMemory
from distbp.trainer.options import Batches, Components, Gradient, Observer, as_optimizer, as_rows, refuse_misfit
from distbp.trainer.replicas import audit
from distbp.trainer.state import FINISHED, SETTLED, UNSETTLED, Latest, Position
from distbp.trainer.step import Counts, step
from distbp.trainer.stragglers import Stragglers
from distbp.trainer.survival import Survival

Array = NDArray[Any]
Outcome = Literal["done", "stopped", "early", "target"]


class Trainer:
    """Trains a network by mini-batch backpropagation on all ranks of a communicator.

    Parameters
    ----------
    network : Network or FunctionModel
        What is trained, in place. Rank 0's initial parameters are everybody's.
    loss : Loss or str
        Its loss, or the name of one.
    optimizer : Optimizer or str
        Its optimiser, or the name of one with its usual rate; its `lr` is the peak of the schedule.
    train : Prepared, or a pair of arrays (X, y)
        Training rows: those of `load`, or numbers as a network takes them.
    validation : Prepared, or a pair of arrays (X, y), optional
        Rows of the evaluations during the run.
    comm : Communicator, optional
        The ranks; this process alone by default.
    batches : int or Batches
        The batch size, over *all* ranks; or more about the batches.
    gradient : Gradient, optional
        How the ranks' parts become one gradient.
    schedule : Schedule, optional
        Factor of the learning rate by step.
    components : Components, optional
        What is done beside the steps: log, evaluations, checkpoints.
    observer : Observer, optional
        Who looks.
    """

    def __init__(
        self,
        network: Network | FunctionModel,
        loss: Loss | str,
        optimizer: Optimizer | str,
        train: Prepared | tuple[Any, Any],
        *,
        validation: Prepared | tuple[Any, Any] | None = None,
        comm: Communicator | None = None,
        batches: int | Batches = 64,
        gradient: Gradient | None = None,
        schedule: Schedule | None = None,
        components: Components | None = None,
        observer: Observer | None = None,
    ) -> None:
        loss, optimizer = (make_loss(loss) if isinstance(loss, str) else loss), as_optimizer(optimizer)
        train = as_rows(train, network)
        validation = validation and as_rows(validation, network, train.target)
        refuse_misfit(network, loss, train)
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.train, self.validation = train, validation
        self.comm: Communicator = comm or SerialCommunicator()
        batches = batches if isinstance(batches, Batches) else Batches(batches)
        self.sampler = BatchSampler(train.n_rows, batches.size, seed=batches.seed, drop_last=batches.drop_last)
        self.gradient, self.observer = gradient or Gradient(), observer or Observer()
        beside = (components or Components()).heard_by(self.observer)
        self.log, self.judge, self.noise, self.nonfinite = beside.log, beside.judge, beside.noise, beside.nonfinite
        self.saver, self.audit_every, self.least_ranks = beside.saver, beside.audit_every, beside.least_ranks
        self.schedule, self.peak = schedule or Schedule(), optimizer.lr
        self.position, self.latest, self._stop_here, self._fitted = Position(), Latest(), False, 0
        self.crew = Crew(self.comm, everyone=self.gradient.oversubscribe)
        self.stragglers = Stragglers(self.crew.comm)
        kind = kind_of_metrics(network, loss, train.target)
        watched = watched_metrics(train.target, kind, self.judge.every if validation else 0, self.log.every)
        self.judge.require(*watched, (train.target, loss), plateau=self.schedule.kind == "plateau")
        self._count = Counts(network, loss, kind, self.comm)
        remembered = {
            "position": self.position, "latest": self.latest, "log": self.log.state, "judge": self.judge.state,
            "noise": self.noise.state, "nonfinite": self.nonfinite.state, "rate": self.schedule.state,
        }  # fmt: skip
        self.memory = RunMemory(network, optimizer, remembered, lambda: self.reducer)
        self.memory.share_parameters(self.comm)
        optimizer.begin(network)
        self.reducer = self.gradient.reducer(self.crew.comm, network, loss, batches.size)
        self.reducer.assign(optimizer)
        self.survival = Survival(
            self.comm, self.position, memory=self.memory, replay=lambda: self.observer.replay(self.latest.records),
            abandon=lambda: self.reducer.transport.abandon(), rebuild=self._rebuild,
        )  # fmt: skip

    def fit(self, *, epochs: int | None = None, steps: int | None = None, bar: bool = True) -> Outcome:
        """Train for `epochs` or `steps`, so much more than when the last call was done; after `resume`, in all.

        With `bar` a person who watches sees how far it is. Returns what `fit_until` does.
        """
        total = self._fitted + self.sampler.total_steps(epochs, steps)
        with shown(self, total) if bar and self.comm.is_root else nullcontext():
            outcome = self.fit_until(steps=total)
        self._fitted = self._fitted if outcome == "stopped" else self.position.step
        return outcome

    def fit_until(self, *, epochs: int | None = None, steps: int | None = None) -> Outcome:
        """Train until `epochs` or `steps` of the whole run are done, whichever comes first.

        Returns why it ended: ``stopped`` means by `request_stop`. After an exception ranks may stand at different
        places: go on with a new `Trainer` that resumes.
        """
        total = self.sampler.total_steps(epochs, steps)  # which refuses to train for ever
        self._begin()
        try:
            if self.crew.asleep:
                self.crew.sleep(lambda: self._stop_here)
            else:
                self._take_steps(total)
                self.crew.wake()
        except BaseException:
            self.reducer.transport.close()  # no thread talks beside whoever handles this
            self.crew.wake(failed=True)
            raise
        self.crew.share(self.memory)
        position = self.position
        position.phase = FINISHED
        self._stop_here = self.survival.repeats = False  # the losses inside are behind us: the next call is a new one
        if self.latest.stop and not position.ended and position.step < total:
            return "stopped"
        return "done" if not position.ended else "early" if position.ended == "early" else "target"

    def _take_steps(self, total: int) -> None:
        """Train until so many steps are done, or something ends it before."""
        position = self.position
        clock = time.perf_counter() - position.seconds
        with np.errstate(over="ignore", invalid="ignore"):  # seen in the reduced numbers instead
            while position.phase == UNSETTLED or not (position.step >= total or position.ended or self.latest.stop):
                with self.survival:  # whoever is left after a loss catches up, and the loop tries again
                    if position.phase != UNSETTLED:
                        self.step()
                        position.seconds = time.perf_counter() - clock
                        self.survival.keep()
                    self.settle(last=position.step == total)
                    position.phase = SETTLED
                    self.observer.on_step(self)
        if (position.ended or position.step >= total) and not self.judge.keeps_last(position.step, position.ended):
            self.memory.return_to_best()

    def _begin(self) -> None:
        """Begin a call of `fit`, or what is left of one that a loss interrupted."""
        if self.position.ended not in ("", *self.judge.ends()):
            self.position.ended = ""  # another target or less patience than now ended the run
        if not self.survival.repeats:
            self.latest.stop = False
            self.position.phase = min(self.position.phase, SETTLED)
        self.survival.repeats = False

    def step(self) -> None:
        """Update the parameters once, on all ranks."""
        position = self.position
        self.stragglers.begin()
        batch = self.sampler.batch(position.step)
        self.reducer.wants_stop = self._stop_here or self.crew.stops()
        self.optimizer.lr = self.peak * self.schedule(position.step)
        self._count.squares = batch.size**2 if self.sampler.due(self.noise.every, position.step + 1) else 0
        statistics = step(self.train, self.network, self.loss, self.reducer, self.optimizer, batch, self._count)
        # until here others may be a step behind, and want to hear the records of the last one
        self.latest.renew(self.optimizer.lr, statistics, batch.size)
        position.examples += batch.size
        now = position.step + 1
        if skipped := self.nonfinite.see(statistics, now):
            self.reducer.forget()
            self._record({"step": now, "epoch": self.sampler.epochs(now), "skipped": skipped})
        else:
            self.log.add(statistics)
            self.noise.take(statistics, batch.size)
        position.step, position.phase = now, UNSETTLED
        self.stragglers.end()

    def settle(self, *, last: bool) -> None:
        """Log, evaluate, audit and save after a step, where they are due."""
        position, judge = self.position, self.judge
        ends, now = last or self.latest.stop, position.step
        logs, judges = self._due(self.log.every), self._due(judge.every)
        record, verdict = dict[str, Any](), ""
        # what is only shown because the run ends here leaves no trace: a longer run is the same run
        if logs or (last and self.log.every):
            record |= self.log.take(position.seconds, self.latest, hits=self._count.kind == "classes", reset=logs)
            record |= noise_scale.figures(self.noise.state.sums)
        if self.validation and (judges or (last and judge.every)):
            figures = judge.watched.evaluate(self.network, self.loss, self.validation, self.crew.comm)
            record |= {f"{k}/val": v for k, v in figures.items() if k != "confusion"}
            if judges:
                self.schedule.observe(record["loss/val"])
                verdict = judge.see(record, now)
                if judge.improved_at(now):
                    self.memory.keep_best()
            else:
                judge.see_end(record, now)
        position.ended = judge.reached(record) or verdict
        if record:
            self._record(record)
        saves = self.saver and (self._due(self.saver.every) or ends or position.ended or judge.saves(now))
        audits = self._due(self.audit_every) or (self.audit_every and saves)  # what is saved was compared
        if audits and (differs := audit(self.crew.comm, self.network, self.reducer.shard)):
            raise UserError(f"step {now}: {differs}")
        if saves:
            self.save(last=bool(ends or position.ended), comm=self.crew.comm)
        if logs:
            for text in self.stragglers.slow(self.reducer.plan.work(self.sampler.batch_size)):
                self.observer.remark(f"{text}, until step {now}")

    def _due(self, every: int | Epochs) -> bool:
        return self.sampler.due(every, self.position.step)

    def _record(self, record: dict[str, Any]) -> None:
        position = self.position
        clocks: dict[str, Any] = {"step": position.step, "epoch": self.sampler.epochs(position.step)}
        clocks |= {"examples": position.examples, "seconds": position.seconds}
        self.latest.records.append(clocks | record)
        self.observer.replay(self.latest.records[-1:])

    def request_stop(self) -> None:
        """Ask all ranks to stop after the step under way; callable from a signal handler."""
        self._stop_here = True

    def evaluate(self, data: Prepared | tuple[Any, Any]) -> dict[str, Any]:
        """Return loss and metrics on all rows of `data`, by all ranks; see `distbp.trainer.evaluation.evaluate`."""
        return evaluate(self.network, self.loss, as_rows(data, self.network, self.train.target), self.comm)

    def close(self) -> None:
        """Give back what ranks share; the network keeps its parameters. All ranks call it, or none."""
        self.memory.own_tables()
        self.reducer.close()
        self.crew.close()

    # --- checkpoints and losses -----------------------------------------------------------------------

    def save(self, *, last: bool = False, comm: Communicator | None = None) -> None:
        """Write a checkpoint; an error of rank 0 is raised on all ranks, or those of `comm`.

        With `last` nothing goes on beside it.
        """
        assert self.saver is not None
        self.saver.save(self.memory.take(), self.reducer, best=self.judge.state.best_step, last=last, comm=comm)

    def resume(self) -> tuple[str, list[str]]:
        """Continue from the newest valid checkpoint, if there is one; return its name, or "", and warnings."""
        assert self.saver is not None
        memory, name, warnings = self.saver.load(self.reducer)
        if memory is not None:
            self.memory.give(memory)
            self.position.phase = SETTLED
            self.latest.clear()
        return name, warnings

    def _rebuild(self, lost: list[int], start: float) -> None:
        """Share the work among the ranks that are left."""
        self.reducer = self.gradient.reducer(self.comm, self.network, self.loss, self.sampler.batch_size)
        self.comm.agree()
        self.reducer.assign(self.optimizer)
        if self.comm.size < self.least_ranks:
            self.request_stop()
        self.observer.on_lost(lost, time.perf_counter() - start)
