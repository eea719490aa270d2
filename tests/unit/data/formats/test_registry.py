"""A format is all that its record says, and nothing else must know of it."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from dawin_ray.data import FORMATS, DatasetConfig, count_samples, list_files, make_shards
from dawin_ray.data.datasets import Sample
from dawin_ray.data.formats.format import Format
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.names import shown
from dawin_ray.storage import open_stream


def read_lines(shard, wanted):
    """A toy: each line is an image in hexadecimal digits."""
    with open_stream(shard.address, "shard") as stream:
        for row, line in enumerate(stream.read().splitlines()):
            image = bytes.fromhex(line.decode()) if wanted(row) else None
            yield Sample(sample_id=f"{shown(shard.name)}/{row}", image=image, position=row)


LINES = Format(
    suffixes=(".hex",),
    files="lines of digits (.hex)",
    read=read_lines,
    count=lambda shard, told: sum(1 for _ in read_lines(shard, lambda row: False)),
)


@pytest.mark.parametrize("name", FORMATS)
def test_a_job_may_name_each_format(name):
    assert DatasetConfig(name="set", path="here", format=name).format == name


def test_a_job_may_name_no_other_format():
    with pytest.raises(ValidationError, match="'folder', 'webdataset', 'parquet', 'idx' or 'svhn'"):
        DatasetConfig(name="set", path="here", format="hex")


def test_a_new_format_is_found_split_counted_and_read(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "lines", LINES)
    (tmp_path / "label=3").mkdir()
    (tmp_path / "label=3" / "a.hex").write_text("00ff\n01\n")
    (tmp_path / "b.hex").write_text("02\n")
    config = DatasetConfig(name="set", path=str(tmp_path))
    listing = list_files(config)
    shards = make_shards(config, listing)
    assert listing.format == "lines"
    assert [(shard.name, shard.label) for shard in shards] == [
        ("b.hex", None),
        ("label=3/a.hex", 3),
    ]
    assert [count_samples(shard) for shard in shards] == [1, 2]
    samples = [sample for shard in shards for sample in read_samples(shard)]
    assert [sample.image for sample in samples] == [b"\x02", b"\x00\xff", b"\x01"]
    ids = pa.chunked_array([[sample.sample_id for sample in samples]])
    assert LINES.rows(ids, ["b.hex"]).to_pylist() == [True, False, False]


def test_rows_of_a_folder_are_its_images_and_not_what_lies_below_their_names():
    ids = pa.chunked_array([["cat/1.jpg", "cat/1.jpg/2", "cat/10.jpg"]])
    assert FORMATS["folder"].rows(ids, {"cat/1.jpg"}).to_pylist() == [True, False, False]
