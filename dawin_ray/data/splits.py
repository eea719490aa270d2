"""What file names say about a set: its splits, its numbered members, and shorthand for many names.

Names are relative to the data set, with '/'. Nothing here touches a storage.
"""

from __future__ import annotations

import itertools
import math
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation",
    "valid": "validation", "validation": "validation", "dev": "validation", "eval": "evaluation",
    "evaluation": "evaluation", "t10k": "test",  # MNIST's
}  # fmt: skip

# test-00001-of-00003.parquet, part_1_of_3.tar
OF = re.compile(r"^(?P<head>.*?)(?P<index>\d+)(?P<of>[-_]of[-_])(?P<count>\d+)(?P<tail>\D.*)?$")

NUMBERED = re.compile(r"^(?P<head>.*?)(?P<index>\d{2,18})(?P<tail>\.[^/\d]*)$")  # 00007.tar

NAMED = 10  # missing files that a message names

MOST_MISSING = 10_000  # that are looked for in a path's globs

MOST_EXPANDED = 1_000_000  # names that one brace expression may stand for

_BRACES = re.compile(r"\{([^{}]*)\}")

_RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(\d+))?")


def expand(path: str) -> list[str]:
    """The paths that one with braces stands for, as WebDataset and shells write them.

    `{000..012}` counts, with the zeros of its ends; `{a,b}` lists; others are taken as they are.

    Raises:
        ValueError: they would be more than MOST_EXPANDED.
    """
    sides = [(match, choices) for match in _BRACES.finditer(path)
             if (choices := _choices(match[1])) is not None]  # fmt: skip
    if not sides:
        return [path]
    if math.prod(len(choices) for _, choices in sides) > MOST_EXPANDED:  # before any is made
        raise ValueError(f"it stands for more than {MOST_EXPANDED:,} names")
    match, choices = sides[0]
    before, after = path[: match.start()], path[match.end() :]
    names = itertools.chain.from_iterable(expand(f"{before}{c}{after}") for c in choices)
    found = list(itertools.islice(names, MOST_EXPANDED + 1))  # nested ones are more
    if len(found) > MOST_EXPANDED:
        raise ValueError(f"it stands for more than {MOST_EXPANDED:,} names")
    return list(dict.fromkeys(found))


def has_braces(path: str) -> bool:
    """Whether it stands for several paths."""
    return any(_choices(match[1]) is not None for match in _BRACES.finditer(path))


def _choices(inner: str) -> Sequence[str] | None:
    if match := _RANGE.fullmatch(inner):
        first, last, step = match[1], match[2], int(match[3] or 1) or 1
        if first.isalpha() != last.isalpha():
            return None
        if first.isalpha():
            low, high = ord(first), ord(last)
        else:
            low, high = int(first), int(last)
        if abs(high - low) // step >= MOST_EXPANDED:
            raise ValueError(f"it stands for more than {MOST_EXPANDED:,} names")
        numbers = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)
        if first.isalpha():
            return [chr(n) for n in numbers]
        zeros = any(len(end.lstrip("-")) > 1 and end.lstrip("-")[0] == "0" for end in (first, last))
        width = max(len(first), len(last)) if zeros else 0
        return [f"{n:0{width}d}" for n in numbers]
    return inner.split(",") if "," in inner else None


def splits_of(names: Iterable[str], *, folders_only: bool = False) -> dict[str, list[str]]:
    """Split -> patterns of its files, each a glob relative to the data set.

    A split is a folder of its name (`test/`, `split=test/`), or a file's name that begins with it
    or has it before its number: `test-00000-of-00002.parquet`, `cifar10_test.tar`.
    """
    found: dict[str, dict[str, None]] = defaultdict(dict)
    known: dict[tuple[str, bool], tuple[str, str] | None] = {}
    for name in names:
        folder, file = posixpath.split(name)
        place = (folder, True)
        if place not in known:
            known[place] = _folder_split(folder)
        hit = known[place]
        if hit is None and not folders_only:
            hit = _file_split(folder, file)
        if hit is not None:
            found[hit[0]][hit[1]] = None
    return {split: list(patterns) for split, patterns in found.items()}


def named_in(path: str, split: str) -> bool:
    """Whether a path spells a split out, in one of its words."""
    return any(word in path.lower() for word, of in SPLITS.items() if split in (of, word)) or (
        split in path
    )


def _folder_split(folder: str) -> tuple[str, str] | None:
    parts = folder.split("/")
    for depth, part in enumerate(parts):
        key, equals, value = part.lower().rpartition("=")
        if (not equals or key in ("split", "subset")) and (split := SPLITS.get(value)):
            return split, "/".join(parts[: depth + 1])
        if equals and key == "split":
            return value, "/".join(parts[: depth + 1])
    return None


def _file_split(folder: str, file: str) -> tuple[str, str] | None:
    stem, dot, suffix = file.partition(".")
    tokens = re.split(r"([-_ ]+)", stem)
    for i in range(0, len(tokens), 2):
        word = tokens[i].rstrip("0123456789").lower()
        numbers_follow = all(t == "of" or t.isdigit() for t in tokens[i + 2 :: 2])
        if (split := SPLITS.get(word)) and (i == 0 or numbers_follow):
            begin = "".join(tokens[:i]) + tokens[i][: len(word)]
            return split, posixpath.join(folder, f"{begin}*{dot}{suffix}")
    return None


def sets_of(names: Iterable[str]) -> list[str]:
    """The beginnings of the names of numbered sets: `digits-` of digits-00000-of-00002.parquet."""
    heads = (match["head"] for name in names if (match := OF.match(name)))
    return list(dict.fromkeys(heads))


def missing_members(names: Iterable[str]) -> list[tuple[int, int, list[str]]]:
    """Of each set of names that says `-of-N` and lacks some: N, how many, and the first of them.

    Sets count from 0, or from 1 where there is a last one and none of number 0.

    Raises:
        ValueError: names of one set say different N, or one set has a number twice.
    """
    sets: dict[tuple[str, str, int, str], dict[int, str]] = defaultdict(dict)
    for name in names:
        if (match := OF.match(name)) is None:
            continue
        head, count, tail = match["head"], match["count"], match["tail"] or ""
        members = sets[head, match["of"], int(count), tail]
        if (index := int(match["index"])) in members:
            raise ValueError(
                f"{members[index]!r} and {name!r} are both number {index} of {int(count)}. Keep "
                "one of them."
            )
        members[index] = name
    counts: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    for head, of, count, tail in sets:
        counts[head, of, tail].add(count)
    for (head, of, tail), several in counts.items():
        if len(several) > 1:
            examples = [next(iter(sets[head, of, n, tail].values())) for n in sorted(several)]
            raise ValueError(
                f"Files of different sets lie side by side: {', '.join(map(repr, examples))}. "
                "Remove those of the older set, or name one with a glob."
            )
    found = []
    for (head, of, count, tail), members in sets.items():
        first = 1 if 0 not in members and count in members else 0
        wanted = range(first, first + count)
        inside = [index for index in members if index in wanted]
        if beyond := sorted(index for index in members if index not in wanted):
            raise ValueError(
                f"{members[beyond[0]]!r} says that it is one of {count}, but its number is none of "
                f"{first}..{first + count - 1}. Rename it, or name the files with a glob."
            )
        if len(inside) < count:
            match = OF.match(next(iter(members.values())))
            assert match is not None, "members are those that it matches"
            width, of_width = len(match["index"]), match["count"]
            missing = (index for index in wanted if index not in members)
            names_of = [
                f"{head}{index:0{width}d}{of}{of_width}{tail}"
                for index in itertools.islice(missing, MOST_MISSING)
            ]
            found.append((count, count - len(inside), names_of))
    return found


def gaps(names: Iterable[str]) -> list[str]:
    """Words for numbered names with numbers left out, where most are there: 00000.tar, 00002.tar.

    No more than a hint: such a set does not say how many it has.
    """
    sets: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for name in names:
        if OF.match(name) is None and (match := NUMBERED.match(name)):
            sets[match["head"], len(match["index"]), match["tail"]].add(int(match["index"]))
    found = []
    for (head, width, tail), numbers in sets.items():
        low, high = min(numbers), max(numbers)
        lacking = high - low + 1 - len(numbers)
        if not 0 < lacking < len(numbers):
            continue
        first = next(i for i in range(low, high) if i not in numbers)
        found.append(
            f"{head}{low:0{width}d}{tail} to {head}{high:0{width}d}{tail} lack {lacking} of "
            f"{high - low + 1} numbers, the first is {head}{first:0{width}d}{tail}"
        )
    return found
