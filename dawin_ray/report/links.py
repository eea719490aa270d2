"""Links of a page into the explorer, as the queries that its filters read.

Nobody knows the address of an explorer before it is started. So a page holds no address: a figure
is an `<a data-look="...">`, which is text, until `dawin-ray view` serves the page and makes links
of them, which are resolved under the page's own address there.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

# What stands in a page, and what the explorer makes of it. Names in a page are escaped, so that
# none of them has a tag.
SERVED = {
    "<a data-look=": "<a href=",
    "<p data-unserved": "<p hidden",
    "<p data-served hidden": "<p",
}

ALL, NONE, ALONE = 0, 1, 2  # of the cells of an audit; the last, with M > 2, is several


def look(**conditions: object) -> str:
    """The samples of which all of these hold, by the names that the explorer's filters have."""
    return f"look?{urlencode(conditions)}"


def look_at_cell(dataset: str, cell: int, experts: Sequence[str], **more: object) -> str:
    """Those of an audit's cell, by its place, 0 the first."""
    if cell in (ALL, NONE):
        return look(dataset=dataset, experts="all" if cell == ALL else "none", **more)
    if cell - ALONE < len(experts):
        right = experts[cell - ALONE]
        wrong = ",".join(name for name in experts if name != right)
        return look(dataset=dataset, right=right, wrong=wrong, **more)
    return look(dataset=dataset, experts="several", **more)


def served(page: str) -> str:
    """A page as the explorer shows it: its figures are links, and its words say so."""
    for written, shown in SERVED.items():
        page = page.replace(written, shown)
    return page
