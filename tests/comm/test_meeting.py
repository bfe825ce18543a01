"""Ranks that meet in shared memory: nobody goes on before the others came, and who waits long sleeps."""

import threading
import time

import numpy as np
import pytest

from distbp.comm.meeting import ROOM, Meeting


def on_ranks(size, work, progress=lambda: None):
    """Do `work(meeting, rank)` on threads that share a memory; return what each returns."""
    memory, results = np.zeros(Meeting.size_for(size), np.uint8), [None] * size

    def of_rank(rank):
        results[rank] = work(Meeting(memory, rank, size, lambda: None, progress), rank)

    threads = [threading.Thread(target=of_rank, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a rank waits for ever"
    return results


@pytest.mark.parametrize("size", [2, 3, 5])
def test_nobody_leaves_a_barrier_before_all_came(size):
    came = np.zeros(size, int)

    def work(meeting, rank):
        for k in range(200):
            if (k + rank) % 50 == 0:
                time.sleep(0.001)
            came[rank] += 1
            meeting.barrier()
            assert came.min() > k, came
        return True

    assert on_ranks(size, work) == [True] * size


@pytest.mark.parametrize("size", [2, 3])
def test_short_messages_are_added_up_in_the_order_of_the_ranks_between_barriers_and_of_any_kind(size):
    def work(meeting, rank):
        found = []
        for k in range(60):
            numbers = np.array([rank + k, 0.1 * rank, 1e17 if rank else 1.0], "f4" if k % 3 else "f8").reshape(1, 3)
            op = ("sum", "max", "min")[k % 4 % 3]
            meeting.allreduce(numbers, op)
            found.append(numbers)
            if k % 5 == 0:
                meeting.barrier()
        return found

    results = on_ranks(size, work)
    for k in range(60):
        rows = np.array([[r + k, 0.1 * r, 1e17 if r else 1.0] for r in range(size)], "f4" if k % 3 else "f8")
        expected = {"sum": np.add, "max": np.maximum, "min": np.minimum}[("sum", "max", "min")[k % 4 % 3]].reduce(rows)
        for of_rank in results:
            assert of_rank[k].dtype == rows.dtype and np.array_equal(of_rank[k], expected[None])


def test_the_longest_message_has_room(rng):
    data = rng.normal(size=(2, ROOM // 8))

    def work(meeting, rank):
        mine = data[rank].copy()
        meeting.allreduce(mine, "sum")
        return mine

    for found in on_ranks(2, work):
        assert np.array_equal(found, data[0] + data[1])


def test_a_rank_that_waits_long_leaves_its_core_to_others():
    def work(meeting, rank):
        began = time.thread_time(), time.perf_counter()
        if rank:
            time.sleep(0.5)
        meeting.barrier()
        return time.thread_time() - began[0], time.perf_counter() - began[1]

    (computed, waited), _ = on_ranks(2, work)
    assert waited > 0.45 and computed < 0.5 * waited


def test_a_rank_that_waits_lets_messages_go_on():
    """Here the rank that is waited for comes when the other has called what lets its messages go on, and not before."""
    sent = threading.Event()

    def work(meeting, rank):
        if rank and not sent.wait(20):
            return False
        meeting.barrier()
        return True

    assert on_ranks(2, work, progress=sent.set) == [True, True]
