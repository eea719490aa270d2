"""Data of which too little can be used are refused, with names and what is lost."""

import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs.broken import BrokenShard
from dawin_ray.runs.folder import Part
from dawin_ray.runs.part_records import ExpertsPart, ShardCount
from dawin_ray.runs.usable import check_usable

WHY = "the shard breaks after byte 7"


def part(
    rows: int, rejects: int = 0, broken: tuple[BrokenShard, ...] = (), **values
) -> ExpertsPart:
    return ExpertsPart(
        chunks="", experts=Part(path="", bytes=0, sha256="", rows=rows), rejects=None, ids=(0, 0),
        names=None,
        shards=(ShardCount(key="s", rows=rows, rejects=rejects),), rows_of_chunks=(rows,),
        broken=broken, **({"reasons": {WHY: rejects}, "first": ("s/1", WHY)} | values),
    )  # fmt: skip


def broken(name: str, rows: int, lost: int | None, *, estimated: bool = True) -> ExpertsPart:
    shard = BrokenShard(shard=name, reason=WHY, lost=lost, estimated=estimated)
    return part(rows, 1, (shard,))


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (230, "about 230 samples \\(estimated\\) lost"),
        (1, "about 1 sample \\(estimated\\) lost"),
        (None, "an unknown number of samples lost"),
    ],
)
def test_a_broken_shard_fails_the_run_with_its_name_and_its_loss(lost, words):
    parts = [part(99), broken("t.tar", 1, lost)]
    message = rf"1 shard is broken.*max_broken_shards \(0\)(.|\n)*set: t\.tar: {words}: the shard"
    with pytest.raises(UserError, match=message) as caught:
        check_usable({"set": parts}, 1.0)
    assert "raise max_broken_shards" in str(caught.value)
    assert "the work done is kept" in str(caught.value)
    check_usable({"set": parts}, 1.0, max_broken=1)


def test_rows_of_a_parquet_file_are_counted_not_estimated():
    with pytest.raises(UserError, match=r"t: 180 samples lost"):
        check_usable({"set": [broken("t", 1, 180, estimated=False)]}, 1.0)


def test_what_is_lost_counts_against_the_limit_of_rejects():
    parts = [part(99), broken("t.tar", 1, 50)]
    with pytest.raises(UserError, match="50 of 150 samples were rejected, 50 of them lost") as told:
        check_usable({"set": parts}, 0.3, max_broken=1)
    assert "max_reject_fraction (0.3)" in str(told.value)
    check_usable({"set": parts}, 0.34, max_broken=1)


def test_what_is_not_known_counts_as_one():
    parts = [part(98), broken("t.tar", 1, None)]
    check_usable({"set": parts}, 0.01, max_broken=1)
    with pytest.raises(UserError, match="1 of 100 samples were rejected, 1 of them"):
        check_usable({"set": parts}, 0.009, max_broken=1)


def test_a_shard_that_breaks_in_two_parts_is_one_shard():
    parts = [part(99), broken("t.tar", 1, 5), broken("t.tar", 0, 5)]
    check_usable({"set": parts}, 1.0, max_broken=1)
    with pytest.raises(UserError, match=r"1 shard is broken(.|\n)*t\.tar: about 10 samples"):
        check_usable({"set": parts}, 1.0)


def test_a_loss_that_is_known_in_one_part_only_is_unknown():
    parts = [part(99), broken("t.tar", 1, 5), broken("t.tar", 0, None)]
    with pytest.raises(UserError, match=r"t\.tar: an unknown number"):
        check_usable({"set": parts}, 1.0)


def test_of_thousands_of_broken_shards_a_few_are_named():
    parts = [broken(f"s{i:04d}.tar", 1, 3) for i in range(300)]
    with pytest.raises(UserError, match=r"300 shards are broken.*at least 900 samples are") as told:
        check_usable({"set": parts}, 1.0, max_broken=299)
    assert len(str(told.value)) < 2000
    assert "and 290 more broken shards" in str(told.value)


def test_a_set_that_is_all_broken_has_no_usable_image_however_many_may_break():
    with pytest.raises(UserError, match="'set' has no usable image"):
        check_usable({"set": [broken("t.tar", 0, None)]}, 1.0, max_broken=1)


def test_reasons_of_all_parts_are_counted_together_and_the_first_reject_is_shown():
    parts = [
        part(5, reasons={}, first=None),
        part(5, 3, reasons={"a": 1, "b": 2}, first=("s/7", "a")),
        part(5, 2, reasons={"a": 2}, first=("s/8", "a")),
    ]
    with pytest.raises(UserError, match=r"5 of 20 samples were rejected") as told:
        check_usable({"set": parts}, 0.1)
    assert "\n  3 x a\n  2 x b\nThe first: s/7: a\n" in str(told.value)
