"""Remote folders are listed side by side: the same files as by one listing after the other."""

import random
import threading

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dawin_ray.data import remote
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.listing import list_files
from dawin_ray.errors import UserError
from tests.conftest import make_images

IMAGE = make_images(1)[0]


class Asked(list):
    """Prefixes that were listed, and by which thread; what begins with `forbidden` cannot be."""

    forbidden = "nothing"


@pytest.fixture
def asked(monkeypatch):
    """The storage in memory, which lists what begins with a part of a name, as S3 does."""
    found = Asked()

    def find(self, path, maxdepth=None, withdirs=False, detail=False, prefix="", **kwargs):
        where = f"{self._strip_protocol(path)}/{prefix}"
        found.append((where, threading.current_thread().name))
        if where.startswith(found.forbidden):
            raise PermissionError(where)
        return {name: self.info(name) for name in self.store if name.startswith(where)}

    monkeypatch.setattr(MemoryFileSystem, "find", find)
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    return found


def put(names) -> None:
    fsspec.filesystem("memory").pipe({f"/set/{name}": IMAGE for name in names})


def listed(path: str = "memory://set"):
    return list_files(DatasetConfig(name="set", path=path))


def tree(seed: int) -> list[str]:
    """Images in folders whose names begin alike, and some that lie beside them."""
    draw = random.Random(seed)
    folders = {"".join(draw.choices("ab-.", k=draw.randrange(1, 5))) for _ in range(30)}
    folders -= {".", ".."}
    names = [f"{folder}{deep}/{i}.jpg" for folder in folders for deep in ("", "/a") for i in "12"]
    return [*names, *(f"{folder}.jpg" for folder in list(folders)[:5]), "__MACOSX/x.jpg"]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("page", [1, 7, 1000])
def test_files_folders_and_notes_are_those_of_a_local_folder(
    asked, tmp_path, monkeypatch, seed, page
):
    monkeypatch.setattr(remote, "PAGE", page)
    names = tree(seed)
    put(names)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(IMAGE)
    here, there = listed(str(tmp_path)), listed()
    assert [*there.files] == [*here.files]
    assert there.folders == here.folders
    found = [where.removeprefix("/set/") for where, _ in asked]
    inside = {name.partition("/")[0] + "/" for name in names if "/" in name}
    assert all(any(folder.startswith(prefix) for prefix in found) for folder in inside)
    assert len(found) <= len(inside)
    if page == 1000:
        assert len(found) == 2  # the first folder, and what is no page with all others
    # notes: hidden files are counted one by one where they are listed with all others
    hidden = sum(any(part.startswith(".") for part in name.split("/")) for name in names)
    assert any(f"{hidden:,} hidden" in note for note in there.notes) == bool(hidden)


def test_listings_are_beside_each_other_and_as_many_as_there_are_pages(asked, monkeypatch):
    monkeypatch.setattr(remote, "PAGE", 100)
    put([f"n{i:03d}/{j}.jpg" for i in range(100) for j in range(20)])
    listing = listed()
    assert len(listing.files) == 2000
    assert len(listing.folders) == 100
    assert 20 <= len(asked) <= 40  # of 20 pages
    assert len({thread for _, thread in asked}) > 1


def test_a_prefix_that_cannot_be_listed_stops_with_its_name(asked, monkeypatch):
    monkeypatch.setattr(remote, "PAGE", 1)
    put([f"class_{i}/{j}.jpg" for i in range(6) for j in range(2)])
    asked.forbidden = "/set/class_4"
    with pytest.raises(UserError, match=r"folder of data set 'set'.*memory://.*/set/class_4"):
        listed()


@pytest.mark.parametrize("seed", range(20))
def test_each_folder_has_one_prefix(seed):
    draw = random.Random(seed)
    folders = sorted({"".join(draw.choices("ab-/"[:3], k=draw.randrange(1, 9))) for _ in range(50)})
    for most in (0, 1, 5, 20, 100):
        prefixes = remote.prefixes_of(folders, most)
        of_each = [[p for p in prefixes if f"{name}/".startswith(p)] for name in folders]
        assert all(len(found) == 1 for found in of_each)
        assert min(most, len(folders)) <= len(prefixes) <= most + 3


def test_a_glob_takes_what_it_asks_for(asked):
    put([f"class_{i}/{i}.jpg" for i in range(4)])
    put(["class_1/deep/x.jpg", ".hidden/x.jpg"])
    for glob, count in (("*/*.jpg", 4), ("class_[01]/*.jpg", 2), ("**", 5), ("class_1/*/*.jpg", 1)):
        assert len(listed(f"memory://set/{glob}").files) == count
