"""A run's tables: all rows are there, in parts that are described truly."""

from dataclasses import asdict

import pyarrow as pa
import pytest

from dawin_ray import tables
from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.runs import parts
from dawin_ray.runs.directory import RunDirectory
from tests.unit.runs.made import scored


def test_parts_hold_all_rows_and_are_described_truly(address, monkeypatch):
    monkeypatch.setattr(parts, "ROW_GROUP", 5)
    run = RunDirectory(address)
    where = ("experts", "dataset=set")
    given = [scored(start) for start in range(0, 30, 3)]
    found = [run.parts.write(where, tables.EXPERTS, given[i : i + 4], i) for i in (0, 4, 8)]
    assert [part.rows for part in found] == [12, 12, 6]
    for part in found:
        described = run.describe(part.path)
        assert asdict(part) == asdict(described) | {"rows": part.rows}
        assert run.parts.content(part) == run.read_bytes(part.path)
    read = list(run.parts.read(*where))
    assert [table.num_rows for table in read] == [6, 6, 6, 6, 6]  # two chunks a row group
    assert pa.concat_tables(read).equals(pa.concat_tables(given))
    assert run.parts.write(where, tables.EXPERTS, given[:4]) == found[0]


def test_a_table_without_rows_is_a_part_with_its_columns(address):
    run = RunDirectory(address)
    part = run.parts.write(("rejects",), tables.REJECTS, [])
    assert part.rows == 0
    assert list(run.parts.read("rejects", columns=["reason"])) == []


def test_a_part_that_is_not_what_was_written_is_found(address):
    run = RunDirectory(address)
    where = ("experts", "dataset=set")
    part = run.parts.write(where, tables.EXPERTS, [scored(0)])
    run.parts.write(where, tables.EXPERTS, [scored(3)])  # another one of as many rows
    with pytest.raises(DamagedFileError, match="sha256"):
        run.parts.content(part)
    run.remove(part.path)
    with pytest.raises(FileNotFoundError):
        run.parts.content(part)


def test_parts_of_other_bounds_go_and_other_files_stay(address):
    run = RunDirectory(address)
    where = ("experts", "dataset=set")
    for number in range(3):
        run.parts.write(where, tables.EXPERTS, [scored(number)], number)
    run.write_text("experts/dataset=set/mine.parquet", "mine")
    run.parts.keep_only(where, {"part-00001.parquet"})
    fs, path = run.path("experts", "dataset=set")
    names = {name.rpartition("/")[2] for name in fs.ls(path, detail=False)}
    assert names == {"part-00001.parquet", "mine.parquet"}


def test_a_damaged_part_is_told(run):
    part = run.parts.write(("experts", "dataset=set"), tables.EXPERTS, [scored(0)])
    run.write_text(part.path, "x")
    with pytest.raises(UserError, match=r"part-00000\.parquet' is damaged"):
        list(run.parts.read("experts", "dataset=set"))
