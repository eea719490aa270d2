"""Names that data bring, as text that can be stored, shown and told apart.

A name in a tar or a file system is bytes. Bytes that are no UTF-8 come from Python as lone
surrogates, which neither Arrow nor a terminal takes; they become `\\xNN`. What the reader itself
has to name (a shard that broke, the second sample of one key) begins with MADE, which no name of
the data contains. `shown` is one to one: names that differ stay different.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

MADE = "\\@"  # begins what the reader names itself, as in `shard.tar/\\@1024`

_BIDIRECTIONAL = frozenset(
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)

_TAKEN = re.compile(r"\\(?:x[0-9a-f]{2}|@)")


def shown(name: str) -> str:
    """A name as it stands in outputs: itself, but for bytes that are no UTF-8.

    A backslash of the name's own is written `\\x5c` where it could be mistaken for one of ours.
    """
    if name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name):
        return name.replace("\\", "\\x5c") if _TAKEN.search(name) else name
    escaped = name.replace("\\", "\\x5c")
    return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in escaped)


def printable(text: str) -> str:
    """A text for a terminal or another process: what would steer the one or break the other is
    escaped. Line ends and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else _named(c) for c in text)


def escaped(text: str) -> str:
    """What data say, on one line, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown(text))


def first_line(error: BaseException) -> str:
    """The name of an error and the first line of its text, to stand in a message."""
    lines = printable(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _steers(c: str) -> bool:
    """Control characters, lone surrogates, and what turns the direction of writing."""
    return unicodedata.category(c) in ("Cc", "Cs") or c in _BIDIRECTIONAL


def _named(c: str) -> str:
    code = ord(c)
    if "\ud800" <= c <= "\udfff":
        return _escaped(c)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _escaped(surrogate: str) -> str:
    """`\\xNN` of a byte that Python escaped; of another lone surrogate, its three bytes."""
    return "".join(f"\\x{byte:02x}" for byte in surrogate.encode("utf-8", _errors_of(surrogate)))


def _errors_of(surrogate: str) -> str:
    return "surrogateescape" if "\udc80" <= surrogate <= "\udcff" else "surrogatepass"


def plain(name: str) -> str:
    """A class name without case, punctuation, underscores and outer space, in Unicode's NFC."""
    letters = _folded(name)
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in letters)
    return " ".join(kept.split())


def finder(names: Sequence[str]) -> Callable[[str], int | None]:
    """Tells the position of a name that is one of `names`, however it is spelt; None of others.

    As it stands first ("C++" is not "C"), then without case, then as `plain`. A name that two have
    tells neither.
    """
    levels = []
    for key in (_composed, _folded, plain):
        positions: dict[str, int | None] = {}
        for i, name in enumerate(names):
            positions[key(name)] = None if key(name) in positions else i
        positions.pop("", None)
        levels.append((key, positions))

    def find(name: str) -> int | None:
        for key, positions in levels:
            if key(name) in positions:
                return positions[key(name)]
        return None

    return find


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _folded(name: str) -> str:
    return _composed(_composed(name).casefold())
