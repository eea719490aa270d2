"""What is sent to readers is short, however much they are to read."""

import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs import task_lists
from dawin_ray.runs.directory import RunDirectory
from dawin_ray.runs.layout import is_ours
from dawin_ray.runs.task_lists import sent_of, text_of
from tests.unit.runs.made import files_below


def texts_of(count: int) -> list[str]:
    return [f"task {i} " + "name caf\u00e9 \U0001f600" * 400 * (i % 3) for i in range(count)]


def test_each_text_comes_back_and_little_is_sent(run, monkeypatch):
    monkeypatch.setattr(task_lists, "LIST_BYTES", 200)
    texts = texts_of(12)
    sent = sent_of(run, "experts", texts)
    assert [text_of(run, one) for one in sent] == texts
    assert max(map(len, sent)) < 100
    assert [text_of(run, one) for one in reversed(sent)] == texts[::-1]


def test_short_ones_need_no_file(tmp_path):
    run = RunDirectory(str(tmp_path))
    assert [text_of(run, one) for one in sent_of(run, "experts", ["a", "b"])] == ["a", "b"]
    assert files_below(tmp_path) == set()


def test_its_files_are_the_runs_own_work(tmp_path):
    run = RunDirectory(str(tmp_path))
    sent_of(run, "predictions", texts_of(3))
    assert files_below(tmp_path) == {"work/tasks/predictions-00000"}
    assert all(map(is_ours, files_below(tmp_path)))
    run.work.remove()
    assert files_below(tmp_path) == set()


def test_a_list_that_is_gone_is_told(run):
    [sent] = sent_of(run, "experts", texts_of(2)[1:])
    run.remove("work/tasks/experts-00000")
    with pytest.raises(UserError, match=r"list of tasks.*experts-00000"):
        text_of(run, sent)
