"""report.html, audit.json and CSV tables: what a person and a spreadsheet read of a finished run.

Made from the run's files alone; made again they are the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jinja2

import dawin_ray
from dawin_ray.method import DAWIN
from dawin_ray.names import escaped
from dawin_ray.report import by_class, links
from dawin_ray.report.action import actions_of, tone_of
from dawin_ray.report.audit import Audited, audited
from dawin_ray.report.by_class import ByClass
from dawin_ray.report.card import card_of
from dawin_ray.report.figures import ALPHA, Audit, DatasetAudit
from dawin_ray.report.finished import FinishedRun
from dawin_ray.report.provenance import provenance_of
from dawin_ray.report.tally import Report
from dawin_ray.report.tasks import task_table
from dawin_ray.report.thumbnails import Sheet, sheets_of
from dawin_ray.report.words import (
    against_others,
    answers_of,
    shown_number,
    shown_p,
    shown_percent,
    shown_points,
    without_labels,
    words_of_tasks,
)
from dawin_ray.runs import (
    AUDIT,
    CARD,
    CSV,
    MANIFEST,
    PAGE,
    Manifest,
    RunDirectory,
    reseal,
    words_of_broken,
)
from dawin_ray.statistics import (
    BINS,
    CLASS_PRIOR,
    COVERAGES,
    KINDS,
    LEVEL,
    RESAMPLES,
    Interval,
    Summary,
)
from dawin_ray.storage import configure, join

if TYPE_CHECKING:
    import pandas as pd

TEMPLATE = "page.html.j2"

TABLES = ("scores", "differences", "clusters", "weights")  # of an audit's data sets

OF_CLASSES = ("classes", "confusions")  # of those with labels

COSTS = "costs"  # a table of methods alone

# What `write_page` writes.
PAGE_FILES = (
    AUDIT, PAGE, CARD, *(join(CSV, f"{name}.csv") for name in (*TABLES, *OF_CLASSES, COSTS)),
)  # fmt: skip

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a formula begins with in a spreadsheet


def write_page(
    run: RunDirectory,
    thumbnails: int = 0,
    summaries: Mapping[str, Summary] | None = None,
    incumbent: str | None = None,
) -> Audit:
    """Audit a run whose Parquet files are complete, and write page, JSON and tables.

    Where the run is finished, its manifest is brought up to date with them. Summaries that are not
    given are made of the Parquet files.

    With `thumbnails`, the page shows as many example images of each cluster and outcome; the data
    must be where they were. The question is asked about `incumbent`, or about the job's own.

    Raises:
        UserError: it is no run with predictions, or has no such incumbent, or its manifest was
            changed.
    """
    finished = FinishedRun.of(run, summaries).asked_about(incumbent)
    if sealed := run.exists(MANIFEST):
        Manifest.read(run)  # nothing is written over one that was changed
    whole = audited(finished)
    found = whole.audit
    found.write(run)
    for name, frame in tables_of(whole).items():
        run.write_text(join(CSV, f"{name}.csv"), csv_of(frame))
    configure(finished.job.storage_options)
    sheets = {
        d.name: sheets_of(finished, d, thumbnails)
        for d in finished.job.datasets
        if thumbnails and d.name in finished.datasets
    }
    report = Report.read(run)
    origin = provenance_of(finished, report)
    run.write_text(PAGE, page_of(found, report, run.address, origin, sheets, whole.by_class))
    run.write_text(CARD, card_of(found, report))
    if sealed:
        reseal(run, PAGE_FILES)
    return found


def page_of(
    found: Audit,
    report: Report,
    address: str,
    provenance: Mapping[str, str],
    sheets: Mapping[str, Sequence[Sheet]],
    classes: Mapping[str, ByClass] = MappingProxyType({}),
) -> str:
    """The page, whole: no script, no request. By data set `sheets` are example images, `classes`
    the figures of each class.
    """
    # drawing takes memory, and is what a run does last
    from dawin_ray.report import panels, pictures
    from dawin_ray.report.heat import of_weights

    drawn = {
        "suite": pictures.of_suite(found),
        "robustness": pictures.of_robustness(found),
        "weights": of_weights(found),
        "legend": pictures.legend_of(found.experts),
        "datasets": {row.dataset: panels.of_dataset(row, found.experts) for row in found.datasets},
    }
    words = found.words[1:]  # the first has the actions
    answers = answers_of(found) if found.labelled else without_labels(found)
    against = against_others(found)
    return template(TEMPLATE).render(
        audit=found,
        by_class=classes,
        limits={"pairs": by_class.PAGE_PAIRS, "csv_pairs": by_class.MOST_PAIRS},
        actions=actions_of(found),
        tone=tone_of(found),
        answers=answers,
        words=[said for said in words[len(answers) :] if said not in against],
        against=against,
        provenance=provenance,
        task_words=words_of_tasks(found),
        tasks=task_table(found),
        pictures=drawn,
        sheets=sheets,
        drift=report.drift or {},
        broken=[
            line for row in report.datasets for line in words_of_broken(row.dataset, row.broken)
        ],
        address=address,
        code=dawin_ray.__version__,
        conventions={
            "level": LEVEL, "alpha": ALPHA, "bins": BINS, "prior": CLASS_PRIOR,
            "resamples": RESAMPLES, "coverages": [f"{c:g}" for c in COVERAGES],
        },
        dawin=DAWIN,
    )  # fmt: skip


@cache
def template(name: str) -> jinja2.Template:
    """A template of ours, with the filters that show figures."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dawin_ray.report", "templates"), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "percent": shown_percent,
        "points": shown_points,
        "p": shown_p,
        "number": shown_number,
        "line": escaped,
        "argument": shlex.quote,
    }
    environment.globals |= {
        "kinds": KINDS,
        "look": links.look,
        "look_at_cell": links.look_at_cell,
    }
    return environment.get_template(name)


def tables_of(whole: Audited) -> dict[str, pd.DataFrame]:
    """The figures as flat tables, by the names of TABLES, OF_CLASSES and COSTS."""
    import pandas as pd

    found = whole.audit
    makers = (_scores_of, _differences_of, _clusters_of, _weights_of)
    tables = {
        name: pd.DataFrame(
            [{"dataset": row.dataset} | line for row in found.datasets for line in lines_of(row)]
        )
        for name, lines_of in zip(TABLES, makers, strict=True)
    }
    of_classes: dict[str, list[Line]] = {name: [] for name in OF_CLASSES}
    for row in found.labelled:
        lines = _by_class(row, whole.by_class[row.dataset])
        for name, of_set in zip(OF_CLASSES, lines, strict=True):
            of_classes[name] += [{"dataset": row.dataset} | line for line in of_set]
    tables |= {name: pd.DataFrame(lines) for name, lines in of_classes.items()}
    costs = [{"method": name} | asdict(cost) for name, cost in found.costs.items()]
    return tables | {COSTS: pd.DataFrame(costs)}


def csv_of(frame: pd.DataFrame) -> str:
    """A table as CSV, in which no text is a formula to a spreadsheet."""
    text: str = frame.map(no_formula).to_csv(index=False)
    return text


Line = dict[str, Any]  # of a table: names, figures and text


def _scores_of(row: DatasetAudit) -> list[Line]:
    lines = []
    for name, score in row.methods.items():
        line: Line = {"method": name, "ece": score.ece, "aurc": score.aurc}
        line |= _flat("accuracy", score.accuracy) | _flat("nll", score.nll)
        line |= _flat("brier", score.brier)
        at = {f"accuracy_at_{k}": v for k, v in score.accuracy_at_coverage.items()}
        lines.append(line | at | _flat("normalised", row.normalised.get(name)))
    return lines


def _differences_of(row: DatasetAudit) -> list[Line]:
    return [{"method": name} | asdict(found) for name, found in row.differences.items()]


def _clusters_of(row: DatasetAudit) -> list[Line]:
    lines, experts = [], tuple(row.coefficient)
    for cluster in row.clusters:
        line: Line = {"cluster": cluster.cluster, "size": cluster.size}
        for prefix, found in (("weight", cluster.weights), ("own", cluster.mean_coefficient)):
            shares = found or [None] * len(experts)
            line |= {f"{prefix}_{n}": s for n, s in zip(experts, shares, strict=True)}
        lines.append(line | _flat("accuracy", cluster.accuracy))
    return lines


def _weights_of(row: DatasetAudit) -> list[Line]:
    """Each expert's mean coefficient, and whether the task is its own."""
    return [
        {"expert": name, "mean": found.mean, "own": name == row.expert}
        for name, found in row.coefficient.items()
    ]


def _by_class(row: DatasetAudit, found: ByClass) -> tuple[Iterator[Line], Iterator[Line]]:
    """Lines of OF_CLASSES."""
    assert row.classes is not None, "only of labelled data sets"
    assert row.best_expert is not None, "only of labelled data sets"
    kinds = {gain.index: "gains" for gain in row.classes.gains}
    kinds |= {gain.index: "losses" for gain in row.classes.losses}
    return found.table(kinds, row.best_expert), found.confusions()


def _flat(prefix: str, figure: Interval | None) -> Line:
    if figure is None:
        return {}
    return {prefix if k == "value" else f"{prefix}_{k}": v for k, v in asdict(figure).items()}


def no_formula(value: object) -> object:
    """A value of a CSV file; a text that a spreadsheet would compute has an apostrophe before."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
