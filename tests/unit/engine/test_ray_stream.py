"""How a pool of actors is asked of Ray Data; nothing here starts Ray."""

from dataclasses import replace

import pytest

from dawin_ray.engine.compute import ActorRange, Resources
from dawin_ray.engine.ray_stream import CALLS, ENOUGH, TASKS_IN_FLIGHT, _pool

ON = Resources(device="cpu", actors=2, cpus=1, gpus=0, threads=1, readers=1)


@pytest.mark.parametrize(
    ("bounds", "sizes"), [(None, (2, 2, 2)), (ActorRange(min=1, max=5), (1, 2, 5))]
)
def test_a_pool_has_the_bounds_of_the_job(bounds, sizes):
    strategy = _pool(replace(ON, bounds=bounds))["compute"]
    assert (strategy.min_size, strategy.initial_size, strategy.max_size) == sizes
    assert strategy.max_tasks_in_flight_per_actor == TASKS_IN_FLIGHT


def test_full_actors_are_enough_for_a_pool_to_grow():
    from ray.data.context import AutoscalingConfig

    least = AutoscalingConfig().actor_pool_util_downscaling_threshold
    assert least < ENOUGH / CALLS <= TASKS_IN_FLIGHT / CALLS
