"""Files below a folder, in pages where a storage has them."""

import os

import fsspec

from dawin_ray.storage.folders import files_below, first_entries, pages_below

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


KEYS_AND_PREFIXES = [*(f"set/{i}/" for i in range(3)), *(f"set/{i}.tar" for i in range(5))]


class PagedFolder(Paged):
    """Of a folder: two entries a page."""

    def __init__(self):
        self.pages = 0

    def call_s3(self, method, **asked):
        assert (method, asked["Prefix"], asked["Delimiter"]) == ("list_objects_v2", "set/", "/")
        self.pages += 1
        start = int(asked.get("ContinuationToken", 0))
        entries = KEYS_AND_PREFIXES[start : start + 2]
        page = {
            "CommonPrefixes": [{"Prefix": key} for key in entries if key.endswith("/")],
            "Contents": [{"Key": k, "Size": 3, "ETag": "e"} for k in entries if k[-1] != "/"],
        }
        more = start + 2 < len(KEYS_AND_PREFIXES)
        return page | (
            {"IsTruncated": True, "NextContinuationToken": str(start + 2)} if more else {}
        )


def test_no_more_pages_are_asked_for_than_are_needed():
    fs = PagedFolder()
    found, more = first_entries(fs, "bucket/set", 4)
    assert [entry["name"] for entry in found] == [
        "bucket/set/0", "bucket/set/1", "bucket/set/2", "bucket/set/0.tar",
    ]  # fmt: skip
    assert [entry["type"] for entry in found] == ["directory"] * 3 + ["file"]
    assert (found[-1]["size"], found[-1]["ETag"]) == (3, "e")
    assert more
    assert fs.pages == 3
    found, more = first_entries(PagedFolder(), "bucket/set", 99)
    assert (len(found), more) == (8, False)


def test_the_first_entries_of_another_storage(tmp_path):
    for name in "abc":
        (tmp_path / name).touch()
    found, more = first_entries(fsspec.filesystem("file"), str(tmp_path), 2)
    assert (len(found), more) == (2, True)
