"""Many files at once: what is there, what is not, and what a storage cannot do in batches."""

import fsspec
import pytest

from dawin_ray.storage import bulk, delete, read_many


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    fs = fsspec.filesystem("file" if request.param == "local" else "memory")
    root = str(tmp_path) if request.param == "local" else f"/{tmp_path.name}"
    fs.makedirs(root, exist_ok=True)
    yield fs, root
    fs.rm(root, recursive=True)


def test_files_are_read_in_the_order_that_is_asked_for(folder):
    fs, root = folder
    contents = {f"{root}/[{i}]*?.bin": bytes([i]) * i for i in range(5)}  # an empty one too
    for path, content in contents.items():
        fs.pipe_file(path, content)
    asked = sorted(contents, reverse=True)
    assert read_many(fs, asked) == [contents[path] for path in asked]
    there, lost = read_many(fs, [asked[0], f"{root}/lost.bin"])
    assert there == contents[asked[0]]
    assert isinstance(lost, FileNotFoundError)
    assert read_many(fs, []) == []


class Bucket:
    """What an S3 file system is asked to delete; keys in `kept` are refused in a batch."""

    def __init__(self, *, batches: bool = True, kept: tuple[str, ...] = ()):
        self.batches, self.kept = batches, kept
        self.asked, self.single = [], []

    def split_path(self, path):
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(self, method, Bucket, Delete):
        assert (method, Bucket) == ("delete_objects", "bucket")
        if not self.batches:
            raise NotImplementedError("MethodNotAllowed")
        keys = [entry["Key"] for entry in Delete["Objects"]]
        self.asked.append(keys)
        return {"Errors": [{"Key": key} for key in keys if key in self.kept]}

    def rm_file(self, path):
        self.single.append(path)
        if path.endswith("gone"):
            raise FileNotFoundError(path)


def test_s3_is_asked_for_a_thousand_deletes_at_once():
    fs = Bucket()
    names = [f"run/work/{i}[*].parquet" for i in range(2500)]
    delete(fs, "bucket", names)
    assert sorted(map(len, fs.asked)) == [500, 1000, 1000]
    assert {key for keys in fs.asked for key in keys} == set(names)
    assert fs.single == []


@pytest.mark.parametrize("fs", [Bucket(batches=False), Bucket(kept=("b", "c", "gone"))])
def test_what_a_batch_leaves_is_deleted_one_by_one(fs):
    delete(fs, "bucket", ["a", "b", "c", "gone"])
    left = {"b", "c", "gone"} | (set() if fs.batches else {"a"})
    assert {path.removeprefix("bucket/") for path in fs.single} == left


def test_nothing_to_delete_asks_nothing():
    fs = Bucket()
    bulk.remove_many(fs, [])
    assert fs.asked == fs.single == []
