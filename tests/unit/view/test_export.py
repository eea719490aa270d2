"""What is exported is what was chosen, in each format, and hurts no spreadsheet."""

import csv
import io
import json
import tarfile
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from dawin_ray.data import DatasetConfig, list_files, make_shards, read_samples
from dawin_ray.view import export
from dawin_ray.view.images import Images
from tests.unit.view.conftest import COUNT


def rows_of(database, where: str = "") -> list[dict]:
    return database.query(f"SELECT * FROM samples {where}").dicts()


def test_csv_has_the_choice_and_no_formula(client, database):
    answer = client.get("/export?format=csv&dataset=tars")
    assert answer.headers["content-disposition"] == 'attachment; filename="samples.csv"'
    found = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    expected = rows_of(database, "WHERE dataset = 'tars'")
    assert [row["sample_id"] for row in found] == [row["sample_id"] for row in expected]
    assert [row["prediction"] for row in found] == [str(row["prediction"]) for row in expected]
    assert [json.loads(r["coefficient"]) for r in found] == [r["coefficient"] for r in expected]
    sql = """SELECT '=1+1' AS "=a", '-x' AS b, '@y' AS c, -1 AS d, 'a\n"b' AS e"""
    text = client.get(f"/export?format=csv&sql={quote(sql)}").text
    [head, row] = csv.reader(io.StringIO(text, newline=""))
    assert head == ["'=a", "b", "c", "d", "e"]
    assert row == ["'=1+1", "'-x", "'@y", "-1", 'a\n"b']


def test_parquet_has_the_choice(client, database, tmp_path):
    answer = client.get("/export?format=parquet&merged=wrong")
    found = pq.read_table(io.BytesIO(answer.content)).to_pylist()
    expected = rows_of(database, "WHERE NOT merged_right")
    assert [r["sample_id"] for r in found] == [r["sample_id"] for r in expected]
    assert [r["coefficient"] for r in found] == [r["coefficient"] for r in expected]


def test_no_file_is_left(client, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert client.get("/export?format=parquet").status_code == 200
    late = "SELECT CASE WHEN range < 500000 THEN 1 ELSE error('late') END FROM range(600000)"
    assert client.get(f"/export?format=parquet&sql={quote(late)}").status_code == 400
    assert not list(tmp_path.iterdir())


def test_an_export_without_rows_has_its_columns(client):
    assert client.get("/export?format=csv&label=99").text.startswith("dataset,batch,sample_id,")
    table = pq.read_table(io.BytesIO(client.get("/export?format=parquet&label=99").content))
    assert table.num_rows == 0
    assert "sample_id" in table.column_names
    content = client.get("/export?format=webdataset&label=99").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert not tar.getnames()


@pytest.mark.parametrize("dataset", ["tars", "rows", "images"])
def test_a_webdataset_has_the_images_and_is_read_as_data(client, encoded, tmp_path, dataset):
    answer = client.get(f"/export?format=webdataset&dataset={dataset}")
    (tmp_path / "samples.tar").write_bytes(answer.content)
    config = DatasetConfig(name="back", path=str(tmp_path))
    [shard] = make_shards(config, list_files(config))
    samples = list(read_samples(shard))
    assert [s.error for s in samples] == [None] * COUNT
    assert [s.image for s in samples] == encoded[1][dataset]
    if dataset != "images":
        assert [s.label for s in samples] == [i % 6 for i in range(COUNT)]
    with tarfile.open(tmp_path / "samples.tar") as tar:
        names = tar.getnames()
        row = json.load(tar.extractfile("000003.json"))
    assert all(name.replace(".", "").isalnum() for name in names)
    assert row["dataset"] == dataset
    assert "sample_id" in row


def test_some_samples_of_several_data_sets(client, database):
    sql = "SELECT dataset, sample_id, label FROM samples WHERE cluster = 0"
    answer = client.get(f"/export?format=webdataset&sql={quote(sql)}")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        rows = [json.load(tar.extractfile(n)) for n in tar.getnames() if n.endswith(".json")]
    expected = database.query(sql).dicts()
    assert sorted((r["dataset"], r["sample_id"]) for r in rows) == sorted(
        (r["dataset"], r["sample_id"]) for r in expected
    )


def test_bounds(client, database, run, monkeypatch):
    monkeypatch.setattr(export, "MAX_IMAGES", 5)
    answer = client.get("/export?format=webdataset")
    assert answer.status_code == 400
    assert "at most 5" in answer.text
    monkeypatch.setattr(export, "MAX_ROWS", 7)
    assert len(list(csv.reader(io.StringIO(client.get("/export?format=csv").text)))) <= 8 * 2
    assert pq.read_table(io.BytesIO(client.get("/export?format=parquet").content)).num_rows == 7
    monkeypatch.setattr(export, "MAX_BYTES", 10)
    pieces = export.webdataset(database, Images(run), "SELECT * FROM samples LIMIT 2")
    with pytest.raises(Exception, match="more than 10 bytes"):
        list(pieces)
