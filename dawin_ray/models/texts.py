"""Texts of zero-shot heads: known lists of class names and prompt templates, and files of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.resources import files

from dawin_ray.errors import UserError
from dawin_ray.models import clip
from dawin_ray.storage import read_lines

PLACE = "{}"  # of the class name in a template

# The eight tasks that CLIP models are merged over; sources and licence stand in the file.
TASKS: dict[str, dict[str, list[str]]] = json.loads(
    files("dawin_ray.models").joinpath("task_prompts.json").read_text("utf-8")
)["tasks"]


@cache
def known_class_names() -> dict[str, tuple[str, ...]]:
    """Lists of class names, by what a job calls them."""
    of_tasks = {name: tuple(task["class_names"]) for name, task in TASKS.items()}
    return {"imagenet": tuple(clip.IMAGENET_CLASSNAMES)} | of_tasks


@cache
def known_templates() -> dict[str, tuple[str, ...]]:
    """Lists of prompt templates, likewise."""
    of_imagenet = {
        "openai-imagenet": clip.OPENAI_IMAGENET_TEMPLATES,
        "simple-imagenet": clip.SIMPLE_IMAGENET_TEMPLATES,
    }
    return {
        name: tuple(template(PLACE) for template in templates)
        for name, templates in of_imagenet.items()
    } | {name: tuple(task["templates"]) for name, task in TASKS.items()}


def read_class_names(spec: str) -> tuple[str, ...]:
    """Class names of a known list or of a text file with one a line.

    Raises:
        UserError: it is neither, or the file is empty.
    """
    if spec in known_class_names():
        return known_class_names()[spec]
    if not spec.endswith(".txt"):
        raise UserError(
            f"Unknown class names {spec!r}. Expected {', '.join(known_class_names())} or a .txt "
            "file with a class name a line."
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
    if spec in known_templates():
        return known_templates()[spec]
    if not spec.endswith(".txt"):
        raise UserError(
            f"Unknown templates {spec!r}. Expected {', '.join(known_templates())} or a .txt file "
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
