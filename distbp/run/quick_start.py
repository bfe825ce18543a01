"""Imported first: what makes the imports of a thousand ranks faster.

OpenBLAS starts without a pool of threads, which `limited_blas` makes where they are due: ranks that share cores wait
for each other's pools, 60 ms of a start of four ranks on two cores. And nothing that is imported is garbage, so nobody
looks for any meanwhile, a tenth of the time, nor later: see `imported`.
"""

import gc
import os
import sys

gc.disable()
if "numpy" not in sys.modules and os.environ.get("OPENBLAS_NUM_THREADS") is None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import numpy  # noqa: F401

    del os.environ["OPENBLAS_NUM_THREADS"]


def imported() -> None:
    """Look for garbage from now on, among what is made from now on."""
    gc.freeze()
    gc.enable()
