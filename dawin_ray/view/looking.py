"""What the pages ask the database: who was right, the samples of a page, one sample, confusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dawin_ray.view.database import Database, literal, name_of
from dawin_ray.view.filters import Choice
from dawin_ray.view.opened import OpenedRun
from dawin_ray.view.places import Window, ordered

PER_PAGE = 48  # images

MAX_CELLS = 6  # experts up to which every combination of right and wrong is a cell of its own

MAX_GROUPS = 100_000

PAIRS = 100  # confusions, the most frequent first

OF_TILES = (
    "dataset, batch, sample_id, label, prediction, confidence, coefficient, cluster, "
    "expert_prediction, merged_right, experts_right"
)

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Some of the choice's samples, in words, and the choice that is those alone."""

    words: str
    count: int
    choice: Choice


@dataclass(frozen=True, kw_only=True)
class Overview:
    """How many samples a choice has, by who was right and by cluster."""

    count: int
    outcomes: tuple[Cell, ...]  # empty without labels
    clusters: tuple[Cell, ...]  # empty in the exact mode
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some samples of a choice in its order, and the statement that gave them."""

    rows: list[Row]
    more: bool
    sql: str
    seconds: float


def overview(database: Database, run: OpenedRun, choice: Choice) -> Overview:
    """Counts of a choice, by one look at the rows. Raises QueryError."""
    bits = [f"(expert_prediction[{i + 1}] = label)::INTEGER" for i in range(len(run.experts))]
    code = " + ".join(f"{1 << i} * {bit}" for i, bit in enumerate(bits))
    sql = (
        f"SELECT merged_right, {code if _exact(run) else 'experts_right'} AS experts, cluster, "
        f"count(*) AS n{choice.source(run)}\nGROUP BY ALL"
    )
    found = database.query(sql, MAX_GROUPS)
    return _overview(run, choice, found.rows, found.seconds)


def look(database: Database, run: OpenedRun, choice: Choice, first: int) -> tuple[Overview, Page]:
    """Counts of a choice, and its samples from the `first` one on. Raises QueryError.

    Where the first page has all of them, as of a part of an id that few have, the counts are those
    of its rows, and nothing is read again.
    """
    page = samples(database, run, choice, first, PER_PAGE)
    if first or page.more:
        return overview(database, run, choice), page
    counted = [(row["merged_right"], _code(run, row), row["cluster"], 1) for row in page.rows]
    return _overview(run, choice, counted, seconds=0.0), page


def _exact(run: OpenedRun) -> bool:
    """Whether each combination of experts that are right is a cell."""
    return len(run.experts) <= MAX_CELLS


def _code(run: OpenedRun, row: Row) -> int | None:
    """Who is right of a row, as `overview` has it."""
    if row["experts_right"] is None or not _exact(run):
        right: int | None = row["experts_right"]
        return right
    answers = enumerate(row["expert_prediction"])
    return sum(1 << i for i, answer in answers if answer == row["label"])


def _overview(
    run: OpenedRun, choice: Choice, counted: Sequence[tuple[Any, ...]], seconds: float
) -> Overview:
    """Of counts by whether the merged model is right, which experts are, and cluster."""
    outcomes: Counter[tuple[bool, int]] = Counter()
    clusters: Counter[int] = Counter()
    for merged, experts, cluster, n in counted:
        if merged is not None and experts is not None:
            outcomes[merged, experts] += n
        if cluster is not None:
            clusters[cluster] += n
    cell = _combination if _exact(run) else _count
    return Overview(
        count=sum(row[-1] for row in counted),
        outcomes=tuple(
            cell(run, choice, merged, experts, n)
            for (merged, experts), n in sorted(outcomes.items(), key=lambda item: -item[1])
        ),
        clusters=tuple(
            Cell(words=str(k), count=clusters[k], choice=choice.but(cluster=str(k)))
            for k in sorted(clusters)
        ),
        seconds=seconds,
    )


def _combination(run: OpenedRun, choice: Choice, merged: bool, code: int, n: int) -> Cell:
    right = [name for i, name in enumerate(run.experts) if code >> i & 1]
    wrong = [name for name in run.experts if name not in right]
    words = [f"{', '.join(right)} right"] if right else []
    words += [f"{', '.join(wrong)} wrong"] if wrong else []
    if not wrong or not right:
        words = [f"every expert {'right' if right else 'wrong'}"]
    side = "right" if merged else "wrong"
    return Cell(
        words=f"merged {side}; {', '.join(words)}",
        count=n,
        choice=choice.but(merged=side, experts="", right=",".join(right), wrong=",".join(wrong)),
    )


def _count(run: OpenedRun, choice: Choice, merged: bool, experts: int, n: int) -> Cell:
    side, every = "right" if merged else "wrong", len(run.experts)
    kind = {0: "none", 1: "one", every: "all"}.get(experts, "some")
    words = f"merged {side}; {experts} of {every} experts right"
    return Cell(words=words, count=n, choice=choice.but(merged=side, experts=kind))


def samples(
    database: Database, run: OpenedRun, choice: Choice, first: int, count: int = PER_PAGE
) -> Page:
    """Samples of a choice from the `first` one on. Raises QueryError."""
    sql = f"{choice.sql(run, OF_TILES)}\nLIMIT {count + 1} OFFSET {first}"
    found = ordered(database, run, choice, Window(first=first, count=count + 1), OF_TILES)
    found = found or database.query(sql, count + 1)
    shown = f"{choice.sql(run, OF_TILES)}\nLIMIT {count} OFFSET {first}"
    rows = found.dicts()
    return Page(rows=rows[:count], more=len(rows) > count, sql=shown, seconds=found.seconds)


def one(database: Database, run: OpenedRun, dataset: str, sample_id: str) -> Row | None:
    """All that is stored of a sample; None where the run does not have it."""
    return _one(database, name_of("samples", run.number), dataset, sample_id)


def beside(database: Database, run: OpenedRun, dataset: str, sample_id: str) -> Iterator[Row]:
    """What each method beside DaWin made of a sample, by the table of the experts."""
    row = _one(database, name_of("experts", run.number), dataset, sample_id)
    if row is None:
        return
    scores = [row[f"baseline_{key}"] for key in ("prediction", "confidence", "nll")]
    names = run.last.compared.beside
    for i, name in enumerate(names):
        values = [score[i] if score and i < len(score) else None for score in scores]
        if values[0] is not None and values[0] >= 0:
            yield dict(zip(("prediction", "confidence", "nll"), values, strict=True)) | {
                "method": name
            }


def confusions(database: Database, run: OpenedRun, choice: Choice) -> tuple[list[Row], str, float]:
    """The most frequent pairs of class and other prediction, the statement, and its seconds."""
    source = choice.source(run)
    joined = "AND" if "\nWHERE " in source else "\nWHERE"
    sql = (
        "SELECT dataset, label, prediction, count(*) AS samples,\n"
        "  sum((experts_right > 0)::INTEGER) AS an_expert_right, avg(confidence) AS confidence"
        f"{source} {joined} NOT merged_right\nGROUP BY ALL\n"
        "ORDER BY samples DESC, dataset, label, prediction\n"
        f"LIMIT {PAIRS}"
    )
    found = database.query(sql, PAIRS)
    return found.dicts(), sql, found.seconds


def _one(database: Database, table: str, dataset: str, sample_id: str) -> Row | None:
    sql = (
        f"SELECT * FROM {table}\nWHERE dataset = {literal(dataset)} "
        f"AND sample_id = {literal(sample_id)}\nLIMIT 1"
    )
    rows = database.query(sql, 1).dicts()
    return rows[0] if rows else None
