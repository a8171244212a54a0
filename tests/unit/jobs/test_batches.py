"""Chunks and deadlines of one batch, the time handed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaas_ray.jobs.batches import Batch, Times, chunks


@given(rows=st.integers(1, 500), workers=st.integers(1, 40))
def test_chunks_hold_every_row_once_and_no_more_than_four_to_a_worker(rows: int, workers: int) -> None:
    found = chunks(rows, workers=workers)
    assert [row for chunk in found for row in range(chunk.start, chunk.stop)] == list(range(rows))
    assert max(chunk.rows for chunk in found) == -(-rows // (workers * 4))
    assert len(found) <= workers * 4


def test_a_batch_goes_out_in_order_and_is_over_when_all_are_back() -> None:
    batch = Batch(8, workers=1, times=Times())
    taken = [batch.next(now_s=0.0) for _ in range(5)]
    assert [chunk.start for chunk in taken if chunk] == [0, 2, 4, 6]
    assert taken[4] is None
    for number in range(4):
        assert not batch.over
        assert batch.back(number, seconds=1.0)
    assert batch.over
    assert not batch.lost


def test_who_takes_three_times_the_median_is_issued_again_and_then_given_up() -> None:
    times = Times()
    batch = Batch(8, workers=1, times=times)
    for _ in range(4):
        batch.next(now_s=0.0)
    for number in range(3):
        batch.back(number, seconds=2.0)  # one second a row: six for the chunk of two are the limit
    assert batch.late(now_s=6.0).again == []
    assert batch.late(now_s=6.1).again == [3]
    assert batch.late(now_s=60.0).again == []  # it waits for a worker: its time has not begun
    again = batch.next(now_s=100.0)
    assert again is not None
    assert again.number == 3
    assert batch.late(now_s=105.9).lost == []
    assert batch.late(now_s=106.1).lost == [3]
    assert (batch.over, batch.lost) == (True, {3})
    assert not batch.back(3, seconds=110.0)  # too late: nobody waits for it


def test_the_first_answer_counts_and_a_second_one_is_not_issued() -> None:
    times = Times(timeout_s=1.0)
    batch = Batch(1, workers=1, times=times)
    batch.next(now_s=0.0)
    assert batch.late(now_s=1.1).again == [0]
    assert batch.back(0, seconds=1.2)
    assert batch.next(now_s=1.3) is None
    assert batch.over


def test_nobody_is_late_before_something_is_known_unless_the_user_says_so() -> None:
    assert Times().limit_s(10) is None
    assert Times(timeout_s=0.5).limit_s(10) == 5.0
    times = Times(timeout_s=0.5)
    for seconds in (0.1, 0.2, 0.3):
        times.tell(1, seconds=seconds)
    assert times.limit_s(10) == 5.0  # three times the median would be six
    assert times.limit_s(1) == 0.5
    fast = Times()
    for _ in range(3):
        fast.tell(100, seconds=0.001)
    assert fast.limit_s(100) == 0.25  # what is below is noise


@pytest.mark.parametrize("falls", [1, 2])
def test_a_chunk_whose_worker_is_gone_is_issued_once_more(falls: int) -> None:
    batch = Batch(1, workers=1, times=Times())
    for _ in range(falls):
        assert batch.next(now_s=0.0) is not None
        batch.fell(0)
    assert (batch.over, batch.waits) == ((True, False) if falls == 2 else (False, True))
