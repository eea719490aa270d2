"""Files that may be compressed, read forwards in bounded pieces: gzip, bgzip, bzip2, xz."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import Any, Protocol

RAW_PIECE = 1 << 16  # of what is compressed

XZ_MEMORY = 256 << 20  # bytes of a dictionary; a header may ask for 4 GB

MAGICS = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY)),
    (b"\x5d\x00\x00\x80", lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY)),
)


class Readable(Protocol):
    """What is read forwards."""

    def read(self, size: int, /) -> bytes:
        """Bytes, fewer only at the end or as a piece is there."""


class Counted:
    """A file that knows how far it was read, and can look ahead once."""

    def __init__(self, stream: Any):
        """`passed` counts the bytes of the stream that were read or leapt over."""
        self._stream, self._ahead, self.passed = stream, b"", 0

    def peek(self, size: int) -> bytes:
        """The next bytes, which are read again."""
        while len(self._ahead) < size and (piece := self._stream.read(size - len(self._ahead))):
            self._ahead += piece
        return self._ahead

    def read(self, size: int) -> bytes:
        """As a file's."""
        if self._ahead:
            piece, self._ahead = self._ahead[:size], self._ahead[size:]
        else:
            piece = self._stream.read(size)
        self.passed += len(piece)
        return piece

    def leap(self, size: int) -> None:
        """Pass bytes unread; the stream can seek."""
        ahead = len(self.read(min(size, len(self._ahead)))) if self._ahead else 0
        if size > ahead:
            self._stream.seek(size - ahead, 1)
            self.passed += size - ahead


class Decompressed(io.RawIOBase):
    """The content of all streams of a compressed file, in bounded pieces.

    A file that ends within a stream raises EOFError, damage what the decompressor raises.
    """

    def __init__(self, file: Counted, make: Any):
        """`make` gives a decompressor for each stream of the file."""
        self._file, self._make = file, make
        self._decompressor: Any = None
        self._raw = b""  # of the file, not decompressed yet

    @property
    def passed(self) -> int:
        """Bytes of the file that have been decompressed, about."""
        return self._file.passed - len(self._raw)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer with what comes next; 0 at the end of the file."""
        while True:
            if self._decompressor is None:
                # streams may be filled up with zeros
                while (raw := self._raw or self._file.read(RAW_PIECE)) and not raw.strip(b"\0"):
                    self._raw = b""
                if not raw:
                    return 0
                self._decompressor, self._raw = self._make(), raw.lstrip(b"\0")
            decompressor, ended = self._decompressor, False
            if not self._raw and getattr(decompressor, "needs_input", True):
                self._raw = self._file.read(RAW_PIECE)
                ended = not self._raw
            data = decompressor.decompress(self._raw, len(buffer))
            # zlib hands back what it has not come to; the others keep it
            self._raw = getattr(decompressor, "unconsumed_tail", b"")
            if decompressor.eof:
                self._raw, self._decompressor = decompressor.unused_data, None
            elif ended and not data:
                raise EOFError("the compressed file ends within a stream")
            if data:
                buffer[: len(data)] = data
                return len(data)


def is_compressed(first_bytes: bytes) -> bool:
    """Whether a file that begins so is read through a decompressor."""
    return decompressor_of(first_bytes) is not None


def decompressor_of(first_bytes: bytes) -> Any:
    """What makes decompressors for a file that begins so; None where it is not compressed."""
    return next((make for magic, make in MAGICS if first_bytes.startswith(magic)), None)
