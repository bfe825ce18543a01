"""A `Trainer` from flat options, as tests like them."""

from distbp import (
    Batches,
    Components,
    Gradient,
    Judge,
    Log,
    NoiseScale,
    Nonfinite,
    Observer,
    Saver,
    SerialCommunicator,
    Trainer,
)

OF = {
    "batches": {"batch_size": "size", "seed": "seed", "drop_last": "drop_last"},
    "gradient": {
        name: name
        for name in (
            "reduction", "leaves", "micro_batch", "bucket_bytes", "compress", "compress_rank", "oversubscribe",
        )
    },
    "judge": {
        "eval_every": "every", "monitor": "monitor", "patience": "patience", "target": "target",
        "keep_best": "keep_best",
    },
    "saver": {
        "checkpoint_every": "every", "fingerprint": "fingerprint", "on_checkpoint_error": "on_error",
        "checkpoint_async": "background",
    },
    "observer": {name: name for name in ("on_record", "on_step", "on_lost", "on_remark")},
    "beside": {"audit_every": "audit_every", "least_ranks": "least_ranks"},
}  # fmt: skip


def flat_trainer(network, loss, optimizer, rows, *, comm=None, checkpoints=None, clip_norm=None, **options):
    """A trainer with components from options such as ``log_every`` and ``leaves``; all ranks compute."""
    comm = comm or SerialCommunicator()
    options.setdefault("oversubscribe", True)

    def take(group):
        return {there: options.pop(here) for here, there in OF[group].items() if here in options}

    saving = take("saver")
    saver = Saver(checkpoints, comm, **saving) if checkpoints is not None else None
    components = Components(
        log=Log(options.pop("log_every", 0)),
        judge=Judge(**take("judge")),
        noise=NoiseScale(options.pop("noise_every", 0)),
        nonfinite=Nonfinite(options.pop("on_nonfinite", "stop")),
        saver=saver,
        **take("beside"),
    )
    optimizer.clip_norm = clip_norm
    return Trainer(
        network, loss, optimizer, rows, comm=comm, batches=Batches(**take("batches")),
        gradient=Gradient(**take("gradient")), components=components, observer=Observer(**take("observer")), **options,
    )  # fmt: skip
