"""Ways of reduction from the command line."""

import numpy as np
from front_doors import QUICK, TRAIN, lines


def test_overlapped_reduction_gives_the_same_losses(launch, tmp_path):
    for name in ("allreduce", "overlap"):
        options = (*QUICK[:-1], name, "--dtype", "float64", "--reduction", name, "--bucket-mb", "0.001")
        assert launch(*TRAIN, *options, ranks=3).returncode == 0
    a, b = ([r["loss/train"] for r in lines(tmp_path / name)] for name in ("allreduce", "overlap"))
    np.testing.assert_allclose(a, b, rtol=1e-10)
