"""Labels: where they are found, what is said of it, and what is written there."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dawin_ray.data.classes import DatasetClasses
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.formats.registry import read_samples
from dawin_ray.data.labels import kind_of, label_column, label_of, label_of_json
from dawin_ray.data.listing import list_files
from dawin_ray.data.sources import settle
from dawin_ray.errors import UserError
from dawin_ray.names import finder
from tests.conftest import make_images, write_tar

IMAGES = make_images(3)
NAMES = ("red fox", "dog", "zéro")
CLASSES = DatasetClasses(count=3, names=NAMES)


def parquet(path, columns, metadata=None, count=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": [b"1"] * count, **columns})
    pq.write_table(table.replace_schema_metadata(metadata) if metadata else table, path)


def found(path, classes=CLASSES, **settings):
    """Where labels come from, in words, and the labels that are read."""
    config = DatasetConfig(name="set", path=str(path), **settings)
    source = settle(config, list_files(config), classes)
    samples = [sample for shard in source.shards() for sample in read_samples(shard)]
    return source.labels_from, [sample.label for sample in samples]


def tar_of(path, extension: str, labels: list[bytes]):
    """A tar of an image and one more member under each key."""
    from tests.unit.data.test_datasets import tar_with

    members = [
        member
        for i, label in enumerate(labels)
        for member in ((f"{i:04d}.jpg", IMAGES[0]), (f"{i:04d}.{extension}", label))
    ]
    return tar_with(path, members)


# Parquet columns


@pytest.mark.parametrize(
    ("columns", "words", "labels"),
    [
        ({"label": [2, 0, 1]}, "column label", [2, 0, 1]),
        ({"target": [2, 0, 1]}, "column target", [2, 0, 1]),
        ({"Class": [2, 0, 1], "note": ["a", "b", "c"]}, "column Class", [2, 0, 1]),
        ({"label": ["Dog", "red_fox", "ze\u0301ro"]}, "column label, as names of classes",
         [1, 0, 2]),
        ({"label": pa.array(["dog", "red fox", "dog"]).dictionary_encode()},
         "column label, as names of classes", [1, 0, 1]),
        ({"label": ["2", "1", "0"]}, "column label, as names of classes", [2, 1, 0]),
        ({"label": ["x", "y", "z"], "labels": [2, 1, 0]}, "column labels", [2, 1, 0]),
        ({"label": [1.0, math.nan, 2.0]}, "column label", [1, None, 2]),  # pandas, one missing
        ({"label": pa.array([1, None, 2], pa.uint8())}, "column label", [1, None, 2]),
        ({"label": [-1, -1, -1]}, "none: all of column label are -1", [None, None, None]),
        ({"label": [-1.0, -1.0, -1.0]}, "none: all of column label are -1", [None, None, None]),
    ],
)  # fmt: skip
def test_labels_of_a_column_are_found_and_mapped(tmp_path, columns, words, labels):
    parquet(tmp_path / "0.parquet", columns)
    assert found(tmp_path) == (words, labels)


@pytest.mark.parametrize(
    ("columns", "parts"),
    [
        ({"fine_label": [0, 1, 2], "coarse_label": [0, 0, 1]},
         ["none: columns are image, fine_label, coarse_label; choose with label_column",
          "fine_label or coarse_label?"]),
        ({"my_labels": [0, 1, 2]}, ["none: columns are image, my_labels", "my_labels?"]),
        ({"class_id": [0, 1, 2], "y": [2, 1, 0]}, ["none:", "class_id or y?"]),
        ({"score": [0, 1, 2]}, ["none: columns are image, score; choose with label_column"]),
        ({"label": [0, 1, 2], "fine_label": [2, 1, 0]},
         ["column label (not fine_label; choose with label_column)"]),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_named(tmp_path, columns, parts):
    parquet(tmp_path / "0.parquet", columns)
    words, labels = found(tmp_path)
    assert all(part in words for part in parts), words
    assert labels == ([0, 1, 2] if "label" in columns else [None] * 3)


def test_a_chosen_column_is_read_and_none_reads_none(tmp_path):
    parquet(tmp_path / "0.parquet", {"label": [0, 1, 2], "fine_label": [2, 1, 0]})
    assert found(tmp_path, label_column="fine_label")[1] == [2, 1, 0]
    words, labels = found(tmp_path, label_column="none")
    assert words == "none are read, as label_column: none says"
    assert labels == [None] * 3


def test_single_labels_below_zero_stay_rejects_and_are_told(tmp_path):
    parquet(tmp_path / "0.parquet", {"label": [0, -1, 2]})
    config = DatasetConfig(name="set", path=str(tmp_path))
    assert any("below 0, such as -1" in note for note in list_files(config).notes)
    assert found(tmp_path)[1] == [0, -1, 2]


@pytest.mark.parametrize("label", [0.5, math.inf])
def test_a_label_that_is_no_whole_number_is_an_error_of_its_sample_alone(tmp_path, label):
    parquet(tmp_path / "0.parquet", {"label": [1.0, label, 2.0]})
    config = DatasetConfig(name="set", path=str(tmp_path))
    [shard] = settle(config, list_files(config), CLASSES).shards()
    errors = [sample.error for sample in read_samples(shard)]
    assert errors[::2] == [None, None]
    assert "no whole number" in errors[1]


def test_labels_in_words_need_names_and_unknown_words_are_rejects(tmp_path):
    parquet(tmp_path / "0.parquet", {"label": ["dog", "cow", "dog"]})
    with pytest.raises(UserError, match=r"'set' are words.*model\.class_names.*label_column: none"):
        found(tmp_path, DatasetClasses(count=3))
    config = DatasetConfig(name="set", path=str(tmp_path))
    [shard] = settle(config, list_files(config), CLASSES).shards()
    assert [sample.error and "'cow'" in sample.error for sample in read_samples(shard)] == [
        None, True, None,
    ]  # fmt: skip


def test_files_whose_columns_differ_are_told(tmp_path):
    parquet(tmp_path / "0.parquet", {"label": [0, 1, 2]})
    parquet(tmp_path / "1.parquet", {"lbl": [0, 1, 2]})
    config = DatasetConfig(name="set", path=str(tmp_path))
    assert "1.parquet has no column label, as others have" in list_files(config).notes


@pytest.mark.parametrize(
    ("names", "found"),
    [(["b", "a"], ("b", "a")), (None, None), ([1, 2], None), ("text", None)],
)
def test_class_names_of_hugging_face_are_found(tmp_path, names, found):
    feature = {"_type": "ClassLabel"} | ({} if names is None else {"names": names})
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    parquet(tmp_path / "0.parquet", {"label": [0, 1, 0]}, metadata)
    listing = list_files(DatasetConfig(name="set", path=str(tmp_path)))
    assert listing.names == found
    assert (listing.names_from == "ClassLabel of column label") == (found is not None)


@pytest.mark.parametrize("metadata", [b"", b"{", b"[]", b'{"info": 3}', b"[" * 100_000])
def test_spoilt_metadata_are_no_names(tmp_path, metadata):
    parquet(tmp_path / "0.parquet", {"label": [0, 1, 0]}, {"huggingface": metadata})
    assert list_files(DatasetConfig(name="set", path=str(tmp_path))).names is None


# Hive folders


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["label=2", "label=0"], [0, 2]),
        (["label=10", "label=9"], [10, 9]),
        (["class=dog", "class=red%20fox"], [1, 0]),
        (["year=2024/label=1", "year=2024/label=__HIVE_DEFAULT_PARTITION__"], [1, None]),
    ],
)
@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_labels_of_hive_folders(tmp_path, folders, labels, kind):
    for folder in folders:
        if kind == "tar":
            write_tar(tmp_path / folder / "0.tar", IMAGES[:1], None)
        else:
            parquet(tmp_path / folder / "0.parquet", {}, count=1)
    words, read = found(tmp_path, DatasetClasses(count=11, names=(*NAMES, *"abcdefgh")))
    assert words.startswith("Hive folders ")
    assert read == labels


def test_a_column_comes_before_hive_folders_unless_they_are_asked_for(tmp_path):
    parquet(tmp_path / "fine=2" / "0.parquet", {"label": [0, 1, 0]})
    assert found(tmp_path) == ("column label", [0, 1, 0])
    assert found(tmp_path, label_column="fine")[1] == [2, 2, 2]


def test_a_hive_folder_that_is_no_label_is_refused(tmp_path):
    parquet(tmp_path / "label=cow" / "0.parquet", {})
    config = DatasetConfig(name="set", path=str(tmp_path))
    source = settle(config, list_files(config), CLASSES)
    with pytest.raises(UserError, match=r"'set'.*label=cow.*'cow' is no integer.*label_column"):
        source.shards()


# Tars


@pytest.mark.parametrize(
    ("extension", "members", "words", "labels"),
    [
        ("cls", [b"2", b"0\n", b" 1"], "members .cls or .json", [2, 0, 1]),
        ("cls", [b"dog", b"Red fox", b"1"], "members of 0.tar, as names of classes", [1, 0, 1]),
        ("cls", [b"-1"] * 3, "none: the first 3 of 0.tar are -1", [None] * 3),
        ("json", [b'{"label": 2}', b'{"cls": 0}', b'{"class_id": 1, "caption": "x"}'],
         "members .cls or .json", [2, 0, 1]),
        ("json", [b'{"label": "dog"}', b"{}", b"no json"],
         "members of 0.tar, as names of classes", [1, None, None]),
        ("txt", [b"a dog", b"a fox", b"1"], "none in the first 3 samples of 0.tar", [None] * 3),
    ],
)  # fmt: skip
def test_labels_of_tars_are_found_in_their_members(tmp_path, extension, members, words, labels):
    tar_of(tmp_path / "0.tar", extension, members)
    assert found(tmp_path) == (words, labels)


def test_labels_of_tars_are_not_read_where_none_are_wanted(tmp_path):
    tar_of(tmp_path / "0.tar", "cls", [b"1", b"2"])
    assert found(tmp_path, label_column="none")[1] == [None, None]


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b'{"label": 3}', 3),
        (b'{"target": 3, "label": 4}', 4),
        (b'{"label": "dog"}', "dog"),
        (b'{"caption": "dog"}', None),
        (b'{"label": [1]}', None),
        (b"[3]", None),
        (b"\xff", None),
        (b"", None),
        (b"[" * 100_000, None),
    ],
)
def test_labels_in_json(data, label):
    assert label_of_json(data) == label


# What labels mean


@pytest.mark.parametrize(
    ("written", "label"),
    [(3, 3), (3.0, 3), (math.nan, None), ("3", 3), (b"3\n", 3), ("DOG", 1), (True, 1), (-1, -1)],
)
def test_what_a_label_means(written, label):
    assert label_of(written, finder(NAMES)) == label


@pytest.mark.parametrize("written", ["", "cow", 1.5, math.inf, [1], "1e3", b"\xff", "9" * 30])
def test_what_is_no_label(written):
    with pytest.raises(ValueError, match="the label"):
        label_of(written, finder(NAMES))


def test_the_kinds_of_columns():
    kinds = [
        pa.int8(),
        pa.float16(),
        pa.string(),
        pa.large_string(),
        pa.bool_(),
        pa.list_(pa.int8()),
    ]
    assert [kind_of(kind) for kind in kinds] == [
        "integer", "float", "text", "text", "other", "other",
    ]  # fmt: skip
    assert label_column({"label": "other", "y": "integer"}, None) == "label"  # told by the reader
    assert label_column({"y": "text"}, None) is None
