"""How the ranks' parts of a batch become one gradient."""

from distbp.gradient.reducer import GradientReducer

__all__ = [
    "GradientReducer",
]
