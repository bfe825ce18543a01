"""How the ranks' parts of a batch become one gradient: begin with `plan`.

A reducer runs a plan (`data_parallel`, `unit_parallel`) in a memory, with a transport; `choose` picks what suits.
"""

from distbp.gradient.choose import gradient_reducer
from distbp.gradient.reducer import GradientReducer

__all__ = ["GradientReducer", "gradient_reducer"]
