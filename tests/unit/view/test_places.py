"""Orders by places give what the statement that is shown gives, to the row."""

import pytest

from dawin_ray.view import looking, places
from dawin_ray.view.filters import SORTS, Choice
from tests.unit.view.conftest import COUNT

CHOICES = [Choice(), Choice(dataset="tars"), Choice(merged="wrong"), Choice(id="0")]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.query() or "all")
@pytest.mark.parametrize("sort", [sort for sort in SORTS if sort])
@pytest.mark.parametrize("spare", [1, 500])
def test_places_give_the_rows_of_the_statement(database, run, monkeypatch, choice, sort, spare):
    monkeypatch.setattr(places, "SPARE", spare)
    choice = choice.but(sort=sort)
    fast = 0
    for first in (0, 7, 3 * COUNT - 2):
        window = places.Window(first=first, count=5)
        found = places.ordered(database, run, choice, window, looking.OF_TILES)
        plain = database.query(f"{choice.sql(run, looking.OF_TILES)}\nLIMIT 5 OFFSET {first}")
        if found is not None:
            assert found.columns == plain.columns
            assert found.rows == plain.rows
            fast += 1
        page = looking.samples(database, run, choice, first, 4)
        assert tuple(tuple(row.values()) for row in page.rows) == plain.rows[:4]
        assert page.more == (len(plain.rows) == 5)
    assert fast


def test_rows_of_one_key_are_in_the_order_of_their_ids(database, run, monkeypatch):
    monkeypatch.setattr("dawin_ray.view.filters.KEYS", {"sure": "round(confidence, 1) DESC"})
    choice = Choice(sort="sure")
    for first in range(0, 3 * COUNT, 9):
        window = places.Window(first=first, count=9)
        found = places.ordered(database, run, choice, window, looking.OF_TILES)
        plain = database.query(f"{choice.sql(run, looking.OF_TILES)}\nLIMIT 9 OFFSET {first}")
        assert found.rows == plain.rows


def test_where_too_many_have_one_key_the_statement_runs_itself(database, run, monkeypatch):
    monkeypatch.setattr("dawin_ray.view.filters.KEYS", {"sure": "confidence * 0"})
    monkeypatch.setattr(places, "SPARE", 10)
    choice = Choice(sort="sure")
    window = places.Window(first=0, count=9)
    assert places.ordered(database, run, choice, window, looking.OF_TILES) is None
    assert len(looking.samples(database, run, choice, 0, 9).rows) == 9


def test_what_lies_deep_and_what_has_no_order_runs_itself(database, run, monkeypatch):
    window = places.Window(first=0, count=9)
    assert places.ordered(database, run, Choice(), window, looking.OF_TILES) is None
    monkeypatch.setattr(places, "DEEPEST", 8)
    assert places.ordered(database, run, Choice(sort="sure"), window, looking.OF_TILES) is None
