"""The loop: step, log, evaluate, checkpoint, stop.

One step is six lines of the design, over micro-batches where they are asked for:

    X, y, w = data.take(batch.rows(rank, size))   this rank's rows of the global batch, possibly none
    z       = network.forward(X)
    loss.value(z, y, delta); delta /= batch.size  divided by the *global* batch size
    network.backward(delta, reducer.gradient)     fills the gradient from its end towards 0
    reducer.wait()                                it is now the sum over all ranks, where this one updates
    optimizer.step(theta[own], grad[own])

All decisions (log, skip, stop, checkpoint) follow from reduced numbers and from the step alone, so all
ranks take them at the same step.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator, SerialCommunicator
from distbp.data.prepared import Prepared
from distbp.data.sampling import Batch, BatchSampler, Epochs
from distbp.errors import Diverged, RankLost, UserError
from distbp.gradient.choose import BUCKET_BYTES, gradient_reducer
from distbp.gradient.plan import Part
from distbp.gradient.reducer import GradientReducer
from distbp.gradient.statistics import STATISTICS, Statistics
from distbp.network.activations import ACTIVATIONS
from distbp.network.dense import Network
from distbp.network.function_model import FunctionModel
from distbp.network.losses import LOSSES, Loss
from distbp.optim.optimizer import Optimizer
from distbp.optim.schedules import Schedule
from distbp.trainer import noise_scale
from distbp.trainer.checkpoints import Checkpoints
from distbp.trainer.early_stopping import MetricTarget, is_better, require_metric
from distbp.trainer.evaluation import evaluate, hits, kind_of_metrics, metric_names
from distbp.trainer.profile import Profile
from distbp.trainer.replicas import Pace, audit
from distbp.trainer.saver import Saver
from distbp.trainer.step import step
from distbp.trainer.survival import catch_up

__all__ = ["Outcome", "TrainState", "Trainer"]

Array = NDArray[Any]
Outcome = Literal["done", "stopped", "early", "target"]

_MAX_SKIPPED = 100
_FALSE_ALARMS = 3
_FORMER_STATE = ("batch_size", "began", "gain", "scale_invariant_step")
"""Fields of `TrainState` in checkpoints of earlier versions."""


@dataclass
class TrainState:
    """All that a run remembers besides the arrays; JSON, and nothing in it belongs to a rank."""

    step: int = 0
    examples: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(STATISTICS))
    sums_since: float = 0.0
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    skipped: int = 0
    schedule: dict[str, Any] = field(default_factory=dict)
    noise: list[float] = field(default_factory=lambda: [0.0] * 3)
    ended: str = ""


class Trainer:
    """Trains a network by mini-batch backpropagation on all ranks of a communicator.

    Parameters
    ----------
    network : Network or FunctionModel
        What is trained, in place. Rank 0's initial parameters are everybody's.
    loss : Loss
        Its loss.
    optimizer : Optimizer
        Its optimiser; its `lr` is the peak of the schedule.
    train : Prepared
        Training rows.
    validation : Prepared, optional
        Rows of the evaluations during the run.
    comm : Communicator, optional
        The ranks; this process alone by default.
    batch_size : int
        Rows of a step over *all* ranks.
    micro_batch : int, optional
        A rank never passes more rows than this at once, in exact mode of a leaf (so many of all leaves, where
        activations come together; see `distbp.gradient.unit_parallel`): the same gradient in less memory.
    schedule : Schedule, optional
        Factor of the learning rate by step.
    clip_norm : float, optional
        Largest norm of the gradient.
    on_nonfinite : {"stop", "skip"}
        What a loss or gradient that is not finite does, on all ranks alike.
    seed : int
        Of the permutations.
    drop_last : bool
        Leave out the short last batch of an epoch.
    reduction, bucket_bytes, compress
        See `GradientReducer`.
    leaves : int, optional
        Exact mode: the same bits on any number of ranks, with a batch cut in so many leaves; see
        `distbp.gradient.plan`. It needs one BLAS thread (`distbp.run.machine.limited_blas`), and `micro_batch` is
        the most rows of a leaf: other values, other bits.
    monitor : str
        Metric that early stopping and the best checkpoint watch.
    patience : int, optional
        Early stopping: end after this many evaluations without improvement, and restore the best.
    target : MetricTarget, optional
        End when it is reached.
    noise_every : int
        Steps between estimates of the gradient noise scale, which is logged; 0 is never. See
        `distbp.trainer.noise_scale`. Networks of your own need at least two groups: ranks, leaves, or micro-batches.
    log_every, eval_every, checkpoint_every : int or Epochs
        In steps; 0 is never.
    checkpoints : Checkpoints, optional
        Where to save; not at all by default.
    checkpoint_async : bool
        Write them beside the next steps.
    on_checkpoint_error : {"stop", "continue"}
        What one that cannot be written does.
    audit_every : int or Epochs
        Steps between comparisons of the replicas of the parameters, which are compared before each checkpoint too; see
        `distbp.trainer.replicas.audit`.
    fingerprint : dict, optional
        What a checkpoint must agree with to be resumed; stored in it.
    on_record : callable, optional
        Called on every rank with each log record, a dict with slash names; after the loss of a rank the last one may
        come again.
    on_step : callable, optional
        Called on every rank after each step with the trainer.
    on_lost : callable, optional
        Called on every rank that is left with the names of lost ones, and the seconds that it took to go on.
    on_remark : callable, optional
        Called on every rank with a line about what does not end the run: a slow rank, a checkpoint that failed.
    least_ranks : int
        With fewer ranks than this the run stops, with a checkpoint.
    """

    def __init__(
        self,
        network: Network | FunctionModel,
        loss: Loss,
        optimizer: Optimizer,
        train: Prepared,
        *,
        validation: Prepared | None = None,
        comm: Communicator | None = None,
        batch_size: int = 64,
        micro_batch: int | None = None,
        schedule: Schedule | None = None,
        clip_norm: float | None = None,
        on_nonfinite: str = "stop",
        seed: int = 0,
        drop_last: bool = False,
        reduction: str = "auto",
        leaves: int | None = None,
        bucket_bytes: int = BUCKET_BYTES,
        compress: str = "none",
        monitor: str = "loss/val",
        patience: int | None = None,
        target: MetricTarget | None = None,
        noise_every: int = 0,
        log_every: int | Epochs = 0,
        eval_every: int | Epochs = 0,
        checkpoint_every: int | Epochs = 0,
        checkpoints: Checkpoints | None = None,
        checkpoint_async: bool = False,
        on_checkpoint_error: str = "stop",
        audit_every: int | Epochs = 0,
        fingerprint: dict[str, Any] | None = None,
        on_record: Callable[[dict[str, Any]], None] | None = None,
        on_step: Callable[["Trainer"], None] | None = None,
        on_lost: Callable[[list[int], float], None] | None = None,
        on_remark: Callable[[str], None] | None = None,
        least_ranks: int = 1,
    ) -> None:
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"a micro-batch has at least 1 row, not {micro_batch}")
        if network.sizes[0] != train.preprocessor.n_inputs:
            raise ValueError(f"the network has {network.sizes[0]} inputs, the data {train.preprocessor.n_inputs}")
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.train, self.validation = train, validation
        self.comm: Communicator = comm or SerialCommunicator()
        self.sampler = BatchSampler(train.n_rows, batch_size, seed=seed, drop_last=drop_last)
        self.comm.bcast(network.theta)
        self.leaves, self.reduction = leaves, reduction
        self.bucket_bytes, self.compress, self.micro_batch = bucket_bytes, compress, micro_batch
        self.reducer = self._make_reducer()
        self.schedule = schedule or Schedule()
        self.peak_rate = optimizer.lr
        if not optimizer.layers:
            optimizer.layers = tuple(network.weight_slices)
        optimizer.assign_shard(self.reducer.shard, self.reducer.total, self.reducer.plan.norm_blocks)
        self.on_nonfinite = on_nonfinite
        if clip_norm is not None:
            optimizer.clip_norm = clip_norm
        self.monitor, self.patience, self.target = monitor, patience, target
        self.noise_every, self.log_every, self.eval_every = noise_every, log_every, eval_every
        self.audit_every, self.checkpoint_every = audit_every, checkpoint_every
        self.saver: Saver | None = None
        if checkpoints is not None:
            self.saver = Saver(
                checkpoints, self.comm, on_error=on_checkpoint_error, background=checkpoint_async,
                on_remark=self._remark,
            )  # fmt: skip
        self.fingerprint = fingerprint or {}
        self.on_record, self.on_step = on_record, on_step
        self.on_lost, self.on_remark, self.least_ranks = on_lost, on_remark, least_ranks
        self.state = TrainState(schedule=dict(self.schedule.state))
        self.best_theta: Array | None = None
        self.grad_norm = self.batch_loss = 0.0
        self._kind = kind_of_metrics(network, loss, train.target)
        self._require_metrics()
        self._stop_here = self._stop_agreed = False
        self._settled, self._finished, self._recovered = True, False, False
        self._before: tuple[TrainState, Array | None] = self.state, None
        self._pace = Pace(self.comm)
        self._false_alarms = self._alarm_at = 0
        self._records: list[dict[str, Any]] = []  # of this step

    def _require_metrics(self) -> None:
        """Whether what is watched will be measured."""
        named = metric_names(self.train.target, self._kind)
        has = [f"{name}/val" for name in named] if self.validation and self.eval_every else []
        trained = ["loss/train", "accuracy/train"][: 1 + (self._kind == "classes")] if self.log_every else []
        if self.patience is not None:
            require_metric("early stopping", self.monitor, has)
        if self.schedule.kind == "plateau":
            require_metric("the plateau schedule", "loss/val", has)
        if self.target is not None:
            require_metric("the target", self.target.metric, has + trained)

    def _make_reducer(self) -> GradientReducer:
        ours = isinstance(self.network, Network) and self.network.activation.name in ACTIVATIONS
        return gradient_reducer(
            self.comm, self.network, self.reduction, batch_size=self.sampler.batch_size, micro_batch=self.micro_batch,
            leaves=self.leaves, bucket_bytes=self.bucket_bytes, compress=self.compress,
            apart=not ours or self.loss.name not in LOSSES,  # other functions may mix the rows they are given
        )  # fmt: skip

    # --- one step -----------------------------------------------------------------------------------

    def step(self) -> None:
        """One update of the parameters, on all ranks."""
        batch = self.sampler.batch(self.state.step)
        self.reducer.wants_stop = self._stop_here
        self.optimizer.lr = self.peak_rate * self.schedule(self.state.step)
        statistics = step(
            self.train, self.network, self.loss, self.reducer, self.optimizer, batch, self._count
        )  # fmt: skip
        self._records = []  # until here others may be a step behind, and want to hear them
        self._take(statistics, batch)
        self.state.step += 1

    def _count(self, part: Part, losses: Array, logits: Array, y: Array) -> None:
        """Add up loss, hits and, where it is due, the squares of the rows' gradients."""
        self.comm.recorder.tick()
        right = hits(self.loss.scores(logits), y, self._kind)
        squares: Array | float = 0.0
        groups = 0
        if self.sampler.due(self.noise_every, self.state.step + 1):
            of_groups, groups = self.network.group_squares(part)
            squares = of_groups * self.sampler.batch(self.state.step).size ** 2
        part.count(losses, right, squares, groups)

    def _take(self, statistics: Statistics, batch: Batch) -> None:
        """Take the statistics of a batch into the state."""
        state = self.state
        self.grad_norm, self.batch_loss = statistics.norm, statistics.loss / batch.size
        self._stop_agreed = statistics.stop > 0
        state.examples += batch.size
        if not statistics.finite:
            self._pass_over(int(statistics.nonfinite))
            return
        state.sums = [a + b for a, b in zip(state.sums, statistics, strict=False)]
        state.skipped = 0
        if statistics.groups > 1:
            estimates = noise_scale.estimate(statistics.squares, statistics.groups, batch.size, statistics.square)
            state.noise = noise_scale.averaged(state.noise, *estimates)

    def _pass_over(self, bad_rows: int) -> None:
        """Skip a step that is not finite, or end the run, on all ranks alike."""
        self.reducer.transport.forget()
        step, self.state.skipped = self.state.step + 1, self.state.skipped + 1
        what = f"the loss of {bad_rows} rows" if bad_rows else "the gradient"
        if self.on_nonfinite == "skip" and self.state.skipped <= _MAX_SKIPPED:
            epoch = self.sampler.epochs(step)
            self._record({"step": step, "epoch": epoch, "skipped": f"{what} is not finite; step skipped"})
            return
        times = f" for {self.state.skipped} steps" if self.state.skipped > 1 else ""
        raise Diverged(
            f"step {step}: {what} is not finite{times}: lower --lr, clip with --clip-norm 1, or look for"
            " extreme values in the data (--on-nonfinite skip passes over such steps)"
        )

    # --- the run ------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Ask all ranks to stop after the step under way; callable from a signal handler."""
        self._stop_here = True

    def fit(self, *, epochs: int | None = None, steps: int | None = None) -> Outcome:
        """Train until `epochs` or `steps` of the whole run are done, whichever comes first.

        After an exception the ranks may stand at different places of a step: go on with a new `Trainer` that
        resumes from the last checkpoint.

        Returns
        -------
        {"done", "stopped", "early", "target"}
            Why it ended; ``stopped`` means by `request_stop`.
        """
        state, total = self.state, self.sampler.total_steps(epochs, steps)  # which refuses to train for ever
        if state.ended not in ("", "early", str(self.target)):
            state.ended = ""  # another target than the one that ended the run
        if not self._recovered:  # else this is the rest of the call that a loss interrupted
            self._stop_agreed = self._finished = False
        self._recovered = False
        clock = time.perf_counter() - state.seconds
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # seen in the reduced numbers instead
                while not self._settled or (self.state.step < total and not self.state.ended and not self._stop_agreed):
                    try:
                        if self._settled:
                            self._pace.begin()
                            self.step()
                            self._pace.end()
                            self.state.seconds = time.perf_counter() - clock
                            self._unsettle()
                        self._after_step(last=self.state.step == total)
                        self._settled = True
                        if self.on_step is not None:
                            self.on_step(self)
                    except RankLost as error:
                        self._recover(error)
        except BaseException:
            self.reducer.transport.close()  # no thread talks beside whoever handles this
            raise
        state = self.state
        stopped = self._stop_agreed and not state.ended and state.step < total
        self._stop_here = False
        if not stopped and self.patience is not None and self.best_theta is not None:
            self._set_theta(self.best_theta)
        self._finished = True
        if stopped:
            return "stopped"
        return "done" if not state.ended else "early" if state.ended == "early" else "target"

    def _after_step(self, *, last: bool) -> None:
        """Log, evaluate and save where they are due."""
        state, verdict = self.state, ""
        record: dict[str, Any] = {}
        ends = last or self._stop_agreed
        due = self.sampler.due
        log, judge = due(self.log_every, state.step), due(self.eval_every, state.step)
        # what is only shown because the run ends here leaves no trace: a longer run is the same run
        if log or (last and self.log_every):
            record |= self._averages(reset=log)
        if self.validation and (judge or (last and self.eval_every)):
            record |= self._evaluate_validation()
            verdict = self._judge(record) if judge else ""
        if self.target and self.target.reached(record):
            verdict = str(self.target)
        if record:
            self._record(record)
        state.ended = verdict
        improved = state.best_step == state.step and self.patience is not None
        saves = self.saver and (due(self.checkpoint_every, state.step) or ends or verdict or improved)
        audits = due(self.audit_every, state.step) or (self.audit_every and saves)  # what is saved was compared
        if audits and (differs := audit(self.comm, self.network, self.reducer.shard)):
            raise UserError(f"step {state.step}: {differs}")
        if saves:
            self.save(last=bool(ends or verdict))
        if log:
            for text in self._pace.slow(self.reducer.plan.work(self.sampler.batch_size)):
                self._remark(f"{text}, until step {state.step}")

    def _remark(self, text: str) -> None:
        if self.on_remark is not None:
            self.on_remark(f"warning: {text}")

    def _averages(self, *, reset: bool) -> dict[str, Any]:
        """Means since the last log; no loss where every step was skipped."""
        state = self.state
        sums = dict(zip(STATISTICS, state.sums, strict=True))
        record: dict[str, Any] = {}
        if sums["rows"]:
            record["loss/train"] = sums["loss"] / sums["rows"]
            if self._kind == "classes":
                record["accuracy/train"] = sums["hits"] / sums["rows"]
        elapsed = max(1e-9, state.seconds - state.sums_since)
        record |= {
            "lr": self.optimizer.lr,
            "grad_norm": self.grad_norm,
            "samples_per_second": sums["rows"] / elapsed,
        }
        record |= noise_scale.figures(state.noise)
        if reset:
            state.sums, state.sums_since = [0.0] * len(STATISTICS), state.seconds
        return record

    def _evaluate_validation(self) -> dict[str, Any]:
        assert self.validation is not None
        figures = self.evaluate(self.validation)
        figures.pop("confusion", None)
        return {f"{name}/val": value for name, value in figures.items()}

    def _judge(self, record: dict[str, Any]) -> str:
        """Early stopping and the plateau schedule, on the metrics of an evaluation."""
        state = self.state
        self.schedule.observe(record["loss/val"])
        state.schedule = dict(self.schedule.state)
        if is_better(self.monitor, record[self.monitor], state.best):
            state.best, state.best_step, state.waited = record[self.monitor], state.step, 0
            if self.patience is not None:
                self.best_theta = self.network.theta[self.reducer.shard].copy()
            return ""
        state.waited += 1
        return "early" if self.patience is not None and state.waited >= self.patience else ""

    def _record(self, record: dict[str, Any]) -> None:
        state, sampler = self.state, self.sampler
        clocks: dict[str, Any] = {"step": state.step, "epoch": sampler.epochs(state.step)}
        clocks |= {"examples": state.examples, "seconds": state.seconds}
        self._records.append(clocks | record)
        if self.on_record is not None:
            self.on_record(self._records[-1])

    def evaluate(self, data: Prepared) -> dict[str, Any]:
        """Loss and metrics on all rows of `data`, by all ranks; see `distbp.trainer.evaluation.evaluate`."""
        return evaluate(self.network, self.loss, data, self.comm)

    def watched_by(self, profile: Profile) -> None:
        """Let `profile` time the parts of a step."""
        network, reducer = self.network, self.reducer
        profile.watch(self, "step", "other")
        profile.watch(self.train, "take", "gather")
        profile.watch(network, "forward", "forward")
        profile.watch(self.loss, "value", "loss")
        profile.watch(network, "backward", "backward")
        transport = reducer.transport
        for owner, method in (self.comm, "allreduce"), (reducer, "barrier"), (transport, "wait"), (transport, "gather"):
            profile.watch(owner, method, "wait")
        profile.watch(reducer, "wait", "norm")
        profile.watch(self.optimizer, "step", "optimizer")
        profile.watch(self, "_after_step", "log")

    def _set_theta(self, mine: Array) -> None:
        """Each rank sets the parameters that it owns."""
        self.network.theta[self.reducer.shard] = mine
        self.reducer.barrier()

    def close(self) -> None:
        """Give back what ranks share; the network keeps its parameters. All ranks call it, or none."""
        self.reducer.close()

    # --- losses -------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on without the ranks that died, if ``comm.elastic``.

        Whoever is left calls it after a `RankLost` and repeats what it did. `fit` does so by itself; called again after
        this it only does what is left of the call before.
        """
        self._recovered = True
        self._recover()

    def _unsettle(self) -> None:
        """What comes after the step can be done again from here."""
        self._settled = False
        if self.comm.elastic:
            self._before = copy.copy(self.state), self.best_theta

    def _recover(self, error: RankLost | None = None) -> None:
        start, lost = time.perf_counter(), list[int]()
        while True:
            try:
                lost += self.comm.recover()
                self.reducer.transport.abandon()
                if not self._settled:
                    self.state, self.best_theta = copy.copy(self._before[0]), self._before[1]
                    self.schedule.state.update(self.state.schedule)
                self._catch_up()
                self.reducer = self._make_reducer()
                self.comm.agree()
                self.optimizer.assign_shard(self.reducer.shard, self.reducer.total, self.reducer.plan.norm_blocks)
                if self.comm.size < self.least_ranks:
                    self.request_stop()
                if self.on_lost is not None:
                    self.on_lost(lost, time.perf_counter() - start)
                break
            except RankLost as another:
                error = another
        self._false_alarms = 0 if lost or self._alarm_at != self.state.step else self._false_alarms + 1
        self._alarm_at = self.state.step
        if self._false_alarms > _FALSE_ALARMS:
            raise UserError(f"step {self.state.step + 1}: MPI fails again and again, and no rank is lost: {error}")

    def _catch_up(self) -> None:
        arrays, said = self._memory()
        said |= {
            "lr": self.optimizer.lr, "grad_norm": self.grad_norm, "batch_loss": self.batch_loss,
            "stop": self._stop_agreed, "settled": self._settled, "finished": self._finished, "records": self._records,
        }  # fmt: skip
        place = [self.state.step, int(self._settled), int(self._finished)]
        if (ahead := catch_up(self.comm, place, arrays, said)) is None:
            return
        arrays, said = ahead
        self._remember(arrays, said)
        self.optimizer.lr, self.grad_norm, self.batch_loss = said["lr"], said["grad_norm"], said["batch_loss"]
        self._stop_agreed, self._settled, self._finished = said["stop"], said["settled"], said["finished"]
        if not self._settled:
            self._unsettle()
        self._records = said["records"]
        for record in self._records:
            if self.on_record is not None:
                self.on_record(record)

    # --- checkpoints --------------------------------------------------------------------------------

    def _memory(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """All that the run goes on from: arrays, of all but theta what this rank owns, and JSON."""
        arrays = {"theta": self.network.theta}
        arrays |= {f"optimizer/{name}": array for name, array in self.optimizer.state.items()}
        if self.best_theta is not None:
            arrays["best/theta"] = self.best_theta
        return arrays, {"train": asdict(self.state), "t": self.optimizer.t}

    def _remember(self, arrays: dict[str, Array], said: dict[str, Any]) -> None:
        """Go on from there; of each array what this rank owns."""
        self._set_theta(arrays["theta"])
        self.best_theta = arrays.get("best/theta")
        self.optimizer.state = {
            name.removeprefix("optimizer/"): array for name, array in arrays.items() if name.startswith("optimizer/")
        }
        train = {name: value for name, value in said["train"].items() if name not in _FORMER_STATE}
        self.optimizer.t, self.state = said["t"], TrainState(**train)
        self.state.sums += [0.0] * (len(STATISTICS) - len(self.state.sums))  # of an earlier version
        self.schedule.state.update(self.state.schedule)

    def save(self, *, last: bool = False) -> None:
        """Write a checkpoint; an error of rank 0 is raised on all ranks. With `last` nothing goes on beside it."""
        assert self.saver is not None
        arrays, said = self._memory()
        theta = arrays.pop("theta")  # which is whole on every rank
        for name, mine in arrays.items():
            whole = self.reducer.gather(mine)
            if self.comm.is_root:
                arrays[name] = whole.copy()
            self.reducer.barrier()
        arrays["theta"] = theta.copy() if self.comm.is_root and self.saver.background else theta
        self.reducer.transport.forget()
        said["fingerprint"] = self.fingerprint
        self.saver.save(self.state.step, arrays, said, best=self.state.best_step, last=last)

    def resume(self) -> tuple[str, list[str]]:
        """Continue from the newest valid checkpoint, if there is one.

        Returns
        -------
        str, list of str
            Name of the file, or "", and warnings about damaged ones.

        Raises
        ------
        UserError
            When it belongs to another configuration, or every one is damaged.
        """
        assert self.saver is not None
        given, found = self.saver.newest(self.fingerprint)
        if found["name"]:
            arrays = {}
            for name in found["arrays"]:
                array = given.get(name, np.empty_like(self.network.theta))
                self.comm.bcast(array)
                arrays[name] = array[self.reducer.shard].copy()
            self._remember(arrays, found)
        return found["name"], found["warnings"]
