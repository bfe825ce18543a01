"""Damaged tables: read or refused in one line, and no row lost without a word."""

import random
import sys
from pathlib import Path

import pytest
from grids import NIGHTLY

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_tables


@pytest.mark.parametrize("part", range(100 if NIGHTLY else 4))
def test_no_row_is_lost(tmp_path, part):
    for seed in range(1000 * part, 1000 * part + (1000 if NIGHTLY else 50)):
        assert not (wrong := fuzz_tables.one(random.Random(seed), tmp_path)), f"{seed}: {wrong}"
