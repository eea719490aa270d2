"""A run and its data on S3 are shown as those of this machine are: rows, images, exports."""

import io
import logging
import tarfile

import fsspec
import pytest
from s3fs import S3FileSystem

from dawin_ray.config import make_job
from dawin_ray.job import prepare, score
from dawin_ray.report import read_predictions
from dawin_ray.view import open_runs
from dawin_ray.view.database import Database, QueryError
from dawin_ray.view.images import Images
from tests.conftest import make_images, write_parquet, write_tar
from tests.unit.view.conftest import client_of

COUNT = 20


@pytest.fixture
def bucket(monkeypatch):
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "some")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    S3FileSystem.clear_instance_cache()  # of tests before, with other addresses
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.mkdir("viewed")  # servers of one process share their buckets
    yield fs
    server.stop()
    S3FileSystem.clear_instance_cache()


def test_rows_images_and_exports(small, bucket, tmp_path):
    images = make_images(COUNT)
    for name, write in {"a.tar": write_tar, "a.parquet": write_parquet}.items():
        write(tmp_path / name, images, [i % 6 for i in range(COUNT)])
        bucket.put(str(tmp_path / name), f"viewed/data/{name[2:]}/{name}")
    datasets = [{"name": n, "path": f"s3://viewed/data/{n}"} for n in ("tar", "parquet")]
    score(prepare(make_job(small.job("s3://viewed/run", datasets), "job.yaml")))
    runs = open_runs(["s3://viewed/run"])
    database = Database(runs)
    found = database.query("SELECT sample_id, prediction FROM samples ORDER BY dataset, sample_id")
    rows = read_predictions("s3://viewed/run").sort_values(["dataset", "sample_id"])
    assert found.rows == tuple(zip(rows.sample_id, rows.prediction, strict=True))
    for forbidden in ("s3://viewed/run/manifest.json", "s3://viewed/data/parquet/a.parquet"):
        with pytest.raises(QueryError, match="Cannot access"):
            database.query(f"SELECT * FROM read_blob('{forbidden}')")
    seen = Images(runs[0])
    for i in (7, 3, 19, 4):
        assert seen.sample("tar", f"a.tar/{i:04d}").image == images[i]
        assert seen.sample("parquet", f"a.parquet/{i}").image == images[i]
    client = client_of(runs)
    assert f"<h1>{COUNT} samples" in client.get("/look?dataset=tar").text
    content = client.get("/export?format=webdataset&dataset=parquet").content
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.extractfile(tar.getnames()[0]).read() == images[0]
