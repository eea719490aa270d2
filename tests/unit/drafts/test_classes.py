"""Which class list fits what data and heads tell."""

from dataclasses import replace

import pytest

from dawin_ray.data import DatasetConfig
from dawin_ray.data.class_lists import timm_lines
from dawin_ray.data.datasets import Listing
from dawin_ray.data.files import files_of
from dawin_ray.drafts.classes import ClassList, choose, words_of
from dawin_ray.drafts.known import known_lists, subset_of
from dawin_ray.drafts.layout import Place
from dawin_ray.settings import FILL_IN


def place(name="set", folders=(), names=None, form="folder"):
    files = [(f"{folder}/1.jpg", 1, "") for folder in folders] or [("1.jpg", 1, "")]
    return Place(
        config=DatasetConfig(name=name, path=name),
        listing=Listing(
            format=form,
            root=name,
            files=files_of(files),
            folders=tuple(sorted(folders)),
            names=names and tuple(names),
            names_from="ClassLabel of column label" if names else "",
        ),
        partly=False,
        why="",
    )


EUROSAT = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
           "PermanentCrop", "Residential", "River", "SeaLake")  # fmt: skip


def of_model(places, head=None):
    return choose(places, head).of_model


@pytest.mark.parametrize("head", [None, 10])
def test_a_known_list_is_told_by_its_folders(head):
    assert of_model([place(folders=EUROSAT)], head).known == "eurosat"


@pytest.mark.parametrize("head", [None, 47])
def test_a_known_list_is_told_by_the_names_that_data_bring(head):
    names = known_lists()["dtd"].names
    assert of_model([place(names=reversed(names), form="parquet")], head).known == "dtd"


@pytest.mark.parametrize("head", [None, 1000])
def test_imagenet_by_its_wordnet_ids_and_its_parts(head):
    synsets = timm_lines("imagenet_synsets.txt")
    parts = {
        "r": [synsets[int(line)] for line in timm_lines("imagenet_r_indices.txt")],
        "a": [synsets[int(line)] for line in timm_lines("imagenet_a_indices.txt")],
        "whole": synsets,
    }
    choice = choose([place(name, folders) for name, folders in parts.items()], head)
    assert choice.of_model.known == "imagenet"
    assert choice.parts == {"r": "imagenet-r", "a": "imagenet-a"}


def test_a_part_of_a_part_is_told_by_the_name():
    indices = [int(line) for line in timm_lines("imagenet_r_indices.txt")[:50]]
    assert subset_of(indices, "my_imagenet-r_small") == "imagenet-r"
    assert subset_of(indices, "sketches") is None
    assert subset_of(range(1000), "imagenet-r") is None


def test_a_misspelt_folder_changes_no_list():
    choice = choose([place(folders=[*EUROSAT[:9], "SeeLake"])], 10)
    assert choice.of_model.known == "eurosat"


def test_folders_that_number_tell_nothing():
    numbers = [str(i) for i in range(10)]
    assert words_of(place(folders=numbers)) == ((), "")
    assert words_of(place(folders=[f"label={i}" for i in range(10)])) == ((), "")
    assert of_model([place(folders=numbers)], 10) is None
    assert of_model([place("mnist", folders=numbers)], 10).known == "mnist"
    assert of_model([place(folders=numbers)]).startswith(FILL_IN)


def test_folders_make_a_list_of_a_head_of_so_many_classes():
    """Sorted, as torchvision numbers them: which is a doubt."""
    choice = choose([place(folders=["pear", "apple"]), place("b", folders=["fig"])], 3)
    assert choice.of_model == ClassList(
        names=("apple", "fig", "pear"), known=None, why=choice.of_model.why
    )
    assert "sorted" in choice.of_model.why
    assert "0 is 'apple'" in choice.doubts[0]


def test_other_numbers_of_folders_than_the_heads_are_for_a_person():
    choice = choose([place(folders=["pear", "apple"])], 3)
    assert choice.of_model.startswith(FILL_IN)
    assert "the head has 3 classes" in choice.why_model


def test_names_that_data_bring_are_before_sorted_folders():
    places = [place(folders=["a", "b"]), place("p", names=["b", "a"], form="parquet")]
    choice = choose(places, 2)
    assert choice.of_model.names == ("b", "a")
    assert "0 is 'b'" in choice.doubts[0]


def test_a_thousand_classes_are_imagenets_by_number_which_is_a_doubt():
    choice = choose([place(form="webdataset")], 1000)
    assert choice.of_model.known == "imagenet"
    assert "by their number alone" in choice.doubts[0]


def test_numbers_alone_need_no_names():
    choice = choose([place(form="webdataset")], 7)
    assert choice.of_model is None
    assert "class_names" in choice.why_model


def test_the_texts_of_a_zero_shot_head_are_the_folders():
    choice = choose([place(folders=["red_pear", "apple"])], None)
    assert choice.of_model.names == ("apple", "red pear")
    assert "texts of the zero-shot head are made of class folders" in choice.doubts[0]
    apart = choose([place(folders=["red_pear", "red pear"])], None)
    assert apart.of_model.names == ("red pear", "red_pear")


def test_a_few_folders_of_a_long_list_are_classes_of_their_own():
    """Two of ImageNet's names do not make a head of a thousand."""
    choice = choose([place(folders=["tench", "goldfish"])], None)
    assert choice.of_model.names == ("goldfish", "tench")
    assert of_model([place(folders=["n01440764", "n01443537"])]).known == "imagenet"


def test_data_sets_with_classes_of_their_own_have_a_list_each():
    choice = choose([place("a", folders=EUROSAT), place("b", folders=["fig", "pear"])], None)
    assert choice.of_model is None
    assert choice.of_sets["a"].known == "eurosat"
    assert choice.of_sets["b"].names == ("fig", "pear")
    alike = choose([place("a", folders=EUROSAT), place("b", folders=EUROSAT[:7])], None)
    assert (alike.of_model.known, alike.of_sets) == ("eurosat", {})


def test_a_list_beside_shards_is_the_jobs_own(tmp_path):
    path = tmp_path / "classnames.txt"
    path.write_text("b\na\n")
    one = place(form="webdataset")
    one = replace(one, listing=replace(one.listing, class_names=str(path)))
    found = of_model([one])
    assert (found.names, found.brought) == (("b", "a"), True)


@pytest.mark.parametrize("name", ["a\nb", " a", "a\x1b[31m", "\udc80", ""])
def test_names_that_no_line_can_have_are_for_a_person(name):
    for head in (None, 2):
        assert of_model([place(names=[name, "x"], form="parquet")], head).startswith(FILL_IN)


def test_what_format_and_name_tell():
    assert of_model([place(form="svhn")]).known == "svhn"
    assert of_model([place("MNIST", form="idx")]).known == "mnist"
    assert of_model([place("fashion", form="idx")]).startswith(FILL_IN)
