"""Rows by their places: those that are asked for, and no more is read than their row groups."""

import io
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.folder import part_of
from dawin_ray.runs.row_ranges import rows_between
from dawin_ray.storage import WRITE
from tests.unit.runs.made import scored

ROWS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with ROWS rows in parts of several row groups, and its parts."""
    run, found = RunDirectory(str(tmp_path_factory.mktemp("run"))), []
    for start in range(0, ROWS, 15):
        buffer = io.BytesIO()
        pq.write_table(scored(start, 15), buffer, row_group_size=6, **WRITE)
        content = buffer.getvalue()
        part = part_of(f"experts/dataset=set/part-{len(found):05d}.parquet", content, 15)
        run.write(run.output(part.path), content)
        found.append(part)
    return run, found


def ids_of(some: list[pa.Table]) -> list[str]:
    return [name for table in some for name in table["sample_id"].to_pylist()]


@pytest.mark.parametrize("seed", range(12))
def test_each_range_has_its_rows(made, seed):
    run, found = made
    draw = random.Random(seed)
    ranges, begin, end = [], 0, 0
    for _ in range(8):
        begin = min(begin + draw.randrange(20), ROWS)
        end = min(max(end, begin) + draw.randrange(20), ROWS)
        ranges.append((begin, end))
    read = [ids_of(some) for some in rows_between(run, found, ranges)]
    assert read == [[f"s.tar/{i}" for i in range(*one)] for one in ranges]


def test_a_range_behind_the_end_has_no_rows(made):
    run, found = made
    assert [ids_of(some) for some in rows_between(run, found, [(ROWS, ROWS + 5)])] == [[]]
    assert [*rows_between(run, [], [(0, 5)])] == [[]]


def test_a_row_group_is_read_once_and_only_where_it_is_asked_for(made, monkeypatch):
    run, found = made
    read = []
    whole = pq.ParquetFile.read_row_group

    def noted(self, group, **kwargs):
        read.append(group)
        return whole(self, group, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", noted)
    places = [(i, i + 4) for i in range(30, 40)]
    assert len([*rows_between(run, found, places)]) == 10
    assert 2 <= len(read) <= 4  # of ten: 13 rows in groups of 6


def test_damage_is_told(made):
    run, found = made
    path = Path(run.output(found[0].path)[1])
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-20])
        with pytest.raises(UserError, match=r"part-00000\.parquet' is damaged"):
            list(rows_between(run, found, [(0, 3)]))
    finally:
        path.write_bytes(content)
