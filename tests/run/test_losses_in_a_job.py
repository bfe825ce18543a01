"""A job of threads of which one dies, in the training or while the model is judged and written."""

import io

from grids import NIGHTLY
from mortal_threads import Death, run_mortal_threads

from distbp.errors import DONE
from distbp.run.config import config_of
from distbp.run.job import Job
from distbp.watch.watcher import Watcher

OPTIONS = {
    "data": "digits", "recipe": "plain", "hidden": "8", "epochs": 1, "batch_size": 256, "exact": True, "leaves": 4,
    "report": "none", "hang_timeout": 0.0,
}  # fmt: skip


class Counted(Job):
    """A job that remembers in which collective its training began."""

    began_at = None

    def _train(self):
        self.began_at = self.began_at or self.comm.recorder.count
        return super()._train()


def run(folder, deaths=()):
    """Return what rank 0 said, the model, and between which collectives it trained, judged and wrote."""
    said = io.StringIO()

    def work(comm):
        job = Counted(config_of(OPTIONS | {"run_dir": str(folder)}, "the test"), comm, 1, Watcher(), stream=said)
        return job.run(), job.began_at, comm.recorder.count

    left = [found for found in run_mortal_threads(3, work, deaths) if found is not None]
    assert [code for code, *_ in left] == [DONE] * (3 - len(deaths))
    return said.getvalue(), (folder / "model.safetensors").read_bytes(), left[0][1:]


def closing(said):
    return [line for line in said.splitlines() if line.startswith(("validation", "test"))]


def test_a_loss_in_any_collective(tmp_path):
    said, model, (first, end) = run(tmp_path / "whole")
    seen = set()
    for k in range(first + 1, end, 1 if NIGHTLY else 3):
        now, other, _ = run(tmp_path / str(k), [Death(1, k)])
        assert other == model and closing(now) == closing(said) != [], k
        assert "samples/s; model: " in now and (tmp_path / str(k) / "results.json").exists(), k
        seen |= {where for where in ("in step", "after the training") if where in now}
    assert seen == {"in step", "after the training"}
