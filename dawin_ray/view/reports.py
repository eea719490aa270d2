"""A run's own report.html, in which figures are links to their samples.

A report is a file that somebody may have sent: it is shown as its manifest seals it, with no script
and nothing loaded, whatever is in it. Its links are those that `report.links` wrote as text; they
are resolved under the report's address, and lead on to the pages of its run and batch.
"""

from __future__ import annotations

from collections.abc import Mapping

from dawin_ray.errors import DamagedFileError, UserError
from dawin_ray.names import escaped
from dawin_ray.report import served
from dawin_ray.runs import PAGE, Manifest, RunDirectory, SeriesManifest
from dawin_ray.storage import join
from dawin_ray.view.filters import Choice
from dawin_ray.view.opened import OpenedRun

# As that of all pages, but no script at all; a report's style is within it, and so are its images.
CSP = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def report_of(run: OpenedRun, batch: str = "") -> str:
    """The report of a run, or of a batch of one, with links in the place of texts.

    Raises:
        UserError: there is no such batch; the report is not there, or not as it was sealed.
    """
    if batch and batch not in run.batches:
        raise UserError(
            f"There is no batch {escaped(batch)!r}; the run's report has a table of them."
        )
    folder = run.batches[batch].run if batch else RunDirectory.at(run.address)
    of_series = folder.batch is None and folder.grows()
    sealed = (SeriesManifest if of_series else Manifest).read(folder)
    pages = [o for o in sealed.outputs if o.path.rpartition("/")[2] == PAGE]
    try:
        [page] = pages
        text = folder.content(folder.output(page.path), page).decode()
    except (ValueError, OSError, DamagedFileError) as error:
        raise UserError(
            f"{join(folder.address, PAGE)!r} is not as its manifest says: dawin-ray report "
            "makes it again."
        ) from error
    return served(text)


def target_of(run: OpenedRun, batch: str, query: Mapping[str, str]) -> str:
    """Where a link of such a report leads.

    Raises:
        UserError: it is no choice of samples.
    """
    number = str(run.number) if run.number else ""
    return f"/look?{Choice.of(query).but(run=number, batch=batch).query()}"
