"""Automatic differentiation of plain NumPy code: see `reverse`, the page to read first."""

# these, and what they import, fill the tables
from distbp.autodiff import fourier, linear_algebra, no_derivative, products, selection, shapes, statistics
from distbp.autodiff.checking import check_grads
from distbp.autodiff.matrices import hessian, hessian_vector_product, jacobian, jvp
from distbp.autodiff.reductions import log_softmax, logsumexp, softmax
from distbp.autodiff.rematerialise import checkpoint
from distbp.autodiff.reverse import grad, value_and_grad, vjp
from distbp.autodiff.shapes import array, c_, r_
from distbp.autodiff.tables import NotDifferentiable, defvjp
from distbp.autodiff.tracing import primitive, value_of

__all__ = [
    "NotDifferentiable",
    "array",
    "c_",
    "check_grads",
    "checkpoint",
    "defvjp",
    "grad",
    "hessian",
    "hessian_vector_product",
    "jacobian",
    "jvp",
    "log_softmax",
    "logsumexp",
    "primitive",
    "r_",
    "softmax",
    "value_and_grad",
    "value_of",
    "vjp",
]

del fourier, linear_algebra, no_derivative, products, selection, shapes, statistics
