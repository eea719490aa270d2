"""A run's tables: all rows are there, in parts that are described truly."""

from dataclasses import asdict

import pyarrow as pa
import pytest

from dawin_ray import tables
from dawin_ray.errors import UserError
from dawin_ray.runs import parts
from dawin_ray.runs.directory import RunDirectory
from tests.unit.runs.made import scored


def test_parts_hold_all_rows_and_are_described_truly(address, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 1500)
    monkeypatch.setattr(parts, "ROW_GROUP", 5)
    run = RunDirectory(address)
    where = ("experts", "dataset=set")
    given = [scored(start) for start in range(0, 30, 3)]
    found = run.parts.write(where, tables.EXPERTS, given)
    assert len(found) > 1
    assert sum(part.rows for part in found) == 30
    for part in found:
        described = run.describe(part.path)
        assert asdict(part) == asdict(described) | {"rows": part.rows}
    read = pa.concat_tables(run.parts.read(*where))
    assert read.equals(pa.concat_tables(given))
    assert run.parts.write(where, tables.EXPERTS, given) == found


def test_a_table_without_rows_is_a_part_with_its_columns(address):
    run = RunDirectory(address)
    [part] = run.parts.write(("rejects",), tables.REJECTS, [])
    assert part.rows == 0
    assert list(run.parts.read("rejects", columns=["reason"])) == []


def test_a_damaged_part_is_told(run):
    [part] = run.parts.write(("experts", "dataset=set"), tables.EXPERTS, [scored(0)])
    run.write_text(part.path, "x")
    with pytest.raises(UserError, match=r"part-00000\.parquet' is damaged"):
        list(run.parts.read("experts", "dataset=set"))
