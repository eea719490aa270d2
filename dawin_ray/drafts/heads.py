"""Heads in files beside experts that have none: `head_mnist.safetensors` is data set mnist's."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dawin_ray.drafts.experts import Experts, files_beside
from dawin_ray.drafts.layout import Place
from dawin_ray.drafts.names import stem_of
from dawin_ray.drafts.text import Key
from dawin_ray.errors import UserError
from dawin_ray.models import CHECKPOINT_SUFFIXES, is_tag, outline
from dawin_ray.settings import FILL_IN

BEGIN = "head"  # of a file's name


@dataclass(frozen=True, kw_only=True)
class Head:
    """The head of a data set: a file, or what is to be filled in."""

    file: str | None
    classes: int | None
    wanted: str  # where there is no file
    expert: str | None  # whose task the data set is

    @property
    def keys(self) -> list[Key]:
        """What the job file says of it."""
        keys = [
            Key(
                name="head",
                value={"checkpoint": self.file} if self.file else f"{FILL_IN}{self.wanted}",
                why="by the names of the file and the data set"
                if self.file
                else "the experts have neither head nor text tower",
            )
        ]
        return keys + ([Key(name="expert", value=self.expert)] if self.expert else [])


def heads_beside(experts: Experts, places: Sequence[Place]) -> Mapping[str, Head]:
    """The head of each data set, by its name."""
    first = next((e.address for e in experts.experts if not is_tag(e.address)), None)
    paths = files_beside(first) if first else []
    files = {
        _plain(stem_of(path).lower().removeprefix(BEGIN)): path
        for path in paths
        if posixpath.basename(path).lower().startswith(BEGIN)
        and path.lower().endswith(CHECKPOINT_SUFFIXES)
    }
    names = {_plain(expert.name): expert.name for expert in experts.experts}
    return {
        place.name: _head(files.get(_plain(place.name)), names.get(_plain(place.name)))
        for place in places
    }


def _head(file: str | None, expert: str | None) -> Head:
    wanted = "{checkpoint: FILE}, a file with classification_head.weight, or {zero_shot: {...}}"
    classes = None
    if file is not None:
        try:
            classes = outline(file).classes
        except UserError as error:
            file, wanted = None, f"{wanted}. {error}"
    return Head(file=file, classes=classes, wanted=wanted, expert=expert)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
