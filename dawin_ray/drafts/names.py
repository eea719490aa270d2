"""Names of data sets and experts, made of the names of files and folders, whatever these are."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Collection, Sequence

from dawin_ray.data import NO_TEXT, SPLITS

SPLIT_FOLDERS = frozenset(SPLITS)

# Of folders that say nothing of what the data are.
GENERAL = SPLIT_FOLDERS | {
    "data", "dataset", "datasets", "images", "image", "imgs", "default", "cls-loc", "root",
}  # fmt: skip

LONGEST = 60  # characters of a name

MAGIC = re.compile(r"[*?\[\]{}]")


def name_of(address: str, taken: Collection[str], otherwise: str) -> str:
    """A name of its own for what lies at an address: its last part that says something.

    Letters and digits of other scripts, which a name may not have, fall away; where nothing is
    left, or a reader of tables would take the rest for a number, `otherwise` goes before it.
    """
    path = address.split("::")[-1].partition("://")[2] or address
    parts = [p for p in path.split("/") if p.strip(". ") and not MAGIC.search(p)]
    saying = [part for part in parts if part.lower() not in GENERAL] or parts
    last = saying[-1] if saying else ""
    return unique(as_name(last, otherwise), taken)


def stem_of(address: str) -> str:
    """A file's name without folders and suffix; a tag is its own."""
    name = posixpath.basename(address.rstrip("/"))
    return name.rpartition(".")[0] or name


def as_name(text: str, otherwise: str) -> str:
    """A text as a name that a job takes."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain)[:LONGEST].strip("-._")
    if not name:
        return otherwise
    return f"{otherwise}-{name}" if NO_TEXT.fullmatch(name) else name


def unique(name: str, taken: Collection[str]) -> str:
    """The name, with a number behind it where it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


def words_of(text: str) -> Sequence[str]:
    """The words of a name in lower case: `ZeroShot_ViT-B` is zero, shot, vit, b."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.findall(r"[a-z]+|\d+", apart.lower())
