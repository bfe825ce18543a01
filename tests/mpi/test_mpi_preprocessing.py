"""The fit of a preprocessor on the ranks of an MPI launch."""

import pytest
from fits import SERIAL, fit_values, fit_weighted

from distbp.data import moments


@pytest.mark.parametrize("fit", [fit_weighted, fit_values])
def test_the_fit_gives_the_same_bits_on_any_number_of_ranks(monkeypatch, fit, comm):
    monkeypatch.setattr(moments, "BLOCK_ELEMENTS", 1)
    assert fit(comm) == fit(SERIAL)
