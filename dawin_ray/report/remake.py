"""The reports of a finished run, made again of its files and sealed again."""

from __future__ import annotations

import dawin_ray
from dawin_ray.errors import UserError
from dawin_ray.report.finished import FinishedRun, job_of
from dawin_ray.report.overview import write_overview
from dawin_ray.report.page import write_page
from dawin_ray.runs import RunDirectory, Series
from dawin_ray.storage import exclusive


def check_incumbent(address: str, incumbent: str) -> None:
    """Whether reports of a run, or of all its batches, can be about an incumbent; writes nothing.

    Raises:
        UserError: they cannot, or it is no finished run.
    """
    run = RunDirectory.at(address)
    for of in [run] if run.batch is not None or not run.grows() else Series(run.root).batches():
        FinishedRun.of(of).asked_about(incumbent)


def remake_reports(address: str, thumbnails: int = 0, incumbent: str | None = None) -> str:
    """Make the report of a run again, or those of all batches; what is to be done, in words.

    They are about `incumbent`, where one is named, and about the job's own when they are made
    another time; the run itself stays as it is.

    Raises:
        UserError: as `write_page`; or another run writes there.
    """
    run = RunDirectory.at(address)
    if run.batch is not None or not run.grows():
        job_of(run)  # before anything is written, and be it a lock
    with exclusive(run.root) as fence:
        series = Series(run.root, fence)
        if not series.exists():
            return write_page(
                RunDirectory(address, fence=fence), thumbnails, incumbent=incumbent
            ).words[0]
        batches = [b for b in series.batches() if run.batch in (None, b.batch)]
        if not batches:
            raise UserError(f"{address!r} is none of the finished batches of {run.root!r}.")
        for batch in batches:
            with series.altering(batch):
                found = write_page(batch, thumbnails, incumbent=incumbent)
        words = write_overview(series)
        series.finish(dawin_ray.__version__)
        return words if run.batch is None else found.words[0]
