"""The machine: threads of a rank, and whether OpenBLAS runs the kernel that the CPU deserves."""

import json
import subprocess
import sys

import pytest

from distbp import SerialCommunicator, UserError, run_threads
from distbp.run import blas
from distbp.run.blas import bits_depend_on, blas_threads, different_bits, kernel_warning, limited_blas, slow_kernel
from distbp.run.manifest import bits_of, describe


def cpu(vendor, family, flags):
    one = f"vendor_id\t: {vendor}\ncpu family\t: {family}\nflags\t\t: fpu {flags}\n\n"
    return one + one.replace(flags, "fpu")  # the first core counts


ZEN4 = cpu("AuthenticAMD", 25, "avx avx2 fma avx512f")
ZEN5 = cpu("AuthenticAMD", 26, "avx avx2 fma avx512f")
INTEL = cpu("GenuineIntel", 6, "avx avx2 fma avx512f")
ZEN2 = cpu("AuthenticAMD", 23, "avx avx2 fma")


@pytest.mark.parametrize(
    ("kernel", "info", "forced", "says"),
    [
        ("Haswell", ZEN5, "Haswell", "512 bits, at about half the speed: unset OPENBLAS_CORETYPE, which is Haswell"),
        ("Haswell", INTEL, None, "set OPENBLAS_CORETYPE=SkylakeX"),
        ("Zen", ZEN5, None, "its Zen kernel (256 bits)"),
        ("Nehalem", ZEN2, None, "set OPENBLAS_CORETYPE=Haswell"),
        ("Haswell", ZEN4, "Haswell", ""),  # measured: 107 against 101 GFLOP/s
        ("SkylakeX", INTEL, None, ""),
        ("Zen", ZEN2, None, ""),
        ("neoversen1", "processor : 0\n", None, ""),
        ("a kernel of the future", INTEL, None, ""),
        ("Haswell", "", None, ""),
    ],
)
def test_a_kernel_that_is_slower_than_the_cpu_allows(kernel, info, forced, says):
    said = slow_kernel(kernel, info, forced)
    assert says in said and bool(says) == bool(said)


def test_this_machine_has_a_verdict():
    assert isinstance(kernel_warning(), str)


class Ranks(SerialCommunicator):
    def __init__(self, host_cores, host_ranks):
        super().__init__()
        self.host_cores, self.host_ranks = host_cores, host_ranks


@pytest.mark.parametrize(
    ("cores", "ranks", "mine", "threads"), [(8, 1, 8, 8), (8, 3, 8, 2), (2, 4, 2, 1), (8, 2, 3, 3)]
)
def test_each_rank_has_its_share_of_the_cores(monkeypatch, cores, ranks, mine, threads):
    monkeypatch.setattr("distbp.run.blas.available_cores", lambda: list(range(mine)))
    assert blas_threads(Ranks(cores, ranks)) == threads


def test_the_limit_ends_with_its_block():
    from threadpoolctl import threadpool_info

    def now():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = now()
    with limited_blas(Ranks(1, 1)) as threads:
        assert threads == 1 and set(now()) == {1}
    assert now() == before


def test_the_manifest_names_the_kernel():
    manifest = describe(SerialCommunicator())
    assert manifest["ranks"][0]["blas"][0]["architecture"]


def test_a_second_blas_is_not_what_bits_depend_on():
    pytest.importorskip("scipy")
    script = "from distbp.run.blas import *; import scipy.linalg; print(bits_depend_on()['BLAS'])"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60).stdout.split()
    assert said == bits_depend_on()["BLAS"].split()


def test_what_bits_depend_on_is_compared(tmp_path, monkeypatch):
    here = bits_depend_on()
    assert here["numpy"] and here["BLAS"] and here["CPU"]
    path = tmp_path / "manifest.json"
    assert bits_of(path) is None
    path.write_text("no json")
    assert bits_of(path) is None
    path.write_text(json.dumps(describe(SerialCommunicator())))
    assert bits_of(path) == here and different_bits(SerialCommunicator(), here) == []
    (said,) = different_bits(SerialCommunicator(), here | {"numpy": "1.0"})
    assert said.startswith("bits may differ from those of a run in one piece: before and now numpy is '1.0' and '")

    def of_ranks(*theirs, **how):
        mixed = iter(theirs)
        monkeypatch.setattr(blas, "bits_depend_on", lambda: next(mixed))
        first, *others = run_threads(3, lambda comm: different_bits(comm, None, **how))
        assert others == [first, first]
        return first

    mkl = here | {"BLAS": "mkl"}
    with pytest.raises(UserError, match=r"--exact: bits may depend on .*'mkl'.*--mixed-hosts"):
        of_ranks(here, mkl, here)
    (said,) = of_ranks(here, mkl, here, mixed=True)
    assert "bits may depend on the number of ranks" in said and "'mkl'" in said
    (said,) = of_ranks(here, mkl, here, exact=False)
    assert "different BLAS kernels" in said and "mkl" in said
    (said,) = of_ranks(here, here | {"CPU": "another one"}, here)  # the same instructions: only a remark
    assert "another one" in said
    assert of_ranks(here, here | {"CPU": "another one"}, here, exact=False) == []
    assert of_ranks(here, here, here) == []
