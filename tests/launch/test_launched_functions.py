"""The user's own activation, loss and model from the command line."""

import json

from front_doors import PREDICT
from function_twins import MINE
from grids import NIGHTLY


def test_train_on_three_ranks_resume_on_two(tmp_path, launch, here):
    """Activation, loss and model by name; the file holds the names, and the same parameters as an undisturbed run."""
    (tmp_path / "mine.py").write_text(MINE)
    base = "-m distbp.train --recipe plain --loss mine:cross_entropy --exact --leaves 6".split()
    base += "--batch-size 60 --log-every 10".split()
    for own in ["--model", "mine:model"], ["--activation", "mine:softsign", "--hidden", "20"]:
        stopped, whole = f"stopped-{own[1][5:]}", f"whole-{own[1][5:]}"
        for arguments, ranks in (
            (["--steps", "30", "--run-dir", stopped], 3),
            (["--steps", "60", "--run-dir", stopped, "--resume", "auto"], 2),
            (["--steps", "60", "--run-dir", whole], 0),
        ):
            command = (*base, *own, *arguments)
            done = launch(*command, ranks=ranks) if ranks and (NIGHTLY or own[0] == "--model") else here(*command)
            assert done.returncode == 0, done.stderr
        models = [(tmp_path / run / "model.safetensors").read_bytes() for run in (stopped, whole)]
        assert models[0] == models[1]
        header = models[1]
        assert b"mine:cross_entropy" in header and own[1].encode() in header and b"np.exp" not in header
        results = json.loads((tmp_path / whole / "results.json").read_text())
        assert results["accuracy/test"] > 0.3
        predicted = here(*PREDICT, whole, "digits")
        assert predicted.returncode == 0 and len(predicted.stdout.splitlines()) == 1798
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        alone = launch(*PREDICT, f"../{whole}", "digits", cwd=tmp_path / "elsewhere")
        assert alone.returncode == 1 and "Traceback" not in alone.stderr
        assert "there is no module 'mine' in this folder or on the Python path" in alone.stderr
