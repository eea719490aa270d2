"""The names that may stand in a checkpoint's pickle. No name is ever looked up or imported.

A name is a module and what is in it, compared as text. All names that are allowed stand for inert
records but those of torch's own tensors, whose arguments `archive` reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

# modules as Python 2 calls them, which is how protocol 2 is written
OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}

# A class: no dots, so that nothing is reached through it, and no function of its module.
CLASS = re.compile(r"_?[A-Z]\w*", re.ASCII)

# Modules whose classes may stand in a pickled model, whole.
MODULES = re.compile(
    r"torch\.nn\.modules\.\w+"
    r"|torchvision\.transforms(\.v2)?\.\w+"
    r"|open_clip(\.\w+)?"
    r"|(src\.)?modeling",  # the family of task-arithmetic checkpoints
    re.ASCII,
)

# functions beside them, which preprocessings refer to
FUNCTIONS = {"open_clip.transform._convert_to_rgb"}

CONTAINERS = {
    "collections.OrderedDict",
    "builtins.set",
    "builtins.frozenset",
    "builtins.bytearray",
    "_codecs.encode",
    "torch.Size",
    "torch.device",
}

TENSORS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
}

PARAMETERS = {
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
}

WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"

TENSOR_TYPES = {"torch.Tensor"}

DTYPES = {
    str(dtype): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool,
    )
}  # fmt: skip

# the element type of a storage by its class; UntypedStorage counts bytes
STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
} | {"torch.storage.UntypedStorage": torch.uint8}

OTHERS = (
    FUNCTIONS | CONTAINERS | TENSORS | PARAMETERS | TENSOR_TYPES | {WITH_ATTRIBUTES}
    | DTYPES.keys() | STORAGES.keys()
)  # fmt: skip


@dataclass(frozen=True)
class Name:
    """What a pickle refers to: a class or function that is never looked up."""

    module: str
    name: str

    @classmethod
    def of(cls, module: str, name: str) -> Name:
        """The name, with the module as Python 3 calls it."""
        return cls(OLD_MODULES.get(module, module), name)

    def __str__(self) -> str:
        """As it is written in Python."""
        return f"{self.module}.{self.name}"

    @property
    def allowed(self) -> bool:
        """Whether it may stand in a checkpoint."""
        if MODULES.fullmatch(self.module) and CLASS.fullmatch(self.name):
            return True
        # "torch.nn" + "modules.x" is another name than "torch.nn.modules" + "x"
        return "." not in self.name and str(self) in OTHERS


# Python before 3.11.4 pickles a member of an enum as getattr(its class, its name). That is the only
# call of it that is read, of these enums alone, which preprocessings have: see `Program`.
GETATTR = Name("builtins", "getattr")

MEMBERS = {
    Name("torchvision.transforms.functional", "InterpolationMode"): frozenset(
        {"NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS"}
    )
}
