"""Finding files: what is followed, what is left out and counted, and what stops."""

import errno
import os
import socket

import fsspec
import pytest

from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import make_shards
from dawin_ray.errors import UserError
from tests.conftest import make_images, write_folder, write_parquet, write_tar

IMAGES = make_images(4)


def listed(path, **settings):
    return list_files(DatasetConfig(name="set", path=str(path), **settings))


def names(path, **settings):
    return [name for name, _ in listed(path, **settings).files]


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "set", IMAGES, [0, 1, 2, 3])


# Links


def test_links_to_folders_and_files_are_followed(tmp_path, root):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.png").write_bytes(IMAGES[0])
    (root / "linked").symlink_to(elsewhere)
    (root / "class_0" / "y.png").symlink_to(elsewhere / "x.png")
    found = listed(root)
    assert "linked" in found.folders
    assert {"linked/x.png", "class_0/y.png"} <= dict(found.files).keys()
    assert dict(found.files)["class_0/y.png"] == len(IMAGES[0])


@pytest.mark.parametrize("where", ["class_0", "class_0/deep", "."])
def test_a_link_to_a_folder_above_ends_and_is_told(root, where):
    (root / where).mkdir(exist_ok=True)
    (root / where / "up").symlink_to(root)
    found = listed(root)
    assert len(found.files) == 4
    assert any("lead back" in note and "up" in note for note in found.notes)


def test_a_link_to_itself_is_told(root):
    (root / "class_0" / "me.png").symlink_to("me.png")
    found = listed(root)
    assert len(found.files) == 4
    assert any("class_0/me.png" in note for note in found.notes)


def test_an_image_that_is_a_link_to_nothing_is_told_and_becomes_a_reject(root):
    (root / "class_0" / "gone.png").symlink_to("nowhere.png")
    found = listed(root)
    assert ("class_0/gone.png", 0) in found.files
    assert any("links to nothing" in note and "class_0/gone.png" in note for note in found.notes)
    [shard] = make_shards(DatasetConfig(name="set", path=str(root)), found)
    rejects = {s.sample_id: s.error for s in read_samples(shard) if s.error}
    assert rejects.keys() == {"class_0/gone.png"}


@pytest.mark.parametrize("suffix", ["tar", "parquet"])
def test_a_shard_that_is_a_link_to_nothing_is_refused(tmp_path, suffix):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / f"0.{suffix}").symlink_to("nowhere")
    with pytest.raises(UserError, match=rf"link '0.{suffix}' leads to no file.*Copy its target"):
        listed(tmp_path / "set")


def test_a_shard_behind_a_link_is_as_new_as_its_target(tmp_path):
    target = write_tar(tmp_path / "t.tar", IMAGES[:1], None)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "0.tar").symlink_to(target)
    before = listed(tmp_path / "set").versions
    os.utime(target, ns=(1, 1))
    assert listed(tmp_path / "set").versions != before


# What is no file


@pytest.mark.parametrize("kind", ["FIFO", "socket"])
def test_what_is_no_file_is_counted_and_never_opened(root, kind):
    path = root / "class_0" / "a.png"
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        os.chdir(path.parent)  # the address of a socket has 108 bytes at most
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir("/")
    found = listed(root)
    assert len(found.files) == 4
    assert f"left out: 1 {kind} (class_0/a.png)" in found.notes


@pytest.mark.parametrize("path", ["x.tar", "*.tar"])
def test_a_shard_that_is_a_fifo_is_not_opened(tmp_path, path):
    os.mkfifo(tmp_path / "x.tar")
    with pytest.raises(UserError, match="FIFO"):
        listed(tmp_path / path)


# Folders that cannot be listed


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("path", ["set", "set/*/*.jpg", "set/**"])
def test_a_folder_that_cannot_be_listed_stops_with_its_name(monkeypatch, root, number, path):
    scandir = os.scandir

    def failing(folder="."):
        if str(folder).endswith("class_3"):
            raise OSError(number, os.strerror(number), folder)
        return scandir(folder)

    monkeypatch.setattr("os.scandir", failing)
    with pytest.raises(UserError, match=r"folder of data set 'set'.*class_3"):
        listed(root.parent / path)


def test_a_remote_folder_that_cannot_be_listed_stops(monkeypatch, tmp_path):
    memory = fsspec.filesystem("memory")
    ls = type(memory).ls

    def failing(self, path, *args, **kwargs):
        if path.rstrip("/").endswith("class_1"):
            raise PermissionError(path)
        return ls(self, path, *args, **kwargs)

    memory.pipe({f"/{tmp_path.name}/class_{i}/0.jpg": IMAGES[0] for i in range(2)})
    monkeypatch.setattr(type(memory), "ls", failing)
    # as storages have it that list one folder after the other
    monkeypatch.setattr(type(memory), "find", fsspec.AbstractFileSystem.find)
    try:
        with pytest.raises(UserError, match=r"'set'.*PermissionError.*class_1"):
            listed(f"memory://{tmp_path.name}")
    finally:
        monkeypatch.undo()
        memory.rm(f"/{tmp_path.name}", recursive=True)


# What is left out


def test_other_files_are_counted_by_suffix(root):
    for name in ("a.txt", "class_0/b.txt", "c.json", "d.tar.zst", ".hidden", "e", "._f.jpg"):
        (root / name).write_bytes(b"x")
    [note] = listed(root).notes
    assert note == (
        "left out: 2 .txt, 1 .json, 1 .tar.zst, 1 without a suffix, 2 hidden (their names begin "
        "with a dot)"
    )


@pytest.mark.parametrize(
    "name",
    ["__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information", ".Trash-0"],
)
@pytest.mark.parametrize("above", ["", "class_0"])
def test_folders_of_the_system_are_left_out_with_a_line(root, name, above):
    (root / above / name).mkdir(mode=0)  # as lost+found is root's
    found = listed(root)
    assert len(found.files) == 4
    assert name not in found.folders
    assert f"left out: the system's folder {name}" in found.notes


@pytest.mark.parametrize(
    "suffix", ["jpe", "jfif", "gif", "BMP", "tif", "tiff", "ppm", "pgm", "avif", "jp2", "j2k"]
)
def test_images_of_other_suffixes_are_read(root, suffix):
    (root / "class_0" / f"x.{suffix}").write_bytes(b"x")
    assert f"class_0/x.{suffix}" in names(root)


def test_an_empty_set_says_what_is_there_instead(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(UserError, match=r"is empty.*among its 1 files \(1 \.heic\)"):
        listed(tmp_path)


# Globs and braces


def test_a_glob_may_have_character_classes_alone(tmp_path):
    for i in range(3):
        write_tar(tmp_path / f"{i}.tar", IMAGES[:1], None)
    assert names(tmp_path / "[01].tar") == ["0.tar", "1.tar"]
    assert names(tmp_path / "[!0].tar") == ["1.tar", "2.tar"]


def test_a_path_that_is_there_is_no_pattern(tmp_path):
    for folder in ("a[0]", "a{b,c}", "a*"):
        write_tar(tmp_path / folder / "0.tar", IMAGES[:1], None)
        assert names(tmp_path / folder) == ["0.tar"]


def test_a_glob_enters_folders_only_as_deep_as_it_says(tmp_path):
    for name in ("0.tar", "a/1.tar", "a/b/2.tar"):
        write_tar(tmp_path / name, IMAGES[:1], None)
    assert names(tmp_path / "*.tar") == ["0.tar"]
    assert names(tmp_path / "*/*.tar") == ["a/1.tar"]
    assert names(tmp_path / "**") == ["0.tar", "a/1.tar", "a/b/2.tar"]


@pytest.mark.parametrize("memory", [False, True])
def test_braces_take_the_files_that_they_name(tmp_path, memory):
    for name in ("a/00.tar", "a/01.tar", "a/02.tar", "b/00.tar"):
        write_tar(tmp_path / name, IMAGES[:1], None)
    root = str(tmp_path)
    if memory:
        root = f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").put(str(tmp_path), root, recursive=True)
    try:
        assert names(f"{root}/a/{{00..01}}.tar") == ["00.tar", "01.tar"]
        assert names(f"{root}/{{a,b}}/0[0-1].tar") == ["a/00.tar", "a/01.tar", "b/00.tar"]
        with pytest.raises(UserError, match=r"2 files that the path names.*03\.tar, 04\.tar"):
            listed(f"{root}/a/{{00..04}}.tar")
    finally:
        if memory:
            fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


def test_a_growing_set_may_lack_files_of_its_braces(tmp_path):
    write_tar(tmp_path / "0.tar", IMAGES[:1], None)
    config = DatasetConfig(name="set", path=str(tmp_path / "{0..1}.tar"))
    assert any("1.tar" in note for note in list_files(config, may_be_empty=True).notes)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pipe:curl -s http://x/{0..1}.tar", "is a command, and data never run one"),
        ("a.tar::pipe:id", "is a command"),
        ("s3://b/a.tar::s3://b/b.tar", r"joins several with '::'.*braces"),
        ("{0..99999999}.tar", "more than 1,000,000 names"),
    ],
)
def test_addresses_of_webdataset_that_are_not_taken_are_explained(path, message):
    with pytest.raises(UserError, match=message) as caught:
        list_files(DatasetConfig(name="set", path=path))
    assert "'set'" in str(caught.value)


# Splits and sets


@pytest.mark.parametrize(
    ("files", "path", "like"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"], "",
         ["data/test*.parquet", "data/train*.parquet"]),
        (["train.parquet", "validation.parquet"], "*.parquet", ["validation*.parquet"]),
        (["split=test/0.parquet", "split=train/0.parquet"], "", ["split=test"]),
    ],
)  # fmt: skip
def test_several_splits_are_refused_with_the_paths_to_choose_from(tmp_path, files, path, like):
    for file in files:
        write_parquet(tmp_path / file, IMAGES[:1], [0])
    with pytest.raises(UserError, match="several splits") as caught:
        listed(tmp_path / path)
    assert all(str(tmp_path / one) in str(caught.value) for one in like)
    for one in like:
        assert len(names(tmp_path / one)) == 1


def test_splits_of_class_folders_and_of_tars_are_refused_too(tmp_path):
    for split in ("train", "val"):
        write_folder(tmp_path / "folder" / split, IMAGES, [0, 1, 2, 3])
        write_tar(tmp_path / "tars" / split / "0.tar", IMAGES[:1], None)
    for kind in ("folder", "tars"):
        with pytest.raises(UserError, match=rf"several splits.*{kind}/train'.*{kind}/val'"):
            listed(tmp_path / kind)


@pytest.mark.parametrize("splits", [("train", "test"), ("Training", "val"), ("dev", "test")])
def test_braces_that_name_the_splits_take_them_all(tmp_path, splits):
    for split in splits:
        write_parquet(tmp_path / f"{split}-0.parquet", IMAGES[:1], [0])
    assert len(names(tmp_path / f"{{{','.join(splits)}}}-*.parquet")) == 2
    with pytest.raises(UserError, match="several splits"):
        names(tmp_path)


@pytest.mark.parametrize(
    ("path", "taken"),
    [
        ("", None),
        ("*", None),
        ("t-*-of-00003.tar", None),
        ("t-0000[02]-of-00003.tar", 2),
        ("t-00002-of-00003.tar", 1),
        ("t-{00000,00002}-of-00003.tar", 2),
    ],
)
def test_a_set_with_a_file_missing_is_refused_unless_the_path_leaves_it_out(tmp_path, path, taken):
    for i in (0, 2):
        write_tar(tmp_path / f"t-{i:05d}-of-00003.tar", IMAGES[:1], None)
    if taken is None:
        with pytest.raises(UserError, match=r"missing are 1: t-00001-of-00003\.tar\."):
            listed(tmp_path / path)
    else:
        found = listed(tmp_path / path)
        assert len(found.files) == taken
        assert f"the path takes {taken} files of a set of 3" in found.notes


def test_a_gap_in_numbered_tars_is_told(tmp_path):
    for i in (0, 1, 3):
        write_tar(tmp_path / f"{i:05d}.tar", IMAGES[:1], None)
    assert any("00002.tar" in note for note in listed(tmp_path).notes)


def test_splits_within_class_folders_are_refused_with_a_glob_over_all_classes(tmp_path):
    for name in ("a/train/0.jpg", "a/test/0.jpg", "b/test/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(IMAGES[0])
    with pytest.raises(UserError, match=r"several splits.*/\*/test/\*\*', '"):
        listed(tmp_path)
    found = listed(tmp_path / "*/test/**")
    assert [name for name, _ in found.files] == ["a/test/0.jpg", "b/test/0.jpg"]
    assert found.folders == ("a", "b")


def test_several_sets_side_by_side_are_told(tmp_path):
    for name in ("digits-0-of-1.tar", "letters-0-of-1.tar"):
        write_tar(tmp_path / name, IMAGES[:1], None)
    assert "its files are of 2 sets, scored as one: digits-, letters-" in listed(tmp_path).notes
