"""A finished run over every kind of data, with names that would be code were they not text."""

import io
import tarfile

import pytest
import yaml
from starlette.testclient import TestClient

from dawin_ray.config import make_job
from dawin_ray.job import prepare, score
from dawin_ray.view import make_app, open_runs
from dawin_ray.view.database import Database
from tests.conftest import CLASSES, make_images, write_parquet

TOKEN = "once"
PORT = 8123
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</textarea><script>alert(2)<",
    "new\nline",
    "\x1b[31mred\x1b[0m",
    "quote'\"; DROP TABLE x --",
    "=HYPERLINK(1)",
    "per%cent_under\\score",
    "{{ 7 * 7 }}",
]
CLASS_NAMES = [
    "<b>bold</b>", "=1+1", "'; SELECT 1 --", "\x1b[2J", "tab\tbed", '"><script>x</script>',
]  # fmt: skip
COUNT = 24


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_data(root) -> dict[str, list[bytes]]:
    """Data sets `tars`, `rows` and `images`; encoded images of each in their order."""
    of = {name: make_images(COUNT, seed) for seed, name in enumerate(("tars", "rows", "images"))}
    (root / "tars").mkdir(parents=True)
    for shard in range(2):
        with tarfile.open(root / "tars" / f"{shard}.tar", "w") as tar:
            for i in range(shard * COUNT // 2, (shard + 1) * COUNT // 2):
                key = f"{i:02d}{HOSTILE[i % len(HOSTILE)]}"
                add(tar, f"{key}.{('jpg', 'png')[i % 2]}", of["tars"][i])
                add(tar, f"{key}.cls", str(i % CLASSES).encode())
    write_parquet(root / "rows" / "a.parquet", of["rows"], [i % CLASSES for i in range(COUNT)])
    (root / "images").mkdir()
    for i, image in enumerate(of["images"]):
        name = f"{i:02d}{HOSTILE[i % len(HOSTILE)]}".replace("/", "_")
        (root / "images" / f"{name}.{('jpg', 'png')[i % 2]}").write_bytes(image)
    return of


@pytest.fixture(scope="package")
def encoded(tmp_path_factory):
    root = tmp_path_factory.mktemp("viewed")
    return root, write_data(root / "data")


def job_of(small, root, name: str, **sections) -> dict:
    names = root / "names.txt"
    names.write_text("\n".join(CLASS_NAMES))
    datasets = [
        {"name": kind, "path": str(root / "data" / kind)} for kind in ("tars", "rows", "images")
    ]
    model = {"architecture": small.config, "class_names": str(names)}
    return small.job(root / name, datasets, model=model, **sections)


@pytest.fixture(scope="package")
def run_dir(small, encoded):
    root, _ = encoded
    values = yaml.safe_load(yaml.safe_dump(job_of(small, root, "run")))
    score(prepare(make_job(values, "job.yaml"), say=lambda note: None))
    return str(root / "run")


@pytest.fixture(scope="package")
def runs(run_dir):
    return open_runs([run_dir])


@pytest.fixture(scope="package")
def run(runs):
    return runs[0]


@pytest.fixture(scope="package")
def database(runs):
    return Database(runs)


def client_of(runs) -> TestClient:
    """A browser that was let in."""
    client = TestClient(make_app(runs, TOKEN, PORT), base_url=f"http://127.0.0.1:{PORT}")
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


@pytest.fixture(scope="package")
def client(runs):
    return client_of(runs)
