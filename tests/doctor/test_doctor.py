"""The doctor: every judgement with planted figures, every measurement on real ranks, and no hang, ever."""

import json
import sys
from typing import NamedTuple

import numpy as np
import pytest
from doctor_contract import agree
from test_launchers import (
    BATCH,
    BY_HAND,
    DAEMON,
    DEBIAN_OPEN_MPI,
    MPICH,
    MPICH_RUN,
    OPEN_MPI,
    OPEN_MPI_RUN,
    PMIX_MPICH,
    SRUN,
    SRUN_PMI2,
    SRUN_PMIX,
)

from distbp import run_threads
from distbp.comm.launchers import launch_of
from distbp.comm.serial import SerialCommunicator
from distbp.doctor import __main__ as doctor
from distbp.doctor import files, machine, network
from distbp.doctor.files import Disk, file_system, probe_folder
from distbp.doctor.finding import FAILURE, OK, WARNING, Finding, Report, worst
from distbp.doctor.launch import Library, claimed_rank, judge_fault_tolerance, judge_launch, judge_library
from distbp.doctor.machine import control_group
from distbp.doctor.network import fit, judge_curve, judge_shared_memory, why_not_large

MiB, GiB = 1 << 20, 1 << 30
HOSTS = ["a", "a", "b", "b"]


class Planted(SerialCommunicator):
    """Rank 0 among others: these are the hosts, and what each rank has measured."""

    def __init__(self, hosts, *columns):
        super().__init__()
        self._rows = list(zip(hosts, *columns, strict=True))

    def allgather_obj(self, value):
        return self._rows


# --- launch and library ----------------------------------------------------------------------------------

OTHER = "Some MPI 1.0"
SEVERAL = {"SLURM_JOB_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("environ", "library", "status", "word"),
    [
        (BY_HAND, OPEN_MPI, OK, "no launcher"),
        (BY_HAND, "", OK, "no launcher"),
        (BATCH, OPEN_MPI, OK, "batch step"),
        (BATCH, MPICH, OK, "batch step"),
        (BATCH | SEVERAL, OPEN_MPI, OK, "one process is right here"),
        (BATCH | SEVERAL | {"PRTE_MCA_plm": "^slurm"}, OPEN_MPI, WARNING, "Unset PRTE_MCA_plm"),
        (BATCH | SEVERAL | {"OMPI_MCA_plm": "ssh"}, OPEN_MPI, WARNING, "on 2 nodes without SLURM"),
        (BATCH | SEVERAL | {"PRTE_MCA_plm": "slurm"}, OPEN_MPI, OK, "batch step"),
        (BATCH | SEVERAL | {"PRTE_MCA_plm": "^ssh"}, OPEN_MPI, OK, "batch step"),
        (BATCH | {"PRTE_MCA_plm": "^slurm"}, OPEN_MPI, OK, "batch step"),  # on one node it starts no daemon
        (BATCH | {"SLURM_TASKS_PER_NODE": "1(x2)", "SLURM_NTASKS": "2"}, OPEN_MPI, OK, "up to 2, mpirun or srun"),
        (BATCH | {"SLURM_TASKS_PER_NODE": "99999(x2)"}, OPEN_MPI, WARNING, "mpirun --bind-to none"),
        (BATCH | SEVERAL | {"SLURM_EXPORT_ENV": "NONE"}, MPICH, WARNING, "export SLURM_EXPORT_ENV=ALL"),
        (OPEN_MPI_RUN, OPEN_MPI, OK, "Open MPI's mpirun started 4"),
        (OPEN_MPI_RUN, DEBIAN_OPEN_MPI, OK, "started 4"),
        (OPEN_MPI_RUN, MPICH, FAILURE, "MPICH's mpirun."),
        (MPICH_RUN, MPICH, OK, "MPICH's mpirun started 4"),
        (MPICH_RUN, OPEN_MPI, FAILURE, "Open MPI's mpirun."),
        (MPICH_RUN, DEBIAN_OPEN_MPI, FAILURE, "Open MPI's mpirun."),
        (DAEMON | OPEN_MPI_RUN, OPEN_MPI, OK, "started 4"),
        (DAEMON | MPICH_RUN, MPICH, OK, "started 4"),
        (SRUN_PMIX, OPEN_MPI, OK, "srun --mpi=pmix started 4"),
        (SRUN_PMIX, DEBIAN_OPEN_MPI, OK, "started 4"),
        (SRUN_PMIX, MPICH, FAILURE, "srun --mpi=pmi2"),
        (SRUN_PMIX, PMIX_MPICH, OK, "started 4"),
        (SRUN_PMI2, MPICH, OK, "srun --mpi=pmi2 started 4"),
        (SRUN_PMI2, OPEN_MPI, FAILURE, "srun --mpi=pmix"),
        (SRUN_PMI2, DEBIAN_OPEN_MPI, FAILURE, "srun --mpi=pmix"),
        (SRUN, OPEN_MPI, FAILURE, "srun --mpi=pmix"),
        (SRUN, DEBIAN_OPEN_MPI, FAILURE, "srun --mpi=pmix"),
        (SRUN, MPICH, FAILURE, "srun --mpi=pmi2"),
        (SRUN, OTHER, OK, "started 4"),  # what its world is tells
        (SRUN, "", OK, "started 4"),  # that there is no library is another finding
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, MPICH, WARNING, "For more than one process launch with srun --mpi=pmi2"),
    ],
)
def test_launch_against_library_before_mpi_starts(environ, library, status, word):
    agree(judge_launch(launch_of(environ), library, environ=environ), status, word)


@pytest.mark.parametrize(("size", "status"), [(4, OK), (1, FAILURE), (2, FAILURE)])
def test_the_world_against_the_launcher(size, status):
    for environ, library in ((OPEN_MPI_RUN, OPEN_MPI), (SRUN, OTHER)):
        agree(judge_launch(launch_of(environ), library, environ=environ, size=size), status, f"world has {size}")


@pytest.mark.parametrize(
    ("environ", "library", "status", "word"),
    [
        (BY_HAND, Library("", "no mpi4py"), WARNING, "One process only; for more: pip install 'distbp[mpi]'"),
        (MPICH_RUN, Library("", "no mpi4py"), FAILURE, "on all hosts"),
        (MPICH_RUN | {"PMI_SIZE": "1"}, Library("", "no libmpi.so", "4.1"), WARNING, "One process only"),
        (MPICH_RUN, Library(MPICH, "", "4.1.2"), OK, "MPICH 5.0.2, mpi4py 4.1.2"),
        (OPEN_MPI_RUN, Library(OPEN_MPI, "", "4.1.2"), OK, "Open MPI v5.0.11, mpi4py"),
    ],
)
def test_library(environ, library, status, word):
    agree(judge_library(launch_of(environ), library, level="serialized"), status, word)


@pytest.mark.parametrize(
    ("environ", "size", "status", "word"),
    [
        ({}, 1, OK, "one process"),
        ({}, 4, OK, "no: ranks cannot go on without a dead one; `mpirun --with-ft ulfm"),
        ({"OMPI_MCA_mpi_ft_enable": "0"}, 4, OK, "no: "),
        ({"OMPI_MCA_mpi_ft_enable": "1"}, 4, OK, "yes"),
        ({"OMPI_MCA_mpi_ft_enable": "1", "OMPI_MCA_coll": "^han,adapt"}, 4, OK, "yes"),
        ({"OMPI_MCA_mpi_ft_enable": "1", "OMPI_MCA_coll": "han"}, 4, WARNING, "half set: adds up wrongly"),
        ({"OMPI_MCA_mpi_ft_enable": "perhaps"}, 4, WARNING, "mpirun --with-ft ulfm"),
    ],
)
def test_fault_tolerance(environ, size, status, word):
    agree(judge_fault_tolerance(environ, OPEN_MPI, size=size), status, word)


def test_no_fault_tolerance_in_an_old_open_mpi():
    agree(judge_fault_tolerance({}, DEBIAN_OPEN_MPI, size=4), OK, "of Open MPI 5 can")


@pytest.mark.parametrize(
    ("environ", "rank"),
    [
        ({}, 0), (SRUN | {"SLURM_PROCID": "3"}, 3), (SRUN_PMIX | {"SLURM_PROCID": "1"}, 1), (MPICH_RUN, 1),
        (DAEMON | {"SLURM_PROCID": "0", "OMPI_COMM_WORLD_RANK": "2"}, 2),
    ],
)  # fmt: skip
def test_who_speaks_where_all_are_rank_0_of_1(environ, rank):
    assert claimed_rank(environ) == rank


# --- cores and BLAS --------------------------------------------------------------------------------------


def cores(*masks, there=4, threads=1, hosts="aaaa", limited=True):
    n = len(masks)
    return Planted(hosts[:n], masks, [there] * n, [threads] * n, [limited] * n)


@pytest.mark.parametrize(
    ("everyone", "status", "words"),
    [
        (cores([0, 1, 2, 3], threads=4), OK, ["1 host, 1 rank on 4 cores, 4 BLAS threads each"]),
        (cores([0, 1], [2, 3], [0, 1], [2, 3], hosts="aabb", threads=2), OK, ["2 hosts, 2 + 2 ranks on 4 cores"]),
        (cores([0], [1], [2, 3]), OK, ["1 host, 3 ranks on 4 cores, 1 BLAS thread each"]),
        (
            cores([0, 1], [0, 1], [0, 1], there=2),
            WARNING,
            ["3 ranks on 2 cores of a", "more than 2 ranks on a gain nothing"],
        ),
        (cores([0], [0], [1], [2]), WARNING, ["ranks 0, 1 on a are bound to core 0, of 4", "--bind-to none"]),
        (cores([0], [0], [0], [0], hosts="aabb"), WARNING, ["ranks 0, 1 on a", "--cpu-bind=none"]),
        (cores([0, 1, 2, 3], [0, 1, 2, 3], threads=4, limited=False), WARNING, ["OMP_NUM_THREADS=2", "8 BLAS threads"]),
        (cores([0, 1, 2, 3], [0, 1, 2, 3], threads=2, limited=False), OK, ["2 BLAS threads"]),
    ],
)
def test_cores(everyone, status, words):
    found = machine.check_cores(everyone)
    assert worst(found) == status
    agree(max(found, key=lambda f: f.status != OK), status, *words)


def test_kernels():
    here = {"BLAS": "openblas 0.3.31 SkylakeX", "CPU": "fast", "vector instructions": "avx2 avx512f"}
    slow = "OpenBLAS runs its Haswell kernel (256 bits), at about half the speed: unset OPENBLAS_CORETYPE"
    (well,) = machine.check_blas(Planted(HOSTS, [here] * 4, [""] * 4))
    agree(well, OK, "SkylakeX on fast")
    (one,) = machine.check_blas(Planted(HOSTS, [here] * 4, ["", "", slow, ""]))
    agree(one, WARNING, "rank 2 on b", ". Unset OPENBLAS_CORETYPE.")
    assert one.ranks == (2,)
    for key, value in (("BLAS", "openblas 0.3.31 Haswell"), ("CPU", "old"), ("vector instructions", "avx2")):
        (other,) = machine.check_blas(Planted(HOSTS, [here] * 3 + [here | {key: value}], [""] * 4))
        agree(other, WARNING, f"rank 3 on b: another {key} than rank 0 on a", "--exact")


@pytest.mark.parametrize(
    ("rates", "crowd", "status", "words"),
    [
        ([(100, 90), (0, 80)], 1, OK, ["100 GFLOP/s alone, 85 a rank all at once"]),
        ([(100, 40), (0, 40)], 1, WARNING, ["40 a rank all at once, on a", "binding"]),
        ([(100, 40), (0, 40)], 2, OK, []),  # two ranks to a core
        ([(100, 20), (0, 20)], 2, WARNING, []),
        ([(100, 40)], 1, OK, []),  # alone both times: it is noise
        ([(100, 90), (0, 90), (30, 30), (0, 30)], 1, WARNING, ["30 GFLOP/s a rank on b", "leave b out"]),
    ],
)
def test_gemm(rates, crowd, status, words):
    n = len(rates)
    found = machine.check_gemm(Planted(HOSTS[:n], *zip(*rates, strict=True), [crowd] * n), n=8)
    assert len(found) == 1
    agree(found[0], status, *words)


# --- versions and limits ---------------------------------------------------------------------------------


def test_versions_are_compared_with_those_of_rank_0():
    agree(*machine.check_versions(SerialCommunicator()), OK, f"NumPy {np.__version__}")
    here = {"Python": "3.13.2", "NumPy": "2.3.4"}
    agree(*machine.check_versions(Planted(HOSTS, [here] * 4)), OK, "Python 3.13.2, NumPy 2.3.4")
    (other,) = machine.check_versions(Planted(HOSTS, [here, here, here | {"NumPy": "1.0"}, here]))
    agree(other, FAILURE, "rank 2 on b has NumPy 1.0 (not 2.3.4)", "rank 0 on a", "one environment")
    assert other.ranks == (2,)


class Limits(NamedTuple):
    """Of a rank."""

    host: str = "a"
    files: int = 20000
    memory: int = 8 * GiB
    cores: int = 4
    quota: float = 0.0


WELL = Limits()


@pytest.mark.parametrize(
    ("everyone", "check", "status", "words"),
    [
        ([WELL] * 2, "open files", OK, ["20,000"]),
        ([WELL, WELL._replace(files=-1)], "open files", OK, ["20,000"]),
        ([WELL._replace(files=-1)], "open files", OK, ["no limit"]),
        ([WELL, WELL._replace(files=256)], "open files", WARNING, ["256 on rank 1 on a", "ulimit -n 4096"]),
        ([WELL] * 6000, "open files", WARNING, ["ulimit -n 24000"]),
        ([WELL] * 4, "memory", OK, ["2,048 MiB free per rank"]),
        ([WELL] * 20, "memory", WARNING, ["410 MiB", "--mem"]),
        ([WELL, WELL._replace(host="b", memory=GiB // 4)], "memory", WARNING, ["256 MiB free per rank on b"]),
        ([WELL._replace(quota=4.0)], "CPU quota", None, []),
        ([WELL, WELL._replace(quota=1.5)], "CPU quota", WARNING, ["1.5 cores for rank 1 on a", "would use 4"]),
        ([WELL._replace(quota=2.0, cores=1)] * 4, "CPU quota", WARNING, ["would use 4"]),
    ],
)
def test_limits(everyone, check, status, words):
    found = {finding.check: finding for finding in machine.check_limits(Planted(*zip(*everyone, strict=True)))}
    assert (check in found) == (status is not None)
    if status:
        agree(found[check], status, *words)


def plant(folder, **contents):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_control_groups_of_both_versions(tmp_path):
    groups = tmp_path / "groups"
    groups.write_text("0::/job/step\n")
    assert control_group(tmp_path / "cg", groups) == (-1, 0.0)
    plant(tmp_path / "cg/job", memory__max="1000\n", memory__current="700\n", cpu__max="150000 100000\n")
    plant(tmp_path / "cg/job", memory__stat="anon 600\ninactive_file 100\n")
    plant(tmp_path / "cg/job/step", memory__max="max\n", memory__current="1\n", cpu__max="max 100000\n")
    assert control_group(tmp_path / "cg", groups) == (400, 1.5)
    groups.write_text("4:memory:/job\n1:cpu,cpuacct:/elsewhere\n")
    plant(tmp_path / "v1/memory/job", memory__limit_in_bytes="5000", memory__usage_in_bytes="1000")
    plant(tmp_path / "v1/memory", memory__limit_in_bytes=str((1 << 63) - 4096), memory__usage_in_bytes="1000")
    plant(tmp_path / "v1/cpu", **{"cpu__cfs_quota_us": "200000", "cpu__cfs_period_us": "100000"})
    assert control_group(tmp_path / "v1", groups) == (4000, 2.0)
    plant(tmp_path / "v1/cpu", **{"cpu__cfs_quota_us": "-1"})
    assert control_group(tmp_path / "v1", groups) == (4000, 0.0)
    assert control_group(tmp_path, tmp_path / "not there") == (-1, 0.0)


# --- network ---------------------------------------------------------------------------------------------


def test_the_fit_finds_alpha_and_beta():
    sizes = [4 * 8**i for i in range(7)]
    curve = fit(sizes, [5e-6 + n / 2e9 for n in sizes])
    assert curve == pytest.approx((5e-6, 2e9))
    agree(judge_curve("within a host", {"a": curve}), OK, "alpha 5.0 us, 2,000 MB/s")
    alpha, beta = fit([4, 1 << 20], [3e-6, 2e-6])
    assert alpha > 0 and beta > 0


@pytest.mark.parametrize(
    ("where", "curves", "status", "word"),
    [
        ("within a host", {"a": (1e-6, 2e9)}, OK, "alpha 1.0 us, 2,000 MB/s"),
        ("within a host", {"a": (1e-6, 2e9), "b": (2e-3, 2e9)}, WARNING, "OMPI_MCA_mpi_yield_when_idle=1"),
        ("across hosts", {"a": (2e-3, 1e9)}, OK, ""),
        ("across hosts", {"a": (1e-4, 1e9), "b": (1e-4, 12e6)}, WARNING, "OMPI_MCA_btl_tcp_if_include"),
    ],
)
def test_curves(where, curves, status, word):
    agree(judge_curve(where, curves), status, word, "slowest of 2 hosts, b" if len(curves) > 1 else "")


def test_large_messages():
    assert why_not_large([9 * GiB] * 2, True, bandwidth=1e9, limit=60) == ""
    assert why_not_large([3 * GiB] * 2, True, bandwidth=1e9, limit=60) == "needs 5 GiB, 3.0 free"
    assert why_not_large([3 * GiB] * 2, False, bandwidth=1e9, limit=60) == ""
    assert why_not_large([9 * GiB] * 2, True, bandwidth=12e6, limit=60) == "would take about 179 s"


@pytest.mark.parametrize(
    ("everyone", "status", "word"),
    [
        ([("a", GiB, GiB, True)] * 2, OK, "1,024 of 1,024 MiB free"),
        ([("a", -1, sys.maxsize, True)], OK, "there is no /dev/shm"),
        ([("a", -1, sys.maxsize, True), ("b", GiB, GiB, True)], OK, "/dev/shm of b: 1,024 of 1,024"),
        ([("a", 64 * MiB, 64 * MiB)] * 4, WARNING, "16.0 MiB a rank"),
        ([("a", GiB, GiB), ("b", 64 * MiB, MiB)], FAILURE, "/dev/shm of b: 1 of 64 MiB free"),
        ([("a", GiB, GiB, True), ("a", GiB, GiB, False)], FAILURE, "rank 1 on a does not see"),
    ],
)
def test_shared_memory(everyone, status, word):
    agree(
        judge_shared_memory(*zip(*everyone, strict=True)),
        status,
        word,
        *([] if status == OK else ["--reduction allreduce"]),
    )


def test_a_small_shared_memory_is_not_touched(monkeypatch, comm):
    class Small:
        f_blocks, f_bavail, f_frsize = 1, 1, 4096

    monkeypatch.setattr("os.statvfs", lambda path: Small)
    monkeypatch.setattr(type(comm), "shared", lambda *a: pytest.fail("it would end the process"))
    agree(network.check_shared_memory(comm)[0], FAILURE, "docker --shm-size")


def test_clocks():
    def clocks(hosts, *ahead):
        """Where the third barrier is the one that tells: another one kept rank 0 waiting."""
        readings = [[[-9.0, 7.0 * rank], [-1.0, 8.0], [1e9 + by - 0.1, 1e9 + by]] for rank, by in enumerate(ahead)]
        return network.check_clocks(Planted(hosts, readings))

    agree(*clocks("aa", 0.0, 9.0), OK, "one host")
    agree(*clocks("ab", 0.0, 0.002), OK, "at most 2.0 ms apart")
    (found,) = clocks("abc", 0.0, 0.5, -90.0)
    agree(found, WARNING, "c is 90.0 s behind a", "chrony")
    assert found.ranks == (2,)
    agree(*clocks("ab", 0.0, 3.0), WARNING, "b is 3.0 s ahead of a")


def test_wrong_sums_are_found(monkeypatch):
    def broken(comm):
        def allreduce(buffer, op="sum", right=comm.allreduce):
            right(buffer, op)
            if buffer.dtype == np.float32 and comm.rank == 2:
                buffer[buffer.size // 2] += 1

        comm.allreduce = allreduce
        return network.check_allreduce(comm)[0]

    (found,) = run_threads(3, broken)[0]
    agree(found, FAILURE, "wrong sums on rank 2", "1 of 1 float32, the first at 0")
    assert found.ranks == (2,)


def test_a_long_message_that_loses_its_end_is_found(monkeypatch):
    monkeypatch.setattr(network, "_LARGE", (1 << 22) + 4096)
    monkeypatch.setattr(network, "why_not_large", lambda *a, **k: "")

    class Losing:
        def __init__(self, pair):
            self.pair, self.rank = pair, pair.rank

        def bcast(self, buffer):
            self.pair.bcast(buffer)
            if self.pair.rank == 1:
                buffer[-4096:] = 0

    def work(comm):
        split = comm.split
        comm.split = lambda color: Losing(split(color))
        return network.check_large_message(comm, quick=False, bandwidth=0, limit=9)

    (found,) = run_threads(3, work)[0]
    agree(found, FAILURE, "wrong on rank 2")


def test_ranks_of_several_hosts_are_measured_within_and_across():
    found, bandwidth = run_threads(4, lambda comm: network.check_allreduce(comm, longest=1 << 10), ranks_per_host=2)[0]
    assert [f.check for f in found] == ["allreduce", "allreduce within a host", "allreduce across hosts"]
    assert bandwidth > 0


# --- files -----------------------------------------------------------------------------------------------

DISK = Disk(5 * GiB, "ext4", 0.001)


@pytest.mark.parametrize(
    ("disk", "seen", "locked", "status", "words"),
    [
        (DISK, "1111", "0000", OK, ["{folder}: seen by all, 5.0 GiB free, ext4, 1.0 ms"]),
        (DISK, "1101", "0000", FAILURE, ["not shared: rank 2 on b does not see what rank 0 on a writes", "shared"]),
        (DISK, "1111", "0010", WARNING, ["rank 2 on b took a lock that rank 0 on a held"]),
        (DISK._replace(locks=False), "1111", "0000", WARNING, ["cannot be locked"]),
        (DISK._replace(renames=False), "1111", "0000", FAILURE, ["atomic rename"]),
        (DISK._replace(fsync=2.0), "1111", "0000", WARNING, ["2.0 s for an fsync", "--checkpoint-every"]),
        (DISK._replace(free=GiB // 2), "1111", "0000", WARNING, ["512 MiB free"]),
        (DISK._replace(free=MiB), "1111", "0000", FAILURE, ["disk full"]),
        (DISK._replace(error="No space left", full=True), "0000", "0000", FAILURE, ["disk full", "Make room"]),
        (DISK._replace(error="Permission denied"), "0000", "0000", FAILURE, ["Permission denied", "--run-dir"]),
    ],
)
def test_run_directory(disk, seen, locked, status, words, tmp_path):
    flags = ([c == "1" for c in column] for column in (seen, locked))
    (found,) = files.check_run_directory(Planted(HOSTS, [disk] * 4, *flags), probe_folder(str(tmp_path)))
    agree(found, status, *(word.format(folder=tmp_path) for word in words))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be(comm):
    (found,) = files.check_run_directory(comm, probe_folder("/dev/full/runs"))
    agree(found, FAILURE, "/dev/full: Not a directory")


def test_file_system_by_the_longest_mount_point(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/vda / ext4 rw 0 0\nserver:/x /home nfs4 rw 0 0\ntmpfs /home/a tmpfs rw 0 0\n")
    assert file_system("/home/a/b", str(mounts)) == "tmpfs"
    assert file_system("/home/ab", str(mounts)) == "nfs4"
    assert file_system("/homes", str(mounts)) == "ext4"
    assert file_system("/", str(tmp_path / "none")) == "unknown"


def test_data_that_differs_or_is_not_there():
    look = [["x.csv", 3 * MiB, "abc"]]

    def check(*looks):
        return files.check_data(Planted(HOSTS, looks), "x.csv")

    agree(*check(look, look, look, look), OK, "3.0 MiB, the same on all ranks")
    (other,) = check(look, look, look, [["x.csv", 3 * MiB, "abd"]])
    agree(other, FAILURE, "rank 3 on b sees another file than rank 0 on a")
    (some,) = check(look, look, "No such file", look)
    agree(some, FAILURE, "rank 2 on b cannot read it (No such file)", "where all hosts find it")
    assert (other.ranks, some.ranks) == ((3,), (2,))
    agree(*check(*["No such file"] * 4), FAILURE, "Give the right --data")


# --- the report ------------------------------------------------------------------------------------------


def test_report(capsys):
    found = [Finding("a", OK, "1"), Finding("b", WARNING, "2\n3", "Mend it.", (4,)), Finding("c", OK, "5")]
    report = Report(speaks=True, as_json=False)
    report.add(found[:1])
    assert capsys.readouterr().out == "ok       a                        1\n"
    report.add(found[1:])
    report.end()
    report.end(found[0])  # once
    *_, second, third, _, summary = capsys.readouterr().out.splitlines()
    assert second == "warning  b                        2 3. Mend it." and summary == "1 warning, 2 ok"
    assert report.code == 1
    document = Report(speaks=True, as_json=True)
    document.add(found)
    document.end(Finding("d", FAILURE, "6", "7"))
    output = json.loads(capsys.readouterr().out)
    assert output["worst"] == FAILURE and document.code == 2
    assert output["findings"][1] == {
        "check": "b", "status": "warning", "figure": "2\n3", "advice": "Mend it.", "ranks": [4],
    }  # fmt: skip
    silent = Report(speaks=False, as_json=False)
    silent.add(found)
    silent.end()
    assert capsys.readouterr().out == "" and silent.code == 1


# --- the whole doctor ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--limit", "0"], ["--limit", "soon"], ["--limits"], ["here"]])
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        doctor.main(arguments)
    output = capsys.readouterr().err
    assert end.value.code == 2 and output.count("\n") == 1 and output.startswith("distbp: error: ")


def test_measurements_of_this_machine(comm):
    for check in (machine.check_cores, machine.check_blas, machine.check_limits, machine.check_versions):
        assert worst(check(comm)) != FAILURE
    assert worst(machine.check_gemm(comm, n=64)) == OK
