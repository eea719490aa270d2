"""Heads: the one that a checkpoint was saved with, or a zero-shot one of class names and templates.

A zero-shot head is described by its texts themselves, not by the files that they stand in: what a
run begins with is what every worker builds its head from, and the digests of the texts tell two
heads apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import open_clip

from dawin_ray.errors import UserError
from dawin_ray.models.layouts import HEAD
from dawin_ray.models.spec import KEY_DIGITS, Head, HeadSpec, ModelConfig
from dawin_ray.records import digest
from dawin_ray.storage import read_lines

PLACE = "{}"  # of the class name in a template

KNOWN_CLASS_NAMES = {"imagenet": tuple(open_clip.IMAGENET_CLASSNAMES)}

KNOWN_TEMPLATES = {
    name: tuple(template(PLACE) for template in templates)
    for name, templates in {
        "openai-imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
        "simple-imagenet": open_clip.SIMPLE_IMAGENET_TEMPLATES,
    }.items()
}


def zero_shot_head(class_names: Sequence[str], templates: Sequence[str]) -> HeadSpec:
    """The head of these texts; another text makes another key."""
    texts = (tuple(class_names), tuple(templates))
    return HeadSpec(
        key=f"zero_shot_{digest(texts)[:KEY_DIGITS]}", class_names=texts[0], templates=texts[1]
    )


def check_heads(head: Head, trained: Mapping[str, bool]) -> bool:
    """Whether the checkpoints' own heads are there to be used.

    `trained` says of each checkpoint, by the expert's name, whether it was saved with a head. A
    trained head is never dropped because another checkpoint has none.

    Raises:
        UserError: some have one and others do not, or `head` asks for what none has.
    """
    having = [name for name, has in trained.items() if has]
    lacking = [name for name, has in trained.items() if not has]
    if head == "zero_shot" or (head == "auto" and not having):
        return False
    if not lacking:
        return True
    what = f"{HEAD}.weight"
    if not having:
        raise UserError(
            f"model.head is checkpoint, but the checkpoint has no {what}: none of them does "
            f"({', '.join(lacking)}). Use head: zero_shot with class_names, or checkpoints that "
            "were saved with their heads."
        )
    verb = "has" if len(having) == 1 else "have"
    raise UserError(
        f"{', '.join(having)} {verb} a trained head ({what}), and {', '.join(lacking)} "
        f"{'has' if len(lacking) == 1 else 'have'} no {what}: heads are merged like all weights, "
        "so each checkpoint needs one. Save all of them with their heads, or set model.head: "
        "zero_shot, which builds every head from class_names and leaves the trained ones unused."
    )


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


def resolve_head(
    model: ModelConfig, checkpoint_has_head: bool, dataset: str, class_names: str | None,
    templates: str | None,
) -> HeadSpec:  # fmt: skip
    """The head that scores a data set; `class_names` and `templates` are the set's own, if any.

    Raises:
        UserError: a head is asked for that cannot be had.
    """
    if model.head == "checkpoint" and not checkpoint_has_head:
        raise UserError(
            f"model.head is checkpoint, but the checkpoint has no {HEAD}.weight. Use head: "
            "zero_shot with class_names, or a checkpoint that was saved with its head."
        )
    if model.head != "zero_shot" and checkpoint_has_head:
        return HeadSpec()
    names = class_names or model.class_names
    if names is None:
        why = (
            "model.head is zero_shot"
            if model.head == "zero_shot"
            else f"the checkpoints bring no {HEAD}.weight"
        )
        raise UserError(
            f"Data set '{dataset}' needs a zero-shot head, as {why}: "
            "give model.class_names (imagenet, or a file with a class name a line)."
        )
    return zero_shot_head(read_class_names(names), read_templates(templates or model.templates))
