"""Recovery: after a loss all ranks that are left stand at the same place of the run.

When a rank dies in a collective, some of the others may have its result, and be a step ahead. Nobody undoes a step:
whoever is behind gets everything from one that is ahead.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distbp.comm.communicator import Communicator

__all__ = ["catch_up"]

Array = NDArray[Any]


def catch_up(
    comm: Communicator, place: list[int], arrays: dict[str, Array], said: dict[str, Any]
) -> tuple[dict[str, Array], dict[str, Any]] | None:
    """What a rank that is ahead remembers, for one that is behind; None for one that is not.

    Parameters
    ----------
    comm : Communicator
        The ranks that are left.
    place : list of int
        How far this rank is: the greater, the further.
    arrays, said : dict
        All that it remembers: arrays of one length and dtype, one of them ``theta``; and JSON.

    Raises
    ------
    RankLost
        On all ranks, if another one is lost meanwhile; then all are where they were.
    """
    places: list[list[int]] = comm.allgather_obj(place)
    source = places.index(max(places))
    if min(places) == places[source]:
        return None
    said = comm.bcast_obj(said | {"arrays": list(arrays)}, source)
    mine = comm.rank == source
    given = {name: arrays[name] if mine else np.empty_like(arrays["theta"]) for name in said["arrays"]}
    for array in given.values():
        comm.bcast(array, source)
    comm.agree()  # nobody begins to change what it has before all have it all
    return (given, said) if place < places[source] else None
