"""What a run's last lines say: names as they are, phases in words."""

import io

import pytest
from rich.console import Console

from dawin_ray.report import compare
from dawin_ray.report.console import footer_of, table_of

NAMES = ["[/bold]", "[red]", "a [b] c", ":smile:"]


def report_of(name: str, passes=("experts", "merged")) -> dict:
    dataset = {
        "dataset": name, "rows": 3, "rejects": 1, "labelled": 3,
        "accuracy": {name: 1.0, "other": 0.5, "dawin": 1.0}, "clusters": [],
        "mean_coefficient": [0.5, 0.5], "images_per_second": 7.0,
        "float32_agreement": {"rows": 0, "equal": 0},
    }  # fmt: skip
    figures = {"rows": 3, "wall_seconds": 1.0, "model_share": 0.9}
    return {
        "experts": ["other", name], "mode": "exact", "datasets": [dataset, dataset],
        "run_dir": f"/runs/{name}", "passes": {key: figures for key in passes}, "drift": None,
        "compute": {"actors": 1, "device": "cpu", "precision": "float32"},
        "predictions": f"/runs/{name}/predictions/dataset=NAME",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_in_the_table_are_no_markup(name):
    out = io.StringIO()
    Console(file=out, width=300).print(table_of(report_of(name)))
    assert out.getvalue().count(name) >= 5  # title, two headings, two rows


def test_names_in_the_table_do_not_steer_the_terminal():
    out = io.StringIO()
    Console(file=out, width=300).print(table_of(report_of("a\x1b[31mb")))
    assert "\x1b" not in out.getvalue()
    assert "a\\x1b[31mb" in out.getvalue()


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        (["at_once"], ["one pass, experts and interpolated models: 3 images"]),
        (["experts", "merged"], ["pass 1, experts: 3 images", "pass 2, merged models: 3 images"]),
        (["experts", "exact"], ["pass 2, exact models: 3 images"]),
    ],
)
def test_the_footer_names_passes_in_words(passes, words):
    footer = footer_of(report_of("set", passes))
    assert all(word in footer for word in words)
    assert "at_once" not in footer


class _Run:
    def __init__(self, address):
        self.address = address


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (["a", "b"], ["a"], ["b: not in two"]),
        (["a"], ["a", "b"], ["b: not in one"]),
        (["a"], ["b"], ["a: not in two", "b: not in one"]),
    ],
)
def test_a_data_set_of_one_run_alone_is_said_to_be_missing(monkeypatch, first, second, said):
    sets = {"one": first, "two": second}

    class _Columns:
        sample_id = type("Ids", (), {"equals": staticmethod(lambda other: False)})()

        @classmethod
        def read(cls, *_):
            return cls()

    class _Job:
        methods, experts = (), ()

    monkeypatch.setattr(compare, "job_of", lambda run: _Job())
    monkeypatch.setattr(compare, "scored_datasets", lambda run, job: sets[run.address])
    monkeypatch.setattr(compare, "Columns", _Columns)
    rows = compare.compare_runs([_Run("one"), _Run("two")])
    alone = [f"{row['dataset']}: {row['says']}" for row in rows if "not in" in row["says"]]
    assert alone == said
    shared = [row["says"] for row in rows if row["dataset"] in set(first) & set(second)]
    assert all("other samples" in words for words in shared)
    assert f"two: {said[0].split(': ')[1]}" in compare.lines_of(rows, "one")
