"""The user's own model on the ranks of an MPI launch."""

import pytest
from function_twins import WAYS, assert_same, train

from distbp import SerialCommunicator


@pytest.fixture(scope="module")
def ours():
    return train(SerialCommunicator(), ours=True)


@pytest.mark.parametrize("options", WAYS)
def test_it_is_on_ranks_too(comm, options, ours):
    assert_same(ours, train(comm, **options))
