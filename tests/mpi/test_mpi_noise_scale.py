"""The noise scale that the ranks of an MPI launch estimate."""

import pytest
from noise_by_rows import WAYS, assert_is, expected, logged


@pytest.mark.parametrize("options", WAYS)
def test_rows_give_the_definition_on_ranks(comm, options):
    assert_is(logged(comm, **options), expected())
