"""The draft in order: what lies there, what the experts are, which classes; then a look at images.

Nothing is written here but what `write` is told to, and nothing that exists is written over unless
it is asked for.
"""

from __future__ import annotations

import posixpath
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from dawin_ray.config import make_job
from dawin_ray.data import DatasetClasses, ImageDecoder, check_apart
from dawin_ray.drafts.classes import Choice, ClassList, choose
from dawin_ray.drafts.experts import Experts, look_at_experts
from dawin_ray.drafts.heads import Head, heads_beside
from dawin_ray.drafts.layout import Place, places_at
from dawin_ray.drafts.names import name_of
from dawin_ray.drafts.samples import Looked, heard, look_at
from dawin_ray.drafts.sheet import sheet_of
from dawin_ray.drafts.text import Key, text_of
from dawin_ray.errors import UserError
from dawin_ray.job import dataset_classes
from dawin_ray.models import HeadSpec, Preprocessing, preprocessing_of
from dawin_ray.names import shown
from dawin_ray.settings import FILL_IN, to_fill_in
from dawin_ray.storage import filesystem, write_whole

SIZE = 224  # pixels of a crop, where the architecture is not known yet

LONGEST = 300  # characters of a line


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a person gives."""

    data: Sequence[str]
    experts: Sequence[str]
    architecture: str | None = None
    base: str | None = None  # of task vectors
    out: str = "job.yaml"
    run_dir: str | None = None
    over: bool = False  # files that exist are written over


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A job file that is not written yet, and what is to be said of it."""

    files: dict[str, bytes]  # by address: the job file first
    over: bool
    found: tuple[str, ...]  # lines of what was found
    doubts: tuple[str, ...]
    to_do: tuple[str, ...]  # before the job runs

    def write(self) -> None:
        """Write all of its files.

        Raises:
            UserError: one exists already; none is written then.
        """
        for address in self.files:
            _check_free(address, self.over)
        for address, content in reversed(self.files.items()):  # the job file, when all is there
            write_whole(*filesystem(address, "file"), content)


@dataclass
class _Parts:
    """What the draft is made of."""

    asked: Asked
    experts: Experts
    places: list[Place]
    choice: Choice
    heads: Mapping[str, Head]  # files of heads, by data set
    run_dir: str
    files: dict[str, bytes] = field(default_factory=dict)
    lists: dict[tuple[str, ...], str] = field(default_factory=dict)  # class lists as files


def draft_job(asked: Asked) -> Draft:
    """What a job file of these data and checkpoints would be.

    Raises:
        UserError: there are no such data or checkpoints, they do not go together, or the file is
            there already.
    """
    _check_free(asked.out, asked.over)
    experts = look_at_experts(asked.experts, asked.architecture, asked.base)
    places: list[Place] = []
    for address in asked.data:
        places += places_at(address, {place.name for place in places}, experts.classes)
    heads: Mapping[str, Head] = {}
    if experts.classes is None and not experts.some_heads and not experts.texts:
        heads = heads_beside(experts, places)
    choice = _choice(experts, places, heads)
    parts = _Parts(asked, experts, places, choice, heads, asked.run_dir or _run_dir(asked))
    looks = _looks(parts)
    keys = _keys(parts, looks)
    to_do = [f"fill in {key}: {wanted}" for key, wanted in to_fill_in(_plain(keys))]
    to_do += [f"{looked.place.name}: {fault}" for looked in looks for fault in looked.faults]
    doubts = [*experts.doubts, *parts.choice.doubts]
    for looked in looks:
        told = dict.fromkeys([*looked.place.doubts, *looked.doubts])
        doubts += [f"{looked.place.name}: {doubt}" for doubt in told]
    text = text_of(_head(asked, doubts, to_do), keys)
    if not any(to_fill_in(_plain(keys))):
        make_job(yaml.safe_load(text), asked.out)  # what is written can be loaded
    files = {asked.out: text.encode(), **parts.files, _sheet(asked.out): sheet_of(looks)}
    return Draft(
        files=files,
        over=asked.over,
        found=tuple(line for looked in looks for line in _found(looked)),
        doubts=tuple(doubts),
        to_do=tuple(to_do),
    )


def _check_free(address: str, over: bool) -> None:
    fs, path = filesystem(address, "file")
    if not over and fs.exists(path):
        raise UserError(
            f"The file {address!r} exists already, and is left as it is. Write to another one with "
            "--out, or over it with --force."
        )


def stem(address: str) -> str:
    """The job file's address without its suffix, which begins the names of what lies beside it."""
    folder, slash, name = address.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}"


def _run_dir(asked: Asked) -> str:
    """A folder that is not there yet, called like the data."""
    taken: list[str] = []
    while filesystem(found := f"runs/{name_of(asked.data[0], taken, 'run')}")[0].exists(found):
        taken.append(found.removeprefix("runs/"))
    return found


def _choice(experts: Experts, places: Sequence[Place], heads: Mapping[str, Head]) -> Choice:
    if not heads:
        return choose(places, experts.classes)
    choice = Choice(why_model="each data set has a head of its own")
    for place in places:
        if heads[place.name].classes is None:
            continue
        of_set = choose([place], heads[place.name].classes)
        if of_set.of_model is not None:
            choice.of_sets[place.name] = of_set.of_model
        choice.doubts += of_set.doubts
    return choice


def _keys(parts: _Parts, looks: Sequence[Looked]) -> list[Key]:
    experts = parts.experts
    model = [
        Key(name="architecture", value=experts.architecture, why=experts.why_architecture),
        *_of_heads(parts),
    ]
    keys = [
        Key(name="run_dir", value=parts.run_dir, why="where the outputs go, and what is resumed"),
        Key(name="model", value=model),
        Key(
            name="experts",
            value=[
                [
                    Key(name="name", value=expert.name, why=expert.why),
                    Key(name="checkpoint", value=expert.address),
                ]
                for expert in experts.experts
            ],
        ),
        Key(name="datasets", value=[_of_set(looked, parts) for looked in looks]),
    ]
    if experts.base is not None:
        base = [Key(name="base", value=experts.base, why="as --base says")]
        keys.append(Key(name="merge", value=base))
    return keys


def _of_heads(parts: _Parts) -> list[Key]:
    """What the section of the model says of heads and class names."""
    experts, choice = parts.experts, parts.choice
    keys = []
    if experts.some_heads:
        keys.append(
            Key(
                name="head",
                value=f"{FILL_IN}zero_shot, which makes every head of class names and leaves the "
                "trained ones unused; or give checkpoints that all have a head",
                why="some of the checkpoints were saved with a head, and others were not",
            )
        )
    names = _class_names(choice.of_model, choice.why_model, parts, "")
    return [*keys, *(names or ([Key(why=choice.why_model)] if choice.why_model else []))]


def _class_names(chosen: ClassList | str | None, why: str, parts: _Parts, of: str) -> list[Key]:
    """The key of a class list, which is written where it has no name; none where data bring it."""
    if chosen is None or (isinstance(chosen, ClassList) and chosen.brought):
        return []
    if isinstance(chosen, str):
        return [Key(name="class_names", value=chosen, why=why)]
    if chosen.known is not None:
        return [Key(name="class_names", value=chosen.known, why=chosen.why)]
    if chosen.names not in parts.lists:
        address = f"{stem(parts.asked.out)}{f'.{of}' if of else ''}.classes.txt"
        parts.lists[chosen.names] = address
        parts.files[address] = ("\n".join(chosen.names) + "\n").encode()
    why = f"{chosen.why}; the names are in that file, to be corrected there"
    return [Key(name="class_names", value=parts.lists[chosen.names], why=why)]


def _of_set(looked: Looked, parts: _Parts) -> list[Key]:
    place = looked.place
    labels = f"labels: {looked.labels_from}"
    keys = [
        Key(name="name", value=place.name, why=f"{place.why}; {labels}"),
        Key(name="path", value=place.config.path),
        Key(name="format", value=place.listing.format),
    ]
    if (part := parts.choice.parts.get(place.name)) is not None:
        why = "its folders are of this part of ImageNet's classes; without it, of all 1,000"
        keys.append(Key(name="classes", value=part, why=why))
    if (head := parts.heads.get(place.name)) is not None:
        keys += head.keys
    return keys + _class_names(parts.choice.of_sets.get(place.name), "", parts, place.name)


def _looks(parts: _Parts) -> list[Looked]:
    experts = parts.experts
    preprocessing = Preprocessing.of({"size": SIZE})
    if experts.known:
        preprocessing = preprocessing_of(experts.architecture, experts.checkpoints)
    decoder = ImageDecoder(preprocessing)
    looks = []
    for place in parts.places:
        part = parts.choice.parts.get(place.name)
        place = replace(place, config=place.config.model_copy(update={"classes": part}))
        faults, classes = [], None
        with heard() as doubts:
            try:
                check_apart(parts.run_dir, "run_dir", place.config, place.listing)
                classes = _classes(place, parts)
            except UserError as error:
                faults.append(str(error))
        looked = look_at(place, classes, decoder)
        looked.faults += faults
        looked.doubts += doubts
        looks.append(looked)
    return looks


def _classes(place: Place, parts: _Parts) -> DatasetClasses | None:
    """The classes of a data set as a job would have them; None where that is still open.

    Raises:
        UserError: names, head and data do not go together.
    """
    chosen = parts.choice.of_sets.get(place.name, parts.choice.of_model)
    own = parts.heads.get(place.name)
    if isinstance(chosen, str) or parts.experts.some_heads:
        return None
    names = None if chosen is None else chosen.names
    count = own.classes if own else parts.experts.classes
    if count is not None:
        return dataset_classes(place.config, place.listing, HeadSpec(), names, count)
    if names is None or own:
        return None
    return dataset_classes(
        place.config, place.listing, HeadSpec(class_names=names), None, len(names)
    )


def _plain(value: Any) -> Any:
    """What the file holds, as plain values."""
    if isinstance(value, list) and value and isinstance(value[0], Key):
        return {key.name: _plain(key.value) for key in value if key.name}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _head(asked: Asked, doubts: Sequence[str], to_do: Sequence[str]) -> list[str]:
    """The sentences above the file."""
    sheet = posixpath.basename(_sheet(asked.out))
    lines = [
        "A draft by dawin-ray init: beside each value stands whence it came. The images that were "
        f"looked at, with the labels that were understood, are in {sheet}.",
        f"Next: dawin-ray plan {shlex.quote(asked.out)}; dawin-ray keys says what else a job may "
        "have.",
    ]
    for title, items in (("To be done before it runs:", to_do), ("In doubt:", doubts)):
        lines += ["", title, *(f"* {item}" for item in items)] if items else []
    return lines


def _sheet(out: str) -> str:
    """Where the images go that belong to a job file."""
    return f"{stem(out)}.png"


def _found(looked: Looked) -> list[str]:
    """Lines for a terminal."""
    place = looked.place
    files = f"{'some ' if place.partly else ''}{len(place.listing.files):,} files"
    first = f"{shown(place.config.path)}, {place.listing.format}, {files} looked at"
    lines = [first, f"labels: {looked.labels_from}", *looked.lines]
    return [
        f"{place.name}: {textwrap.shorten(line, LONGEST, placeholder=' ...')}" for line in lines
    ]
