"""The list of a run's files: the same content as ever, compared without holding it."""

import gzip
import json

import pytest

from dawin_ray.data import Shard
from dawin_ray.runs.inventory import changed_files, files_of, pack, unpack

MANY = {f"{i:05d}.png": (i, f"v{i}") for i in range(9000)}


def test_the_content_is_what_gzip_makes_of_all_lines():
    files = {"set": MANY, "other": {"caf\u00e9\udcff\n": (1, "")}}
    lines = [
        json.dumps([dataset, name, size, version]) + "\n"
        for dataset, of_set in files.items()
        for name, (size, version) in of_set.items()
    ]
    content = pack(files)
    assert content == gzip.compress("".join(lines).encode(), mtime=0)
    assert unpack(content) == files
    assert unpack(pack({})) == {}


@pytest.mark.parametrize("kept", [-9, 40, 5])
def test_damage_is_told(kept):
    with pytest.raises((ValueError, OSError, EOFError)):
        unpack(pack({"set": MANY})[:kept])


def test_files_of_shards_are_gone_through_and_looked_up():
    shards = [
        Shard(
            dataset="set", name=f"images {i}", address="", format="folder", bytes=3, key=str(i),
            images=((f"{i}/a.png", 1, None), (f"{i}/b.png", 2, 0)), versions=("x", "y"),
        )
        for i in range(2)
    ]  # fmt: skip
    files = files_of({"set": shards})
    assert list(files["set"]) == ["0/a.png", "0/b.png", "1/a.png", "1/b.png"]
    assert files["set"]["1/b.png"] == (2, "y")
    assert len(files["set"]) == 4


def test_those_that_are_the_same_are_never_looked_up(monkeypatch):
    then, now = unpack(pack({"set": MANY})), unpack(pack({"set": MANY}))
    monkeypatch.setattr(type(then["set"]), "__getitem__", None)
    assert changed_files(then, now) == []
    assert "_by_name" not in vars(then["set"])


def test_an_insertion_shifts_the_others_and_is_all_that_is_told():
    now = {"000": (1, "n"), **MANY}
    del now["04000.png"]
    now["05000.png"] = (1, "w")
    lines = changed_files({"set": MANY}, {"set": now})
    assert [line.split(" ", 1)[0] for line in lines] == ["'05000.png'", "'000'", "'04000.png'"]
    assert ["has changed" in lines[0], "is new" in lines[1], "is gone" in lines[2]] == [True] * 3


def test_another_order_is_no_difference():
    assert changed_files({"set": MANY}, {"set": dict(reversed(MANY.items()))}) == []
