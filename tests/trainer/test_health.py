"""A flipped bit in one replica is found and named; a slow rank is named."""

import numpy as np
import pytest
from test_losses_of_ranks import trained

from distbp import UserError, run_threads
from distbp.trainer.stragglers import slow_ranks


def flipper(rank, *, bit=1, layer=1, bias=False):
    def on_step(trainer):
        if trainer.comm.rank == rank and trainer.position.step == 3:
            part = trainer.network.layers[layer]
            where = part.bias if bias else part.weights
            trainer.network.theta[where].view("u4")[-1] ^= np.uint32(bit)

    return on_step


@pytest.mark.parametrize(
    ("size", "rank", "options", "who"),
    [
        (3, 2, {}, r"rank 2 on \S+ differ from the others' in layer 1 \(weights\)"),
        (4, 0, {"layer": 0}, r"rank 0 on \S+ differ from the others' in layer 0 \(weights\)"),
        (3, 1, {"bias": True, "bit": 1 << 31}, r"rank 1 on \S+ differ from the others' in layer 1 \(biases\)"),
        # of two nobody knows which one is right
        (2, 1, {}, r"rank 0 on \S+, rank 1 on \S+ differ from"),
    ],
)
def test_a_flipped_bit_stops_the_run_at_the_next_audit(size, rank, options, who):
    def work(comm):
        trained(comm, reduction="allreduce", audit_every=2, on_step=flipper(rank, **options))

    with pytest.raises(UserError, match=rf"step 4: the parameters of {who}"):
        run_threads(size, work)


@pytest.mark.parametrize("options", [{"reduction": "allreduce"}, {"reduction": "shared"}, {"leaves": None}])
def test_replicas_that_are_equal_pass(options):
    run_threads(4, lambda comm: trained(comm, audit_every=1, **options), ranks_per_host=2)


def test_replicas_on_two_hosts_that_share_memory_on_each():
    def work(comm):
        trained(comm, reduction="shared", audit_every=1, on_step=flipper(3, layer=1))

    with pytest.raises(UserError, match="differ from the others' in layer 1"):
        run_threads(4, work, ranks_per_host=2)


@pytest.mark.parametrize(
    ("seconds", "slow"),
    [([1.0, 1.1, 0.9], []), ([1.0, 1.0, 2.0, 1.0], [2]), ([1.0, 3.0], [1]), ([1.0], []), ([0.0, 1.0], []), ([], [])],
)
def test_slow_ranks(seconds, slow):
    assert list(slow_ranks(seconds)) == slow


def test_a_slow_rank_is_named_in_the_log(monkeypatch):
    import time

    said = []
    monkeypatch.setattr("distbp.trainer.stragglers._ENOUGH", 0.001)

    def work(comm):
        def slow(trainer):
            original = trainer.loss.value

            def value(*arguments, **more):
                time.sleep(0.02 if comm.rank == 1 else 0.001)
                return original(*arguments, **more)

            if trainer.position.step == 1:
                object.__setattr__(trainer.loss, "value", value)

        trained(comm, on_step=slow, on_remark=said.append)

    run_threads(3, work)
    assert said and all("warning: rank 1 on " in line and "times as long as the others" in line for line in said[3:])
