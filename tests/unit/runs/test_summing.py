"""Summaries merge in levels of a tree, to what one merge gives."""

import numpy as np
import pytest

from dawin_ray.errors import UserError
from dawin_ray.runs import summing
from dawin_ray.runs.summing import merge_summaries, plan_merging, read_summary, write_summary
from dawin_ray.statistics import Rows, Summary


def summary(seed: int) -> Summary:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(1, 9))
    scores = {name: draw.random(n, np.float32) for name in ("x", "y", "dawin")}
    answers = {name: draw.integers(0, 3, n).astype(np.int32) for name in scores}
    each = draw.random((n, 2), np.float32)
    return Summary.of(
        Rows(
            experts=("x", "y"), ids=draw.integers(0, 9, (n, 2)).astype(np.uint64),
            label=draw.integers(0, 3, n), prediction=answers, confidence=scores, nll=scores,
            brier=scores, entropy=each, coefficient=each, cluster=None,
            expert_prediction=draw.integers(0, 3, (n, 2)).astype(np.int32),
        )
    )  # fmt: skip


@pytest.mark.parametrize(("count", "levels"), [(1, [1]), (8, [1]), (9, [2, 1]), (20, [3, 1])])
def test_a_tree_gives_what_one_merge_gives(address, count, levels):
    run = summing.RunDirectory(address)
    given = [summary(seed) for seed in range(count)]
    files = [write_summary(run, f"work/{i}.summary", s) for i, s in enumerate(given)]
    seen = []
    while not seen or len(files) > 1:
        plan = plan_merging("set", len(seen) + 1, files)
        assert len({merging.path for merging in plan}) == len(plan)
        files = [merge_summaries(run, merging) for merging in plan]
        seen.append(len(files))
    assert seen == levels
    assert read_summary(run, files[0]).to_bytes() == Summary.merge(given).to_bytes()


def test_a_summary_that_is_lost_or_damaged_is_told(address):
    run = summing.RunDirectory(address)
    file = write_summary(run, "work/a.summary", summary(0))
    other = write_summary(run, "work/b.summary", summary(1))
    run.write(run.path("work/a.summary"), run.read_bytes("work/b.summary"))  # sound, and another
    (merging,) = plan_merging("set", 1, [other, file])
    with pytest.raises(UserError, match=r"work/a\.summary' of this run .*made again"):
        merge_summaries(run, merging)
    run.remove("work/a.summary")
    with pytest.raises(UserError, match=r"work/a\.summary' of this run .*made again"):
        read_summary(run, file)
