"""A look at some files is bounded, whatever there is."""

import os

import fsspec
import pytest

from dawin_ray.data import find_some, list_files, listing_of, looking, spread
from dawin_ray.data.config import DatasetConfig
from dawin_ray.errors import UserError
from tests.conftest import make_images, write_tar


def tree(root, folders, files):
    for i in range(folders):
        (root / f"class_{i:03d}").mkdir(parents=True)
        for j in range(files):
            (root / f"class_{i:03d}" / f"{j}.png").touch()


def test_all_of_few_files_are_found(tmp_path):
    tree(tmp_path, 3, 2)
    found = find_some(str(tmp_path), "data")
    assert not found.partly
    assert len(found.files) == 6
    assert found.folders == {"class_000", "class_001", "class_002"}


def test_so_many_folders_are_entered_from_the_first_to_the_last(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_FOLDERS", 3)
    tree(tmp_path, 9, 1)
    entered = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: entered.append(path) or scandir(path))
    found = find_some(str(tmp_path), "data")
    assert [os.path.basename(path) for path in entered[1:]] == [
        "class_000", "class_004", "class_008",
    ]  # fmt: skip
    assert found.partly
    assert len(found.folders) == 9


def test_so_many_names_of_a_folder_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_NAMES", 10)
    tree(tmp_path, 1, 50)
    stats = []
    monkeypatch.setattr(
        "dawin_ray.data.finding._status_of",
        lambda found, entry, name: stats.append(name) or entry.stat(),
    )
    found = find_some(str(tmp_path), "data")
    assert len(found.files) == 10
    assert found.partly
    assert len(stats) == 12  # a folder, ten files, and one more that says that there are others


def test_so_many_folders_are_listed_at_all_and_so_deep(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_LISTED", 5)
    tree(tmp_path, 9, 1)
    found = find_some(str(tmp_path), "data")
    assert len(found.files) == 4
    assert found.partly
    monkeypatch.setattr(looking, "MOST_DEPTH", 1)
    (tmp_path / "deep" / "a" / "b").mkdir(parents=True)
    (tmp_path / "deep" / "a" / "b" / "1.png").touch()
    deep = find_some(str(tmp_path / "deep"), "data")
    assert len(deep.files) == 0
    assert deep.partly


def test_a_loop_of_links_ends(tmp_path):
    tree(tmp_path, 1, 1)
    (tmp_path / "class_000" / "up").symlink_to(tmp_path)
    found = find_some(str(tmp_path), "data")
    assert len(found.files) == 1
    assert found.looping


def test_a_remote_folder_is_looked_at_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(looking, "MOST_FOLDERS", 2)
    fs = fsspec.filesystem("memory")
    for i in range(4):
        fs.pipe_file(f"/looked/set/class_{i}/1.png", b"x")
    fs.pipe_file("/looked/set/.hidden/1.png", b"x")
    found = find_some("memory://looked/set", "data")
    assert [*found.files.names] == ["class_0/1.png", "class_3/1.png"]
    assert found.folders == {f"class_{i}" for i in range(4)}
    assert (found.partly, found.hidden) == (True, 1)


def test_a_listing_of_a_part_is_not_held_against_the_whole(tmp_path, monkeypatch):
    for i in range(3):
        write_tar(tmp_path / f"{i:05d}-of-00009.tar", make_images(1), [0])
    (tmp_path / "nshards.txt").write_text("9")
    config = DatasetConfig(name="set", path=str(tmp_path))
    with pytest.raises(UserError, match="missing are 6"):
        list_files(config)
    monkeypatch.setattr(looking, "MOST_NAMES", 4)
    with pytest.raises(UserError, match="missing are 6"):
        listing_of(config, find_some(str(tmp_path), "data"), looked=True)
    monkeypatch.setattr(looking, "MOST_NAMES", 3)
    listing = listing_of(config, find_some(str(tmp_path), "data"), looked=True)
    assert 2 <= len(listing.files) <= 3


def test_a_glob_is_found_as_a_job_finds_it(tmp_path):
    for name in ("a", "b", "c"):
        write_tar(tmp_path / f"{name}.tar", make_images(1), [0])
    found = find_some(f"{tmp_path}/{{a,b}}.tar", "data")
    assert [*found.files.names] == ["a.tar", "b.tar"]


def test_what_cannot_be_listed_is_an_error(tmp_path):
    with pytest.raises(UserError, match="it does not exist"):
        find_some(str(tmp_path / "nowhere"), "data")


def test_items_are_spread():
    assert spread("abc", 5) == ["a", "b", "c"]
    assert spread("abcdefg", 3) == ["a", "d", "g"]
    assert spread("abcdefg", 1) == ["a"]
    assert spread("", 3) == []
