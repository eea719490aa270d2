"""Files below a folder, in pages where a storage has them."""

import os

import fsspec

from dawin_ray.storage.folders import files_below, pages_below

KEYS = ["run/work/", "run/work/a", "run/work/b/c", "run/work/b/d", "run/workshop/x"]


class Paged:
    """Speaks S3 as far as listings go: two keys a page."""

    def split_path(self, path: str):
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(self, method, **asked):
        assert method == "list_objects_v2"
        assert asked["Bucket"] == "bucket"
        keys = [key for key in KEYS if key.startswith(asked["Prefix"])]
        start = int(asked.get("ContinuationToken", 0))
        page = {"Contents": [{"Key": key} for key in keys[start : start + 2]]}
        if start + 2 < len(keys):
            page |= {"IsTruncated": True, "NextContinuationToken": str(start + 2)}
        return page if page["Contents"] else {"IsTruncated": False}


def test_pages_of_s3_are_as_they_come():
    assert list(pages_below(Paged(), "bucket/run/work")) == [["a"], ["b/c", "b/d"]]
    assert list(pages_below(Paged(), "bucket/run/nothing")) == [[]]


def test_elsewhere_there_is_one_page(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("a", "b/c"):
        (tmp_path / name).touch()
    fs = fsspec.filesystem("file")
    expected = [name.replace("/", os.sep) for name in ("a", "b/c")]
    assert list(pages_below(fs, str(tmp_path))) == [files_below(fs, str(tmp_path))] == [expected]
