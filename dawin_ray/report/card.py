"""report.svg: a run on a card, to stand in a README.

Text is text, in fonts that are there; it asks for nothing and has a background of its own, light
or dark as the reader's. It tells no date: made again, it is the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import dawin_ray
from dawin_ray.method import DAWIN, EVEN
from dawin_ray.names import escaped
from dawin_ray.report.action import actions_of
from dawin_ray.report.figures import Audit, Difference, MeanDifference
from dawin_ray.report.tally import Report
from dawin_ray.report.words import shown_percent, shown_points
from dawin_ray.statistics import Interval

WIDTH, MARGIN = 640, 20  # units of the picture, as are all sizes here
TITLE, SMALL, ROW = 26, 19, 24  # heights of lines
FROM, TO, FIGURES = 190, 360, 380  # where intervals are drawn, and where the figures begin

MOST_ROWS = 12
MOST_LINES = 5  # of what is said

SHOWN_NAME = 24  # characters, as SHOWN_RUN
SHOWN_RUN = 44
SHOWN_LINE = 88
SHOWN_DESCRIPTION = 2_000

STEP = 0.05  # the axis ends at multiples of it

STYLE = """
.card { fill: #fff; stroke: #d9dfe5 } text { fill: #1d2329; font: 13px system-ui, sans-serif }
.title { font-size: 17px; font-weight: 600 } .soft { fill: #55606b } .doubt { fill: #b3261e }
line { stroke: #55606b } circle { fill: #55606b } .axis { stroke: #d9dfe5 }
text.ours { font-weight: 600 } line.ours { stroke: #c02e34; stroke-width: 2 }
circle.ours { fill: #c02e34 }
@media (prefers-color-scheme: dark) {
.card { fill: #12161a; stroke: #36404a } text { fill: #e4e8ec } .soft { fill: #9aa6b2 }
.doubt { fill: #ff8a80 } line { stroke: #9aa6b2 } circle { fill: #9aa6b2 }
.axis { stroke: #36404a } line.ours { stroke: #ff8a80 } circle.ours { fill: #ff8a80 } }
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method on the card."""

    name: str
    accuracy: Interval
    gain: Difference | MeanDifference | None  # DaWin's


def card_of(found: Audit, report: Report) -> str:
    """The card of a run, as SVG."""
    rows = list(_rows(found))
    about = _about(found, report)
    drawn, y = list(_head(found, report, about)), MARGIN + TITLE + SMALL
    for line in [part for action in actions_of(found) for part in _lines(action)][:MOST_LINES]:
        y += SMALL
        drawn.append(_text(MARGIN, y, line))
    for line in _doubts(found):
        y += SMALL
        drawn.append(_text(MARGIN, y, line, "doubt"))
    if rows:
        drawn += _chart(rows, y + SMALL)
        y += SMALL + ROW * (len(rows) + 1)
    y += SMALL + 4
    batch = f", batch {report.batch} (UTC)" if report.batch else ""
    drawn.append(_text(MARGIN, y, f"dawin_ray {dawin_ray.__version__}{batch}", "soft"))
    height = y + MARGIN - 6
    frame = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" role="img" aria-labelledby="name about">'
    )
    back = f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    title, about_it, *shapes = drawn
    return "\n".join(
        [frame, title, about_it, f"<style>{STYLE}</style>", back, *shapes, "</svg>", ""]
    )


def _head(found: Audit, report: Report, about: str) -> Iterator[str]:
    """Title and description for who does not see the card, and its first two lines."""
    name = short("/".join(report.run_dir.rstrip("/").split("/")[-2:]), SHOWN_RUN)
    words = short(" ".join([f"{about}.", *found.words[:2]]), SHOWN_DESCRIPTION)
    yield f'<title id="name">{_plain(f"DaWin: {name}")}</title>'
    yield f'<desc id="about">{_plain(words)}</desc>'
    yield _text(MARGIN, MARGIN + 14, f"DaWin: {name}", "title")
    yield _text(MARGIN, MARGIN + TITLE + 10, about, "soft")


def _about(found: Audit, report: Report) -> str:
    count, rows = len(report.datasets), sum(row.rows for row in report.datasets)
    sets = f"{count} data set{'s' if count > 1 else ''}, {rows:,} samples"
    if found.suite is not None:
        over = "shifts" if found.in_distribution else "data sets"
        return f"{sets}. Accuracy, mean of {len(found.suite.datasets)} {over}, in %"
    if found.labelled:
        return f"{sets}. Accuracy on {short(_only(found), SHOWN_NAME)}, in %"
    return f"{sets}, no labels"


def _only(found: Audit) -> str:
    """The data set that the card is about where there is no mean."""
    shifts = [row.dataset for row in found.labelled if row.dataset != found.in_distribution]
    return (shifts or [found.labelled[0].dataset])[0]


def _rows(found: Audit) -> Iterator[Row]:
    """DaWin, whom the question is about, the experts, and what is interpolated once."""
    if not found.labelled:
        return
    accuracy: Mapping[str, Interval]
    gains: Mapping[str, Difference | MeanDifference]
    if found.suite is not None:
        accuracy, gains = found.suite.accuracy, found.suite.differences
    else:
        row = next(row for row in found.labelled if row.dataset == _only(found))
        accuracy = {name: scores.accuracy for name, scores in row.methods.items()}
        gains = row.differences
    names = dict.fromkeys([DAWIN, *found.primary, *found.experts, EVEN])
    for name in [name for name in names if name in accuracy][:MOST_ROWS]:
        yield Row(name=name, accuracy=accuracy[name], gain=gains.get(name))


def _doubts(found: Audit) -> list[str]:
    if not found.doubts:
        return []
    kinds = ", ".join(dict.fromkeys(doubt.kind.replace("_", " ") for doubt in found.doubts))
    return _lines(f"The input looks wrong: {kinds}. See report.html.")


def _chart(rows: Sequence[Row], top: int) -> Iterator[str]:
    """A line for each method: name, interval, figures."""
    low = int(min(row.accuracy.low for row in rows) / STEP) * STEP
    high = min(1.0, (int(max(row.accuracy.high for row in rows) / STEP) + 1) * STEP)
    low = min(low, high - STEP)

    def across(share: float) -> float:
        return FROM + (TO - FROM) * (share - low) / (high - low)

    bottom = top + ROW * len(rows)
    for share, anchor in ((low, "start"), (high, "end")):
        x = across(share)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        yield _text(x, bottom + 14, f"{100 * share:.0f}", "soft", anchor)
    for number, row in enumerate(rows):
        y, kind = top + ROW * number + ROW // 2, "ours" if row.name == DAWIN else "theirs"
        x = across(row.accuracy.value)
        ends = f'x1="{across(row.accuracy.low):.1f}" x2="{across(row.accuracy.high):.1f}"'
        name = "DaWin" if row.name == DAWIN else short(row.name, SHOWN_NAME)
        yield _text(MARGIN, y + 4, name, kind)
        yield f'<line class="{kind}" {ends} y1="{y}" y2="{y}"/>'
        yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y}" r="4"/>'
        yield _text(FIGURES, y + 4, shown_percent(row.accuracy), kind)
        if row.gain is not None:
            yield _text(WIDTH - MARGIN, y + 4, shown_points(row.gain), "soft", "end")
    if any(row.gain for row in rows):
        yield _text(WIDTH - MARGIN, bottom + 14, "DaWin's gain, points", "soft", "end")


def short(text: str, most: int) -> str:
    """A text on one line, of at most so many characters."""
    line = escaped(text)
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _lines(sentence: str) -> list[str]:
    return textwrap.wrap(escaped(sentence), SHOWN_LINE, max_lines=MOST_LINES, placeholder=" …")


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:g}" y="{y:g}"{of_kind}{at}>{_plain(text)}</text>'


def _plain(text: str) -> str:
    return escape(text, quote=False)
