"""Files anywhere: paths of this machine, and every address that fsspec reads.

What can go wrong with them is told here, in words: an address with a credential is refused, a fault
that passes is retried by the clients, and what is left is a UserError that names the file. Parquet
is opened here too, so that nothing in a file runs code, and so is the lock of a run directory.

Imports only errors, names and records; every package may import it.
"""

from dawin_ray.storage.bulk import read_many
from dawin_ray.storage.credentials import check_job, check_no_secrets, without_secrets
from dawin_ray.storage.files import (
    LFS_POINTER, READ_BLOCK, configure, filesystem, is_local, join, lfs_pointer, open_stream,
    read_bytes, read_lines, sha256, unreadable, write_whole,
)  # fmt: skip
from dawin_ray.storage.folders import (
    delete, files_below, files_in, first_entries, folders_in, pages_below,
)  # fmt: skip
from dawin_ray.storage.lock import LOCK, Fence, exclusive
from dawin_ray.storage.parquet import (
    WRITE, ExtensionTypesError, ParquetFileError, content_errors, open_parquet, own_parquet,
    parquet_of, read_table, table_bytes,
)  # fmt: skip
from dawin_ray.storage.retries import take_retries

__all__ = [
    "LFS_POINTER", "LOCK", "READ_BLOCK", "WRITE", "ExtensionTypesError", "Fence",
    "ParquetFileError", "check_job", "check_no_secrets", "configure", "content_errors", "delete",
    "exclusive", "files_below", "files_in", "filesystem", "first_entries", "folders_in", "is_local",
    "join", "lfs_pointer", "open_parquet", "open_stream", "own_parquet", "pages_below",
    "parquet_of", "read_bytes", "read_lines", "read_many", "read_table", "sha256", "table_bytes",
    "take_retries", "unreadable", "without_secrets", "write_whole",
]  # fmt: skip
