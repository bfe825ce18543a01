"""Automatic differentiation of plain NumPy code: see `reverse`, the page to read first."""

# these, and what they import, fill the tables
from distbp.autodiff import fourier, linear_algebra, no_derivative, products, selection, shapes, statistics
from distbp.autodiff.checking import check_grads
from distbp.autodiff.matrices import hessian_vector_product, jacobian
from distbp.autodiff.reductions import log_softmax, logsumexp, softmax
from distbp.autodiff.reverse import grad, value_and_grad, vjp
from distbp.autodiff.tables import NotDifferentiable, defvjp
from distbp.autodiff.tracing import primitive, value_of

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

del fourier, linear_algebra, no_derivative, products, selection, shapes, statistics
