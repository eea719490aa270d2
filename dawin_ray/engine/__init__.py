"""TODO face engine."""

from dawin_ray.engine.compute import ComputeConfig, Resources
from dawin_ray.engine.ray_cluster import publish_drift, ray_session, resources
from dawin_ray.engine.ray_stream import count_tries, predict, score_at_once, score_experts
from dawin_ray.engine.timing import Timing

__all__ = [
    "ComputeConfig",
    "Resources",
    "Timing",
    "count_tries",
    "predict",
    "publish_drift",
    "ray_session",
    "resources",
    "score_at_once",
    "score_experts",
]
