"""What lies at a path, by small made data in each layout."""

import os

import numpy as np
import pytest

from dawin_ray.data import FORMATS, looking
from dawin_ray.drafts.layout import places_at
from dawin_ray.errors import UserError
from tests.conftest import make_images, write_folder, write_parquet, write_tar
from tests.unit.data.layouts import write_idx, write_svhn

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
LABELS = [0, 1, 2, 3, 4, 5]


def folder(root):
    write_folder(root, make_images(6), LABELS)


def webdataset(root):
    write_tar(root / "00000.tar", make_images(6), LABELS)


def parquet(root):
    write_parquet(root / "test-00000-of-00001.parquet", make_images(6), LABELS)


def idx(root):
    write_idx(root, GREY, LABELS)


def svhn(root):
    write_svhn(root / "test_32x32.mat", COLOURS, LABELS)


WRITE = {"folder": folder, "webdataset": webdataset, "parquet": parquet, "idx": idx, "svhn": svhn}


def at(path, head=None, taken=()):
    return places_at(str(path), taken, head)


def found(path, head=None):
    """Name -> path from there, and format."""
    return {
        place.name: (os.path.relpath(place.config.path, path), place.listing.format)
        for place in at(path, head)
    }


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_found(tmp_path, name):
    """A new one needs a line here."""
    WRITE[name](tmp_path / "shapes")
    assert found(tmp_path / "shapes") == {"shapes": (".", name)}


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "folder"])
def test_a_file_alone_is_a_data_set(tmp_path, name):
    WRITE[name](tmp_path / "shapes")
    files = [path for path in sorted((tmp_path / "shapes").iterdir()) if "labels" not in path.name]
    [place] = at(files[0])
    assert (place.listing.format, place.partly) == (name, False)


def test_folders_with_shards_are_a_data_set_each(tmp_path):
    for name in ("digits", "noise"):
        webdataset(tmp_path / name)
    assert found(tmp_path) == {
        "digits": ("digits", "webdataset"),
        "noise": ("noise", "webdataset"),
    }


def test_folders_of_several_formats_are_a_data_set_each(tmp_path):
    for name, write in WRITE.items():
        write(tmp_path / f"a_{name}")
    expected = {f"a_{name}": (f"a_{name}", name) for name in WRITE}
    assert found(tmp_path) == expected


def test_folders_of_class_folders_are_a_data_set_each(tmp_path):
    folder(tmp_path / "clean")
    folder(tmp_path / "blurred")
    assert found(tmp_path) == {"blurred": ("blurred", "folder"), "clean": ("clean", "folder")}


def test_class_folders_may_have_folders_within(tmp_path):
    """Where they are as many as the head's classes, and no two hold the same."""
    for i, name in enumerate(("apple", "pear")):
        write = tmp_path / name / f"session_{i}" / "1.png"
        write.parent.mkdir(parents=True)
        write.write_bytes(make_images(2)[1])
    assert found(tmp_path, head=2) == {tmp_path.name: (".", "folder")}
    assert found(tmp_path, head=7) == {"apple": ("apple", "folder"), "pear": ("pear", "folder")}


def test_class_folders_of_a_known_list_are_one_data_set(tmp_path):
    for i, name in enumerate(("banded", "blotchy")):
        write = tmp_path / name / f"session_{i}" / "1.png"
        write.parent.mkdir(parents=True)
        write.write_bytes(make_images(2)[1])
    assert found(tmp_path) == {tmp_path.name: (".", "folder")}


def test_the_split_that_experts_were_not_trained_on_is_taken(tmp_path):
    for split in ("train", "val", "test"):
        folder(tmp_path / "shapes" / split)
    [place] = at(tmp_path / "shapes")
    assert (place.name, place.config.path) == ("shapes", str(tmp_path / "shapes" / "test"))
    assert "it is the split test" in place.why
    [doubt] = place.doubts
    assert "train (" in doubt
    assert "validation (" in doubt


def test_a_split_without_labels_gives_way_to_one_with(tmp_path):
    """ImageNet's test images lie in no class folders."""
    for split in ("train", "val"):
        folder(tmp_path / "imagenet" / split)
    (tmp_path / "imagenet" / "test").mkdir()
    (tmp_path / "imagenet" / "test" / "1.png").write_bytes(make_images(2)[1])
    [place] = at(tmp_path / "imagenet")
    assert place.config.path == str(tmp_path / "imagenet" / "val")


@pytest.mark.parametrize("name", ["webdataset", "parquet", "idx", "svhn"])
def test_splits_are_told_by_the_names_of_files(tmp_path, name):
    root = tmp_path / "shapes"
    images = make_images(6)
    for split in ("train", "test"):
        if name == "webdataset":
            write_tar(root / f"{split}-000.tar", images, LABELS)
        elif name == "parquet":
            write_parquet(root / f"{split}-00000-of-00001.parquet", images, LABELS)
        elif name == "idx":
            begin = "t10k" if split == "test" else split
            write_idx(root, GREY, LABELS, named=f"{begin}-images-idx3-ubyte")
        else:
            write_svhn(root / f"{split}_32x32.mat", COLOURS, LABELS)
    [place] = at(root)
    assert (place.name, place.listing.format) == ("shapes", name)
    [file] = place.listing.files.names
    assert file.startswith("t10k" if name == "idx" else "test")


def test_parts_and_hive_folders_are_one_data_set(tmp_path):
    for number in ("part-0", "part-1"):
        webdataset(tmp_path / "many" / number)
    for label in ("label=0", "label=1"):
        write_parquet(tmp_path / "hive" / label / "a.parquet", make_images(2), None)
    assert found(tmp_path / "many") == {"many": (".", "webdataset")}
    assert found(tmp_path / "hive") == {"hive": (".", "parquet")}
    assert found(tmp_path) == {"hive": ("hive", "parquet"), "many": ("many", "webdataset")}


def test_one_folder_within_another_is_gone_into(tmp_path):
    folder(tmp_path / "shapes" / "images")
    assert found(tmp_path / "shapes") == {"shapes": ("images", "folder")}


def test_what_only_looks_like_a_format_is_left_out(tmp_path):
    """Annotations are MAT-files as SVHN's images are."""
    folder(tmp_path / "cars_test")
    (tmp_path / "devkit").mkdir()
    (tmp_path / "devkit" / "cars_test_annos.mat").write_bytes(b"MATLAB 5.0 MAT-file" * 20)
    [place] = at(tmp_path)
    assert place.name == "cars_test"
    assert "devkit' is left out: " in place.doubts[0]
    assert "cannot be read as such" in place.doubts[0]


def test_images_without_folders_may_have_annotations(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(make_images(2)[1])
    (tmp_path / "test.csv").write_text("Filename;ClassId\n1.png;3\n")
    [place] = at(tmp_path)
    assert place.lacks_folders
    assert f"may be {tmp_path / 'test.csv'}: annotations: FILE" in place.doubts[0]


def test_names_are_unique_and_no_numbers(tmp_path):
    for parent in ("a", "b"):
        folder(tmp_path / parent / "2017")
    [first] = at(tmp_path / "a" / "2017")
    [second] = at(tmp_path / "b" / "2017", taken={first.name})
    assert (first.name, second.name) == ("set-2017", "set-2017-2")


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        at(tmp_path / "nowhere")
    (tmp_path / "notes.doc").touch()
    with pytest.raises(UserError, match="is empty: no images"):
        at(tmp_path)


def test_too_many_data_sets_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dawin_ray.drafts.layout.MOST_SETS", 1)
    for name in ("digits", "noise"):
        webdataset(tmp_path / name)
    with pytest.raises(UserError, match="holds 2 folders that would be a data set each"):
        at(tmp_path)


def test_all_folders_are_data_sets_though_some_were_not_looked_into(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_FOLDERS", 2)
    for name in ("a", "b", "c", "d"):
        webdataset(tmp_path / name)
    assert list(found(tmp_path)) == ["a", "b", "c", "d"]


def test_a_path_that_is_a_command_is_refused():
    with pytest.raises(UserError, match="is a command"):
        at("pipe:cat x.tar")


def test_a_name_that_a_job_cannot_have_is_left_out(tmp_path):
    for name in ("digits", "\udc80"):
        webdataset(tmp_path / name)
    [place] = at(tmp_path)
    assert place.name == "digits"
    assert "\\x80' is left out: its name is no UTF-8" in place.doubts[0]


def test_splits_within_class_folders_are_found(tmp_path):
    for name in ("apple", "pear"):
        for split in ("train", "test"):
            (tmp_path / name / split).mkdir(parents=True)
            (tmp_path / name / split / "1.png").write_bytes(make_images(2)[1])
    [place] = at(tmp_path)
    assert place.config.path == f"{tmp_path}/*/test/**"
    assert [*place.listing.files.names] == ["apple/test/1.png", "pear/test/1.png"]
    assert place.listing.folders == ("apple", "pear")
