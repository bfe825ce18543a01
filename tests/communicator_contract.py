"""What every communicator promises, as checks to be run on each of its ranks.

The values are closed forms in rank and size; every check makes its calls twice, so that what the first
round leaves behind would be met by the second.
"""

import numpy as np

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
            comm.iallreduce(empty).wait()
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
            later = _mine(comm, dtype, n).reshape(-1, 1)
            comm.iallreduce(later).wait()
            np.testing.assert_array_equal(later[:, 0], expected - np.array(comm.size - 1, dtype))


def check_iallreduce(comm):
    """Several at once, waited for in any order, with a blocking one in between."""
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        buffers = [_mine(comm, dtype, 1 + 40 * i) for i, dtype in enumerate(("f4", "f8", "i8", "f4"))]
        requests = [comm.iallreduce(buffer) for buffer in buffers]
        between = np.array([comm.rank])
        comm.allreduce(between, "max")
        assert between[0] == comm.size - 1
        for i in order:
            requests[i].wait()
            n = len(buffers[i])
            total = comm.size * (comm.size + 1) // 2 * np.arange(1, n + 1)
            np.testing.assert_array_equal(buffers[i], total.astype(buffers[i].dtype), strict=True)


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


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
