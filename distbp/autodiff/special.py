"""Functions of scipy.special, whose ufuncs NumPy hands over like its own; SciPy is not imported for them."""

import sys
from typing import Any

import numpy as np

from distbp.autodiff.tables import CONSTANT, RULES


def load_special() -> None:
    """Fill in the rules, where SciPy is loaded and they are not yet known."""
    s: Any = sys.modules.get("scipy.special")
    if s is None or getattr(s, "expit", None) is None or s.expit in RULES:
        return
    from distbp.autodiff import special_rules  # not before it is needed

    special_rules.s = s
    for name, rules in special_rules.SPECIAL_RULES.items():
        function = getattr(s._ufuncs, f"_{name}", None) or getattr(s, name, None)  # zeta is a function around a ufunc
        if isinstance(function, np.ufunc):
            RULES[function] = tuple(rules)
    for name in ("cbrt", "exp2", "expm1", "log1p"):  # its own ufuncs for what NumPy has, too
        RULES[getattr(s, name)] = RULES[getattr(np, name)]
    CONSTANT.add(s.round)
