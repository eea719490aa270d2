"""A data set with its classes: depth of the path, words of labels, and outputs beside data."""

import fsspec
import pytest

from dawin_ray.config import make_job
from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import check_apart, settle
from dawin_ray.errors import UserError
from dawin_ray.job.plan import labels_of, plan_of
from dawin_ray.job.prepare import prepare
from tests.conftest import make_images, write_folder, write_tar

IMAGES = make_images(6)
LABELS = [0, 1, 2, 3, 4, 5]
NAMED = DatasetClasses(count=6, names=tuple(f"class {i}" for i in range(6)))
UNNAMED = DatasetClasses(count=6)


def source_of(path, of=UNNAMED, **settings):
    config = DatasetConfig(name="set", path=str(path), **settings)
    return settle(config, list_files(config), of)


@pytest.mark.parametrize("classes", [NAMED, UNNAMED])
@pytest.mark.parametrize("above", ["val", "images/val", "a/b/c"])
def test_a_path_that_is_too_high_is_refused_with_the_deeper_one(tmp_path, classes, above):
    write_folder(tmp_path / "set" / above, IMAGES, LABELS)
    with pytest.raises(UserError, match=rf"one folder for its 6 classes.*there: '.*/set/{above}'"):
        source_of(tmp_path / "set", classes)


def test_a_folder_of_domains_is_refused_where_the_folders_below_are_named(tmp_path):
    for domain in ("photo", "sketch"):
        write_folder(tmp_path / domain, IMAGES, LABELS)
    with pytest.raises(UserError, match=r"one level deeper, like 'photo/class_0'"):
        source_of(tmp_path, NAMED)


def test_a_class_may_have_folders_of_its_own(tmp_path):
    for path in ("class_0/a/1.jpg", "class_0/b/1.jpg", "class_1/1.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(IMAGES[0])
    assert source_of(tmp_path, NAMED).labels == {"class_0": 0, "class_1": 1}
    assert source_of(tmp_path / "class_0", DatasetClasses(count=2)).labels == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("classes", "settings", "words"),
    [
        (NAMED, {}, "6 class folders, named by classes"),
        (UNNAMED, {}, "6 class folders, numbered in sorted order (the classes' names are unknown)"),
        (NAMED, {"label_column": "none"}, "none are read, as label_column: none says"),
    ],
)
def test_where_labels_of_folders_come_from_is_said(tmp_path, classes, settings, words):
    source = source_of(write_folder(tmp_path, IMAGES, LABELS), classes, **settings)
    assert source.labels_from == words
    labels = [label for shard in source.shards() for _, _, label in shard.images]
    assert labels == ([None] * 6 if settings else LABELS)


def test_images_without_a_class_folder_are_told(tmp_path):
    for i in range(2):
        (tmp_path / f"{i}.jpg").write_bytes(IMAGES[0])
    assert source_of(tmp_path).labels_from == "none: the images lie in no class folders"
    write_folder(tmp_path, IMAGES, LABELS)
    assert "2 images lie in no class folder: they have no label" in source_of(tmp_path).notes


def test_folders_that_are_left_out_on_demand_are_counted(tmp_path):
    write_folder(tmp_path, IMAGES, LABELS)
    classes = DatasetClasses(count=2, names=("class_5", "class_1"))
    source = source_of(tmp_path, classes, classes="x.txt", skip_other_folders=True)
    assert source.labels == {"class_5": 0, "class_1": 1}
    assert any("left out: 4 folders" in note and "class_0" in note for note in source.notes)
    assert len(source.listing.files) == 2


# In plan and run


def test_plan_and_run_say_what_was_found(tmp_path, small, capsys):
    root = write_folder(tmp_path / "data", IMAGES, LABELS)
    (root / "notes[b].txt").write_text("x")
    write_tar(tmp_path / "tars" / "0.tar", IMAGES, None)
    sets = [{"name": "a", "path": str(root)}, {"name": "b", "path": str(tmp_path / "tars")}]
    said: list[str] = []
    prepared = prepare(make_job(small.job(tmp_path / "run", sets)), said.append)
    assert said == ["data set a: left out: 1 .txt"]
    assert labels_of(prepared) == [
        "data set  a: labels: 6 class folders, numbered in sorted order (the classes' names are "
        "unknown)",
        "data set  b: labels: none in the first 6 samples of 0.tar",
    ]
    lines = [part for part in plan_of(prepared) if isinstance(part, str)]
    assert lines[:2] == labels_of(prepared)
    assert "data set  a: left out: 1 .txt" in lines


def test_other_data_have_another_fingerprint(tmp_path, small):
    path = write_tar(tmp_path / "data" / "0.tar", IMAGES, LABELS)
    job = make_job(small.job(tmp_path / "run", [{"name": "a", "path": str(path.parent)}]))
    before = prepare(job)
    assert prepare(job).fingerprint == before.fingerprint
    write_tar(path, IMAGES, LABELS[::-1])  # the same size
    after = prepare(job)
    assert after.shards["a"][0].bytes == before.shards["a"][0].bytes
    assert after.fingerprint["data"] != before.fingerprint["data"]
    assert after.cache_keys != before.cache_keys


# Outputs and data


@pytest.mark.parametrize(
    ("run", "data", "path", "refused"),
    [
        ("d/run", "d", "d", True),
        ("d", "d", "d", True),
        ("r", "r/data", "r/data", True),
        ("link/run", "d", "d", True),
        ("d/run", "d", "d/*.tar", False),
        ("d/run", "d", "d/**", True),
        ("d", "d", "d/0.tar", True),  # --restart of it would delete the file
        ("run", "d", "d", False),
        ("d2", "d", "d", False),
        ("runs/demo/run", "runs/demo/data", "runs/demo/data", False),
    ],
)
@pytest.mark.parametrize("memory", [False, True])
def test_a_run_dir_within_the_data_or_around_them_is_refused(
    tmp_path, run, data, path, refused, memory
):
    if memory and run.startswith("link"):
        pytest.skip("has no links")
    write_tar(tmp_path / data / "0.tar", IMAGES, None)
    if run.startswith("link"):
        (tmp_path / "link").symlink_to(tmp_path / "d")
    root = str(tmp_path)
    if memory:
        root = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").put(str(tmp_path), root, recursive=True)
    config = DatasetConfig(name="set", path=f"{root}/{path}")
    try:
        listing = list_files(config)
        if refused:
            with pytest.raises(UserError, match=r"run_dir '.*'set'.*one within the other.*beside"):
                check_apart(f"{root}/{run}", "run_dir", config, listing)
        else:
            check_apart(f"{root}/{run}", "run_dir", config, listing)
    finally:
        if memory:
            fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.mark.parametrize("where", ["run_dir", "cache"])
def test_prepare_refuses_outputs_within_the_data(tmp_path, small, where):
    write_tar(tmp_path / "data" / "0.tar", IMAGES, LABELS)
    inside = str(tmp_path / "data" / "out")
    job = small.job(
        inside if where == "run_dir" else tmp_path / "run",
        [{"name": "a", "path": str(tmp_path / "data")}],
        compute={"cache": inside} if where == "cache" else {},
    )
    with pytest.raises(UserError, match=rf"{where} .*one within the other"):
        prepare(make_job(job))
