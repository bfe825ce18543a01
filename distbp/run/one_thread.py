"""Imported before NumPy: lets OpenBLAS start without a pool of threads, which `limited_blas` makes where they are due.

Ranks that share cores wait for each other's pools: 60 ms of a start of four ranks on two cores.
"""

import os
import sys

if "numpy" not in sys.modules and os.environ.get("OPENBLAS_NUM_THREADS") is None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy  # noqa: F401

    del os.environ["OPENBLAS_NUM_THREADS"]
