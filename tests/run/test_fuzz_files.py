"""Damaged files of runs, and damaged arrays and images: refused in one line, or as good as before."""

import random
import sys
from pathlib import Path

import pytest
from grids import NIGHTLY

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_files


@pytest.mark.parametrize("part", range(100 if NIGHTLY else 2))
def test_no_damaged_file_ends_in_a_traceback_or_is_taken(tmp_path, part):
    made, each = fuzz_files.files(tmp_path), 10_000 if NIGHTLY else 5000
    for seed in range(part * each, part * each + each):
        assert not (wrong := fuzz_files.one(random.Random(seed), made)), f"{seed}: {wrong}"
