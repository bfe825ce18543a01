"""How much of a batch is computed, and by whom: numbers of a row, and a rank's part of the multiplications."""

from collections.abc import Sequence

from distbp.network.dense import Network


def row_numbers(network: Network) -> int:
    """Return the number of activations and deltas of one row."""
    return network.sizes[0] + sum(network.sizes[1:-1]) + sum(network.sizes[1:])


def share_of_work(network: Network, units: Sequence[int], rows: float, parameters: int) -> float:
    """Return the part of the multiplications of a batch that a rank does.

    It computes some `units` of each hidden layer for all rows, the last layer for a part of the `rows`, and the
    gradient of so many `parameters`.
    """
    sizes = network.sizes
    computed = _passes(sizes, [*units, sizes[-1] * rows]) + parameters
    return computed / (_passes(sizes, sizes[1:]) + network.n_parameters)


def _passes(sizes: Sequence[int], units: Sequence[float]) -> float:
    """Return how many weights so many units of each layer are multiplied with, forward and back."""
    forward = sum(n * mine for n, mine in zip(sizes, units, strict=False))
    return forward + sum(n * mine for n, mine in zip(sizes[2:], units, strict=False))
