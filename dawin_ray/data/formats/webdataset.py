"""Samples of a tar, as WebDataset has them: members of one key after the other.

What `tars` finds of members and breaks and `groups` makes of a key's members become samples here,
each with its reason where there is one. The layout of the clip-benchmark data sets (nshards.txt,
classnames.txt) is understood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dawin_ray.data.datasets import Sample, Shard, Start
from dawin_ray.data.formats import limits
from dawin_ray.data.formats.compressed import is_compressed
from dawin_ray.data.formats.format import Format, Partly, Told
from dawin_ray.data.formats.groups import Group, key_of
from dawin_ray.data.formats.tars import (
    CONTENT_ERRORS,
    END,
    BrokenTarError,
    Member,
    Place,
    Tar,
    quoted,
)
from dawin_ray.names import MADE, shown
from dawin_ray.storage import filesystem, is_local, open_stream

HEAD_BYTES = 64  # of a file, which tell what it is


class TarSamples:
    """The samples of one tar, once.

    A `Start` of a tar is a key's first member: its `tars.Place`, then the keys before it, those of
    them with a label, and 1 where it is `behind_zeros`. Behind a key that is there again, which
    only who has read all before it can know, there is none.
    """

    def __init__(
        self,
        shard: Shard,
        wanted: Callable[[int], bool],
        start: Start | None = None,
        *,
        headers_only: bool = False,
    ):
        """From the beginning, or from a start.

        `headers_only` leaps over the data of an uncompressed tar on this machine, but for what
        tells whether there is a label.
        """
        self.shard, self.wanted, self.headers_only = shard, wanted, headers_only
        self.tar: Tar | None = None  # once it is open
        self.group: Group | None = None  # of the key that is being read
        self.seen: set[str] = set()  # keys
        self.start = start  # the last one, if there is any
        self.repeats = False  # whether a key was there again
        self.place = None if start is None else Place(*start.place[:3])
        self.samples = 0 if start is None else start.samples
        self.groups, self.labelled, behind_zeros = (0, 0, 0) if start is None else start.place[3:]
        # Zeros that look like the end of an archive may be a label that was overwritten: a sample
        # beside them is not scored without one where all before it have theirs.
        self.behind_zeros = bool(behind_zeros)

    def __iter__(self) -> Iterator[Sample]:
        """The samples up to the end, or to the break and what stands for the rest."""
        with open_stream(self.shard.address, "shard") as stream:
            try:
                size = self.shard.bytes if self.headers_only else None
                self.tar = tar = Tar(stream, size, self.place)
                for member in tar:
                    yield from self._take(tar, member)
                if self.group is not None:
                    yield from self._finish(tar, self.group)
            except BrokenTarError as broken:
                reason, cut = str(broken), broken.cut
            except CONTENT_ERRORS as error:
                reason, cut = f"{type(error).__name__}: {error}", isinstance(error, EOFError)
            else:
                return
            yield from self._broken(reason, cut)

    def _take(self, tar: Tar, member: Member) -> Iterator[Sample]:
        parts = None if member.is_folder else key_of(member.name)
        group = self.group
        if group is not None and member.zeros:
            yield from self._finish(tar, group, before_zeros=member.zeros)
            self.behind_zeros = member.zeros == END
        if parts is None:
            return
        key, extension = parts
        if self.group is not None and key != self.group.key:
            yield from self._finish(tar, self.group)
        if self.group is None:
            self.group = Group(key, member.offset, self.shard)
            self._begins(tar, member)
        kind, fault = self.group.kind_of(extension), member.fault
        limit = limits.MAX_LABEL_BYTES if kind == "label" else limits.MAX_MEMBER_BYTES
        if fault is None and member.size > limit:
            name = quoted(member.name)
            fault = f"its member {name} has {member.size:,} bytes; at most {limit:,} are read"
        # read what is not wanted too: the stream passes it anyway, and a break is noticed
        used = (
            kind == "label"
            or (kind == "json" and member.size <= limits.MAX_JSON_BYTES)
            or (kind == "image" and self.wanted(self.samples))
        )
        unread = (self.headers_only and kind != "json") or fault or not used
        data = None
        if unread:
            tar.drop()
        else:
            data = tar.read()
        self.group.add(extension, fault, data)

    def _begins(self, tar: Tar, member: Member) -> None:
        """Take note of where the group's first member is."""
        if (place := tar.place_of(member)) is not None:
            state = (self.groups, self.labelled, int(self.behind_zeros))
            self.start = Start(self.samples, (*place, *state))

    def _finish(self, tar: Tar, group: Group, before_zeros: int = 0) -> Iterator[Sample]:
        self.group = None
        again, lacks = group.key in self.seen, False
        self.repeats = self.repeats or again
        if not group.has_label and (before_zeros or self.behind_zeros):
            all_have = self.labelled == self.groups > 0
            lacks = all_have or (not self.groups and before_zeros == END)
        self.behind_zeros = False
        self.seen.add(group.key)
        self.groups, self.labelled = self.groups + 1, self.labelled + group.has_label
        for key, image, label, error in group.samples():
            name = f"{shown(self.shard.name)}/{shown(key)}"
            if again:
                name = f"{name}{MADE}{group.offset}"
                error = "its key occurs before in the same shard"
            elif lacks and error is None:
                error = "it has no label, and zeros stand where that may have been"
            self.samples += 1
            yield Sample(
                sample_id=name,
                image=None if error else image,
                label=label,
                error=error,
                position=min(tar.file_bytes, self.shard.bytes),
                offset=group.offset,
                start=None if self.repeats else self.start,
            )

    def _broken(self, reason: str, cut: bool) -> Iterator[Sample]:
        """What is complete of the sample at the break, and what stands for the rest."""
        tar, group = self.tar, self.group
        if tar is not None and group is not None:
            unlabelled = self.groups > 0 and not self.labelled  # so none need come
            if group.has_image and (group.has_label or unlabelled):
                yield from self._finish(tar, group)
            elif group.size:
                reason += f"; {quoted(group.key)} is not scored, as a part of it may be missing"
        whole = tar.whole if tar else 0
        lost = None
        if tar is not None and self.samples and not cut:
            read = max(1, tar.file_bytes)
            if (left := self.shard.bytes - read) > 0:
                lost = max(1, round(left * self.samples / read))
        yield Sample(
            sample_id=f"{shown(self.shard.name)}/{MADE}{whole}",
            image=None,
            error=f"the shard breaks after byte {whole}: {reason}",
            position=self.shard.bytes,
            offset=whole,
            broken=True,
            lost=lost,
            start=None if self.repeats else self.start,
        )


def count_groups(shard: Shard, told: Told) -> int | None:
    """Samples by the headers of a whole, uncompressed tar on this machine; None of others."""
    if not is_local(filesystem(shard.address)[0]):
        return None
    with open_stream(shard.address, "shard") as stream:
        if is_compressed(stream.read(HEAD_BYTES)):
            return None
    count, broken = 0, False
    for sample in TarSamples(shard, lambda _: False, headers_only=True):
        if sample.error:
            told(sample)
        count, broken = count + 1, sample.broken
    return None if broken else count


WEBDATASET = Format(
    suffixes=(".tar", ".tar.gz", ".tgz"),
    files="tar shards (.tar)",
    read=TarSamples,
    count=count_groups,
    partly=Partly(
        read=TarSamples,
        scan=lambda shard: TarSamples(shard, lambda _: False, headers_only=True),
    ),
    text_files=True,
)
