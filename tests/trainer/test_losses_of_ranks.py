"""A rank may die in any collective: the others go on, and end with the bits of a run that nobody disturbed."""

import json

import numpy as np
import pytest
from conftest import prepared
from flat import flat_trainer
from grids import NIGHTLY
from mortal_threads import Death, run_mortal_threads

from distbp import (
    Checkpoints,
    Network,
    Schedule,
    SerialCommunicator,
    SoftmaxCrossEntropy,
    UserError,
)
from distbp.errors import RankLost
from distbp.optim.rules import Adam
from distbp.trainer.state import SETTLED, UNSETTLED

STEPS, LEAVES = 6, 4


def data(rows, seed):
    rng = np.random.default_rng(seed)
    return prepared(rng.standard_normal((rows, 5)), rng.integers(0, 3, rows))


TRAIN, VALIDATION = data(61, 0), data(30, 1)


def trained(comm, folder=None, *, leaves=LEAVES, steps=STEPS, **options):
    """Log, evaluation, checkpoint, early stopping, plateau: all that comes after a step, at one step or another."""
    records = {}
    network = Network([5, 6, 3], "tanh", dropout=0.2, seed=3)
    trainer = flat_trainer(
        network, SoftmaxCrossEntropy(), Adam(5e-2), TRAIN, validation=VALIDATION, comm=comm, batch_size=17,
        schedule=Schedule("plateau", patience=0), leaves=leaves, patience=9, monitor="accuracy/val", log_every=2,
        eval_every=3, checkpoint_every=4, checkpoints=folder and Checkpoints(folder), clip_norm=0.5,
        on_record=lambda record: records.update({record["step"]: record}), **options,
    )  # fmt: skip
    comm.agree()
    start = comm.recorder.count
    while True:
        with trainer.survival:
            outcome = trainer.fit_until(steps=steps)
            span = range(start + 1, comm.recorder.count + 1)
            comm.agree()
            break
    times = ("seconds", "samples_per_second")
    log = [{k: v for k, v in record.items() if k not in times} for record in records.values()]
    return {"theta": network.theta.tobytes(), "log": json.dumps(log), "span": span, "outcome": outcome}


@pytest.fixture(scope="module", params=["rows", "units"])
def undisturbed(request):
    """With both kinds of exact reducer, whichever would suit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distbp.gradient.choose.shares_units", lambda *_: request.param == "units")
        yield trained(SerialCommunicator())


def check(results, undisturbed, dead):
    assert [r is None for r in results] == [rank in dead for rank in range(len(results))]
    for result in results:
        if result is not None:
            assert result["theta"] == undisturbed["theta"]
            assert (result["log"], result["outcome"]) == (undisturbed["log"], undisturbed["outcome"])


def collectives(size, folder):
    (first, *_) = run_mortal_threads(size, lambda comm: trained(comm, folder), deaths=[])
    return first["span"]


HEARD_BY = [(), (0,), (1,), (2,), (0, 2)]


@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize("heard_by", HEARD_BY, ids=str)
def test_a_loss_in_any_collective(rank, heard_by, undisturbed, tmp_path):
    """Where some have the part of the dead rank and are a step ahead, too; by day a third of them in each test."""
    if rank in heard_by:
        return
    span = collectives(3, tmp_path / "whole")
    for n in span if NIGHTLY else span[(rank + HEARD_BY.index(heard_by)) % 3 :: 3]:
        deaths = [Death(rank, n, frozenset(heard_by))]
        results = run_mortal_threads(3, lambda comm, n=n: trained(comm, tmp_path / str(n)), deaths=deaths)
        check(results, undisturbed, {rank})


@pytest.mark.parametrize("seed", range(60 if NIGHTLY else 20))
def test_several_losses_down_to_one_rank(seed, undisturbed, tmp_path):
    """One after the other, some at once, some while the others still recover from the one before."""
    rng = np.random.default_rng(seed)
    span = collectives(4, tmp_path / "whole")
    count = int(rng.integers(2, 4))
    ranks = [int(rank) for rank in rng.permutation(4)[:count]]
    first = int(rng.choice(span))
    places = [first, *(first + int(k) for k in rng.integers(0, 12, count - 1))]
    deaths = [Death(rank, n) for rank, n in zip(ranks, places, strict=True)]
    results = run_mortal_threads(4, lambda comm: trained(comm, tmp_path / "run"), deaths=deaths)
    dead = {rank for rank, result in enumerate(results) if result is None}
    assert dead <= set(ranks) and ranks[0] in dead
    check(results, undisturbed, dead)


@pytest.mark.parametrize("reduction", ["allreduce", "overlap"])
def test_without_exact_mode_the_same_to_rounding(reduction, tmp_path):
    options = {"leaves": None, "reduction": reduction, "bucket_bytes": 128}
    alone = np.frombuffer(trained(SerialCommunicator(), leaves=None)["theta"], np.float32)
    results = run_mortal_threads(
        3, lambda comm: trained(comm, tmp_path, **options), deaths=[Death(1, 30), Death(0, 60)]
    )
    for result in results:
        if result is not None:
            np.testing.assert_allclose(np.frombuffer(result["theta"], np.float32), alone, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n", range(8, 30))
def test_a_stop_and_a_loss(n, undisturbed, tmp_path):
    """Whoever dies meanwhile: all that are left stop at the same step, and a resume ends with the same bits."""

    def stop(trainer):
        if trainer.comm.name == 1 and trainer.position.step == 2:
            trainer.request_stop()

    results = run_mortal_threads(3, lambda comm: trained(comm, tmp_path, on_step=stop), deaths=[Death(0, n)])
    left = [result for result in results if result is not None]
    assert len({result["outcome"] for result in left}) == len({result["theta"] for result in left}) == 1
    if left[0]["outcome"] == "stopped":
        assert Checkpoints(tmp_path).all()[-1].name < "step-000000006"


def test_a_call_after_a_stop_goes_on_though_a_rank_was_lost_before():
    def run(comm):
        network = Network([5, 4, 3], "tanh", seed=3)
        trainer = flat_trainer(network, SoftmaxCrossEntropy(), Adam(5e-2), TRAIN, comm=comm, batch_size=17, leaves=4)
        trainer.observer.on_step = lambda t: t.position.step == 4 and t.request_stop()
        start = comm.recorder.count
        return trainer.fit_until(steps=8), comm.size, trainer.fit_until(steps=8), trainer.position.step, start

    start = run_mortal_threads(3, run, deaths=[])[0][-1]
    results = run_mortal_threads(3, run, deaths=[Death(1, start + 2)])
    assert [result and result[:-1] for result in results] == [
        ("stopped", 2, "done", 8),
        None,
        ("stopped", 2, "done", 8),
    ]


def test_too_few_ranks_stop_with_a_checkpoint(tmp_path):
    lost = []
    results = run_mortal_threads(
        3, lambda comm: trained(comm, tmp_path, least_ranks=3, on_lost=lambda names, s: lost.append(names)),
        deaths=[Death(2, 20)],
    )  # fmt: skip
    assert [result and result["outcome"] for result in results] == ["stopped", "stopped", None]
    assert lost == [[2], [2]] and Checkpoints(tmp_path).all()


def test_an_error_that_is_no_loss_is_not_recovered_from_for_ever(tmp_path):
    def fails(trainer):
        if trainer.position.step == 2:
            raise RankLost("MPI_ERR_TRUNCATE")

    def work(comm):
        def again(trainer):
            trainer.position.phase = UNSETTLED if trainer.position.step == 2 else SETTLED
            fails(trainer)

        trained(comm, tmp_path, on_step=again)

    with pytest.raises(
        UserError, match="MPI fails again and again, and no rank is lost: (MPI_ERR_TRUNCATE|a rank has died)"
    ):
        run_mortal_threads(2, work, deaths=[])


def test_a_shared_optimizer_state_is_refused():
    with pytest.raises(UserError, match="--reduction shared: .* would be lost"):
        run_mortal_threads(2, lambda comm: trained(comm, reduction="shared"), deaths=[])
