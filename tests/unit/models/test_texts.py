"""The texts of eight tasks: complete, in the order of the data's labels, under their licence."""

import json
from pathlib import Path

import pytest

import dawin_ray.models
from dawin_ray.data.classes import NAMED, DatasetClasses, folder_way, label_folders
from dawin_ray.models.heads import resolve_head
from dawin_ray.models.spec import ModelConfig
from dawin_ray.models.texts import (
    PLACE,
    TASKS,
    folder_names,
    known_class_names,
    known_templates,
    read_class_names,
    read_templates,
)

CLASSES = {
    "sun397": 397, "cars": 196, "resisc45": 45, "eurosat": 10, "svhn": 10, "gtsrb": 43,
    "mnist": 10, "dtd": 47,
}  # fmt: skip

# As EuroSAT is laid out, in the order in which folders are numbered.
EUROSAT = ["AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture",
           "PermanentCrop", "Residential", "River", "SeaLake"]  # fmt: skip


def test_the_eight_tasks_have_a_name_for_each_class():
    assert {name: len(read_class_names(name)) for name in TASKS} == CLASSES
    for name in TASKS:
        assert len(set(known_class_names()[name])) == CLASSES[name]


@pytest.mark.parametrize("name", CLASSES)
def test_templates_have_one_place_for_the_class(name):
    templates = read_templates(name)
    assert templates == known_templates()[name]
    assert templates
    assert all(template.count(PLACE) == 1 for template in templates)
    assert not any(brace in t.replace(PLACE, "") for t in templates for brace in "{}")


@pytest.mark.parametrize("name", ["sun397", "resisc45", "dtd"])
def test_sets_in_folders_are_in_the_order_of_their_folders(name):
    folders = [name.replace(" ", "_") for name in read_class_names(name)]
    assert folders == sorted(folders)


def test_eurosats_classes_are_in_the_order_of_its_folders_not_openais():
    names = read_class_names("eurosat")
    assert list(folder_names(names)) == EUROSAT
    assert names[:4] == (
        "annual crop land", "forest", "brushland or shrubland", "highway or road"
    )  # fmt: skip
    assert names[-2:] == ("river", "lake or sea")
    classes = DatasetClasses(count=10, names=names, folders=folder_names(names))
    assert label_folders(EUROSAT, classes, "eurosat") == {f: i for i, f in enumerate(EUROSAT)}
    assert folder_way(EUROSAT, classes) == NAMED
    assert folder_names(read_class_names("dtd")) is None


def test_digits_are_digits():
    digits = tuple("0123456789")
    assert read_class_names("mnist") == read_class_names("svhn") == digits
    assert read_templates("svhn") == read_templates("mnist") == ('a photo of the number: "{}".',)


def test_signs_and_cars_are_in_the_order_of_their_numbers():
    signs, cars = read_class_names("gtsrb"), read_class_names("cars")
    assert signs[0] == "red and white circle 20 kph speed limit"
    assert signs[14] == "stop"
    assert cars[0] == "AM General Hummer SUV 2000"
    assert cars[195].startswith("smart fortwo")


def test_the_licence_is_in_the_file():
    path = Path(dawin_ray.models.__file__).with_name("task_prompts.json")
    whole = json.loads(path.read_text())
    assert "openai/CLIP" in whole["source"]
    licence = " ".join(whole["licence"])
    for part in ("MIT License", "Copyright (c) 2021 OpenAI", "shall be included in all copies"):
        assert part in licence


def test_a_known_task_brings_its_templates():
    model = ModelConfig(architecture="a")
    head = resolve_head(model, False, "set", "dtd", None)
    assert head.class_names == known_class_names()["dtd"]
    assert head.templates == known_templates()["dtd"]
    assert resolve_head(model, False, "set", "dtd", "mnist").templates == known_templates()["mnist"]
    of_imagenet = resolve_head(model, False, "set", "imagenet", None)
    assert of_imagenet.templates == known_templates()["openai-imagenet"]
