"""One small object of a store, written on a condition: that it is not there, or still what it was.

S3 has such writes (If-None-Match, If-Match), and fsspec an exclusive creation for most others
(`mode="create"`). Whether a store heeds them is tried out, as some accept and ignore them; where it
does not, a condition is checked before the write, which is no protection from a write in between.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from dawin_ray.storage.files import unreadable, unwritable

CREATED, MATCHED = {"IfNoneMatch": "*"}, "IfMatch"  # boto's names of the two conditions

REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}

UNKNOWN = "NotImplemented"  # what stores say that know no conditions

T = TypeVar("T")

Write = Callable[[Any, str, bytes], None]  # `storage.write_whole`


@dataclass(frozen=True)
class StoredObject:
    """An object at a path of a file system that is not local."""

    fs: Any
    path: str

    @property
    def has_etags(self) -> bool:
        """Whether it lies on S3, where a version is an etag; elsewhere it is the content."""
        return hasattr(self.fs, "call_s3")

    def read(self) -> tuple[bytes, str] | None:
        """Content and version; None where it is not there.

        Raises:
            UserError: it cannot be read.
        """
        version = self.version()
        if version is None or not self.has_etags:
            return None if version is None else (bytes.fromhex(version), version)
        data = self._found(lambda: bytes(self.fs.cat_file(self.path)))
        return None if data is None else (data, version)

    def version(self) -> str | None:
        """What changes with each write; None where it is not there. Raises as `read`."""
        self.fs.invalidate_cache()
        if self.has_etags:
            return self._found(lambda: str(self.fs.info(self.path, refresh=True)["ETag"]))
        return self._found(lambda: str(self.fs.cat_file(self.path).hex()))

    def _found(self, get: Callable[[], T]) -> T | None:
        try:
            return get()
        except FileNotFoundError:
            return None
        except Exception as error:  # every storage client has its own exceptions
            raise unreadable(self.fs.unstrip_protocol(self.path), "lease", error) from error

    def create(self, data: bytes, write: Write) -> str | None:
        """Write it if it is not there, and return its version; None where it is there."""
        if self.version() is not None:
            return None
        if self.has_etags:
            return self._put(data, CREATED) or self._already(data)
        try:
            self.fs.pipe_file(self.path, data, mode="create")
        except FileExistsError:
            return None
        except (TypeError, ValueError, NotImplementedError):  # it knows no such mode
            write(self.fs, self.path, data)
        except Exception as error:  # every storage client has its own exceptions
            raise unwritable(self.fs.unstrip_protocol(self.path), error) from error
        return data.hex()

    def replace(self, data: bytes, version: str, write: Write) -> str | None:
        """Write it if it is still of this version, and return the next; None where it is not."""
        if self.version() != version:
            return self._already(data)
        if self.has_etags:
            return self._put(data, {MATCHED: version}) or self._already(data)
        write(self.fs, self.path, data)
        return data.hex()

    def _already(self, data: bytes) -> str | None:
        """The version where a client's own second try was refused because its first came through.

        What is written is different each time, so nobody else can have written the same.
        """
        found = self.read()
        return found[1] if found is not None and found[0] == data else None

    def remove(self) -> None:
        """Delete it, if it is there."""
        try:
            self.fs.rm_file(self.path)
        except FileNotFoundError:
            return

    def heeds_conditions(self, data: bytes) -> bool:
        """Whether both kinds of conditional writes are heeded, tried on an object of one's own.

        It is left there.
        """
        if not self.has_etags:
            return False
        first = self._put(data, CREATED)
        other = f'"{uuid.uuid4().hex}"'
        return (
            first is not None
            and self._put(data + b" ", CREATED) is None
            and self._put(data + b" ", {MATCHED: other}) is None
            and self._put(data + b" ", {MATCHED: first}) is not None
        )

    def _put(self, data: bytes, condition: Mapping[str, str]) -> str | None:
        bucket, key, _ = self.fs.split_path(self.path)
        try:
            found = self.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
        except FileExistsError:
            return None
        except Exception as error:  # every storage client has its own exceptions
            if MATCHED in condition and isinstance(error, FileNotFoundError):
                return None
            response = getattr(error.__cause__ or error, "response", None) or {}
            code = response.get("Error", {}).get("Code")
            if code in REFUSED:
                return None
            if code == UNKNOWN:
                found = self.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=data)
            else:
                raise unwritable(self.fs.unstrip_protocol(self.path), error) from error
        return str(found["ETag"])


def objects_of(fs: Any, folder: str, prefix: str) -> list[StoredObject]:
    """The objects of a folder whose names begin with `prefix`, sorted.

    Raises:
        UserError: the folder cannot be listed.
    """
    fs.invalidate_cache()
    try:
        found = fs.ls(folder, detail=False, refresh=True)
    except FileNotFoundError:
        return []
    except Exception as error:  # every storage client has its own exceptions
        raise unreadable(fs.unstrip_protocol(folder), "run_dir", error) from error
    return [
        StoredObject(fs, path)
        for path in sorted(found)
        if path.rsplit("/", 1)[-1].startswith(prefix)
    ]
