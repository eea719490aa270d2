"""One job that many tests disturb, and its outputs when nobody does; and a bucket on S3."""

import logging
import shutil
from pathlib import Path

import fsspec
import pytest

from tests.conftest import CLASSES, make_images, write_folder, write_parquet, write_tar
from tests.integration.processes import DRIVER, Tries, job_file

IMAGES = 60

BUCKET = "scores"
SECRET = "wJalrXUtnFEMI-not-a-real-one"
KEY = "AKIAIOSFODNN7EXAMPLE"


@pytest.fixture(scope="session")
def tries():
    made = Tries()
    yield made
    made.end_orphans()


@pytest.fixture(scope="session")
def datasets(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("data")
    images, labels = make_images(IMAGES), [i % CLASSES for i in range(IMAGES)]
    write_tar(root / "tars" / "a.tar", [*images[:30], b"no image"], None)
    write_tar(root / "tars" / "b.tar", images[30:50], None)
    write_folder(root / "folder", images, sorted(labels))
    return [{"name": name, "path": str(root / name)} for name in ("tars", "folder")]


@pytest.fixture(scope="session")
def undisturbed(small, datasets, tries, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    code, output = tries.run(DRIVER, "", 0, job_file(small, folder, datasets, engine="ray"))
    assert code == 0, output
    return folder / "run"


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it tells every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture(scope="module")
def s3(server):
    """The bucket, as the tests see it: without faults."""
    fs = fsspec.filesystem(
        "s3", endpoint_url=f"http://127.0.0.1:{server}", key=KEY, secret=SECRET,
        use_listings_cache=False,
    )  # fmt: skip
    fs.mkdir(BUCKET)
    return fs


@pytest.fixture(scope="module")
def uploaded(small, s3, tmp_path_factory) -> Path:
    """What lies in the bucket, and a folder with the same."""
    root = tmp_path_factory.mktemp("s3")
    images, labels = make_images(48), [i % CLASSES for i in range(48)]
    write_tar(root / "data" / "tars" / "a.tar", [*images[:24], b"no image"], None)
    write_tar(root / "data" / "tars" / "b.tar", images[24:], None)
    write_folder(root / "data" / "folder", images, sorted(labels))
    write_parquet(root / "data" / "parquet" / "a.parquet", images, labels)
    shutil.copytree(small.folder, root / "models")
    for path in root.rglob("*"):
        if path.is_file():
            s3.put(str(path), f"{BUCKET}/{path.relative_to(root)}")
    return root


@pytest.fixture(scope="module")
def aws_env(server) -> dict[str, str]:
    """What the environment of a process that uses the bucket has."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server}",
    }


@pytest.fixture
def aws(monkeypatch, aws_env):
    for name, value in aws_env.items():
        monkeypatch.setenv(name, value)
    kept = dict(fsspec.config.conf)
    yield
    fsspec.config.conf.clear()
    fsspec.config.conf.update(kept)
