"""TODO face storage."""

from dawin_ray.storage.credentials import check_job, check_no_secrets, without_secrets
from dawin_ray.storage.files import (
    LFS_POINTER,
    READ_BLOCK,
    configure,
    filesystem,
    is_local,
    join,
    lfs_pointer,
    open_stream,
    read_bytes,
    read_lines,
    sha256,
    unreadable,
    write_whole,
)
from dawin_ray.storage.folders import delete, files_below
from dawin_ray.storage.lock import LOCK, Fence, exclusive
from dawin_ray.storage.parquet import (
    WRITE,
    ExtensionTypesError,
    ParquetFileError,
    content_errors,
    open_parquet,
    own_parquet,
    plain,
    read_table,
    table_bytes,
)

__all__ = [
    "LFS_POINTER",
    "LOCK",
    "READ_BLOCK",
    "WRITE",
    "ExtensionTypesError",
    "Fence",
    "ParquetFileError",
    "check_job",
    "check_no_secrets",
    "configure",
    "content_errors",
    "delete",
    "exclusive",
    "files_below",
    "filesystem",
    "is_local",
    "join",
    "lfs_pointer",
    "open_parquet",
    "open_stream",
    "own_parquet",
    "plain",
    "read_bytes",
    "read_lines",
    "read_table",
    "sha256",
    "table_bytes",
    "unreadable",
    "without_secrets",
    "write_whole",
]
