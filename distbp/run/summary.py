"""What a run says in whole lines: before it begins, when it has ended, and instead of it."""

import tempfile
from pathlib import Path
from typing import Any

from distbp.data.prepared import Data
from distbp.run.next_step import IN_MEMORY, command
from distbp.run.options import TrainConfig
from distbp.run.results import lines_of
from distbp.trainer.trainer import Trainer


def opening(data: Data, trainer: Trainer, path: Path) -> str:
    """Return the first lines of a run: data, network, batch, ranks."""
    parts = [f"{data.train.n_rows:,} rows to train"]
    for name, part in (("validate", data.validation), ("test", data.test)):
        if part is not None:
            parts.append(f"{part.n_rows:,} to {name}")
    net, ranks = trainer.network, trainer.comm.size
    columns = f"{data.summary}\n" if data.summary else ""
    return (
        f"{data.target}: {', '.join(parts)}\n{columns}"
        f"{net.describe()}, {net.n_parameters + sum(table.size for table in net.embeddings):,} parameters,"
        f" {trainer.loss.name}, batch {trainer.sampler.batch_size} on {ranks} rank{'s' * (ranks > 1)}; {path}"
    )


def closing(results: dict[str, Any], config: TrainConfig, trainer: Trainer, path: Path) -> list[str]:
    """Return the last lines of a run: what was reached, which model was kept, and how to use it."""
    lines = [_kept(results, trainer)] if trainer.judge.keep_best else []
    if config.target_metric:
        met = "reached" if results["outcome"] == "target" else "not reached"
        lines.append(f"target {config.target_metric}: {met} at step {results['step']}")
    lines += lines_of(results)
    use = f"; model: {path / 'model.safetensors'}, use it: {command('distbp.predict', path, 'DATA')}"
    passing = config.data == IN_MEMORY and path.parent == Path(tempfile.gettempdir())
    rate = f"{results['samples_per_second']:,.0f} samples/s"
    lines.append(f"{results['step']:,} steps in {results['seconds']:.1f} s, {rate}{'' if passing else use}")
    return lines


def _kept(results: dict[str, Any], trainer: Trainer) -> str:
    """Return which model was kept, and how much worse the last one was."""
    step, metric = results.get("best step"), trainer.judge.monitor
    if results["outcome"] == "target":
        return f"kept the model of step {results['step']:,}, which reached the target"
    if step is None:
        return "kept the last model: there are no rows to validate on, or no evaluation was due"
    best, last = results[f"best {metric}"], results[f"last {metric}"]
    text = f"kept the model of epoch {trainer.sampler.epochs(step):.4g} (step {step:,}): {metric} {best:.4g}"
    if step == results["step"] or not (best and last):
        return text
    return f"{text}; the last one had {last:.4g}, {abs(last - best) / abs(best):.1%} worse"


def plan_of(config: TrainConfig, data: Data, trainer: Trainer, threads: int) -> str:
    """Return what ``--dry-run`` prints: configuration, network, memory and messages."""
    net, shard = trainer.network, trainer.reducer.shard
    rows = -(-trainer.sampler.batch_size // trainer.crew.comm.size)
    rows = min(rows, trainer.gradient.micro_batch or rows)
    states = len(trainer.optimizer.buffers)
    mib = net.dtype.itemsize / 2.0**20  # of a number
    parts = [part for part in (data.train, data.validation, data.test) if part and part.in_memory]
    in_memory = sum(part.n_rows * data.preprocessor.n_inputs * part.dtype.itemsize for part in parts)
    lines = [
        config.to_toml(),
        opening(data, trainer, Path(config.run_dir or "(new run directory)")),
        "",
        *net.table(),
        "",
        f"memory per rank: parameters, gradient and {states} optimizer arrays"
        f" {(2 + states) * (shard.stop - shard.start) * mib:.2f} MiB, activations of {rows} rows"
        f" {rows * net.kept_per_row() * mib:.2f} MiB, data {in_memory / 2.0**20:.2f} MiB",
        trainer.reducer.describe(),
        f"{trainer.sampler.steps_per_epoch} steps an epoch, {threads} BLAS thread{'s' * (threads > 1)} a rank",
    ]
    return "\n".join(lines)
