"""Finished runs in a browser: filters, the images themselves, SQL, exports. Read-only.

`serve` opens runs (`OpenedRun`), puts views over their Parquet files into a `Database` that can do
nothing but SELECT, and shows `Pages` on 127.0.0.1 behind a `Gate`. Images are read from their
shards by sample id. Wants the extra `view` (DuckDB, Starlette, uvicorn); imports what stands before
it (report and below), and only the command imports it.
"""

from dawin_ray.view.opened import OpenedRun, open_runs
from dawin_ray.view.server import make_app, serve

__all__ = ["OpenedRun", "make_app", "open_runs", "serve"]
