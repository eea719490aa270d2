"""Each filter leaves what its words say, by the columns themselves; links reproduce a view."""

import itertools
from types import SimpleNamespace
from urllib.parse import parse_qsl

import duckdb
import pyarrow as pa
import pytest

from dawin_ray.errors import UserError
from dawin_ray.view import looking
from dawin_ray.view.database import Database
from dawin_ray.view.filters import Choice
from dawin_ray.view.opened import open_runs
from tests.unit.view.conftest import COUNT


@pytest.fixture(scope="module")
def rows(database):
    return database.query("SELECT * FROM samples").dicts()


def right(row) -> int | None:
    if row["label"] is None:
        return None
    return sum(p == row["label"] for p in row["expert_prediction"])


def of_merged(row, wanted: bool) -> bool:
    return row["label"] is not None and (row["prediction"] == row["label"]) == wanted


CHOICES = {
    "dataset=tars": lambda r: r["dataset"] == "tars",
    "label=3": lambda r: r["label"] == 3,
    "prediction=2": lambda r: r["prediction"] == 2,
    "merged=right": lambda r: of_merged(r, True),
    "merged=wrong": lambda r: of_merged(r, False),
    "experts=none": lambda r: right(r) == 0,
    "experts=one": lambda r: right(r) == 1,
    "experts=some": lambda r: right(r) == 1,
    "experts=any": lambda r: (right(r) or 0) > 0,
    "experts=all": lambda r: right(r) == 2,
    "merged=wrong&experts=one": lambda r: of_merged(r, False) and right(r) == 1,
    "right=expert_0&wrong=expert_1": lambda r: (
        r["label"] is not None
        and r["expert_prediction"][0] == r["label"] != r["expert_prediction"][1]
    ),
    "cluster=1": lambda r: r["cluster"] == 1,
    "confidence_from=0.5": lambda r: r["confidence"] >= 0.5,
    "confidence_to=0.5&dataset=rows": lambda r: r["confidence"] <= 0.5 and r["dataset"] == "rows",
    "weight=expert_0&weight_from=0.5": lambda r: r["coefficient"][0] >= 0.5,
    "weight_to=0.5": lambda r: r["coefficient"][1] <= 0.5,
    "id=a.parquet/1": lambda r: "a.parquet/1" in r["sample_id"],
    "id=%25": lambda r: "%" in r["sample_id"],
    "id=t_u": lambda r: "t_u" in r["sample_id"],
    "id=DROP": lambda r: "DROP" in r["sample_id"],
    "id=e'%22": lambda r: "e'\"" in r["sample_id"],
}


@pytest.mark.parametrize("query", CHOICES)
def test_a_filter_leaves_what_it_says(database, run, rows, query):
    choice = Choice.of(dict(parse_qsl(query)))
    expected = [(r["dataset"], r["sample_id"]) for r in rows if CHOICES[query](r)]
    page = looking.samples(database, run, choice, 0, 1_000)
    assert [(r["dataset"], r["sample_id"]) for r in page.rows] == expected
    assert looking.overview(database, run, choice).count == len(expected)
    assert Choice.of(dict(parse_qsl(choice.query()))) == choice


def keys(query: str) -> set[str]:
    return set(dict(parse_qsl(query)))


def test_the_filters_are_not_all_empty(rows):
    assert sum(any(map(holds, rows)) for holds in CHOICES.values()) > len(CHOICES) - 5


@pytest.mark.parametrize("sort", ["sure", "unsure", "entropy", "shuffled"])
def test_an_order_has_all_and_is_kept(database, run, sort):
    choice = Choice(sort=sort)
    page = looking.samples(database, run, choice, 0, 1_000).rows
    assert len(page) == 3 * COUNT
    split = [
        row
        for first in range(0, 3 * COUNT, 5)
        for row in looking.samples(database, run, choice, first, 5).rows
    ]
    assert split == page
    confidences = [row["confidence"] for row in page]
    if sort in ("sure", "unsure"):
        assert confidences == sorted(confidences, reverse=sort == "sure")


def test_cells_are_what_they_say_and_add_up(database, run):
    for choice in (Choice(), Choice(dataset="tars", cluster="0")):
        found = looking.overview(database, run, choice)
        for cell in (*found.outcomes, *found.clusters):
            assert looking.overview(database, run, cell.choice).count == cell.count, cell.words
        labelled = database.query(f"SELECT count(label){choice.source(run)}").rows[0][0]
        assert sum(cell.count for cell in found.outcomes) == labelled
        assert sum(cell.count for cell in found.clusters) == found.count


def test_of_many_experts_the_right_ones_are_counted(database, run, monkeypatch):
    monkeypatch.setattr(looking, "MAX_CELLS", 1)
    found = looking.overview(database, run, Choice())
    assert found.outcomes
    for cell in found.outcomes:
        assert looking.overview(database, run, cell.choice).count == cell.count, cell.words


@pytest.mark.parametrize("per_page", [5, 1_000])
@pytest.mark.parametrize("cells", [1, 6])
def test_what_one_page_has_is_counted_as_it_was_found(database, run, monkeypatch, per_page, cells):
    monkeypatch.setattr(looking, "MAX_CELLS", cells)
    monkeypatch.setattr(looking, "PER_PAGE", per_page)
    for choice in (Choice(id="1"), Choice(merged="wrong", sort="sure"), Choice(id="nowhere")):
        for first in (0, 5, 500):
            found, page = looking.look(database, run, choice, first)
            plain = looking.overview(database, run, choice)
            assert found.count == plain.count
            for kind in ("outcomes", "clusters"):
                ours, theirs = (
                    {cell.words: (cell.count, cell.choice) for cell in getattr(o, kind)}
                    for o in (found, plain)
                )
                assert ours == theirs
            expected = looking.samples(database, run, choice, first, per_page)
            assert (page.rows, page.more, page.sql) == (
                expected.rows, expected.more, expected.sql,
            )  # fmt: skip


def test_confusions_are_the_counts_of_the_pairs(database, run, rows):
    found, _, _ = looking.confusions(database, run, Choice(dataset="tars"))
    for pair in found:
        of_pair = [
            r
            for r in rows
            if r["dataset"] == "tars"
            and (r["label"], r["prediction"]) == (pair["label"], pair["prediction"])
        ]
        assert pair["samples"] == len(of_pair)
        assert pair["an_expert_right"] == sum(right(r) > 0 for r in of_pair)
        assert pair["label"] != pair["prediction"]
    assert looking.confusions(database, run, Choice())[0]


@pytest.mark.parametrize(
    "query",
    [
        "merged=maybe", "experts=half", "sort=id; DROP", "label=1 OR 1=1", "label=1.5", "label=٣",
        "cluster=--1", "cluster=", "confidence_from=nan", "confidence_to=inf", "weight_from=0x1",
        "confidence_from=1e999", "label=99999999999999999999", "run=x",
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_refused_or_no_condition(query):
    values = dict(parse_qsl(query))
    if not values:  # an empty value is as none
        assert Choice.of(values) == Choice()
        return
    with pytest.raises(UserError, match="expected"):
        Choice.of(values)


@pytest.mark.parametrize("query", ["weight=nobody", "right=nobody", "wrong=expert_0,x", "id=%00"])
def test_what_the_run_does_not_have_is_refused(run, query):
    choice = Choice.of(dict(parse_qsl(query)))
    with pytest.raises(UserError):
        choice.where(run)


@pytest.mark.parametrize("text", ["' OR 1=1 --", "'; DROP VIEW samples; --", "' UNION SELECT"])
def test_a_text_is_no_sql(database, run, text):
    for choice in (Choice(dataset=text), Choice(id=text), Choice(batch=text)):
        assert looking.overview(database, run, choice).count == 0


def test_rows_of_a_second_run_are_its_own(run_dir):
    both = open_runs([run_dir, run_dir])
    assert "samples_2" in Choice(run="1").sql(both[1])
    assert looking.overview(Database(both), both[1], Choice(run="1")).count == 3 * COUNT


def test_several_of_three_experts_is_neither_one_nor_all():
    of_three = SimpleNamespace(experts=("a", "b", "c"))
    assert Choice(experts="several").where(of_three) == ["experts_right BETWEEN 2 AND 2"]


@pytest.mark.parametrize("query", [q for q in CHOICES if {"right", "merged", "experts"} & keys(q)])
def test_every_combination_of_right_and_wrong(run, query):
    """Of which a run with a few rows may not have all."""
    made = [
        {"label": label, "prediction": merged, "expert_prediction": [first, second]}
        for label, merged, first, second in itertools.product((0, None), (0, 1), (0, 1), (0, 1))
    ]
    for row in made:
        row["merged_right"] = None if row["label"] is None else row["prediction"] == 0
        row["experts_right"] = right(row)
    connection = duckdb.connect()
    connection.register("samples", pa.Table.from_pylist(made))
    source = Choice.of(dict(parse_qsl(query))).source(run)
    found = connection.execute(f"SELECT label, prediction, expert_prediction{source}").fetchall()
    expected = [tuple(row.values())[:3] for row in made if CHOICES[query](row)]
    assert found == expected
    assert expected
