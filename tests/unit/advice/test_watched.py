"""What is said of a pass's time is what its chunks tell."""

import pytest

from dawin_ray.advice.watched import PassTimes, times_of
from dawin_ray.data import ChunkSummary


def chunk(name, begun, seconds, rows=10, **more):
    return ChunkSummary(
        dataset="d", shard="s", chunk=name, rows=rows, rejects=0, bytes=1, begun=begun,
        done=begun + seconds, **more,
    )  # fmt: skip


def test_the_first_chunk_is_slow_at_first_and_that_counts_once():
    chunks = [chunk("b", 9, 2.0), chunk("a", 5, 4.0), chunk("c", 11, 2.0)]
    found = times_of(chunks, 1.0, 14.0, in_turn=False)
    assert found.each == pytest.approx((0.2, 0.2))
    assert found.rate == pytest.approx(0.2)
    assert found.start == pytest.approx(4 + 2)
    assert found.end == pytest.approx(1)
    assert (found.between, found.merging_images) == (0, 0)
    # so that all parts are the whole
    assert found.start + found.rate * found.images + found.end == pytest.approx(13)


def test_chunks_in_which_models_were_merged_tell_what_that_takes():
    chunks = [chunk("a", 5, 6.0, merges=3), chunk("b", 11, 2.0), chunk("c", 13, 2.2)]
    found = times_of(chunks, 5.0, 15.2, in_turn=False)
    assert found.each == pytest.approx((0.2, 0.22))
    assert found.start == 0
    assert found.merges(0.2) == pytest.approx(4.0)
    alone = times_of(chunks[:1], 5.0, 11.0, in_turn=False)
    assert alone.each == ()
    assert alone.rate is None
    assert alone.merges(0.1) == pytest.approx(5.0)


def test_in_one_process_reading_and_committing_come_between():
    reading = {"read_seconds": 0.1, "decode_seconds": 0.4}
    chunks = [chunk("a", 2.5, 1.0, **reading), chunk("b", 4.2, 1.0, **reading)]
    found = times_of(chunks, 1.0, 5.5, in_turn=True)
    assert found.decoding == pytest.approx(1.0 / 20)
    assert found.start == pytest.approx(1.0)  # its reading counts by image
    assert found.between == pytest.approx(0.2 / 20)
    total = found.start + 20 * (found.rate + found.decoding + found.between) + found.end
    assert total == pytest.approx(4.5)


def test_a_pass_of_one_chunk_has_its_rate():
    assert times_of([chunk("a", 2, 3.0)], 1, 6, in_turn=False) == PassTimes(
        images=10, each=(0.3,), start=1.0, end=1.0
    )
