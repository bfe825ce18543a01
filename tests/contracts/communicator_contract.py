"""What every communicator promises, as checks to be run on each of its ranks.

The values are closed forms in rank and size; every check makes its calls twice, so that what the first
round leaves behind would be met by the second.
"""

import numpy as np
import pytest

DTYPES = ("f4", "f8", "i4", "i8", "u1", "u8")
ROUNDS = 2


def _mine(comm, dtype, n=5, rank=None):
    """What a rank contributes: (rank + 1) (1, 2, ..., n)."""
    rank = comm.rank if rank is None else rank
    return ((rank + 1) * np.arange(1, n + 1)).astype(dtype)


def check_rank_and_size(comm):
    assert 0 <= comm.rank < comm.size
    assert comm.is_root == (comm.rank == 0)
    assert isinstance(comm.host, str) and comm.host
    assert comm.allgather_obj(comm.rank) == list(range(comm.size))


def check_allreduce(comm):
    factor = {"sum": comm.size * (comm.size + 1) // 2, "max": comm.size, "min": 1}
    for _ in range(ROUNDS):
        for dtype in DTYPES:
            for op, value in factor.items():
                buffer = _mine(comm, dtype)
                assert comm.allreduce(buffer, op) is None
                np.testing.assert_array_equal(buffer, (value * np.arange(1, 6)).astype(dtype), strict=True)


def check_sum_is_the_default(comm):
    for _ in range(ROUNDS):
        buffer = np.ones(3)
        comm.allreduce(buffer)
        np.testing.assert_array_equal(buffer, np.full(3, comm.size))


def check_in_place(comm):
    """Matrices and views: the buffer itself changes, nothing beside it."""
    for _ in range(ROUNDS):
        whole = np.zeros((4, 3))
        whole[:] = comm.rank
        comm.allreduce(whole[1:3])
        total = comm.size * (comm.size - 1) / 2
        np.testing.assert_array_equal(whole, np.repeat([comm.rank, total, total, comm.rank], 3).reshape(4, 3))


def check_empty_buffers(comm):
    for _ in range(ROUNDS):
        for dtype in DTYPES:
            empty = np.zeros(0, dtype)
            comm.allreduce(empty)
            comm.allreduce(empty, "max")
            comm.bcast(empty)
            assert empty.shape == (0,)


def check_long_buffers(comm):
    """Longer than a piece, where the pieces are short."""
    for n in (15, 16, 17, 1000):
        for dtype in ("f4", "f8", "u1"):
            if dtype == "u1" and n > 17:
                continue
            buffer = _mine(comm, dtype, n)
            comm.allreduce(buffer)
            np.testing.assert_array_equal(buffer, sum(_mine(comm, dtype, n, r) for r in range(comm.size)))
            comm.allreduce(buffer, "min")
            buffer += comm.rank
            comm.bcast(buffer, comm.size - 1)
            expected = sum(_mine(comm, dtype, n, r) for r in range(comm.size)) + np.array(comm.size - 1, dtype)
            np.testing.assert_array_equal(buffer, expected)


def check_several_under_way(comm):
    """Waited for in any order, with a blocking one in between."""
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        sent = [_mine(comm, dtype, 1 + 40 * i) for i, dtype in enumerate(("f4", "f8", "i8", "f4"))]
        received = [np.zeros((comm.size, len(buffer)), buffer.dtype) for buffer in sent]
        requests = [comm.iallgather(buffer, to) for buffer, to in zip(sent, received, strict=True)]
        between = np.array([comm.rank])
        comm.allreduce(between, "max")
        assert between[0] == comm.size - 1
        for i in order:
            requests[i].wait()
            expected = [_mine(comm, sent[i].dtype, len(sent[i]), rank) for rank in range(comm.size)]
            np.testing.assert_array_equal(received[i], np.array(expected), strict=True)


def check_bcast(comm):
    for _ in range(ROUNDS):
        for root in range(comm.size):
            for dtype in DTYPES:
                buffer = _mine(comm, dtype)
                comm.bcast(buffer, root)
                np.testing.assert_array_equal(buffer, _mine(comm, dtype, rank=root), strict=True)
        buffer = _mine(comm, "f8")
        comm.bcast(buffer)
        np.testing.assert_array_equal(buffer, np.arange(1, 6))


def _value(rank):
    """JSON values whose lengths differ from rank to rank."""
    return [None, "é" * rank, {"a": [rank, 1.5, True], "b": {}}, "x" * (100 * (rank % 3)), ""][rank % 5 :]


def check_objects_from_every_root(comm):
    for _ in range(ROUNDS):
        for root in range(comm.size):
            value = _value(root) if comm.rank == root else "not this one"
            assert comm.bcast_obj(value, root) == _value(root)
        assert comm.bcast_obj(comm.rank) == 0


def check_objects_of_all(comm):
    for _ in range(ROUNDS):
        assert comm.allgather_obj(_value(comm.rank)) == [_value(rank) for rank in range(comm.size)]
        assert comm.allgather_obj("" if comm.rank else "long" * 1000)[1:] == [""] * (comm.size - 1)


def check_barrier(comm):
    for _ in range(ROUNDS):
        comm.barrier()


def check_all_failed(comm):
    for _ in range(ROUNDS):
        assert comm.all_failed(60.0)


def check_same_bits_on_all_ranks(comm):
    for _ in range(ROUNDS):
        buffer = np.random.default_rng(comm.rank).normal(size=50)
        comm.allreduce(buffer)
        assert len({tuple(bits) for bits in comm.allgather_obj(buffer.tolist())}) == 1


def check_rows_from_all_to_all(comm):
    """Row r of what rank s sends goes to rank r: 10 s + r there, from s."""
    for dtype in ("u1", "u2", "f4", "f8"):
        for columns in (1, 3, 1000):
            send = np.repeat(10 * comm.rank + np.arange(comm.size)[:, None], columns, axis=1).astype(dtype)
            receive = np.zeros_like(send)
            request = comm.ialltoall(send, receive)
            request.wait()
            assert request.test()
            expected = np.repeat(10 * np.arange(comm.size)[:, None] + comm.rank, columns, axis=1)
            np.testing.assert_array_equal(receive, expected.astype(dtype), strict=True)


def check_rows_gathered(comm):
    for dtype in ("u1", "u2", "f4", "f8"):
        receive = np.zeros((comm.size, 3), dtype)
        comm.iallgather(np.array([comm.rank, 7, 2 * comm.rank], dtype), receive).wait()
        expected = [[rank, 7, 2 * rank] for rank in range(comm.size)]
        np.testing.assert_array_equal(receive, np.array(expected, dtype), strict=True)


def check_gathers_may_overtake_all_to_alls(comm):
    rows = [np.full((comm.size, 50), comm.rank + 100 * k, np.float32) for k in range(3)]
    received = [np.zeros_like(row) for row in rows]
    gathered = np.zeros((comm.size, 4), np.float32)
    requests = [comm.ialltoall(row, to) for row, to in zip(rows[:2], received[:2], strict=True)]
    gather = comm.iallgather(np.full(4, comm.rank, np.float32), gathered)
    requests.append(comm.ialltoall(rows[2], received[2]))
    gather.wait()
    for request in reversed(requests):
        request.wait()
    for k, to in enumerate(received):
        assert np.array_equal(to[:, 0], np.arange(comm.size) + 100 * k)
    assert np.array_equal(gathered[:, 3], np.arange(comm.size))


def check_hosts_divide_the_ranks(comm):
    here, across = comm.on_host(), comm.across_hosts()
    assert comm.on_host() is here and comm.across_hosts() is across
    assert here.size == comm.host_ranks
    # who shares the host, and who has the same number on the other ones, in order
    mine = here.allgather_obj(comm.rank)
    assert mine == sorted(mine) and mine[here.rank] == comm.rank
    numbers = comm.allgather_obj(here.rank)
    assert across.allgather_obj(comm.rank) == [rank for rank, number in enumerate(numbers) if number == here.rank]


def check_shared_memory(comm):
    here = comm.on_host()
    memories = [here.shared(3 * here.size, np.float32), here.shared(here.size, np.uint8)]
    for turn in range(20):
        for memory in memories:
            width = len(memory.array) // here.size
            memory.array[here.rank * width : (here.rank + 1) * width] = 10 * turn + here.rank
        memories[0].barrier()
        for memory in memories:
            width = len(memory.array) // here.size
            assert memory.array.tolist() == [10 * turn + r for r in range(here.size) for _ in range(width)]
        memories[1].barrier()
    for memory in memories:
        memory.free()


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
every_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
