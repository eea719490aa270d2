"""The listing of a data set: its files, its format, and what their names and footers tell.

What lies beside the samples is left out and told; what makes it doubtful which files are meant
(several splits, a set with a file missing) is refused.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import fsspec
import numpy as np

from dawin_ray.data.annotations import annotated
from dawin_ray.data.config import DatasetConfig
from dawin_ray.data.datasets import Beside, Listing
from dawin_ray.data.files import Files, GrowingFiles
from dawin_ray.data.finding import find
from dawin_ray.data.formats.format import Format
from dawin_ray.data.formats.registry import FORMATS
from dawin_ray.data.found import Found, class_folders, left_out, suffix_of
from dawin_ray.data.splits import NAMED, gaps, missing_members, named_in, sets_of, splits_of
from dawin_ray.data.versions import ask, hashes
from dawin_ray.errors import UserError
from dawin_ray.names import shown
from dawin_ray.storage import filesystem, is_local, join

SIDE_FILES = ("classnames.txt", "zeroshot_classification_templates.txt", "nshards.txt")


def list_files(config: DatasetConfig, *, may_be_empty: bool = False) -> Listing:
    """Find a data set's files and format, and what can be known of its labels.

    With `may_be_empty`, as for a data set that grows, a folder without files of the format that
    `config` gives is one, and a version that only reading all could tell is refused.

    Raises:
        UserError: nothing is there, it cannot be read, the format cannot be told, or it is doubtful
            which files are meant.
    """
    what = f"data set '{config.name}'"
    check_address(config.path, what)
    return listing_of(config, find(config.path, what), may_be_empty=may_be_empty)


def listing_of(
    config: DatasetConfig, found: Found, *, may_be_empty: bool = False, looked: bool = False
) -> Listing:
    """The same of what was found at its path already; where that was no more than a `looked`, files
    may lack a version, and what only all of them tell is not checked.

    Raises:
        UserError: as `list_files`.
    """
    chosen, files, others = _format_of(config, found, may_be_empty)
    kind, names = FORMATS[chosen], files.names
    dangling = [name for name in found.dangling if name.lower().endswith(kind.suffixes)]
    notes = _check_names(config, found, kind, names, dangling, may_be_empty)
    beside = _beside(found, kind, names)
    if beside:
        others -= Counter(
            suffix_of(name)
            for name in found.files.names
            if any(address.endswith(f"/{name}") for address, _, _ in beside.values())
        )
    if words := left_out(found, others):
        notes.append(f"left out: {words}")
    if other_links := len(found.dangling) - len(dangling):
        notes.append(f"left out: {other_links:,} other links to nothing")
    side_files = _side_files(found, config) if kind.text_files else {}
    if "nshards.txt" in side_files and not found.partly:
        text = found.fs.cat_file(side_files["nshards.txt"])
        _check_shard_count(text, len(names), config)
    if not looked:
        files, told = _with_versions(config, found, files, may_be_empty)
        notes += told
    files = _with_dangling(files, dangling)
    labelling = kind.labels(found, files.names, config.label_column)
    notes += labelling.notes if labelling else ()
    listing = Listing(
        format=chosen,
        root=found.root if is_local(found.fs) else found.fs.unstrip_protocol(found.root),
        files=files,
        beside=beside,
        folders=class_folders(found) if kind.of_images else (),
        class_names=_address(found.fs, side_files.get("classnames.txt")),
        templates=_address(found.fs, side_files.get("zeroshot_classification_templates.txt")),
        names=labelling.names if labelling else None,
        names_from=labelling.names_from if labelling else "",
        labelling=labelling,
        notes=tuple(notes),
    )
    if config.annotations is None:
        return listing
    if not kind.of_images:
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} has annotations, which name the images "
            f"of a folder, but holds {kind.files}. Leave out annotations, or correct the path."
        )
    return annotated(listing, config, growing=may_be_empty)


def check_address(address: str, what: str) -> None:
    """Refuse commands, and several addresses in one.

    Raises:
        UserError: by what it is.
    """
    parts = address.split("::")
    if any(part.strip().lower().startswith("pipe:") for part in parts):
        raise UserError(
            f"The path {address!r} of {what} is a command, and data never run one. Give the "
            "address of the files, such as s3://bucket/{000..012}.tar."
        )
    shards = [suffix for f in FORMATS.values() if not f.of_images for suffix in f.suffixes]
    if len(parts) > 1 and all(part.lower().endswith((*shards, "}")) for part in parts):
        raise UserError(
            f"The path {address!r} of {what} joins several with '::'. Write one path for all, "
            "with braces ({a,b}.tar, {000..012}.tar) or a glob (*.tar), or one data set for each."
        )


def formats_in(names: Iterable[str]) -> list[str]:
    """Which formats files of these names may be of, that which is most likely meant first."""
    return _present({n: True for n, kind in _may_be(names).items() if any(kind)})


def _may_be(names: Iterable[str]) -> dict[str, bytearray]:
    """By format: whether each file may be one of it."""
    of_format = {name: bytearray() for name in FORMATS}
    for name in names:
        plain = name.lower()
        for format_name, kind in FORMATS.items():
            of_format[format_name].append(plain.endswith(kind.suffixes))
    return of_format


def _present(counts: Mapping[str, int]) -> list[str]:
    # images that lie beside shards are seldom what is meant, so they are named last
    present = sorted(
        (n for n, count in counts.items() if count), key=lambda n: FORMATS[n].of_images
    )
    return [name for name in present if FORMATS[name].told_by_suffix] or present


def _format_of(
    config: DatasetConfig, found: Found, may_be_empty: bool
) -> tuple[str, Files, Counter[str]]:
    """The format of what was found, its files, and those of no use to it, by suffix."""
    of_format = _may_be(found.files.names)
    counts = {
        name: sum(of_format[name]) + sum(n.lower().endswith(kind.suffixes) for n in found.dangling)
        for name, kind in FORMATS.items()
    }
    present = _present(counts)
    chosen = config.format or (present[0] if len(present) == 1 else None)
    where = f"Data set '{config.name}' at {config.path!r}"
    if chosen is None and present:
        raise UserError(
            f"{where} holds files of several formats ({', '.join(present)}). Say which it is: "
            f"format: {present[0]}."
        )
    others = Counter(
        suffix_of(name)
        for name in found.files.names
        if chosen is None or not name.lower().endswith((*FORMATS[chosen].suffixes, *SIDE_FILES))
    )
    if chosen is None or not (counts[chosen] or may_be_empty):
        meant = [FORMATS[chosen]] if chosen else list(FORMATS.values())
        wanted, told = ", no ".join(kind.files for kind in meant), left_out(found, others)
        raise UserError(
            f"{where} is empty: no {wanted} among its {len(found.files)} files"
            f"{f' ({told})' if told else ''}. Check the path and the format."
            + "".join(f" {kind.hint}" for kind in meant if kind.hint)
            + (" Where it may be empty, say its format." if may_be_empty else "")
        )
    return chosen, found.files.only(np.frombuffer(of_format[chosen], dtype=bool)), others


def _check_names(
    config: DatasetConfig,
    found: Found,
    kind: Format,
    names: Sequence[str],
    dangling: list[str],
    growing: bool,
) -> list[str]:
    """Refuse names that say that something is missing or mixed; notes on what is only told.

    Raises:
        UserError: several splits, a set with a file missing, a link of a shard to nothing.
    """
    where = f"Data set '{config.name}' at {config.path!r}"
    notes = []
    if found.absent:
        told = (
            f"{len(found.absent):,} files that the path names are not there: "
            f"{', '.join(map(shown, found.absent[:NAMED]))}"
        )
        if not growing:
            raise UserError(f"{where}: {told}. Copy them, or correct the braces.")
        notes.append(told)
    _check_splits(config, found, kind, names)
    if dangling and not kind.of_images:
        raise UserError(
            f"{where}: the link {shown(dangling[0])!r} leads to no file"
            f"{f', as {len(dangling) - 1:,} more' if dangling[1:] else ''}. Copy its target, or "
            "remove the link."
        )
    if dangling:
        notes.append(
            f"{len(dangling):,} images are links to nothing and will be rejects, the first is "
            f"{shown(dangling[0])}"
        )
    if kind.of_images or found.partly:
        return notes
    if len(sets := sets_of(names)) > 1 and found.folder:
        some = ", ".join(map(shown, sets[:NAMED])) + (", ..." if sets[NAMED:] else "")
        notes.append(f"its files are of {len(sets)} sets, scored as one: {some}")
    try:
        incomplete = missing_members(names)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    for count, lacking, first in incomplete:
        # a path that asks for some of a set, or one of it, is a choice
        if any(found.chosen(name) for name in first):
            raise UserError(
                f"{where} has {count - lacking:,} files of a set of {count:,}; missing are "
                f"{lacking:,}: {', '.join(map(shown, first[:NAMED]))}. Copy what is missing, "
                "or choose the others with a glob."
            )
        notes.append(f"the path takes {count - lacking} files of a set of {count}")
    return notes + [f"a file may be missing: {shown(words)}" for words in gaps(names)]


def _check_splits(config: DatasetConfig, found: Found, kind: Format, names: Sequence[str]) -> None:
    splits = split_paths(config.path, found, kind, names)
    # whoever writes {train,test} means both
    if len(splits) > 1 and not (found.pattern and all(named_in(config.path, s) for s in splits)):
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} holds several splits: "
            f"{', '.join(sorted(splits))}. Point its path at one of them, like "
            f"{', '.join(repr(splits[s]) for s in sorted(splits))}; braces take several, like "
            "{train,test}."
        )


def split_paths(path: str, found: Found, kind: Format, names: Sequence[str]) -> dict[str, str]:
    """The path of each split that the files of these names are of, below one that holds them."""
    root = path if found.folder else posixpath.dirname(path)
    return {
        split: join(root, shown(_glob_of(patterns[0], kind)))
        for split, patterns in splits_of(names, folders_only=kind.of_images).items()
    }


def _glob_of(pattern: str, kind: Format) -> str:
    """Of a split; where its folders lie within the class folders, those of all classes."""
    if not kind.of_images or "/" not in pattern:
        return pattern
    *above, split = pattern.split("/")
    return "/".join([*("*" for _ in above), split, "**"])


def _with_versions(
    config: DatasetConfig, found: Found, files: Files, growing: bool
) -> tuple[Files, list[str]]:
    """Files with a version where their listing tells none; notes on what that took.

    Raises:
        UserError: the data set grows, and only reading all of it would tell what has changed.
    """
    without = [name for name, _, version in files.rows() if not version]
    if not without:
        return files, []
    what = f"file of data set '{config.name}'"
    paths = [join(found.root, name) for name in without]
    told = dict(zip(without, ask(found.fs, paths, what), strict=True))
    without = [name for name in without if not told[name][1]]
    if without and growing:
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} lies on a storage that tells neither an "
            f"etag nor a time of change of its files ({shown(without[0])!r}), so that mode: append "
            "cannot know which are new. Copy it to one that does, such as S3 or a disk."
        )
    paths = [join(found.root, name) for name in without]
    told.update(zip(without, hashes(found.fs, paths, what), strict=True))
    completed = GrowingFiles()
    for name, size, version in files.rows():
        completed.add(name, *told.get(name, (size, version)))
    size = sum(told[name][0] for name in without)
    notes = [
        f"its storage tells no versions: {len(without):,} files of {size:,} bytes were read and "
        "hashed to know them"
    ]
    return completed.files(), notes if without else []


def _with_dangling(files: Files, dangling: list[str]) -> Files:
    """Images with those that are links to nothing, which become rejects."""
    if not dangling:
        return files
    all_of_them = GrowingFiles()
    for row in files.rows():
        all_of_them.add(*row)
    for name in dangling:
        all_of_them.add(name, 0, "")
    return all_of_them.files()


def _beside(found: Found, kind: Format, names: Sequence[str]) -> dict[str, Beside]:
    """The files that are read with some of the samples' files, each with a version."""
    beside = dict(kind.beside(found, names))
    for name, (address, size, version) in beside.items():
        if not version:
            path = filesystem(address)[1]
            [(size, version)] = hashes(found.fs, [path], f"file of {found.what}")
            beside[name] = address, size, version
    return beside


def _side_files(found: Found, config: DatasetConfig) -> dict[str, str]:
    """Paths of the text files that clip-benchmark keeps beside the shards or above the split."""
    parent = posixpath.dirname(found.root)
    above = {n: join(parent, n) for n in SIDE_FILES[:2] if found.fs.exists(join(parent, n))}
    for file in found.files.names:
        name = posixpath.basename(file)
        if name == "nshards.txt" and name in above:
            raise UserError(
                f"Data set '{config.name}' at {config.path!r} holds several splits. Point its path "
                f"at one of them, like {posixpath.dirname(join(config.path, file))!r}."
            )
        if name in SIDE_FILES:
            above[name] = join(found.root, file)
    return above


def _address(fs: fsspec.AbstractFileSystem, path: str | None) -> str | None:
    return path if path is None or is_local(fs) else fs.unstrip_protocol(path)


def _check_shard_count(text: bytes, found: int, config: DatasetConfig) -> None:
    try:
        expected = int(text)
    except ValueError as error:
        raise UserError(
            f"The nshards.txt of data set '{config.name}' at {config.path!r} is no number: "
            f"{text[:40]!r}. Correct it, or remove it."
        ) from error
    if found != expected:
        raise UserError(
            f"Data set '{config.name}' at {config.path!r} has {found} tar shards, but its "
            f"nshards.txt says {expected}. Copy the missing ones, or correct nshards.txt."
        )
