"""One contract, three communicators; and which of them a process gets."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from communicator_contract import every_check

from distbp import SerialCommunicator, UserError, run_threads
from distbp import communicator as communicator_named
from distbp.comm import mpi as module
from distbp.comm.agreement import require_equal
from distbp.comm.host import available_cores
from distbp.comm.mpi import _chunks

world_module = sys.modules["distbp.comm.world"]
VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


@every_check
def test_serial(check):
    check(SerialCommunicator())


@every_check
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_threads(check, size):
    run_threads(size, check)


@every_check
@pytest.mark.parametrize(("size", "per_host"), [(4, 1), (4, 2), (5, 2), (7, 3)])
def test_threads_on_several_hosts(check, size, per_host):
    run_threads(size, check, ranks_per_host=per_host)


def test_an_error_ends_ranks_that_wait_for_their_host_only():
    def fail(comm):
        here = comm.on_host()
        if comm.rank == 3:
            raise ValueError("rank 3")
        here.barrier()
        here.barrier()

    with pytest.raises(ValueError, match="rank 3"):
        run_threads(4, fail, ranks_per_host=2)


@pytest.mark.parametrize(("n", "dtype"), [(0, "f8"), (8, "f8"), (9, "f8"), (100, "f4"), (100, "u1"), (5, "c16")])
def test_chunks_are_views_that_cover_the_buffer(monkeypatch, n, dtype):
    monkeypatch.setattr(module, "CHUNK_BYTES", 64)
    buffer = np.zeros(n, dtype)
    chunks = _chunks(buffer)
    for i, chunk in enumerate(chunks):
        assert chunk.nbytes <= 64
        chunk += i + 1
    assert sum(len(chunk) for chunk in chunks) == n and (buffer != 0).all()


def test_an_element_longer_than_a_chunk(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 4)
    assert [len(chunk) for chunk in _chunks(np.zeros((3, 1)))] == [1, 1, 1]


@pytest.mark.parametrize("call", ["allreduce", "bcast"])
def test_a_buffer_with_gaps_is_refused(call):
    with pytest.raises(AssertionError, match="contiguous"):
        getattr(SerialCommunicator(), call)(np.zeros(6)[::2])
    with pytest.raises(AssertionError, match="contiguous"):
        run_threads(2, lambda comm: getattr(comm, call)(np.zeros(6)[::2]))


def test_an_unknown_reduction():
    for size in (1, 2):
        with pytest.raises(AssertionError, match="unknown operation"):
            run_threads(size, lambda comm: comm.allreduce(np.zeros(2), "mean"))


# threads


def test_threads_return_by_rank():
    assert run_threads(4, lambda comm: comm.rank**2) == [0, 1, 4, 9]


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, UserError])
def test_the_error_of_one_rank_ends_all(rank, error):
    def work(comm):
        comm.barrier()
        if comm.rank == rank:
            raise error(f"rank {rank}")
        for _ in range(3):
            comm.allreduce(np.zeros(2))

    with pytest.raises(error, match=f"rank {rank}"):
        run_threads(4, work)


def test_an_error_of_all_ranks_is_raised_once():
    def work(comm):
        comm.barrier()
        raise UserError("all alike")

    with pytest.raises(UserError, match="all alike"):
        run_threads(3, work)


def test_an_abort_ends_all_threads_and_is_not_a_success():
    def work(comm):
        if comm.rank == 1:
            comm.abort(3)
        comm.barrier()
        return "done"

    with pytest.raises(BaseException):  # noqa: B017
        run_threads(3, work)


def test_not_all_ranks_failed():
    assert run_threads(3, lambda comm: comm.rank == 2 or comm.all_failed(0.05)) == [False, False, True]


# which one


@pytest.fixture
def launched(monkeypatch):
    """Pretend that a launcher set these variables and no others."""

    def run(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    run()
    return run


@pytest.mark.parametrize("variables", [{}, {"PMI_SIZE": ""}])
def test_without_a_launcher_it_is_serial(launched, variables):
    launched(**variables)
    assert isinstance(communicator_named("auto"), SerialCommunicator)


def test_serial_whatever_the_launcher_says(launched):
    launched(PMI_SIZE="4")
    assert isinstance(communicator_named("serial"), SerialCommunicator)


@pytest.mark.parametrize("kind", ["auto", "mpi"], ids="kind {}".format)
def test_a_launcher_without_mpi4py_is_an_error(launched, monkeypatch, kind):
    launched(PMI_SIZE="4")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UserError, match=r"started 4 processes but MPI cannot be loaded.*pip install 'distbp\[mpi\]'"):
        communicator_named(kind)


def test_one_launched_process_needs_no_mpi4py(launched, monkeypatch):
    launched(PMI_SIZE="1")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert isinstance(communicator_named("auto"), SerialCommunicator)
    with pytest.raises(UserError, match="MPI cannot be loaded"):
        communicator_named("mpi")


@pytest.fixture
def library(monkeypatch):
    """Pretend that mpi4py's MPI says this of itself."""
    return lambda version: monkeypatch.setattr(world_module, "library_version", lambda: version)


def test_many_worlds_of_one_are_an_error(launched, library, monkeypatch):
    launched(OMPI_COMM_WORLD_SIZE="4")
    library("Some MPI 1.0")
    monkeypatch.setattr(world_module, "MPICommunicator", lambda: SimpleNamespace(size=1))
    with pytest.raises(UserError, match="started 4 processes, but belongs to another MPI.*Some MPI 1.0"):
        communicator_named("auto")


def test_a_launcher_of_another_mpi_is_named_before_mpi_begins(launched, library, monkeypatch):
    launched(SLURM_STEP_NUM_TASKS="4")
    library("MPICH Version: 5.0.2\nand more lines")
    monkeypatch.setattr(world_module, "MPICommunicator", lambda: pytest.fail("MPI was begun"))
    with pytest.raises(UserError, match="srun --mpi=none started 4 .*MPICH Version: 5.0.2.*use srun --mpi=pmi2"):
        communicator_named("auto")


def test_a_world_of_the_right_size_is_taken(launched, library, monkeypatch):
    launched(PMI_SIZE="4")
    library("Some MPI 1.0")
    world = SimpleNamespace(size=4)
    monkeypatch.setattr(world_module, "MPICommunicator", lambda: world)
    assert communicator_named("auto") is world


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown communicator 'gloo': one of auto, mpi, serial"):
        communicator_named("gloo")


def test_cores():
    assert len(available_cores()) >= 1


def test_different_values_name_the_rank():
    def differ(comm):
        require_equal(comm, {"rows": 400 + (comm.rank == 2)}, "the data")

    run_threads(2, differ)
    with pytest.raises(UserError, match="the data on rank 2 differ from rank 0's"):
        run_threads(3, differ)
