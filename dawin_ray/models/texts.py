"""Texts of zero-shot heads: known lists of class names and prompt templates, and files of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files

import open_clip

from dawin_ray.errors import UserError
from dawin_ray.storage import read_lines

PLACE = "{}"  # of the class name in a template

# The eight tasks that CLIP models are merged over; sources and licence stand in the file.
TASKS: dict[str, dict[str, list[str]]] = json.loads(
    files("dawin_ray.models").joinpath("task_prompts.json").read_text("utf-8")
)["tasks"]

KNOWN_CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "imagenet": tuple(open_clip.IMAGENET_CLASSNAMES)
} | {name: tuple(task["class_names"]) for name, task in TASKS.items()}

KNOWN_TEMPLATES: dict[str, tuple[str, ...]] = {
    name: tuple(template(PLACE) for template in templates)
    for name, templates in {
        "openai-imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
        "simple-imagenet": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    }.items()
} | {name: tuple(task["templates"]) for name, task in TASKS.items()}


def read_class_names(spec: str) -> tuple[str, ...]:
    """Class names of a known list or of a text file with one a line.

    Raises:
        UserError: it is neither, or the file is empty.
    """
    if spec in KNOWN_CLASS_NAMES:
        return KNOWN_CLASS_NAMES[spec]
    if not spec.endswith(".txt"):
        raise UserError(
            f"Unknown class names {spec!r}. Expected {', '.join(KNOWN_CLASS_NAMES)} or a .txt file "
            "with a class name a line."
        )
    return read_lines(spec, "class names")


def folder_names(class_names: Sequence[str]) -> tuple[str, ...] | None:
    """What the class folders of a known task are called, where that is none of its class names."""
    for task in TASKS.values():
        if task["class_names"] == list(class_names):
            return tuple(task["folders"]) if "folders" in task else None
    return None


def read_templates(spec: str) -> tuple[str, ...]:
    """Prompt templates of a known list or of a text file, one a line, with {} or {c} for the name.

    Raises:
        UserError: it is neither, or a line has no place for the name, or another brace.
    """
    if spec in KNOWN_TEMPLATES:
        return KNOWN_TEMPLATES[spec]
    if not spec.endswith(".txt"):
        raise UserError(
            f"Unknown templates {spec!r}. Expected {', '.join(KNOWN_TEMPLATES)} or a .txt file "
            "with a line like: a photo of a {}."
        )
    lines = read_lines(spec, "templates")
    templates = tuple(line.replace("{c}", PLACE) for line in lines)
    for line, template in zip(lines, templates, strict=True):
        if template.count(PLACE) != 1:
            raise UserError(
                f"Template {line!r} in {spec!r} needs one {{}} where the class name goes."
            )
        if any(brace in template.replace(PLACE, "") for brace in "{}"):
            raise UserError(
                f"Template {line!r} in {spec!r} needs one {{}} where the class name goes, and has "
                "another brace besides. Take it out: nothing else is filled in."
            )
    return templates


def prompts(templates: Sequence[str]) -> list[Callable[[str], str]]:
    """Functions from a class name to a prompt, as open_clip takes them; a name may hold braces."""
    return [partial(template.replace, PLACE) for template in templates]
