"""One job that many tests disturb, and its outputs when nobody does."""

from pathlib import Path

import pytest

from tests.conftest import CLASSES, make_images, write_folder, write_tar
from tests.integration.processes import DRIVER, Tries, job_file

IMAGES = 60


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
