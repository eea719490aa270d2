"""What lies at a path: one data set, several with a folder each, or splits of one.

Formats, files and labels are found as a job finds them (`dawin_ray.data`), but in a look at some of
the files; `dawin_ray/data/looking.py` says at how many.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from dawin_ray.data import (
    FORMATS,
    DatasetConfig,
    Found,
    Listing,
    check_address,
    find_some,
    formats_in,
    listing_of,
    make_shards,
    read_samples,
    split_paths,
)
from dawin_ray.drafts.known import are_classes
from dawin_ray.drafts.names import GENERAL, SPLIT_FOLDERS, name_of
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import join

MOST_SETS = 64  # of one path

# The first is what experts are to be judged by; what they were trained on comes last.
PREFERRED = ("test", "validation", "evaluation", "train")

PART = re.compile(r"(part|shard|chunk|batch)?[-_]?\d+", re.IGNORECASE)  # a folder of a set's files

ANNOTATIONS = (".csv", ".txt", ".mat")

NAMED = 3  # in a sentence


@dataclass(frozen=True, kw_only=True)
class Place:
    """A data set that was found, and what is to be said of that."""

    config: DatasetConfig
    listing: Listing
    partly: bool  # there are more files than were looked at
    why: str  # the path and the format are these
    doubts: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the job calls it."""
        return self.config.name

    @property
    def of_images(self) -> bool:
        """Whether it is a folder of images."""
        return FORMATS[self.listing.format].of_images

    @property
    def lacks_folders(self) -> bool:
        """Whether it is of images that lie in no folders, from which labels could come."""
        return self.of_images and not any("/" in name for name in self.listing.files.names)


def places_at(address: str, taken: Collection[str], head: int | None) -> list[Place]:
    """The data sets at an address, one or more; `taken` are names that others have.

    `head` is how many classes the experts' heads have, where they have some.

    Raises:
        UserError: nothing is there that could be a data set, or too many.
    """
    what = f"data at {address!r}"
    check_address(address, what)
    found = find_some(address, what)
    folders = _sets_in(found, head)
    places = _several(address, folders, taken, head) if folders else _one(
        address, found, taken, head
    )  # fmt: skip
    hints = [name for name in found.files.names if name.lower().endswith(ANNOTATIONS)]
    return [_with_hint(place, address, hints) for place in places]


def _several(
    address: str, folders: list[str], taken: Collection[str], head: int | None
) -> list[Place]:
    if len(folders) > MOST_SETS:
        raise UserError(
            f"The path {address!r} holds {len(folders):,} folders that would be a data set each, "
            f"more than {MOST_SETS}. Name those that are meant, or a path below one of them."
        )
    places: list[Place] = []
    others: list[str] = []
    for folder in folders:
        path = join(address, folder)
        if not _is_utf8(folder):
            others.append(f"{shown(path)!r} is left out: its name is no UTF-8, as a job's is")
            continue
        try:
            places += places_at(path, {*taken, *(place.name for place in places)}, head)
        except UserError as error:
            if len(folders) == 1:
                raise
            others.append(f"{shown(path)!r} is left out: {error}")
    if not places:
        raise UserError(f"The path {address!r} holds no data set: {others[0]}")
    places[0] = replace(places[0], doubts=(*places[0].doubts, *others))
    return places


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _one(address: str, found: Found, taken: Collection[str], head: int | None) -> list[Place]:
    kinds = formats_in(found.files.names)
    name = name_of(address, taken, "set")
    config = DatasetConfig(name=name, path=address, format=kinds[0] if kinds else None)
    if kinds:
        kind = FORMATS[kinds[0]]
        names = [n for n in found.files.names if n.lower().endswith(kind.suffixes)]
        splits = split_paths(address, found, kind, names)
        if found.folder and (len(splits) > 1 or (splits and kind.of_images)):
            return _split(address, splits, taken, head)
    listing = listing_of(config, found, looked=True)
    if not FORMATS[listing.format].told_by_suffix:
        _check_readable(config, listing)
    files = f"{'some of ' if found.partly else ''}its {len(listing.files):,} files"
    doubts = [f"files of other formats lie there too ({', '.join(kinds[1:])}); format chooses"]
    return [
        Place(
            config=config,
            listing=listing,
            partly=found.partly,
            why=f"{FORMATS[listing.format].files}, by the names of {files}",
            doubts=tuple(doubts if kinds[1:] else ()),
        )
    ]


def _split(
    address: str, splits: Mapping[str, str], taken: Collection[str], head: int | None
) -> list[Place]:
    """The split that is likely meant: not what experts were trained on, and one with labels."""
    order = sorted(splits, key=lambda s: (PREFERRED.index(s) if s in PREFERRED else 0, s))
    tried = {}
    for split in order:
        try:
            tried[split] = places_at(splits[split], taken, head)
        except UserError:
            continue
        if not any(place.lacks_folders for place in tried[split]):
            break
    if not tried:
        return places_at(splits[order[0]], taken, head)  # which says what is wrong
    chosen = next(
        (s for s, of in tried.items() if not any(place.lacks_folders for place in of)),
        next(iter(tried)),
    )
    others = [f"{split} ({shown(splits[split])})" for split in order if split != chosen]
    if not others:
        return tried[chosen]
    told = f"it is the split {chosen} of {shown(address)}; there are also {', '.join(others)}"
    return [
        replace(place, why=f"{place.why}; {told}", doubts=(*place.doubts, told))
        for place in tried[chosen]
    ]


def _sets_in(found: Found, head: int | None) -> list[str]:
    """The folders directly in what was found that are a data set each; none where it is one."""
    of_folder: dict[str, list[str]] = defaultdict(list)
    for name in found.files.names:
        folder, slash, _ = name.partition("/")
        of_folder[folder if slash else ""].append(name)
    kinds = {folder: kind[0] for folder, names in of_folder.items() if (kind := formats_in(names))}
    rest = {kind for folder, kind in kinds.items() if folder}
    if not found.folder or not rest or any("=" in folder for folder in kinds):
        return []
    # pictures and annotations lie beside data sets, and shards in a root are one
    if (top := kinds.pop("", None)) is not None and (
        top in rest or (FORMATS[top].told_by_suffix and not FORMATS[top].of_images)
    ):
        return []
    splits = {folder for folder in kinds if folder.lower() in SPLIT_FOLDERS}
    if splits and not any(FORMATS[kinds[f]].told_by_suffix for f in kinds.keys() - splits):
        alone = len(splits) == 1 and FORMATS[kinds[next(iter(splits))]].of_images
        return sorted(splits) if alone else []
    if len(rest) > 1:
        return _all_of(found, kinds)
    if FORMATS[next(iter(rest))].of_images:
        return _sets_of_images(found, of_folder, kinds, head)
    return [] if all(map(PART.fullmatch, kinds)) else _all_of(found, kinds)


def _sets_of_images(
    found: Found, of_folder: Mapping[str, list[str]], kinds: Iterable[str], head: int | None
) -> list[str]:
    """Likewise of folders with images: class folders, or folders of these."""
    suffixes = FORMATS[next(iter(formats_in(found.files.names)))].suffixes
    inner: dict[str, set[str]] = {}
    deepest = 0
    for folder in kinds:
        images = [name for name in of_folder[folder] if name.lower().endswith(suffixes)]
        if any(name.count("/") == 1 for name in images):  # a class folder, or that of all
            alone = len(of_folder) - ("" in of_folder) == 1 and folder.lower() in GENERAL
            return [folder] if alone else []
        inner[folder] = {name.split("/")[1] for name in images}
        deepest = max(deepest, *(name.count("/") for name in images))
    within = set().union(*inner.values())
    if all(name.lower() in SPLIT_FOLDERS for name in within):
        return _all_of(found, inner) if deepest > 2 or len(inner) == 1 else []
    shared = sum(map(len, inner.values())) > len(within)
    several = len(inner) == 1 or shared or are_classes(within)
    if not several and (are_classes(inner) or len(found.folders) == head):
        return []
    return _all_of(found, inner)


def _all_of(found: Found, seen: Collection[str]) -> list[str]:
    """These folders, and those beside them that were not looked into."""
    looked = {name.partition("/")[0] for name in found.files.names}
    return sorted({*seen, *(found.folders - looked if found.partly else ())})


def _check_readable(config: DatasetConfig, listing: Listing) -> None:
    """Refuse files that are called like those of a format, and are others.

    Raises:
        UserError: saying what they are.
    """
    first = next(iter(read_samples(make_shards(config, listing)[0], lambda ordinal: False)), None)
    if first is None or first.broken:
        why = "it is empty" if first is None else first.error
        raise UserError(
            f"The data at {config.path!r} look like {FORMATS[listing.format].files}, but cannot be "
            f"read as such: {shown(listing.files.names[0])}: {why}"
        )


def _with_hint(place: Place, address: str, hints: list[str]) -> Place:
    """With what may hold the labels, where it has none."""
    if not (place.lacks_folders and hints) or any("annotations" in d for d in place.doubts):
        return place
    some = ", ".join(shown(join(address, name)) for name in hints[:NAMED])
    told = f"its images lie in no class folders; a list of them may be {some}: annotations: FILE"
    return replace(place, doubts=(*place.doubts, told))
