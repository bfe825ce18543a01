"""Automatic differentiation of plain NumPy code: see `reverse`, the page to read first."""

from distbp.autodiff import algebra, compositions, fourier, no_derivative, rearrangements  # they fill the tables
from distbp.autodiff.checking import check_grads
from distbp.autodiff.compositions import log_softmax, logsumexp, softmax
from distbp.autodiff.derivatives import defvjp
from distbp.autodiff.reverse import grad, hessian_vector_product, jacobian, value_and_grad, vjp
from distbp.autodiff.tracing import NotDifferentiable, primitive, value_of

__all__ = [
    "NotDifferentiable",
    "check_grads",
    "defvjp",
    "grad",
    "hessian_vector_product",
    "jacobian",
    "log_softmax",
    "logsumexp",
    "primitive",
    "softmax",
    "value_and_grad",
    "value_of",
    "vjp",
]

del algebra, compositions, fourier, no_derivative, rearrangements
