"""The images that were scored, by their ids, as pixels and nothing else."""

import io
import shutil
import time
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from dawin_ray.data import ImageDecoder, open_image
from dawin_ray.errors import UserError
from dawin_ray.view import images as module
from dawin_ray.view.images import Images
from dawin_ray.view.opened import open_runs
from tests.unit.view.conftest import COUNT, client_of


def ids_of(database, dataset: str) -> list[str]:
    found = database.query(f"SELECT sample_id FROM samples WHERE dataset = '{dataset}'")
    return [sample_id for (sample_id,) in found.rows]


@pytest.mark.parametrize("dataset", ["tars", "rows", "images"])
def test_each_sample_has_its_own_image(database, run, encoded, dataset):
    images, ids = Images(run), ids_of(database, dataset)
    assert len(ids) == COUNT
    assert [images.sample(dataset, i).image for i in ids] == encoded[1][dataset]
    backwards = [images.sample(dataset, i).image for i in reversed(ids)]
    assert backwards == encoded[1][dataset][::-1]


@pytest.mark.parametrize("dataset", ["tars", "rows", "images"])
def test_the_crop_is_what_the_model_saw(database, run, encoded, dataset):
    decode = ImageDecoder(run.preprocessing)
    for sample_id, image in zip(ids_of(database, dataset), encoded[1][dataset], strict=True):
        picture = Images(run).picture(dataset, sample_id, "crop")
        assert picture.type == "image/png"
        with Image.open(io.BytesIO(picture.content)) as shown:
            np.testing.assert_array_equal(np.asarray(shown), decode(image))


def test_a_thumbnail_is_small_and_made_here(run, encoded):
    for kind in ("thumb", "whole"):
        picture = Images(run).picture("rows", "a.parquet/0", kind)
        with open_image(picture.content) as shown, open_image(encoded[1]["rows"][0]) as image:
            assert shown.format == "JPEG"
            assert max(shown.size) <= module.SIDES[kind]
            assert shown.size == image.size  # which is smaller than that
        assert picture.content != encoded[1]["rows"][0]


def test_what_was_asked_for_is_held_within_a_bound(run, monkeypatch):
    monkeypatch.setattr(module, "CACHE_BYTES", 4_000)
    images = Images(run)
    for i in range(COUNT):
        images.picture("rows", f"a.parquet/{i}", "thumb")
    assert 0 < sum(len(p.content) for p in images._cache.values()) == images._cached <= 4_000


@pytest.mark.parametrize(
    ("dataset", "sample_id"),
    [
        ("tars", "../../names.txt"), ("images", "../../names.txt"), ("images", "/etc/passwd"),
        ("tars", "0.tar/none"), ("tars", "0.tar"), ("tars", ""), ("rows", "a.parquet/99"),
        ("rows", "a.parquet/-1"), ("rows", "a.parquet/x"), ("rows", "a.parquet/²"),
        ("rows", "b.parquet/1"), ("nowhere", "a"), ("", ""), ("images", "\\x00"), ("images", "\0"),
    ],
)  # fmt: skip
def test_what_is_no_sample_is_none(run, client, dataset, sample_id):
    with pytest.raises(UserError):
        Images(run).picture(dataset, sample_id, "thumb")
    answer = client.get(f"/image?dataset={quote(dataset)}&sample={quote(sample_id, safe='')}")
    assert answer.status_code == 200  # a failed request would be an error of the page
    assert answer.headers["content-type"] == "image/svg+xml"


@pytest.fixture
def moved(run_dir, encoded, tmp_path, monkeypatch):
    """A run whose data may be changed."""
    root, _ = encoded
    shutil.copytree(root / "data", tmp_path / "data", copy_function=shutil.copy2)
    shutil.copytree(run_dir, tmp_path / "run")
    job = (tmp_path / "run" / "job.yaml").read_text()
    (tmp_path / "run" / "job.yaml").write_text(
        job.replace(str(root / "data"), str(tmp_path / "data"))
    )
    [run] = open_runs([str(tmp_path / "run")])
    return run, tmp_path / "data"


def test_a_file_that_has_changed_is_told(moved):
    run, data = moved
    images = Images(run)
    assert images.sample("rows", "a.parquet/0").image
    time.sleep(0.01)
    (data / "tars" / "0.tar").write_bytes((data / "tars" / "0.tar").read_bytes())
    [first, *_] = [s for s in (data / "images").iterdir()]
    first.write_bytes(b"another")
    with pytest.raises(UserError, match="changed since"):
        Images(run).sample("tars", "0.tar/00<img src=x onerror=alert(1)>")
    [shard] = run.shards("images")
    with pytest.raises(UserError, match="changed since"):
        Images(run).sample("images", shard.images[3][0])


def test_data_that_are_gone_are_told_in_place_of_an_image(moved):
    run, data = moved
    shutil.rmtree(data)
    answer = client_of([run]).get("/image?dataset=rows&sample=a.parquet/0")
    assert answer.status_code == 200
    assert "svg" in answer.headers["content-type"]
    assert answer.text.count("<text") > 1
    assert client_of([run]).get("/sample?dataset=rows&sample=a.parquet/0").status_code == 200
