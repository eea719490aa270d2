"""What names say: splits, sets with a file missing, gaps, and braces."""

import pytest

from dawin_ray.data.splits import expand, gaps, has_braces, missing_members, splits_of


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("s/{000..002}.tar", ["s/000.tar", "s/001.tar", "s/002.tar"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{098..100}", ["098", "099", "100"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..4..2}", ["0", "2", "4"]),
        ("{a..c}", ["a", "b", "c"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
        ("{a,{1..2}}", ["a", "1", "2"]),
        ("{a,a}", ["a"]),
        ("{}x{y}.tar", ["{}x{y}.tar"]),  # stands for nothing else
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_are_expanded_as_webdataset_does(path, names):
    assert expand(path) == names
    assert has_braces(path) == (names != [path])


@pytest.mark.parametrize(
    "path", ["{0..99999999999}.tar", "{0..9999}{0..9999}", "{" + "{0..999}," * 1100 + "x}"]
)
def test_braces_for_too_many_names_are_refused_at_once(path):
    with pytest.raises(ValueError, match="more than 1,000,000"):
        expand(path)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"],
         {"train": ["data/train*.parquet"], "test": ["data/test*.parquet"]}),
        (["train/0.tar", "val/0.tar", "val/1.tar"], {"train": ["train"], "validation": ["val"]}),
        (["split=train/a.parquet", "split=dev/a.parquet"],
         {"train": ["split=train"], "validation": ["split=dev"]}),
        (["imagenet-Train-000000.tar", "imagenet-Validation-000000.tar"],
         {"train": ["imagenet-Train*.tar"], "validation": ["imagenet-Validation*.tar"]}),
        (["cifar_test.tar", "cifar_train_0.tar"],
         {"test": ["cifar_test*.tar"], "train": ["cifar_train*.tar"]}),
        (["en/test0.tar.gz", "en/train0.tar.gz"],
         {"test": ["en/test*.tar.gz"], "train": ["en/train*.tar.gz"]}),
        (["testament.tar", "train_of_thought-x.tar"], {"train": ["train*.tar"]}),
        (["bullet_train_station.tar", "a.tar"], {}),
    ],
)  # fmt: skip
def test_splits_are_found_in_folders_and_names(names, splits):
    assert splits_of(names) == splits


def test_images_are_of_no_split_by_their_own_names():
    names = ["a/test_1.png", "a/train_1.png"]
    assert splits_of(names, folders_only=True) == {}
    assert set(splits_of(["test/a/1.png", "train/a/1.png"], folders_only=True)) == {"test", "train"}


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["t-00000-of-00003.parquet", "t-00002-of-00003.parquet"], ["t-00001-of-00003.parquet"]),
        (["a/p_1_of_3.tar", "a/p_3_of_3.tar"], ["a/p_2_of_3.tar"]),  # counts from 1
        (["x-0-of-2.tar.gz"], ["x-1-of-2.tar.gz"]),
        (["a-0-of-1.tar", "b-1-of-2.tar"], ["b-0-of-2.tar"]),
        (["a-00000-of-00002.tar", "a-00001-of-00002.tar"], None),
        (["a-1-of-2.tar", "a-2-of-2.tar"], None),
        (["a.tar", "of-2.tar", "king-of-10.tar"], None),
    ],
)
def test_a_set_that_lacks_files_names_them(names, missing):
    found = missing_members(names)
    assert [first for _, _, first in found] == ([missing] if missing else [])


def test_a_set_of_astronomic_size_is_counted_not_listed():
    [(count, lacking, first)] = missing_members(["a-0-of-999999999999999.tar"])
    assert (count, lacking) == (999_999_999_999_999, 999_999_999_999_998)
    assert first[0] == "a-1-of-999999999999999.tar"
    assert len(first) == 10_000


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["t-0-of-2.tar", "t-1-of-2.tar", "t-0-of-1.tar"], "different sets.*t-0-of-1.*t-0-of-2"),
        (["t-0-of-2.tar", "t-00-of-2.tar"], "both number 0"),
        (["t-0-of-2.tar", "t-7-of-2.tar"], r"none of\s+0\.\.1"),
    ],
)
def test_a_set_that_contradicts_itself_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        missing_members(names)


def test_a_gap_in_plain_numbers_is_told_where_most_are_there():
    assert gaps(["00000.tar", "00001.tar", "00003.tar"]) == [
        "00000.tar to 00003.tar lack 1 of 4 numbers, the first is 00002.tar"
    ]
    assert gaps(["00000.tar", "00001.tar"]) == []
    assert gaps(["20240101.tar", "20250101.tar"]) == []  # dates
    assert gaps(["a/10.tar", "b/12.tar"]) == []
