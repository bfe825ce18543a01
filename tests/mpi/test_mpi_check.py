"""The check of the gradient that the ranks of an MPI launch sum."""

import numpy as np
import pytest
from functions_for_check import SIZES

from distbp.check.gradients import recursion, summed_by_ranks
from distbp.check.problem import dense_problem
from distbp.gradient.choose import REDUCTIONS, gradient_reducer


@pytest.mark.parametrize("reduction", [r for r in REDUCTIONS if r != "auto"])
def test_the_gradient_that_ranks_sum(comm, reduction):
    problem = dense_problem(SIZES, "tanh", "squared-error")
    reference = recursion(problem)
    reducer = gradient_reducer(comm, problem.network, reduction, batch_size=len(problem.X))
    try:
        np.testing.assert_allclose(summed_by_ranks(problem, reducer), reference, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(summed_by_ranks(problem, reducer), reference, rtol=1e-12, atol=1e-15)
    finally:
        reducer.close()
