"""Classes: subsets and groups of a head's, and which label a class folder stands for."""

import importlib.resources
import json
import logging
import re
import unicodedata

import pytest
import torch
from open_clip import IMAGENET_CLASSNAMES
from timm.data import ImageNetInfo

from dawin_ray.data.classes import (
    DatasetClasses,
    check_label,
    folders_without_a_name,
    label_folders,
    label_known_folders,
    resolve_classes,
)
from dawin_ray.errors import UserError
from dawin_ray.method.expertise import entropy

NAMES = ("red fox", "Arctic fox", "grey wolf", "dog", "house cat", "lion")


def resolve(spec, names=NAMES, head_count=6) -> DatasetClasses:
    return resolve_classes(spec, head_count, names, "set")


def indices(classes: DatasetClasses) -> list[int]:
    """The head's class of each class of a subset."""
    assert all(len(members) == 1 for members in classes.members)
    return [index for (index,) in classes.members]


@pytest.fixture
def spec(tmp_path):
    """Writes a class list and returns its path."""

    def write(content, suffix="txt"):
        path = tmp_path / f"classes.{suffix}"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


# The head's classes that a data set has


@pytest.mark.parametrize("names", [NAMES, None])
def test_without_a_list_the_logits_pass_as_they_are(names):
    classes = resolve(None, names)
    logits = torch.randn(4, 6)
    assert torch.equal(classes.project(logits), logits)
    assert (classes.count, classes.names) == (6, names)


@pytest.mark.parametrize("letter", ["a", "r"])
def test_imagenet_a_and_r_are_timms_200_classes(letter):
    classes = resolve(f"imagenet-{letter}", IMAGENET_CLASSNAMES, 1000)
    info = importlib.resources.files("timm").joinpath("data", "_info")
    chosen = indices(classes)
    assert "".join(f"{i}\n" for i in chosen) == (
        info.joinpath(f"imagenet_{letter}_indices.txt").read_text()
    )
    assert classes.count == len(set(chosen)) == 200
    assert chosen == sorted(chosen)
    synsets = info.joinpath(f"imagenet_{letter}_synsets.txt").read_text().split()
    assert list(classes.synsets) == synsets
    of_imagenet = ImageNetInfo().label_names()
    assert list(classes.synsets) == [of_imagenet[i] for i in chosen]
    assert list(classes.names) == [IMAGENET_CLASSNAMES[i] for i in chosen]
    logits = torch.randn(3, 1000)
    assert torch.equal(classes.project(logits), logits[:, chosen])


def test_imagenet_names_the_whole_head_and_knows_its_synsets():
    classes = resolve("imagenet", None, 1000)
    assert (classes.count, classes.members) == (1000, None)
    assert classes.synsets[:2] == ("n01440764", "n01443537")


@pytest.mark.parametrize(
    "lines",
    [
        "4\n0\n2\n",
        "house cat\nred fox\ngrey wolf",
        "\n House_Cat \nRED FOX\n\n2\n",  # case, underscores, spaces and empty lines do not count
    ],
)
def test_a_list_of_indices_or_names_keeps_its_order(spec, lines):
    classes = resolve(spec(lines))
    assert indices(classes) == [4, 0, 2]
    assert classes.names == ("house cat", "red fox", "grey wolf")
    logits = torch.randn(3, 6)
    assert torch.equal(classes.project(logits), logits[:, [4, 0, 2]])


def test_indices_need_no_names(spec):
    classes = resolve(spec("4\n0\n"), names=None)
    assert indices(classes) == [4, 0]
    assert classes.names is None


def test_a_group_takes_the_largest_logit_of_its_members(spec):
    classes = resolve(spec({"fox": [0, "arctic fox"], "cat": ["lion", 4], "dog": [3]}, "json"))
    logits = torch.randn(50, 6)
    expected = [logits[:, [0, 1]].amax(1), logits[:, [4, 5]].amax(1), logits[:, 3]]
    assert torch.equal(classes.project(logits), torch.stack(expected, dim=1))
    assert classes.names == ("fox", "cat", "dog")
    assert classes.count == 3


def test_entropy_is_taken_over_the_groups(spec):
    # six equal logits in three groups are three equal classes, whatever the groups' sizes
    classes = resolve(spec({"fox": [0, 1, 2], "cat": [4, 5], "dog": [3]}, "json"))
    expected = torch.full((2,), 3.0).log()
    torch.testing.assert_close(entropy(classes.project(torch.ones(2, 6))), expected)


def test_negative_logits_are_not_beaten_by_padding(spec):
    classes = resolve(spec({"fox": [0, 1, 2], "dog": [3]}, "json"))
    logits = torch.tensor([[-3.0, -2.0, -5.0, -7.0, 0.0, 0.0]])
    assert classes.project(logits).tolist() == [[-2.0, -7.0]]


@pytest.mark.parametrize(
    ("lines", "suffix", "message"),
    [
        ("9\n", "txt", r"name class 9, but the head has 6 classes, 0\.\.5"),
        ("grey wulf\n", "txt", r"'grey wulf'.*none of the head's 6.*Did you mean 'grey wolf'"),
        ("-1\n", "txt", r"'-1'"),
        ("0\n0\n", "txt", r"name class 0 of the head twice"),
        ("0\nred fox\n", "txt", r"name class 0 of the head twice"),
        ("\n\n", "txt", r"empty"),
        ("{}", "json", r"empty"),
        ('{"a": [0, 1], "b": [1]}', "json", r"name class 1 of the head twice"),
        ('{"a": 0}', "json", r"must map each class name to a list.*\{\"chair\": \[423, 559\]\}"),
        ('{"a": []}', "json", r"must map each class name"),
        ("[0, 1]", "json", r"must map each class name"),
        ("{", "json", r"no valid JSON"),
        ('{"a": [0], "a": [1]}', "json", r"'a'.*twice"),
    ],
)
def test_a_list_that_does_not_fit_the_head_is_refused(spec, lines, suffix, message):
    address = spec(lines, suffix)
    with pytest.raises(UserError, match=message) as caught:
        resolve(address)
    assert address in str(caught.value)


def test_names_need_the_heads_names(spec):
    with pytest.raises(UserError, match=r"'set'.*'dog'.*model\.class_names.*indices"):
        resolve(spec("dog\n"), names=None)


def test_a_name_that_two_classes_share_is_refused(spec):
    names = ("crane", "dog", "crane")
    with pytest.raises(UserError, match=r"'crane'.*0.*2.*ind"):
        resolve(spec("crane\n"), names, 3)
    assert indices(resolve(spec("dog\n2\n"), names, 3)) == [1, 2]


def test_an_unknown_list_is_refused_with_the_known_ones():
    message = r"'set'.*imagenet-q.*imagenet-a, imagenet-r, imagenet.*\.txt.*\.json.*Did you mean"
    with pytest.raises(UserError, match=message):
        resolve("imagenet-q")


def test_imagenets_subsets_need_imagenets_head():
    with pytest.raises(UserError, match=r"'set'.*1000 classes.*head has 6"):
        resolve("imagenet-a")


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt.*does not exist"):
        resolve(str(tmp_path / "none.txt"))


# Labels of class folders


def test_folders_named_by_integers_are_those_labels():
    # ImageNet-V2's folders: as text, "10" sorts before "2"
    folders = [str(i) for i in range(12)]
    assert sorted(folders) != folders
    assert label_folders(folders, DatasetClasses(count=12), "set") == {str(i): i for i in range(12)}


def test_missing_integer_folders_shift_nothing():
    assert label_folders(["10", "2"], DatasetClasses(count=12), "set") == {"2": 2, "10": 10}


def test_folders_named_by_synsets_have_the_subsets_labels():
    classes = resolve("imagenet-r", IMAGENET_CLASSNAMES, 1000)
    some = [classes.synsets[i] for i in (7, 199, 0)]
    assert label_folders(some, classes, "set") == dict(zip(some, (7, 199, 0), strict=True))


def test_folders_named_by_classes_have_their_labels_not_their_rank(spec):
    classes = resolve(spec("lion\nhouse cat\ndog\n"))
    assert label_folders(["dog", "House_Cat"], classes, "set") == {"dog": 2, "House_Cat": 1}


def test_other_folders_are_numbered_in_sorted_order(caplog):
    classes = DatasetClasses(count=3, names=("x", "y", "z"))
    with caplog.at_level(logging.WARNING):
        assert label_folders(["b", "c", "a"], classes, "set") == {"a": 0, "b": 1, "c": 2}
    assert "numbered in sorted order: a is 0 (x), b is 1 (y)" in caplog.text
    caplog.clear()
    assert label_folders(["b", "c", "a"], DatasetClasses(count=3), "set")["c"] == 2
    assert not caplog.records


def test_folders_of_a_growing_data_set_are_numbered_only_when_all_are_there():
    classes = DatasetClasses(count=3)
    with pytest.raises(UserError, match="their labels would change with the next folder"):
        label_folders(["b", "a"], classes, "set", growing=True)
    labels = {"a": 0, "b": 1, "c": 2}
    assert label_folders(["c", "a", "b"], classes, "set", growing=True) == labels
    assert label_folders(["2"], classes, "set", growing=True) == {"2": 2}
    assert label_folders([], classes, "set", growing=True) == {}
    named = DatasetClasses(count=3, names=("cat", "dog", "cow"))
    assert label_folders(["dog"], named, "set", growing=True) == {"dog": 1}


def test_too_few_unknown_folders_are_numbered_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        labels = label_folders(["b", "a"], DatasetClasses(count=3), "my-set")
    assert labels == {"a": 0, "b": 1}
    assert "my-set: 2 class folders for 3 classes" in caplog.text


FEW = DatasetClasses(count=4, names=("zéro", "one", "two", "three"))


@pytest.mark.parametrize(
    ("folders", "stranger", "near"),
    [
        (["zéro", "one", "two", "tree"], "tree", "'three'"),
        (["zero", "one", "two", "three"], "zero", "'zéro'"),
        (["one", "background"], "background", "'"),
        (["zéro", "one", "two", "three", "four"], "four", "'"),  # four names for five folders
        (["one", "2"], "2", "'"),
        (["one", "caf\udce9"], r"caf\\xe9", "'"),  # bytes that are no UTF-8
    ],
)
def test_names_decide_for_all_folders_where_one_is_named(folders, stranger, near):
    message = f"Folder '{re.escape(stranger)}' of data set 'set' holds images, but is named by none"
    with pytest.raises(UserError, match=rf"{message}.*nearest class.*{near}.*Rename"):
        label_folders(folders, FEW, "set")


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKD"])
def test_folders_are_matched_whatever_their_unicode_form(form):
    folders = [unicodedata.normalize(form, name).upper() for name in FEW.names]
    assert list(label_folders(folders, FEW, "set").values()) == [
        FEW.names.index(name)
        for name in sorted(FEW.names, key=lambda n: unicodedata.normalize(form, n).upper())
    ]


def test_names_that_differ_by_signs_alone_are_told_apart():
    classes = DatasetClasses(count=4, names=("C", "C++", "C#", "🙂"))
    expected = {"C": 0, "C++": 1, "C#": 2, "🙂": 3}
    assert label_folders(expected, classes, "set") == expected
    names = ("हिन्दी", "हन्दी")  # differ by marks alone
    assert label_folders(names, DatasetClasses(count=2, names=names), "set") == {
        names[0]: 0, names[1]: 1,
    }  # fmt: skip


def test_empty_strangers_and_the_systems_folders_are_left_out(caplog):
    folders = ["one", "two", "todo", "__MACOSX", "lost+found", "@eaDir"]
    assert label_folders(folders, FEW, "set", empty={"todo"}) == {"one": 1, "two": 2}
    assert "left out 1 folders without images" in caplog.text
    assert "todo" in caplog.text
    assert label_folders(["b", "a", "__MACOSX"], DatasetClasses(count=2), "set") == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    "folders", [["one", "One"], ["zéro", "ze\u0301ro"], ["7", "007"], ["label=1", "1"]]
)
def test_two_folders_of_one_class_are_refused(folders):
    classes = FEW if not folders[0][0].isdigit() else DatasetClasses(count=8)
    with pytest.raises(UserError, match=r"are both of class \d.*Put their images into one"):
        label_folders(folders, classes, "set")


def test_a_stray_folder_among_wordnet_ids_moves_no_label():
    classes = resolve("imagenet", None, 1000)
    folders = list(classes.synsets[:5])
    with pytest.raises(UserError, match=r"Folder 'images'.*named by none of its 1000 classes"):
        label_folders([*folders, "images"], classes, "set")
    assert label_folders(folders, classes, "set") == {f: i for i, f in enumerate(folders)}


def test_a_name_of_two_classes_wants_the_wordnet_id():
    classes = DatasetClasses(count=3, names=("crane", "dog", "crane"))
    with pytest.raises(UserError, match=r"'crane'.*Classes 0 and 2 are both called so"):
        label_folders(["dog", "crane"], classes, "set")


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["007", "010"], {"007": 7, "010": 10}),
        (["label=3", "label=0"], {"label=0": 0, "label=3": 3}),
        (["class=b", "class=a"], {"class=a": 0, "class=b": 1}),
    ],
)
def test_numbers_may_have_zeros_or_a_hive_key(folders, labels):
    assert label_folders(folders, DatasetClasses(count=11), "set") == labels


def test_numbers_that_are_names_are_those_classes():
    classes = DatasetClasses(count=3, names=("10", "2", "1"))
    assert label_folders(["1", "10", "2"], classes, "set") == {"10": 0, "2": 1, "1": 2}


def test_a_word_among_numbers_is_refused():
    with pytest.raises(UserError, match=r"Folder 'misc'.*its name is no label.*Rename"):
        label_folders(["0", "1", "misc"], DatasetClasses(count=3), "set")


def test_too_many_folders_name_the_counts_not_one_as_the_culprit():
    with pytest.raises(UserError, match=r"4 folders for 3 classes.*may be another one"):
        label_folders("abcd", DatasetClasses(count=3), "set")


def test_a_list_with_too_few_names_says_which_folders_it_lacks():
    folders = [f"class_{i}" for i in range(12)]
    names = [f"Class {i}" for i in range(12) if i != 4]
    assert folders_without_a_name(folders, names) == " It lacks the data's 'class_4'."
    assert folders_without_a_name(folders, ["x"]) == ""
    classes = DatasetClasses(count=11, names=tuple(names))
    with pytest.raises(UserError, match="Folder 'class_4'"):
        label_folders(folders, classes, "set")


def test_no_folders_have_no_labels(caplog):
    with caplog.at_level(logging.WARNING):
        assert label_folders([], DatasetClasses(count=3), "set") == {}
    assert not caplog.records


@pytest.mark.parametrize(
    ("folders", "folder"), [(["0", "3"], "3"), (["a", "b", "c", "d"], "d")], ids=str
)
def test_a_folder_outside_the_classes_is_refused_by_name(folders, folder):
    with pytest.raises(UserError, match=rf"Label 3 of folder '{folder}'.*'set'.*0\.\.2.*classes"):
        label_folders(folders, DatasetClasses(count=3), "set")


@pytest.mark.parametrize(("label", "fits"), [(-1, False), (0, True), (2, True), (3, False)])
def test_labels_run_from_zero_to_the_last_class(label, fits):
    if fits:
        check_label(label, 3, "set", "sample 'x'")
    else:
        with pytest.raises(UserError, match=rf"Label {label} of sample 'x'.*'set'.*0\.\.2"):
            check_label(label, 3, "set", "sample 'x'")


def test_a_mapping_may_hold_names_as_wordnet_has_them(tmp_path):
    path = tmp_path / "mapping.json"
    path.write_text(
        '{"Alarm clock": "analog clock; digital clock",'
        ' "Bicycle": "mountain bike, all-terrain bike, off-roader; bicycle-built-for-two, tandem'
        ' bicycle, tandem"}'
    )
    for names in (None, tuple(IMAGENET_CLASSNAMES)):
        found = resolve_classes(str(path), 1000, names, "objectnet")
        assert found.members == ((409, 530), (671, 444))
        assert found.names == ("Alarm clock", "Bicycle")


def test_other_folders_are_left_out_where_asked(caplog):
    classes = DatasetClasses(count=3, names=("Alarm clock", "T-shirt", "Weight (exercise)"))
    folders = ["alarm_clock", "t-shirt", "unknown_thing"]
    assert label_known_folders(folders, classes, "set") == {"alarm_clock": 0, "t-shirt": 1}
    assert "2 of 3 folders" in caplog.text
    assert "no folder for Weight (exercise)" in caplog.text
    with pytest.raises(UserError, match="None of the 1 folders"):
        label_known_folders(["else"], classes, "set")
