"""The doctor's measurements on the ranks of an MPI launch."""

import errno

from doctor_contract import agree, examined

from distbp.doctor import files, machine, network
from distbp.doctor.files import probe_folder
from distbp.doctor.finding import FAILURE, OK, WARNING, worst


def test_measurements_of_the_network(comm):
    found, bandwidth = network.check_allreduce(comm, longest=1 << 16)
    assert worst(found) != FAILURE and (bandwidth > 0) == (comm.size > 1)
    assert len(found) == 1 + (comm.size > 1)
    found += network.check_shared_memory(comm) + network.check_clocks(comm)
    assert worst(found) != FAILURE
    agree(*network.check_large_message(comm, quick=True, bandwidth=0, limit=9), OK, "left out: --quick")


def test_a_long_message_comes_whole(comm, monkeypatch):
    monkeypatch.setattr(network, "_LARGE", (1 << 22) + 4096)
    monkeypatch.setattr(network, "why_not_large", lambda *a, **k: "")
    (found,) = network.check_large_message(comm, quick=False, bandwidth=0, limit=9)
    agree(found, OK, "4,198,400 bytes" if comm.size > 1 else "left out: one process")


def test_a_real_run_directory(comm, shared_dir):
    (found,) = files.check_run_directory(comm, probe_folder(str(shared_dir / "not" / "yet")))
    agree(found, OK, f"{shared_dir}: seen by all")
    comm.barrier()
    assert list(shared_dir.iterdir()) == []


def test_a_full_disk(comm, shared_dir, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_fsync", full)
    (found,) = files.check_run_directory(comm, probe_folder(str(shared_dir)))
    agree(found, FAILURE, f"{shared_dir}: disk full")
    comm.barrier()
    assert list(shared_dir.iterdir()) == []


def test_a_rank_that_does_not_see_the_directory(comm, shared_dir, monkeypatch):
    if comm.rank == comm.size - 1 > 0:
        monkeypatch.setattr(files, "text_of", lambda path: "")
    (found,) = files.check_run_directory(comm, probe_folder(str(shared_dir)))
    if comm.size > 1:
        agree(found, FAILURE, f"rank {comm.size - 1} on {comm.host} does not see")
        assert found.ranks == (comm.size - 1,)


def test_a_lock_that_does_not_hold(comm, shared_dir, monkeypatch):
    monkeypatch.setattr("fcntl.flock", lambda file, operation: None)
    (found,) = files.check_run_directory(comm, probe_folder(str(shared_dir)))
    agree(found, WARNING, "took a lock")


def test_real_data(comm, shared_dir):
    agree(*files.check_data(comm, "digits"), OK, "in the package")
    path = shared_dir / f"rank{comm.rank}.csv"
    path.write_text("same\n" * 50_000)
    agree(*files.check_data(comm, str(path)), OK if comm.size == 1 else FAILURE, "rank" if comm.size > 1 else "")
    agree(*files.check_data(comm, str(shared_dir / "rank0.csv")), OK, "0.2 MiB, the same on all ranks")
    agree(*files.check_data(comm, str(shared_dir)), FAILURE, "cannot read it")  # no idx files
    agree(*files.check_data(comm, str(shared_dir / "none.csv")), FAILURE, "No such file")


def test_all_checks_on_all_ranks(comm, shared_dir):
    report = examined(comm, "--run-dir", str(shared_dir))
    names = [finding.check for finding in report.findings]
    for name in ("launch", "MPI library", "fault tolerance", "versions", "memory", "large message", "clocks", "abort"):
        assert name in names
    failed = {finding.check for finding in report.findings if finding.status == FAILURE}
    assert not failed
    assert comm.allgather_obj(report.code) == [report.code] * comm.size


def test_a_check_that_fails_on_all_ranks_is_a_finding(comm, shared_dir, monkeypatch):
    def broken(comm, **sizes):
        raise ValueError("a defect,\nof ours")

    monkeypatch.setattr(machine, "check_gemm", broken)
    report = examined(comm, "--run-dir", str(shared_dir))
    (found,) = [finding for finding in report.findings if finding.check == "GEMM"]
    agree(found, FAILURE, "ValueError: a defect, of ours")
    assert report.findings[-1].check == "abort" and report.code == 2
