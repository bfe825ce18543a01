"""Random sets of options: they train, or are refused in one line."""

import random
import sys
from pathlib import Path

import pytest
from grids import NIGHTLY

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_options


@pytest.mark.parametrize("part", range(100 if NIGHTLY else 2))
def test_options_that_nobody_has_put_together(tmp_path, monkeypatch, part):
    monkeypatch.chdir(tmp_path)
    data, each = fuzz_options.made(tmp_path), 100 if NIGHTLY else 50
    for seed in range(part * each, part * each + each):
        line, _, wrong = fuzz_options.one(random.Random(seed), data, tmp_path)
        assert not wrong, f"{seed}: {line}: {wrong}"
