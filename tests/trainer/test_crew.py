"""Ranks for which a host has no core sleep through the steps, and have the result of the others."""

from types import SimpleNamespace

import numpy as np
import pytest
from toy_training import STEPS, data, trainer

from distbp import Checkpoints, UserError
from distbp.comm.communicator import Communicator
from distbp.comm.host import with_core
from distbp.comm.threads import run_threads
from distbp.trainer.crew import Crew


@pytest.mark.parametrize(
    ("cores_of", "ranks"),
    [
        ({0: [0, 1], 1: [0, 1], 2: [0, 1]}, {0, 1}),
        ({3: [0], 5: [0], 6: [1]}, {3, 6}),  # two that are bound to one core
        ({0: [4]}, {0}),
    ],
)
def test_cores_go_to_the_ranks_that_come_first(cores_of, ranks):
    assert with_core(cores_of) == ranks


def on_two_cores(comm) -> Communicator:
    """Ranks 0 and 1 of each host have the cores."""
    comm.crowded, comm.has_core = True, comm.on_host().rank < 2
    return comm


def trained(comm, *, steps=STEPS, tmp_path=None, ranks_per_host=None, **options):
    """What each rank has after a training of the toy in which some sleep."""

    def run(comm):
        seen = []
        checkpoints = Checkpoints(tmp_path) if tmp_path is not None else None
        t = trainer(
            on_two_cores(comm), validation=data(seed=6), eval_every=10, log_every=10, on_record=seen.append,
            checkpoints=checkpoints, oversubscribe=False, **options,
        )  # fmt: skip
        resumed = t.resume()[0] if checkpoints is not None else ""
        outcome = t.fit(steps=steps)
        figures = t.evaluate(t.validation)
        theta = t.network.theta.copy()
        t.close()
        return SimpleNamespace(
            outcome=outcome, theta=theta, step=t.position.step, seen=seen, asleep=t.crew.asleep, resumed=resumed,
            figures=figures, best=t.judge.state.best_step, says=t.crew.describe(),
        )  # fmt: skip

    return run_threads(comm, run, ranks_per_host=ranks_per_host)


def two(**options):
    return trained(2, **options)[0]


@pytest.mark.parametrize("options", [{}, {"leaves": 4}, {"reduction": "allreduce"}, {"patience": 2}], ids=str)
def test_all_have_what_those_with_a_core_have_computed(options):
    ranks, alone = trained(4, **options), two(**options)
    assert [rank.asleep for rank in ranks] == [False, False, True, True]
    for rank in ranks:
        assert (rank.outcome, rank.step, rank.best) == (alone.outcome, alone.step, alone.best)
        assert np.array_equal(rank.theta, alone.theta)  # bit for bit the training of two ranks
        assert rank.figures == alone.figures
    without_clocks = [
        [{k: v for k, v in record.items() if "second" not in k} for record in rank.seen] for rank in (ranks[0], alone)
    ]
    assert without_clocks[0] == without_clocks[1] and ranks[2].seen == []
    assert ranks[0].says == "2 of 4 ranks compute, one for each core; the others sleep (--oversubscribe: all compute)"


def test_each_host_has_its_own_cores():
    ranks = trained(5, ranks_per_host=3)
    assert [rank.asleep for rank in ranks] == [False, False, True, False, False]
    np.testing.assert_allclose(ranks[2].theta, two().theta, rtol=1e-10, atol=1e-12)
    assert all(np.array_equal(rank.theta, ranks[0].theta) for rank in ranks)


def test_checkpoints_are_written_once_and_resumed_by_all(tmp_path):
    trained(4, steps=20, tmp_path=tmp_path, leaves=4, checkpoint_every=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:09d}.safetensors" for n in (14, 20)]
    resumed = trained(3, tmp_path=tmp_path, leaves=4, checkpoint_every=7)
    assert all(rank.resumed.endswith("step-000000020.safetensors") for rank in resumed)
    assert all(np.array_equal(rank.theta, two(leaves=4).theta) for rank in resumed)


def test_fit_may_be_called_again_and_a_checkpoint_saved_between(tmp_path):
    def run(comm):
        t = trainer(on_two_cores(comm), oversubscribe=False, checkpoints=Checkpoints(tmp_path))
        t.fit(steps=20)
        t.save()
        assert t.fit(steps=STEPS - 20) == "done" and t.position.step == STEPS
        return t.network.theta.copy()

    for theta in run_threads(3, run):
        assert np.array_equal(theta, two().theta)
    assert (tmp_path / "step-000000020.safetensors").exists()


def test_an_error_of_those_that_compute_is_one_of_all():
    rows = data()
    rows.take = lambda *arguments, **more: (_ for _ in ()).throw(UserError("no rows"))

    def run(comm):
        with pytest.raises(UserError) as caught:
            trainer(on_two_cores(comm), rows, oversubscribe=False).fit(steps=3)
        return str(caught.value)

    said = run_threads(3, run)
    assert said == ["no rows", "no rows", "the ranks that compute have failed"]


@pytest.mark.parametrize(
    ("change", "why"),
    [({"elastic": True}, "ranks that may be lost"), ({"shared_free": lambda: 0}, "no room in /dev/shm"), ({}, "")],
)
def test_where_it_cannot_work_all_compute_and_it_is_said(change, why):
    def run(comm):
        vars(on_two_cores(comm)).update(change)
        crew = Crew(comm, everyone=not change)
        return crew.comm is comm, crew.asleep, crew.describe()

    for all_compute, asleep, says in run_threads(3, run):
        assert all_compute and not asleep
        assert says == "" if not why else why in says and "as many ranks as cores are faster" in says
