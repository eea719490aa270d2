"""Which head scores a data set: the checkpoints' own, one of a file, or a zero-shot one of texts.

A zero-shot head is described by its texts themselves, not by the files that they stand in: what a
run begins with is what every worker builds its head from, and the digests of the texts tell two
heads apart. A head of a file is told by the file's hash, which every worker holds it against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dawin_ray.errors import UserError
from dawin_ray.models.checkpoints import CHECKPOINT_SUFFIXES, checkpoint_digest, is_tag
from dawin_ray.models.layouts import HEAD
from dawin_ray.models.spec import KEY_DIGITS, Head, HeadSpec, ModelConfig
from dawin_ray.models.texts import known_templates, read_class_names, read_templates
from dawin_ray.records import digest

# What to do where heads would have to be merged over a base.
HEAD_EACH = (
    "Give each data set its own, as a file: datasets[].head: {checkpoint: FILE}, which may be the "
    "checkpoint that was saved with it"
)


def zero_shot_head(
    class_names: Sequence[str], templates: Sequence[str], of_base: bool = False
) -> HeadSpec:
    """The head of these texts; another text makes another key."""
    texts = (tuple(class_names), tuple(templates))
    return HeadSpec(
        key=f"zero_shot_{digest(texts)[:KEY_DIGITS]}",
        class_names=texts[0],
        templates=texts[1],
        of_base=of_base,
    )


def head_of_file(address: str) -> HeadSpec:
    """The head that a file holds; another content makes another key.

    Raises:
        UserError: the file cannot be read.
    """
    if is_tag(address):
        raise UserError(
            f"The head {address!r} is no file that can hold one: expected a name that ends in "
            f"{', '.join(CHECKPOINT_SUFFIXES)}."
        )
    sha256 = checkpoint_digest(address)
    return HeadSpec(key=f"file_{sha256[:KEY_DIGITS]}", file=address, sha256=sha256)


def check_heads(head: Head, trained: Mapping[str, bool], over_base: bool = False) -> bool:
    """Whether the checkpoints' own heads are there to be used.

    `trained` says of each checkpoint, by the expert's name, whether it was saved with a head. A
    trained head is never dropped because another checkpoint has none. `over_base`: task vectors
    are merged, and no heads.

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
    found = (
        f"{', '.join(having)} {verb} a trained head ({what}), and {', '.join(lacking)} "
        f"{'has' if len(lacking) == 1 else 'have'} no {what}: "
    )
    if over_base:
        raise UserError(
            f"{found}with merge.base only towers are merged, and one head serves all models. "
            f"{HEAD_EACH}, or set model.head: zero_shot."
        )
    raise UserError(
        f"{found}heads are merged like all weights, "
        "so each checkpoint needs one. Save all of them with their heads, or set model.head: "
        "zero_shot, which builds every head from class_names and leaves the trained ones unused."
    )


def resolve_head(
    model: ModelConfig, checkpoint_has_head: bool, dataset: str, class_names: str | None,
    templates: str | None, over_base: bool = False,
) -> HeadSpec:  # fmt: skip
    """The head that scores a data set; `class_names` and `templates` are the set's own, if any.

    A known task's class names bring its templates. `over_base`: the base of task vectors makes it.

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
    texts = read_class_names(names), read_templates(templates_of(model, class_names, templates))
    return zero_shot_head(*texts, over_base)


def templates_of(model: ModelConfig, class_names: str | None, templates: str | None) -> str:
    """The templates of a data set that has these of its own: a known task brings them."""
    if templates is None and class_names is not None and class_names in known_templates():
        return class_names
    return templates or model.templates
