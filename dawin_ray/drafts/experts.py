"""What experts' checkpoints tell: architecture, heads, text towers, and which is the base.

Names and shapes of their tensors are looked at, and no value; what would have to be unpickled is
refused with the command that converts it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from dawin_ray.drafts.names import as_name, stem_of, unique, words_of
from dawin_ray.errors import UserError
from dawin_ray.method import DAWIN, BaselinesConfig, CoefficientConfig, methods_of
from dawin_ray.models import Outline, doubts_of, has_shapes_of, is_tag, outline
from dawin_ray.names import shown
from dawin_ray.settings import FILL_IN
from dawin_ray.storage import filesystem, first_entries, join

# Words in a name that say that others were trained from these weights, the surest first.
OF_BASES = ("zeroshot", "zero", "pretrained", "openai", "laion", "base", "init", "original")

# Words of weights that were trained with QuickGELU; others' are open_clip's own, without it.
QUICK_WORDS = frozenset({"openai", "quickgelu", "metaclip", "dfn"})

QUICK = "-quickgelu"  # ends the name of an architecture with that activation

MOST_BESIDE = 1_000  # files beside a checkpoint that are looked at for a model config

SHOWN = 4  # in a sentence


@dataclass(frozen=True, kw_only=True)
class Expert:
    """An expert of the job, and why it stands where it does."""

    name: str
    address: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Experts:
    """What the job says of its experts and their model."""

    experts: tuple[Expert, ...]  # the first is the base
    base: str | None  # of task vectors
    architecture: str  # or what is to be filled in
    why_architecture: str
    classes: int | None  # of the heads, where each checkpoint has one
    texts: bool  # all that would have to make a zero-shot head have a text tower
    some_heads: bool  # and others have none
    doubts: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether the architecture was found out."""
        return not self.architecture.startswith(FILL_IN)

    @property
    def checkpoints(self) -> dict[str, str]:
        """Addresses by name, with the base of task vectors."""
        found = {expert.name: expert.address for expert in self.experts}
        return found if self.base is None else found | {"merge.base": self.base}


def look_at_experts(
    addresses: Sequence[str], architecture: str | None, base: str | None
) -> Experts:
    """What some checkpoints are; `architecture` and `base` are given by a person, if they are.

    Raises:
        UserError: one cannot be read, is a head alone, or they are of different models.
    """
    if len(addresses) < 2:
        raise UserError(
            f"There {'is one checkpoint' if addresses else 'are no checkpoints'}, and weights are "
            "interpolated between two or more. Give each with --experts: dawin-ray init DATA "
            "--experts zeroshot.safetensors --experts finetuned.safetensors"
        )
    if len(set(addresses)) < len(addresses):
        raise UserError(
            "The same checkpoint is given twice with --experts; each expert is another one."
        )
    found = [outline(address) for address in addresses]
    of_base = [] if base is None else [outline(base)]
    _check_alike([*found, *of_base])
    first, why = _first(addresses)
    order = [found[first], *(one for i, one in enumerate(found) if i != first)]
    experts: list[Expert] = []
    for i, one in enumerate(order):
        name = _name(one.address, [other.address for other in order if other is not one])
        name = unique(name, {expert.name for expert in experts})
        experts.append(Expert(name=name, address=one.address, why=why if i == 0 else ""))
    chosen, why_chosen, doubts = _architecture(order, architecture)
    heads = [one.classes for one in [*order, *of_base]]
    named = {expert.name: expert.address for expert in experts}
    if not chosen.startswith(FILL_IN):
        doubts += doubts_of(chosen, named)
    if len(experts) > 2 and base is None:
        doubts.append(
            "where the experts were fine-tuned from one checkpoint for different tasks, give that "
            "with --base: their differences to it are merged then"
        )
    counts = {count for count in heads if count is not None}
    if len(counts) > 1:
        raise UserError(
            "The checkpoints have heads of different classes: "
            + ", ".join(f"{one.address!r} {one.classes}" for one in [*order, *of_base])
            + ". Heads of different tasks are files of their own: datasets[].head: {checkpoint: "
            "FILE}."
        )
    return Experts(
        experts=tuple(experts),
        base=base,
        architecture=chosen,
        why_architecture=why_chosen,
        classes=None if None in heads else heads[0],
        texts=all(one.texts for one in (of_base or order)),
        some_heads=bool(counts) and None in heads,
        doubts=tuple(doubts),
    )


def _check_alike(found: Sequence[Outline]) -> None:
    for one in found:
        if not one.tower:
            raise UserError(
                f"The checkpoint {one.address!r} is a head of {one.classes} classes and no model. "
                "Leave it out of --experts, and give it to its data set in the job file: head: "
                "{checkpoint: FILE}."
            )
    files = [one for one in found if one.tower_shapes]
    for one in files[1:]:
        ours, theirs = files[0].tower_shapes, one.tower_shapes
        if name := next((n for n in sorted({*ours, *theirs}) if ours.get(n) != theirs.get(n)), ""):
            shapes = [list(s[name]) if name in s else "not there" for s in (ours, theirs)]
            raise UserError(
                f"The checkpoints are of different architectures, and only weights of one can be "
                f"interpolated: tensor {name!r} is {shapes[0]} in {files[0].address!r} and "
                f"{shapes[1]} in {one.address!r}."
            )


def _first(addresses: Sequence[str]) -> tuple[int, str]:
    """Which is the base: the one that is called so, or the first that was given."""
    for word in OF_BASES:
        called = [i for i, address in enumerate(addresses) if word in words_of(stem_of(address))]
        if len(called) == 1:
            return called[0], f"the base, which stands first: its name has the word {word!r}"
    tags = [i for i, address in enumerate(addresses) if is_tag(address)]
    if len(tags) == 1:
        return tags[0], "the base, which stands first: a pretrained tag"
    return 0, "taken for the base, which stands first, as it was given first"


def _name(address: str, others: Sequence[str]) -> str:
    """Of the file, or of its folder too where another expert's file is called the same."""
    stem = stem_of(address)
    if stem in map(stem_of, others):
        above = posixpath.basename(posixpath.dirname(address.rstrip("/")))
        stem = f"{above}_{stem}" if above else stem
    name = as_name(stem, "expert")
    others_methods = methods_of(BaselinesConfig(), (), CoefficientConfig())
    reserved = {DAWIN, *(method.name for method in others_methods)}
    return f"expert_{name}" if name in reserved else name


def _architecture(found: Sequence[Outline], given: str | None) -> tuple[str, str, list[str]]:
    """The architecture, why it is taken for that, and what is doubtful of it."""
    fitting = [one.architectures for one in found]
    names = tuple(n for n in fitting[0] if all(n in others for others in fitting[1:]))
    if given is not None:
        fits = [has_shapes_of(one, given) for one in found if one.shapes]
        if not all(fits) and any(fitting):
            raise UserError(
                f"The checkpoints are not of the architecture {given!r}: their tensors have the "
                f"shapes of {_some(names) or 'no architecture together'}."
            )
        unsure = [] if all(fits) else [f"whether the checkpoints fit {given} is told by plan alone"]
        return given, "as --architecture says", unsure
    if not names:
        configs = _configs_beside(found)
        if len(configs) == 1:
            return configs[0], "the model config beside the checkpoints that has their shapes", []
        what = (
            f"the model config of these: {_some(configs)}"
            if configs
            else "an open_clip name, such as ViT-B-32, or the path of a model config (.json)"
        )
        why = "the shapes of the checkpoints' tensors are those of none of open_clip's plain ViTs"
        return f"{FILL_IN}{what}", why, []
    words = {word for one in found for word in words_of("/".join(one.address.split("/")[-2:]))}
    plain = [name for name in names if not name.endswith(QUICK)]
    quick = [name for name in names if name.endswith(QUICK)]
    both = f"{plain[0] if plain else ''}{QUICK}" in quick
    chosen = f"{plain[0]}{QUICK}" if both and words & QUICK_WORDS else names[0]
    why = f"by the shapes of the tensors, which are those of {_some(names)}"
    if not both:
        return chosen, why, []
    other = next(name for name in (plain[0], f"{plain[0]}{QUICK}") if name != chosen)
    told = "names of the files" if words & QUICK_WORDS else "nothing"
    return chosen, why, [
        f"the activation of {chosen} cannot be seen in a checkpoint, and {told} says it: where the "
        f"experts descend from OpenAI's weights it is QuickGELU, else most often not. If it is "
        f"wrong, set model.architecture: {other}; accuracies are far too low then"
    ]  # fmt: skip


def files_beside(address: str) -> list[str]:
    """Files in the folder of a checkpoint, sorted; some of them, where there are very many."""
    folder = posixpath.dirname(address)
    entries, _ = first_entries(*filesystem(folder or "."), MOST_BESIDE)
    return [join(folder, name) for name in sorted(posixpath.basename(e["name"]) for e in entries)]


def _configs_beside(found: Sequence[Outline]) -> list[str]:
    """Model configs in the folder of the first file whose shapes all checkpoints have."""
    files = [one for one in found if one.shapes]
    paths = files_beside(files[0].address) if files else []
    return [p for p in paths if p.endswith(".json") and _has_all(p, files)]


def _has_all(config: str, found: Sequence[Outline]) -> bool:
    try:
        return all(has_shapes_of(one, config) for one in found)
    except UserError:
        return False  # some other JSON


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more
