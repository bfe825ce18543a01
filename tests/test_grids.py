"""The tests of a day try every value of an option beside every value of each other one."""

import itertools

from grids import pairs


def test_pairs_are_all_there_and_few():
    axes = [range(8), "abc", [None, {}, []], [False, True]]
    found = pairs(*axes)
    for (i, one), (k, other) in itertools.combinations(enumerate(axes), 2):
        for a, b in itertools.product(one, other):
            assert any(combination[i] is a and combination[k] is b for combination in found)
    assert len(found) == 24 < 144
