"""The reports of a finished run, made again of its files and sealed again."""

from __future__ import annotations

import dawin_ray
from dawin_ray.errors import UserError
from dawin_ray.report.finished import job_of
from dawin_ray.report.overview import write_overview
from dawin_ray.report.page import write_page
from dawin_ray.runs import RunDirectory, Series
from dawin_ray.storage import exclusive


def remake_reports(address: str, thumbnails: int = 0) -> str:
    """Make the report of a run again, or those of all batches; the first sentence of it.

    Raises:
        UserError: as `write_page`; or another run writes there.
    """
    run = RunDirectory.at(address)
    if run.batch is not None or not run.grows():
        job_of(run)  # before anything is written, and be it a lock
    with exclusive(run.root) as fence:
        series = Series(run.root, fence)
        if not series.exists():
            return write_page(RunDirectory(address, fence=fence), thumbnails).words[0]
        batches = [b for b in series.batches() if run.batch in (None, b.batch)]
        if not batches:
            raise UserError(f"{address!r} is none of the finished batches of {run.root!r}.")
        for batch in batches:
            with series.altering(batch):
                found = write_page(batch, thumbnails)
        words = write_overview(series)
        series.finish(dawin_ray.__version__)
        return words if run.batch is None else found.words[0]
