"""Tars as streams: member after member, and where an archive breaks.

Python's tarfile takes much damage for the end of an archive, seeks as far as any header says, and
keeps all that it has seen. So it parses single headers here, and the way from one to the next is
ours: forwards only, every byte accounted for, with a bound on what is held. What is compressed
(gzip, bgzip, bzip2, xz) is read to the end of its file, however many streams it is made of.

An archive ends with two blocks of zeros, which GNU tar and Python fill up to a record. One that
ends otherwise broke off. Archives that were put behind each other are read through; zeros that no
writer leaves between two archives are damage.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from dawin_ray.data.formats.compressed import (
    RAW_PIECE,
    Counted,
    Decompressed,
    Readable,
    decompressor_of,
)
from dawin_ray.data.formats.tar_headers import BLOCK, plain_file
from dawin_ray.storage import LFS_POINTER, lfs_pointer

SPARSE_GOES_ON = 482  # the byte of a sparse member's header that tells of more blocks of its map

END = 2 * BLOCK  # bytes of zeros that end an archive

RECORD = 20 * BLOCK  # the default of GNU tar and Python: an archive's length is a multiple of it

# with another --blocking-factor, as for tapes; up to 1 MiB
LARGE_RECORDS = tuple(BLOCK << power for power in range(5, 12))

MAX_HEADER_BYTES = 1 << 20  # of the extended headers before one member

MAX_HEADERS = 64  # extended headers before one member; writers make up to four

MAX_NAME_BYTES = 1 << 16

MAX_QUOTED = 100  # characters of a name in a reason

PIECE = 1 << 20  # bytes read at a time

# What damaged content makes parsers and decompressors raise; a storage's failures are UserErrors.
CONTENT_ERRORS = (
    tarfile.TarError, OSError, EOFError, ValueError, OverflowError, MemoryError, RecursionError,
    zlib.error, lzma.LZMAError,
)  # fmt: skip


class BrokenTarError(Exception):
    """The archive cannot be read on; `cut` where its file ended, so that nothing tells the rest."""

    def __init__(self, reason: str, *, cut: bool = False):
        """`reason` follows "the shard breaks after byte N: "."""
        super().__init__(reason)
        self.cut = cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member as its headers tell it."""

    name: str
    size: int  # bytes of data
    is_folder: bool
    fault: str | None  # why its data are none of a file
    offset: int = 0  # of its first header in the archive
    zeros: int = 0  # bytes of zeros before it: another archive ended there


class Place(NamedTuple):
    """Where a member begins in a file, and what must be known of the file before it."""

    offset: int  # of the member's first header
    whole: int  # bytes up to the end of the last complete member before it
    archive: int  # where the archive begins that it lies in


class Tar:
    """The members of a tar, once. `read` gives the data of the member that came last."""

    def __init__(self, stream: Any, seekable_bytes: int | None = None, at: Place | None = None):
        """`seekable_bytes` is the size of a file whose data may be leapt over.

        With `at`, a place in an uncompressed file, it begins there.
        """
        self._file = Counted(stream)
        if at is None:
            first = self._file.peek(64)
            if lfs_pointer(first):
                raise BrokenTarError(LFS_POINTER)
            make, at = decompressor_of(first), Place(0, 0, 0)
        else:
            make = None
            self._file.leap(at.offset)
        self._content: Readable = self._file
        self._raw: Decompressed | None = None
        if make is not None:
            self._raw = Decompressed(self._file, make)
            self._content = io.BufferedReader(self._raw, RAW_PIECE)
        self._leap_to = seekable_bytes if make is None else None
        self.offset = at.offset  # bytes of the archive that have been passed
        self.whole = at.whole  # bytes of the archive up to the end of the last complete member
        self._archive = at.archive  # where the archive begins that is being read
        self._member: Member | None = None
        self._left = 0  # of its data

    @property
    def file_bytes(self) -> int:
        """Bytes of the file up to `whole`; about, where it is compressed."""
        return self.whole if self._raw is None else self._raw.passed

    def __iter__(self) -> Iterator[Member]:
        """The members in their order.

        Raises:
            BrokenTarError: the archive breaks here; so does any of CONTENT_ERRORS.
        """
        while True:
            zeros, block = self._zeros()
            start, end = self._archive, self.whole
            if not block:
                self._check_end(start, end, zeros)
                return
            if zeros:
                if end == start or not _ends_archive(end + zeros - start, zeros):
                    raise BrokenTarError(
                        f"{zeros:,} bytes of zeros and more behind them, where a member should "
                        "begin"
                    )
                self._archive = end + zeros
            self._member = self._headers(block, zeros)
            self._left = self._member.size
            yield self._member
            self.drop()
            self._pass(-self._member.size % BLOCK)
            self.whole = self.offset

    def place_of(self, member: Member) -> Place | None:
        """Where `member`, the last one, begins; None in a compressed file."""
        if self._raw is not None:
            return None
        return Place(member.offset, self.whole, self._archive)

    def read(self) -> bytes:
        """The data of the last member, whole."""
        return b"".join(self._data())

    def drop(self) -> None:
        """Pass the data of the last member, which must be whole like those that are read."""
        if self._leap_to is None:
            for _ in self._data():
                pass
            return
        if self.offset + self._left > self._leap_to:
            raise self._ends_early()
        self._pass(self._left)
        self._left = 0

    def _data(self) -> Iterator[bytes]:
        while self._left:
            piece = self._content.read(min(self._left, PIECE))
            if not piece:
                raise self._ends_early()
            self.offset += len(piece)
            self._left -= len(piece)
            yield piece

    def _ends_early(self) -> BrokenTarError:
        member = self._member
        assert member is not None, "only a member's data end"
        return BrokenTarError(
            f"its member {quoted(member.name)} has {member.size:,} bytes, but the file ends before",
            cut=True,
        )

    def _pass(self, size: int) -> None:
        """Pass bytes of the archive, or as many as there are."""
        if self._leap_to is not None:
            size = min(size, max(0, self._leap_to - self.offset))
            self._file.leap(size)
            self.offset += size
            return
        while size and (piece := self._content.read(min(size, PIECE))):
            size -= len(piece)
            self.offset += len(piece)

    def _take(self, size: int) -> bytes:
        """Bytes of the archive, fewer only where it ends."""
        taken = bytearray()
        while len(taken) < size and (piece := self._content.read(size - len(taken))):
            taken += piece
        self.offset += len(taken)
        return bytes(taken)

    def _zeros(self) -> tuple[int, bytes]:
        """Bytes of zeros before the next header, and that header; nothing at the file's end."""
        zeros = 0
        while (block := self._take(BLOCK)) and not block.strip(b"\0"):
            zeros += len(block)
            if zeros > END + LARGE_RECORDS[-1]:
                raise BrokenTarError(f"more than {zeros - BLOCK:,} bytes of zeros")
        return zeros, block

    def _check_end(self, start: int, end: int, zeros: int) -> None:
        """Raises BrokenTarError where the file ends and the archive does not."""
        if not self.offset:
            raise BrokenTarError("the file is empty", cut=True)
        if end == start:
            raise BrokenTarError("the file holds nothing but zeros")
        if zeros < END:
            raise BrokenTarError(
                f"the shard ends without the end-of-archive mark after byte {self.offset}", cut=True
            )
        if not (zeros < END + RECORD or _ends_archive(end + zeros - start, zeros)):
            raise BrokenTarError(f"{zeros:,} bytes of zeros end it, more than end an archive")

    def _headers(self, block: bytes, zeros: int) -> Member:
        """The member whose first header is `block`."""
        offset = self.offset - len(block)
        if plain := plain_file(block):
            name, size = plain
            return Member(
                name=name, size=size, is_folder=False, fault=None, offset=offset, zeros=zeros
            )
        return replace(self._slowly(block), offset=offset, zeros=zeros)

    def _slowly(self, block: bytes) -> Member:
        """The same by tarfile's parser: extended headers, links, folders, and what is damaged."""
        extended: dict[str, str] = {}
        bytes_left = MAX_HEADER_BYTES
        for _ in range(MAX_HEADERS):
            if len(block) < BLOCK:
                raise BrokenTarError("the file ends in a header", cut=True)
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise BrokenTarError(f"a header is damaged: {error}") from error
            if header.size < 0:
                raise BrokenTarError("a header is damaged: a size below zero")
            if header.type not in (b"L", b"K", b"x", b"X", b"g"):
                return self._plain(header, extended, bool(block[SPARSE_GOES_ON]))
            bytes_left -= header.size
            if bytes_left < 0:
                raise BrokenTarError(f"extended headers of more than {MAX_HEADER_BYTES:,} bytes")
            data = self._take(header.size)
            self._pass(-header.size % BLOCK)
            if len(data) < header.size:
                raise BrokenTarError("the file ends in a header", cut=True)
            if header.type == b"L":
                name = data.split(b"\0", 1)[0]
                extended["path"] = name.decode("utf-8", "surrogateescape")
            elif header.type in (b"x", b"X"):
                extended.update(_records(data))
            # a link's target (K) is not followed, what is said of all members (g) names none
            block = self._take(BLOCK)
        raise BrokenTarError(f"more than {MAX_HEADERS} extended headers before one member")

    def _plain(
        self, header: tarfile.TarInfo, extended: Mapping[str, str], sparse_goes_on: bool
    ) -> Member:
        """The member of a plain header and of what the extended ones said."""
        name = extended.get("GNU.sparse.name") or extended.get("path") or header.name
        if len(name) > MAX_NAME_BYTES:
            raise BrokenTarError(f"a name of {len(name):,} characters")
        size = header.size
        if "size" in extended:
            digits = extended["size"]
            if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
                raise BrokenTarError(f"a header is damaged: its size is {quoted(digits)}")
            size = int(digits)
        sparse = header.type == tarfile.GNUTYPE_SPARSE
        if sparse:
            more = sparse_goes_on
            while more:  # blocks of its map, up to the end of the file
                if len(block := self._take(BLOCK)) < BLOCK:
                    raise BrokenTarError("the file ends in a header", cut=True)
                more = bool(block[504])
        sparse = sparse or any(key.startswith("GNU.sparse.") for key in extended)
        fault = None
        if sparse:
            fault = f"its member {quoted(name)} is stored sparse: make the tar without --sparse"
        elif not header.isreg():
            fault = f"its member {quoted(name)} is a link or a device, not a file"
        # links, devices and folders have no data, whatever their size says
        if not header.isreg() and header.type in tarfile.SUPPORTED_TYPES:
            size = 0
        return Member(name=name, size=size, is_folder=header.isdir(), fault=fault)


def quoted(text: str) -> str:
    """A name as it stands in a reason: quoted, without what a terminal would heed, and short."""
    return repr(text if len(text) <= MAX_QUOTED else text[:MAX_QUOTED] + "…")


def _ends_archive(length: int, zeros: int) -> bool:
    """Whether zeros at the end of so long an archive are what a writer leaves there."""
    if zeros == END:
        return True
    return any(
        length % record == 0 and END <= zeros < record + END for record in (RECORD, *LARGE_RECORDS)
    )


def _records(data: bytes) -> Iterator[tuple[str, str]]:
    """Keys and values of a pax header: lines of `length key=value`."""
    at = 0
    while at < len(data):
        digits, space, _ = data[at : at + 9].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
        if not equals or at + length > len(data) or not value.endswith(b"\n"):
            if data[at:].strip(b"\0"):
                raise BrokenTarError("a header is damaged: it holds no lines of `length key=value`")
            return  # filled up with zeros
        yield (
            key.decode("utf-8", "surrogateescape"),
            value[:-1].decode("utf-8", "surrogateescape"),
        )
        at += length
