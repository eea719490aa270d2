"""How long a pass took, and how many actors were there."""

import pytest

from dawin_ray.data import ChunkSummary
from dawin_ray.engine import Timing


def timing_of(*forwards: tuple[str, float, float]) -> Timing:
    timing = Timing()
    for i, (actor, begun, done) in enumerate(forwards):
        timing.add(
            ChunkSummary(
                dataset="set", shard="s", chunk=str(i), rows=10, rejects=0, bytes=1, begun=begun,
                done=done, actor=actor,
            )
        )  # fmt: skip
    return timing


def test_actors_count_from_their_first_forward_to_their_last():
    alone = [("a", float(t), t + 0.5) for t in range(8)]
    joined = [("b", float(t), t + 1.0) for t in range(4, 8)]
    assert timing_of(*alone, ("a", 7.5, 8.0)).mean_actors == 1
    assert timing_of(*alone, ("a", 7.5, 8.0), *joined).mean_actors == pytest.approx(1.5)
    assert timing_of().mean_actors == 1


def test_the_share_of_time_in_models_is_of_all_actors():
    timing = timing_of(("a", 0.0, 2.0), ("a", 3.0, 4.0), ("b", 0.0, 4.0))
    assert timing.busy_share(2) == pytest.approx(7 / 8)
    assert timing.busy_share(None) is None
    assert timing_of().busy_share(2) is None
