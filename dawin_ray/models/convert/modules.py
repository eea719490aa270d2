"""The tensors of what was read, by name: of a pickled module as its `state_dict()` has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dawin_ray.errors import UserError
from dawin_ray.models.convert.archive import Archive
from dawin_ray.models.convert.program import Made

HEAD_CLASS = "ClassificationHead"  # of the reference's src/modeling.py

MAX_DEPTH = 64  # of modules and dictionaries in each other; CLIP's towers have some 8

MAX_ENTRIES = 100_000  # in all; a ViT-g has some 1 500 tensors

MAX_TIES = 4  # times the bytes of the file, that tensors of one storage may come to

ACTIVATIONS = {"QuickGELU": True, "GELU": False}  # whether an architecture is `-quickgelu`


class Tensors:
    """Walks through what a file's pickle describes, and keeps count."""

    def __init__(self, archive: Archive):
        """Nothing is walked yet."""
        self._archive = archive
        self._inside: set[int] = set()
        self._entries = 0
        self._bytes = 0
        self.quick_gelu: bool | None = None  # whether the modules have QuickGELU, where they say so

    def of(self, item: Any) -> Any:
        """Tensors by name for a module, a dictionary of such for a dictionary, None for others.

        A module that is the file's whole content and a head has its names under
        `classification_head`, as the reference's models with heads do.

        Raises:
            UserError: a module lies in itself, or a head takes features that are not normalised.
        """
        item = self._content(item)
        if _module(self._archive.content) and _class(self._archive.content) == HEAD_CLASS:
            return {f"classification_head.{name}": tensor for name, tensor in item.items()}
        return item

    def _content(self, item: Any) -> Any:
        if (tensor := self._archive.tensor(item)) is not None:
            return self._counted(tensor)
        if _module(item):
            return self._module(item)
        if type(item) is dict:
            self._enter(item)
            found = {key: self._content(value) for key, value in item.items()}
            self._inside.remove(id(item))
            return found
        return None

    def _module(self, module: Made) -> dict[str, torch.Tensor]:
        """As torch.nn.Module.state_dict: parameters, buffers that persist, then the children."""
        self._enter(module)
        self._look(module)
        state = module.state
        transient = state.get("_non_persistent_buffers_set") or []
        found: dict[str, torch.Tensor] = {}
        for kind in ("_parameters", "_buffers"):
            for name, item in _named(state, kind):
                if item is None or (kind == "_buffers" and name in transient):
                    continue
                if (tensor := self._archive.tensor(item)) is None:
                    raise self._error(f"{kind}[{name!r}] of its {module.what} is no tensor")
                found[name] = self._counted(tensor)
        for name, child in _named(state, "_modules"):
            if child is None:
                continue
            if not _module(child):
                raise self._error(f"_modules[{name!r}] of its {module.what} is no module")
            found |= {f"{name}.{key}": tensor for key, tensor in self._module(child).items()}
        self._inside.remove(id(module))
        return found

    def _look(self, module: Made) -> None:
        if (quick := ACTIVATIONS.get(_class(module))) is not None:
            self.quick_gelu = quick or bool(self.quick_gelu)
        if _class(module) == HEAD_CLASS and module.state.get("normalize") is not True:
            raise self._error(
                f"its head {module.what} has normalize = {module.state.get('normalize')}, and here "
                "features are always normalised before a head, so its logits would be others"
            )

    def _enter(self, item: Any) -> None:
        if id(item) in self._inside:
            raise self._error("a module or dictionary in it lies in itself")
        if len(self._inside) >= MAX_DEPTH:
            raise self._error(f"it is nested more than {MAX_DEPTH} deep")
        self._inside.add(id(item))
        self._count()

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise self._error(f"it has more than {MAX_ENTRIES} modules and tensors")

    def _counted(self, tensor: torch.Tensor) -> torch.Tensor:
        self._count()
        self._bytes += tensor.nbytes
        if self._bytes > MAX_TIES * self._archive.bytes_of_storages():
            raise self._error("its tensors come to many times the bytes of the file")
        return tensor

    def _error(self, reason: str) -> UserError:
        return UserError(
            f"The checkpoint {self._archive.address!r} cannot be converted: {reason}. Save "
            "model.state_dict() of the model that is meant, with safetensors.torch.save_file."
        )


def _module(item: Any) -> bool:
    return type(item) is Made and type(item.state) is dict and "_modules" in item.state


def _class(module: Made) -> str:
    return module.what.name


def _named(state: Mapping[str, Any], kind: str) -> list[tuple[str, Any]]:
    items = state.get(kind)
    return [(k, v) for k, v in items.items() if type(k) is str] if type(items) is dict else []
